"""The images in a user's folder, in a fixed order, and what else lies there.

An image is recognized by its content. One whose name ends like an image's is taken for one, so that damage is reported
and not passed over. Whatever is passed over is said in one line for each reason; hidden files, captions, licences and
the files that operating systems leave behind are not worth a line.

Subfolders are not searched, except those named as kohya's scripts want it: `10_cat toy` holds images that are seen 10
times in an epoch, and whose caption is "cat toy" where they have no other.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.data.image_formats import (
    EXTENSIONS,
    FORMAT_NAMES,
    NEVER_READ,
    PLUGINS,
    Plugin,
    is_image,
    missing_plugin,
)
from textual_inversion.formats.errors import printable
from textual_inversion.hub.hugging_face import is_repository_id
from textual_inversion.system.errors import ImageError

CAPTION_EXTENSIONS = (".txt", ".caption")
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
_MOST_REPEATS = 1000  # larger numbers are dates
_CALLED = "image folder"
_LISTED = 5  # names in a line
_REPEAT_FOLDER = re.compile(r"(\d+)_(.*)", re.DOTALL)
# What people and systems leave in folders of images; without the extension.
_QUIET_STEMS = {
    "thumbs", "ehthumbs", "ehthumbs_vista", "desktop", "icon\r", "license", "licence", "licenses", "copying",
    "copyright", "notice", "readme", "credits", "attribution", "attributions", "authors", "changelog", "citation",
}  # fmt: skip
_QUIET_EXTENSIONS = ("", ".db", ".ini", ".txt", ".md", ".rst", ".html", ".htm", ".pdf", ".rtf", ".bib", ".cff")

Note = Callable[[str], None]


@dataclass(frozen=True)
class RepeatFolder:
    """What the name of a subfolder says of its images, as in `10_cat toy`.

    Attributes:
        repeats: times each image is seen in an epoch.
        caption: of images without another; "" where the name has none.
    """

    repeats: int
    caption: str


def find_images(folder: str | os.PathLike[str], note: Note = lambda line: None, *, called: str = _CALLED) -> list[Path]:
    """The images of a folder, in natural order ("2.png" before "10.png"): its own first, then those of each subfolder.

    The order depends on the names alone: not on the file system, the locale or how accents are encoded.

    Args:
        note: called with one line for each kind of thing that is passed over.
        called: the name of the folder in messages.

    Raises:
        ImageError: the folder is missing, is not a folder, cannot be listed, or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{called} {folder} {_why_no_folder(folder)}; give the folder that contains the images")
    own = repeat_folder(folder.resolve().name)
    if own is not None and called == _CALLED:
        note(f"{folder}: to take {own.repeats} repeats and a caption from its name, give the folder that holds it")
    names = _names_in(folder, called)
    found, others = _images_among(folder, names, note), []
    for name in names:
        if os.path.isdir(folder / name):
            inside = _images_in_subfolder(folder, name, called, note)
            found += inside or []
            others += [name] if inside is None else []
    _tell(folder, note, "subfolder(s) with images are not searched", [n for n in others if _holds_images(folder / n)])
    if not found:
        raise ImageError(f"{called} {folder} {_why_no_images(folder, names)}")
    return found


def repeat_folder(name: str) -> RepeatFolder | None:
    """What a folder's name says, as in `10_cat toy`; None where it is named otherwise, or begins with a date."""
    match = _REPEAT_FOLDER.fullmatch(name)
    digits = match[1].lstrip("0") if match else ""
    if not digits or len(digits) > len(str(_MOST_REPEATS)) or int(digits) > _MOST_REPEATS:
        return None
    return RepeatFolder(int(digits), " ".join(match[2].split()))


def is_quiet(name: str) -> bool:
    """Whether a file that is no image is not worth a line."""
    stem, extension = os.path.splitext(name.lower())
    return name.startswith(".") or (stem in _QUIET_STEMS and extension in _QUIET_EXTENSIONS)


def listed(names: Iterable[str]) -> str:
    """A number of names for a line: the first few, and how many more there are."""
    names = [printable(name, 60) for name in names]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def natural(name: str) -> tuple:
    """Sort key: digits by value, letters without case; names that are equal so far are compared as they are."""
    composed = unicodedata.normalize("NFC", name)  # macOS returns decomposed names
    parts = re.split(r"([0-9]+)", composed.casefold())  # text, digits, text, …
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], composed, name


