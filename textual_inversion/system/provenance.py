"""What a result came from: the versions of packages, and the commit of this project."""

import os
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from textual_inversion.system.paths import ROOT

_PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "ppdiffusers", "paddlenlp", "visualdl", "numpy", "pillow")
_GIT_SECONDS = 10


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on, by name; packages that are not installed are left out."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision(root: Path = ROOT, aside: Iterable[str] = ()) -> str | None:
    """The commit of a checkout of this project, with `-dirty` if tracked files were changed.

    None for an installed package, and for a copy of the files inside another project's repository, whose commit says
    nothing about this program.

    Args:
        root: the top of the project.
        aside: files, relative to `root`, whose changes do not count.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or not _is_same_folder(Path(top), root):
        return None
    revision = _git(root, "describe", "--always", "--abbrev=12", "--exclude=*")
    # `describe --dirty` would write the repository's index, and leave its lock where the disk or a limit is in the way.
    paths = [":/", *(f":(top,exclude,literal){path}" for path in aside)]
    changed = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--", *paths)
    return revision if revision is None or changed is None else f"{revision}-dirty"


def _git(root: Path, *arguments: str) -> str | None:
    """The output of a git command, stripped; None if it is empty, the command fails, or there is no git."""
    # Variables such as GIT_DIR, which git sets for its hooks, would lead to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _is_same_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
