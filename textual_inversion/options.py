"""Building blocks of the commands' command lines: value ranges, and errors that fit on one line.

Nothing here imports paddle, so that `--help` and refused arguments answer at once.
"""

import argparse
import difflib
import re
from collections.abc import Callable
from pathlib import Path

from textual_inversion.errors import SettingsError

ROOT = Path(__file__).resolve().parent.parent
DEMO_MODEL = ROOT / "demo" / "model"


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose refusals are `SettingsError`s, with a suggestion for a mistyped flag."""

    def __init__(self, **settings):
        settings.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str):
        """Raise instead of printing the usage and leaving."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            near = difflib.get_close_matches(unknown[1], flags, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else f"see python {self.prog} --help"
            raise SettingsError(f"{unknown[1]} is not a flag of {self.prog}; {hint}")
        raise SettingsError(f"{message.removeprefix('argument ')}; see python {self.prog} --help")

    def explicit(self, argv: list[str] | None) -> set[str]:
        """Names of the settings that stand on the command line itself."""
        defaults = {action: action.default for action in self._actions}
        for action in self._actions:
            action.default = argparse.SUPPRESS
        given = set(vars(self.parse_args(argv)))
        for action, default in defaults.items():
            action.default = default
        return given


def number(kind: type, low: float | None = None, high: float | None = None, *, above: float | None = None) -> Callable:
    """An argparse `type` for an int or float in [low, high], or strictly above a value."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole number' if kind is int else 'number'}") from None
        if value != value or (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"must be {bounds}, not {text}")
        if above is not None and not above < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be greater than {above}, not {text}")
        return value

    return parse


positive_int = number(int, 1)
natural = number(int, 0)
share = number(float, 0.0, 1.0)
positive = number(float, above=0.0)
seed_number = number(int, 0, 2**63 - 1)


def device_name(text: str) -> str:
    """An argparse `type` for cpu, gpu or gpu:N."""
    if not re.fullmatch(r"cpu|gpu(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, gpu or gpu:N, not {text}")
    return text


def is_demo(name_or_path: str) -> bool:
    """Whether a base model is the one that this project ships."""
    path = Path(name_or_path)
    return path.is_dir() and path.resolve() == DEMO_MODEL.resolve()


def demo_defaults() -> dict:
    """The demo's defaults (demo/defaults.yaml): flag name -> value."""
    import yaml

    return yaml.safe_load((ROOT / "demo" / "defaults.yaml").read_text(encoding="utf-8"))


def from_root(path: str) -> str:
    """A default path of the repository, wherever the command is called from."""
    return str(ROOT / path)
