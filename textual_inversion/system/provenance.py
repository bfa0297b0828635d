"""What a result came from: versions of packages, the commit of this checkout."""

import subprocess
from importlib import metadata

from textual_inversion.system.paths import ROOT

_PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "ppdiffusers", "paddlenlp", "visualdl", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on, as far as they are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit of this checkout, with `-dirty` where tracked files were changed; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
