"""Repositories of Baidu AI Studio by their names, `aistudio:owner/name`, and where their files lie on this machine:

    CACHE/aistudio/owner/name/revision/learned_embeds.safetensors

The folders have the layout of the repository. A file gets its name when it is complete.
"""

import hashlib
import re
from pathlib import Path

from textual_inversion.hub.hugging_face import is_repository_id
from textual_inversion.system.home import home_folder

PREFIX = "aistudio:"
BRANCH = "master"  # of every repository there
_REVISION = re.compile(r"[\w-][\w.-]{0,99}")


def is_name(name: str) -> bool:
    """Whether a name is that of a repository of AI Studio: `aistudio:owner/name`."""
    return name.startswith(PREFIX) and is_repository_id(name.removeprefix(PREFIX))


def cached(repository: str, *, revision: str | None = None, cache_dir: str | Path | None = None) -> Path | None:
    """The folder of what was downloaded of a repository, perhaps incomplete, or None.

    Args:
        repository: such as "owner/name".
    """
    folder = folder_of(repository, revision, cache_dir)
    return folder if folder is not None and folder.is_dir() else None


def folder_of(repository: str, revision: str | None, cache_dir: str | Path | None) -> Path | None:
    """Where downloads lie; None without a home folder, or for a name that can be no folder's."""
    home = home_folder()
    if cache_dir is None and home is None:
        return None
    top = Path(cache_dir).expanduser() if cache_dir is not None else home / ".cache" / "textual_inversion"
    name = revision or BRANCH
    if not _REVISION.fullmatch(name):  # such as that of a branch with a slash
        name = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return top / "aistudio" / repository / name if is_repository_id(repository) else None
