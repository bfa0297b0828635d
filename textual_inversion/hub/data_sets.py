"""Data sets of Hugging Face whose images and captions are files: which there are, and their download.

    hub:owner/name                      all images of the repository, if they lie in one folder
    hub:owner/name/folder               those of one folder of it
    hub:owner/name@revision             of a branch, a tag or a commit

Only files that the caller wants by their names are fetched, no more than so many and so large. The folder that they
come to lie in is named after the commit, so that a record can name exactly what was read.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual_inversion.hub.hugging_face import SECONDS_TO_ANSWER, HubError, client, explaining
from textual_inversion.system.checked_json import checked, whole_number
from textual_inversion.system.user_files import size_text

PREFIX = "hub:"
_NAME = re.compile(r"hub:([\w-][\w.-]*/[\w-][\w.-]*)((?:/[\w-][\w. -]*)*)(?:@([\w-][\w./-]*))?")
_PART = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}")  # leads neither upward nor anywhere else
_SECONDS_TO_LIST = 20
MOST_FILES, MOST_OF_ONE, MOST_BYTES = 10_000, 512 << 20, 20 << 30


@dataclass(frozen=True)
class DataSet:
    """A data set by its parts.

    Attributes:
        repository: such as "owner/name".
        folder: in the repository; "": wherever its images are.
        revision: branch, tag or commit; None: its usual branch.
    """

    repository: str
    folder: str = ""
    revision: str | None = None

    def at(self, commit: str) -> str:
        """Its name at a commit."""
        return f"{PREFIX}{self.repository}{'/' + self.folder if self.folder else ''}@{commit}"


def is_name(name: str) -> bool:
    """Whether a name is meant for a data set of a hub, valid or not."""
    return name.startswith(PREFIX)


def parsed(name: str) -> DataSet | None:
    """The parts of a name; None where it is not valid."""
    found = _NAME.fullmatch(name)
    if not found or ".." in name:
        return None
    return DataSet(found[1], found[2].strip("/"), found[3])


def cached(data_set: DataSet, cache_dir: str | Path | None = None) -> Path | None:
    """The folder on this machine with what was downloaded of a data set, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HFValidationError, LocalEntryNotFoundError

    options = dict(repo_type="dataset", revision=data_set.revision, cache_dir=cache_dir)
    try:
        return Path(snapshot_download(data_set.repository, local_files_only=True, **options))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def sizes_of(data_set: DataSet, token: str | None = None) -> dict[str, int]:
    """Path -> bytes of each file of a data set, as the hub states them.

    Args:
        token: for private and gated data sets; None takes the one of an earlier login.

    Raises:
        HubError: the hub refuses, does not answer in time, or answers what is no list of files.
    """
    from textual_inversion.hub.bounded_answers import within

    with explaining(data_set.repository, data_set.revision):
        ask = partial(
            client(token).dataset_info,
            data_set.repository,
            revision=data_set.revision,
            timeout=SECONDS_TO_ANSWER,
            files_metadata=True,
        )
        info = within(_SECONDS_TO_LIST, ask)
        entries = [(one.rfilename, one.size or 0) for one in info.siblings or ()]
        names = checked([name for name, _ in entries], list[str])
        sizes = checked([size for _, size in entries], list[whole_number(0, 1 << 50)])
        return dict(zip(names, sizes, strict=True))


def chosen(data_set: DataSet, sizes: dict[str, int], wanted: Callable[[str], bool]) -> list[str]:
    """The files of a data set that are to be fetched.

    Args:
        sizes: as `sizes_of` gives them.
        wanted: whether a file of this name is.

    Raises:
        HubError: there is none, a name leads elsewhere, or they are too many or too large.
    """
    inside = f"{data_set.folder}/" if data_set.folder else ""
    files = [name for name in sizes if name.startswith(inside) and wanted(name.rpartition("/")[2])]
    for name in files:
        if not all(map(_PART.fullmatch, name.split("/"))):
            raise HubError(f"its file {name[:80]!r} would lie outside the folder of downloads")
        if sizes[name] > MOST_OF_ONE:
            raise HubError(f"its file {name[:80]} has {size_text(sizes[name])}, more than {size_text(MOST_OF_ONE)}")
    total = sum(sizes[name] for name in files)
    if len(files) > MOST_FILES or total > MOST_BYTES:
        most = f"{MOST_FILES:,} files, {size_text(MOST_BYTES)}"
        raise HubError(f"its {len(files):,} files have {size_text(total)}, more than {most}; name a folder of it")
    return files


def fetch(
    data_set: DataSet, files: list[str], *, cache_dir: str | Path | None = None, token: str | None = None
) -> Path:
    """Download some files of a data set, unless they are there already, and return the folder of their commit.

    Raises:
        HubError: they cannot be downloaded, or are larger than they may be.
    """
    from huggingface_hub import hf_hub_download

    options = dict(repo_type="dataset", revision=data_set.revision, cache_dir=cache_dir, token=token)
    folder, total = None, 0
    for file in files:
        with explaining(data_set.repository, data_set.revision):
            # By the name of the branch, not by its commit: only then can it be found again without a network.
            path = Path(hf_hub_download(data_set.repository, file, **options))
        total += path.stat().st_size
        if path.stat().st_size > MOST_OF_ONE or total > MOST_BYTES:
            raise HubError(f"its file {file[:80]} is larger than the hub has said")
        own = path.parents[len(file.split("/")) - 1]
        if folder is not None and own != folder:
            raise HubError("it was changed while it was downloaded; run the command again")
        folder = own
    if folder is None:
        raise HubError("it holds nothing to fetch")
    return folder