# ------------------------------------------------------------------------------------------------- what lies there


def _names_in(folder: Path, called: str) -> list[str]:
    """The names of what is not hidden, in natural order."""
    try:
        return [name for name in sorted(os.listdir(folder), key=natural) if not name.startswith(".")]
    except OSError as error:
        raise ImageError(f"{called} {folder} cannot be listed ({error.strerror}); change its permissions") from error


def _images_in_subfolder(folder: Path, name: str, called: str, note: Note) -> list[Path] | None:
    """The images of a subfolder whose name says that they belong here; None of any other."""
    meaning = repeat_folder(name)
    if meaning is None:
        return None
    found = _images_among(folder / name, _names_in(folder / name, called), note)
    if found and called == _CALLED:
        note(f"{folder / name}: {len(found)} image(s), each seen {meaning.repeats} times in an epoch")
    return found


def _images_among(folder: Path, names: list[str], note: Note) -> list[Path]:
    """The images among the files of one folder, and lines about the others."""
    found, broken, raw, odd, others, unread = [], [], [], [], [], {}
    for name in names:
        path, extension = folder / name, os.path.splitext(name.lower())[1]
        if not os.path.isfile(path):
            broken += [name] if os.path.islink(path) and not os.path.exists(path) else []
        elif extension in CAPTION_EXTENSIONS or name.lower() in METADATA_NAMES or is_quiet(name):
            pass  # captions are the business of another module
        elif extension in NEVER_READ:
            raw.append(name)
        elif (plugin := missing_plugin(path)) is not None:
            unread.setdefault(plugin, []).append(name)
        elif extension in EXTENSIONS or _is_plugins(extension):
            found.append(path)
        elif is_image(path):
            found.append(path)
            odd.append(name)
        else:
            others.append(name)
    _tell(folder, note, "broken link(s) passed over", broken)
    _tell(folder, note, "file(s) that are no images passed over", others)
    _tell(folder, note, "image(s) passed over; save them as JPEG or PNG to use them", raw)
    for plugin, files in unread.items():
        _tell(folder, note, f"{plugin.label} image(s) passed over; {_way_out(plugin)}", files)
    _tell(folder, note, "image(s) recognized by their content, whatever their names", odd)
    return found


def _is_plugins(extension: str) -> bool:
    return any(extension in plugin.extensions for plugin in PLUGINS)


def _way_out(plugin: Plugin) -> str:
    return f"`pip install {plugin.package}` lets them be read, or save them as JPEG or PNG"


def _tell(folder: Path, note: Note, what: str, names: list[str]) -> None:
    if names:
        note(f"{folder}: {len(names)} {what}: {listed(names)}")


def _holds_images(folder: Path) -> bool:
    if folder.resolve() == folder.parent.resolve():  # a link to the folder that it lies in
        return False
    try:
        return any(name.lower().endswith(EXTENSIONS) and name[0] != "." for name in os.listdir(folder))
    except OSError:
        return False


# ---------------------------------------------------------------------------------------------- why there are none


def _why_no_folder(folder: Path) -> str:
    if folder.exists():
        return "is a file, not a folder"
    if folder.is_symlink():
        return "is a broken link"
    is_id = is_repository_id(str(folder))
    return f"does not exist (a data set of Hugging Face is written hub:{folder})" if is_id else "does not exist"


def _why_no_images(folder: Path, names: list[str]) -> str:
    way_out = f"put three to six images of the concept into it ({FORMAT_NAMES})"
    if not names:
        return f"is empty; {way_out}"
    plugin = next((found for name in names if (found := _missing_plugin(folder / name))), None)
    if plugin is not None:
        return f"has only images of a kind that cannot be read, {plugin.label}; {_way_out(plugin)}"
    raw = next((name for name in names if name.lower().endswith(NEVER_READ)), None)
    if raw is not None:
        return f"has only images of kinds that cannot be read, such as {printable(raw)}; save them as JPEG or PNG"
    if any((folder / name).is_dir() for name in names):
        return f"has no images of its own, and its subfolders are not searched; give one of them, or {way_out}"
    return f"has no images, only files such as {printable(names[0])}; {way_out}"


def _missing_plugin(path: Path) -> Plugin | None:
    return missing_plugin(path) if os.path.isfile(path) else None
