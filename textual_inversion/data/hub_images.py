"""A data set of a hub as a folder of training images: its images and captions, and nothing else of it."""

import os
from collections.abc import Iterable
from pathlib import Path

from textual_inversion.data.image_folder import CAPTION_EXTENSIONS, METADATA_NAMES, repeat_folder
from textual_inversion.data.image_formats import EXTENSIONS
from textual_inversion.hub import data_sets
from textual_inversion.hub.data_sets import DataSet
from textual_inversion.hub.hugging_face import HubError, is_offline
from textual_inversion.system.errors import ImageError

_FORM = "hub:OWNER/NAME, perhaps with /FOLDER and @REVISION behind it"
_QUIET = ("readme.md", ".gitattributes", "license", "license.txt", "readme.txt")


def image_folder(name: str, *, cache_dir: str | None = None, token: str | None = None) -> tuple[Path, str]:
    """The folder of images that a data set is, and its name with the commit that was read.

    Args:
        name: see `data_sets`.
        cache_dir: where downloads are kept; None: where all programs keep them.
        token: for private data sets.

    Raises:
        ImageError: the name is not valid, the data set cannot be had, or it has no images in files.
    """
    data_set = data_sets.parsed(name)
    if data_set is None:
        raise ImageError(f"{name[:120]} is not the name of a data set; write {_FORM}")
    try:
        folder = _had(data_set, cache_dir, token)
    except HubError as error:
        raise ImageError(f"the data set {name} cannot be had: {error}; or give a folder of images") from error
    return _inner(folder, data_set), data_set.at(folder.name)


def cached_folder(name: str, *, cache_dir: str | None = None) -> Path | None:
    """The folder of images that a data set is on this machine; None where it is not, or is no valid name."""
    data_set = data_sets.parsed(name)
    found = data_sets.cached(data_set, cache_dir) if data_set is not None else None
    try:
        return _inner(found, data_set) if found is not None else None
    except ImageError:
        return None


def _had(data_set: DataSet, cache_dir: str | None, token: str | None) -> Path:
    """The folder of a data set, fetched unless there is no network."""
    found = data_sets.cached(data_set, cache_dir)
    if found is not None and (is_offline() or found.name == data_set.revision):
        return found
    files = data_sets.chosen(data_set, data_sets.sizes_of(data_set, token), _is_wanted)
    if not any(name.lower().endswith(EXTENSIONS) for name in files):
        raise HubError("it holds no images that are files of their own; one of tables, such as Parquet, is not read")
    return data_sets.fetch(data_set, files, cache_dir=cache_dir, token=token)


def _is_wanted(name: str) -> bool:
    """Whether a file is an image or holds captions."""
    own = name.lower()
    if own.startswith(".") or own in _QUIET:
        return False
    return own.endswith((*EXTENSIONS, *CAPTION_EXTENSIONS)) or own in METADATA_NAMES


def _inner(folder: Path, data_set: DataSet) -> Path:
    """The folder within a data set that its images lie in; raises ImageError where there are several."""
    top = folder / data_set.folder if data_set.folder else folder
    holding = sorted(_with_images(top))
    if top in holding or not holding:
        return top
    # Folders such as 10_cat belong to the one that holds them.
    parents = {one.parent if repeat_folder(one.name) else one for one in holding}
    if len(parents) > 1:
        names = ", ".join(one.relative_to(folder).as_posix() for one in sorted(parents)[:5])
        raise ImageError(f"the data set hub:{data_set.repository} has images in several folders ({names}); name one")
    return parents.pop()


def _with_images(top: Path) -> Iterable[Path]:
    for place, _, files in os.walk(top):
        if any(name.lower().endswith(EXTENSIONS) for name in files):
            yield Path(place)
