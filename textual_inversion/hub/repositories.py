"""Repositories by the names that users give: `owner/name` on Hugging Face, `aistudio:owner/name` on AI Studio.

Each hub gets its own token and no other's: the one that is passed on here is for Hugging Face.
"""

from collections.abc import Sequence
from pathlib import Path

from textual_inversion.hub import aistudio, hugging_face
from textual_inversion.hub.hugging_face import HubError

__all__ = ["HubError", "cached", "fetch", "files_of", "is_repository_name"]


def is_repository_name(name: str) -> bool:
    """Whether a name has the form of a repository's on any hub."""
    return hugging_face.is_repository_id(name) or aistudio.is_name(name)


def cached(name: str, *, revision: str | None = None, cache_dir: str | Path | None = None) -> Path | None:
    """The folder on this machine with what was downloaded of a repository, perhaps incomplete, or None."""
    where = dict(revision=revision, cache_dir=cache_dir)
    if aistudio.is_name(name):
        return aistudio.cached(name.removeprefix(aistudio.PREFIX), **where)
    return hugging_face.cached(name, **where)


def files_of(name: str, *, revision: str | None = None, token: str | None = None) -> list[str]:
    """The paths of all files in a repository.

    Args:
        revision: branch, tag or commit.
        token: for Hugging Face; None: that of an earlier login.

    Raises:
        HubError: the hub refuses, does not answer in time, or answers what is no list of files.
    """
    if aistudio.is_name(name):
        from textual_inversion.hub import aistudio_download

        return aistudio_download.files_of(name.removeprefix(aistudio.PREFIX), revision=revision)
    return hugging_face.files_of(name, revision=revision, token=token)


def fetch(
    name: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
) -> Path:
    """Download some files of a repository, unless they are there already, and return the folder.

    Args:
        files: paths as `files_of` gives them.
        token: as of `files_of`.

    Raises:
        HubError: they cannot be downloaded.
    """
    where = dict(revision=revision, cache_dir=cache_dir)
    if aistudio.is_name(name):
        from textual_inversion.hub import aistudio_download

        return aistudio_download.fetch(name.removeprefix(aistudio.PREFIX), files, **where)
    return hugging_face.fetch(name, files, token=token, **where)
