"""The values of `--report_to`, what each needs, and the check that it is there. Imports nothing large."""

from collections.abc import Sequence
from importlib.util import find_spec

from textual_inversion.system.errors import SettingsError

NONE = "none"
# Value -> the package that it needs, and what installs it.
PACKAGES = {
    "visualdl": ("visualdl", "visualdl"),
    "tensorboard": ("tensorboardX", "tensorboardX"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "swanlab": ("swanlab", "swanlab"),
}


def wanted(report_to: str | Sequence[str]) -> list[str]:
    """The reporters that are asked for, each once; [] for `none`.

    Raises:
        SettingsError: one is unknown or its package is not installed, or `none` stands beside others.
    """
    names = list(dict.fromkeys([report_to] if isinstance(report_to, str) else report_to))
    for name in names:
        if name != NONE and name not in PACKAGES:
            raise SettingsError(f"--report_to {name!r} is unknown; choose one of {', '.join([*PACKAGES, NONE])}")
        if name != NONE and not _is_installed(PACKAGES[name][0]):
            raise SettingsError(not_installed(name))
    others = [name for name in names if name != NONE]
    if others and len(others) < len(names):
        raise SettingsError(f"--report_to none contradicts {' '.join(others)}; leave one of them out")
    return others


def not_installed(reporter: str) -> str:
    """What to say of a reporter without its package."""
    other = NONE if reporter == "visualdl" else "visualdl"
    return f"--report_to {reporter} needs a package: pip install {PACKAGES[reporter][1]} (or take --report_to {other})"


def _is_installed(package: str) -> bool:
    try:
        spec = find_spec(package)
    except ValueError:  # a module that somebody has made in memory
        return True
    return spec is not None and spec.origin is not None  # a folder of this name, such as one of logs, is no package
