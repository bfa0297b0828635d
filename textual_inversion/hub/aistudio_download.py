"""The files of a repository of AI Studio: which there are, and their download into the folder of `aistudio`.

A repository is called "owner/name" here. The token is that of `aistudio_client.token`.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests
from typing_extensions import TypedDict

from textual_inversion.hub import aistudio_client
from textual_inversion.hub.aistudio import BRANCH, folder_of
from textual_inversion.hub.aistudio_client import Refusal, ask, in_repository, refuse_failure, within_reach
from textual_inversion.hub.hugging_face import HubError, is_offline
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

# A part of a path that leads neither upward nor anywhere else.
_PART = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}")
_PER_PAGE, _MOST_PAGES = 1000, 10
_CHUNK = 1 << 18
_SHOWN_PROGRESS = 10 << 20  # bytes of a file whose download shows its progress


class _Entry(TypedDict):
    path: str
    type: str
    sha: str


class _Tree(TypedDict, total=False):
    tree: list[_Entry] | None
    truncated: bool


class _Permit(TypedDict, total=False):
    errorCode: int
    errorMsg: str | None


def files_of(repository: str, *, revision: str | None = None) -> list[str]:
    """The paths of all files in a repository.

    Args:
        repository: such as "owner/name".
        revision: branch, tag or commit; None: the only branch that all repositories have.

    Raises:
        HubError: AI Studio refuses, does not answer in time, or answers what is no list of files.
    """
    _refuse_hidden(repository)
    return list(hashes_of(repository, revision=revision))


def hashes_of(repository: str, *, revision: str | None = None) -> dict[str, str]:
    """Path -> git's SHA-1 of each file of a repository; raises as `files_of`."""
    _refuse_offline()
    url, found = in_repository(repository, "git", "trees", revision or BRANCH), {}
    for page in range(1, _MOST_PAGES + 1):
        with _of_revision(revision):
            tree = ask("GET", url, _Tree, params={"recursive": "true", "page": page, "per_page": _PER_PAGE})
        found |= {one["path"]: one["sha"] for one in tree.get("tree") or () if one["type"] == "blob"}
        if not tree.get("truncated"):
            return found
    raise HubError(f"its repository has more than {_PER_PAGE * _MOST_PAGES:,} files")


def _refuse_hidden(repository: str) -> None:
    """Raise HubError where the owner shows a repository to nobody yet, which the git server may not know."""
    _refuse_offline()
    if os.environ.get("SKIP_REPO_VISIBLE_CHECK") == "true":  # as for the SDK: a mirror may have no such service
        return
    url = aistudio_client.service("HUB_URL_VISIBLE_CHECK")
    answer = ask("GET", url, _Permit, params={"repoId": repository, "authorization": 1})
    if answer.get("errorCode"):
        said = aistudio_client.shortened(answer.get("errorMsg") or "")
        raise HubError("AI Studio has no public repository of this name" + (f" ({said})" if said else ""))


@contextlib.contextmanager
def _of_revision(revision: str | None) -> Iterator[None]:
    try:
        yield
    except Refusal as error:
        if error.status != requests.codes.not_found or revision is None:
            raise
        raise HubError(f"{error}, or no revision {revision} of it") from error


def fetch(
    repository: str, files: Sequence[str], *, revision: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """Download some files of a repository, unless they are there already, and return the folder.

    Args:
        files: paths as `files_of` gives them.

    Raises:
        HubError: they cannot be downloaded.
    """
    _refuse_offline()
    folder = folder_of(repository, revision, cache_dir)
    if folder is None:
        raise HubError("there is no folder to keep downloads in; name one with --cache_dir")
    for file in files:
        if not all(map(_PART.fullmatch, file.split("/"))):
            raise HubError(f"its file {file[:80]!r} would lie outside the folder of downloads")
        if not (folder / file).is_file():
            _download(repository, file, revision, folder / file)
    return folder


def _download(repository: str, file: str, revision: str | None, target: Path) -> None:
    url = in_repository(repository, "media", *file.split("/"))
    params = {} if revision is None else {"ref": revision}

    def get() -> None:
        plain = {"Accept-Encoding": "identity"}  # so that the length is that of the file
        with aistudio_client.request("GET", url, params=params, headers=plain, stream=True) as response:
            refuse_failure(response, has_message=False)
            atomic.make_folder(target.parent)
            atomic.write_parts(target, _parts(response, file))

    try:
        within_reach(get)
    except Refusal as error:
        if error.status == requests.codes.not_found:
            raise HubError(f"AI Studio has no file {file} in it") from error
        raise
    except (OutputError, OSError) as error:
        raise HubError(f"its download cannot be kept ({error})") from error


def _parts(response: requests.Response, file: str) -> Iterator[bytes]:
    """The parts of a file; raises HubError where it ends before its time."""
    from tqdm import tqdm

    announced, received = response.headers.get("Content-Length", ""), 0
    size = int(announced) if re.fullmatch(r"\d{1,15}", announced) else None
    hidden = None if size is not None and size >= _SHOWN_PROGRESS else True  # None: shown in a terminal
    parts = response.iter_content(_CHUNK)
    with tqdm(total=size, desc=file, unit="B", unit_scale=True, disable=hidden) as progress:
        while part := within_reach(lambda: next(parts, b"")):  # whose errors would look like those of the disk
            received += len(part)
            progress.update(len(part))
            yield part
    if size is not None and received != size:
        raise HubError(f"AI Studio broke off in {file}, after {received:,} of {size:,} bytes; try again")


def _refuse_offline() -> None:
    if is_offline():
        raise HubError("HF_HUB_OFFLINE forbids downloads")
