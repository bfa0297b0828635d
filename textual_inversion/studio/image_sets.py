"""Training images as the page shows them: dropped into it or chosen as a folder, seen as the model will see them.

Every image is read by the one safe reader. What is dropped gets names of the page's own; the names that a browser sends
are shown, and never used.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from textual_inversion.data.caption_files import find_captions
from textual_inversion.data.image_folder import find_images
from textual_inversion.data.image_formats import open_image
from textual_inversion.data.images import content_digest, fit, load_image, load_mask
from textual_inversion.data.masks import find_masks
from textual_inversion.data.previews import jpeg
from textual_inversion.data.resizing import bucket_shapes, nearest_shape
from textual_inversion.formats.errors import printable
from textual_inversion.studio.workspace import OutsideError, Workspace
from textual_inversion.system import atomic, user_files
from textual_inversion.system.errors import ImageError, TextualInversionError

MOST_BYTES = 64 << 20  # of one dropped image
MOST_IMAGES = 500  # of one set
_LONGEST_CAPTION = 4000
_SHADE = 90  # how bright the part is shown that a mask leaves out, of 255
_SMALL = 0.75  # share of the model's size below which an image would be enlarged much
_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}


# (path, mask, settings, versions of the files) -> what was seen, and what was said of it: small JPEGs.
_remembered: dict[tuple, tuple["SeenImage", list[str]]] = {}


@dataclass(frozen=True)
class SeenImage:
    """A training image.

    Attributes:
        path: where it lies.
        size: (width, height) in pixels, upright.
        shape: (height, width) that it is trained in.
        caption: what is said of it; "" where nothing is.
        digest: of its pixels.
        shown: a JPEG of what the model sees of it.
    """

    path: Path
    size: tuple[int, int]
    shape: tuple[int, int]
    caption: str
    digest: bytes
    shown: bytes


@dataclass(frozen=True)
class ImageSet:
    """The training images of a folder, with what is to be said about them.

    Attributes:
        notes: lines of the readers, and warnings; in English, as the commands print them.
        duplicates: names of images with the same pixels, in groups.
        small: names of images that would be enlarged much.
    """

    folder: Path
    images: tuple[SeenImage, ...]
    notes: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    small: tuple[str, ...] = ()


def look_at(
    workspace: Workspace,
    folder: str | Path,
    *,
    side: int,
    resize_mode: str = "squash",
    interpolation: str = "bilinear",
    mask_dir: str | None = None,
) -> ImageSet:
    """The training images of a folder, as a run with these settings would see them.

    Args:
        side: of the training images, in pixels.

    Raises:
        OutsideError: the folder, or a file that a link in it leads to, is not among those that the page may use.
        ImageError: the folder holds no image, or one that cannot be used.
        SettingsError: a caption cannot be used.
    """
    place, notes = workspace.inside(folder), []
    paths = find_images(place, notes.append)
    if len(paths) > MOST_IMAGES:
        raise ImageError(
            f"{place.name} holds {len(paths)} images, and the page shows {MOST_IMAGES}; use the command line"
        )
    refuse_links_out(workspace, paths)
    masks = None
    if mask_dir:
        masks = find_masks(workspace.inside(mask_dir), paths, notes.append)
        refuse_links_out(workspace, masks)
    captions = [" ".join(one.prompts) for one in find_captions(paths, place, notes.append)]
    seen = [
        _seen(path, caption, masks[i] if masks else None, side, resize_mode, interpolation, notes.append)
        for i, (path, caption) in enumerate(zip(paths, captions, strict=True))
    ]
    short = [one.path.name for one in seen if min(one.size) < _SMALL * side]
    return ImageSet(place, tuple(seen), tuple(_without_folder(notes, place)), _duplicates(seen), tuple(short))


def refuse_links_out(workspace: Workspace, paths: Iterable[Path]) -> None:
    """Refuse files that are links to a place outside; raises OutsideError."""
    for path in paths:
        try:
            workspace.inside(path)
        except OutsideError:
            name = printable(path.name, 60)
            raise OutsideError(f"{name} is a link that leads out of the folders that this page may use") from None


def _seen(
    path: Path, caption: str, mask: Path | None, side: int, mode: str, interpolation: str, note: Callable[[str], None]
) -> SeenImage:
    """An image as `_look` sees it, from memory where file, mask and settings are as they were."""
    versions = tuple((one.stat().st_size, one.stat().st_mtime_ns) for one in (path, mask) if one is not None)
    key = (path, mask, side, mode, interpolation, versions)
    if key not in _remembered:
        notes: list[str] = []
        seen = _look(path, mask, side, mode, interpolation, notes.append)
        while len(_remembered) >= 2 * MOST_IMAGES:
            _remembered.pop(next(iter(_remembered)), None)
        _remembered[key] = (seen, notes)
    seen, notes = _remembered[key]
    for line in notes:
        note(line)
    return replace(seen, caption=caption)


def _look(
    path: Path, mask: Path | None, side: int, mode: str, interpolation: str, note: Callable[[str], None]
) -> SeenImage:
    image = load_image(path, note)
    digest = content_digest(image)
    shapes = bucket_shapes(side, side, 8) if mode == "bucket" else [(side, side)]
    shape = nearest_shape(image.size, shapes)
    fitted = functools.partial(
        fit, height=shape[0], width=shape[1], center_crop=mode != "squash", interpolation=interpolation
    )
    shown = fitted(image)
    if mask is not None:
        shown = _shaded(shown, fitted(load_mask(mask).convert("RGB")))
    if max(shape) < 192:  # small images are shown pixel by pixel
        factor = -(-192 // max(shape))
        shown = shown.resize((shape[1] * factor, shape[0] * factor), Image.Resampling.NEAREST)
    return SeenImage(path, image.size, shape, "", digest, jpeg(shown, 384, 90))


def _shaded(image: Image.Image, mask: Image.Image) -> Image.Image:
    """An image with what a mask leaves out made dark."""
    light = mask.convert("L").point(lambda value: _SHADE + value * (255 - _SHADE) // 255)
    return Image.composite(image, Image.new("RGB", image.size, (24, 26, 28)), light)


def _duplicates(seen: Sequence[SeenImage]) -> tuple[tuple[str, ...], ...]:
    alike: dict[bytes, list[str]] = {}
    for one in seen:
        alike.setdefault(one.digest, []).append(one.path.name)
    return tuple(tuple(names) for names in alike.values() if len(names) > 1)


def _without_folder(notes: Iterable[str], folder: Path) -> list[str]:
    return list(dict.fromkeys(note.replace(f"{folder}/", "") for note in notes))


# ------------------------------------------------------------------------------------------------------- dropped ones


def keep(workspace: Workspace, wanted: str, files: Sequence[tuple[str, bytes]]) -> tuple[Path | None, list[str]]:
    """Keep images that were dropped into the page, in a new folder.

    Args:
        wanted: what the user calls them.
        files: (name that the browser sent, contents).

    Returns:
        The folder, None where no image could be used; and why some could not, in a line each.
    """
    folder, refused, kept = workspace.new_folder("images", wanted), [], 0
    for name, content in files[:MOST_IMAGES]:
        try:
            _keep_one(folder, f"{kept + 1:04d}", content)
            kept += 1
        except TextualInversionError as error:
            refused.append(f"{printable(name, 60)}{_why(error, folder)}")
    if len(files) > MOST_IMAGES:
        refused.append(f"{len(files) - MOST_IMAGES} images are more than the {MOST_IMAGES} that a set may have")
    return (folder if kept else None), refused


def _keep_one(folder: Path, name: str, content: bytes) -> None:
    if len(content) > MOST_BYTES:
        size = f"{user_files.size_text(len(content))}, more than {user_files.size_text(MOST_BYTES)}"
        raise ImageError(f"{folder}: has {size}; make it smaller")
    atomic.make_folder(folder)
    path = folder / f"{name}.png"
    atomic.write_bytes(path, content)
    try:
        load_image(path)
        ending = _ENDINGS.get(open_image(BytesIO(content), path).format or "", ".png")
    except TextualInversionError:
        atomic.remove_file(path)
        raise
    if ending != ".png":
        atomic.move(path, path.with_suffix(ending))


def _why(error: Exception, folder: Path) -> str:
    """What an error says of a file, without the name that the page gave it."""
    said = str(error)
    return said[said.index(": ") :] if said.startswith(str(folder)) and ": " in said else f": {said}"


def write_caption(workspace: Workspace, image: Path, text: str) -> None:
    """Write the caption of an image that lies in the workspace; "" removes it.

    Raises:
        OutsideError: the image lies elsewhere.
        ImageError: the caption is too long.
    """
    place = workspace.inside(image)
    if workspace.part("images") not in place.parents:
        raise OutsideError(f"{printable(image.name, 60)} is not the page's own; its caption stays as it is")
    line = " ".join(text.split())
    if len(line) > _LONGEST_CAPTION:
        raise ImageError(f"a caption of {len(line)} letters is longer than {_LONGEST_CAPTION}; shorten it")
    target = place.with_suffix(".txt")
    if line:
        atomic.write_text(target, line + "\n")
    else:
        atomic.remove_file(target)


def copied(workspace: Workspace, found: ImageSet) -> Path:
    """A copy of a set of images in the workspace, whose captions can be changed; returns its folder."""
    folder = atomic.make_folder(workspace.new_folder("images", found.folder.name))
    for number, one in enumerate(found.images, 1):
        ending = one.path.suffix.lower() if one.path.suffix.lower().isascii() else ".png"
        target = folder / f"{number:04d}{ending}"
        atomic.write_bytes(target, user_files.read_bytes(one.path, user_files.IMAGE))
        if one.caption:
            write_caption(workspace, target, one.caption)
    return folder
