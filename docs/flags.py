"""The flags of the commands as Markdown, read from their parsers. Nothing here imports paddle.

The reference pages hold a comment such as `<!-- flags: train -->`, which `conf.py` replaces by `markdown("train")`.
"""

import argparse
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# The one place that says where the parsers are.
from textual_inversion.cli import convert, generation, reporting, studio, sweep, teach, train  # noqa: E402
from textual_inversion.cli.parser import demo_defaults  # noqa: E402

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "train": train.build_parser,
    "infer": generation.infer_parser,
    "score": generation.score_parser,
    "convert": convert.build_parser,
    "compare": reporting.compare_parser,
    "verify": reporting.verify_parser,
    "studio": studio.build_parser,
    **{name: partial(convert.build_parser, name) for name in convert.SUBCOMMANDS},
    "sweep": sweep.build_parser,
    "teach": teach.build_parser,
}
# What a command makes of its command line, refusals included.
PARSE: dict[str, Callable[[list[str]], object]] = {
    "train": train.parse,
    "infer": generation.parse_infer,
    "score": generation.parse_score,
    "convert": convert.parse,
    "compare": reporting.parse_compare,
    "verify": reporting.parse_verify,
    "sweep": lambda argv: sweep.parse(argv).config,
    "teach": lambda argv: teach.parse(argv).config,
    "studio": partial(studio.parse, environment={studio.PASSWORD_VARIABLE: "a password of an example"}),
}
SCRIPTS = {
    "train": "train_textual_inversion.py",
    "infer": "infer.py",
    "score": "score.py",
    "convert": "convert.py",
    "compare": "compare.py",
    "verify": "verify.py",
    "sweep": "sweep.py",
    "teach": "teach.py",
    "studio": "apps/studio.py",
}

NOTHING = "–"
_HIGHEST = 1 << 70


def groups(command: str) -> dict[str, list[argparse.Action]]:
    """The flags of a command by the title of their group, in the order of `--help`."""
    found = {
        group.title: [action for action in group._group_actions if action.dest != "help"]
        for group in PARSERS[command]()._action_groups
    }
    return {title: actions for title, actions in found.items() if actions}


def markdown(command: str) -> str:
    """A heading and a table for each group of flags: flag, default, values, meaning."""
    return "\n".join(_section(title, actions) for title, actions in groups(command).items())


def demo_markdown() -> str:
    """The table of the values in `demo/defaults.yaml`."""
    rows = [f"| `--{name}` | {default(value)} |" for name, value in demo_defaults().items()]
    return "\n".join(["| Flag | Default of the demo |", "|---|---|", *rows]) + "\n"


def _section(title: str, actions: list[argparse.Action]) -> str:
    rows = [
        f"| `{name(action)}` | {default(action.default)} | {values(action)} | {meaning(action)} |" for action in actions
    ]
    head = ["| Flag | Default | Values | Meaning |", "|---|---|---|---|"]
    return "\n".join([f"## {title[0].upper()}{title[1:]}", "", *head, *rows, ""])


def name(action: argparse.Action) -> str:
    """What stands for a flag in the tables: the flag, or the placeholder of an argument that has none."""
    return action.option_strings[-1] if action.option_strings else str(action.metavar)


def default(value: object) -> str:
    """A default value as the tables show it: code, or a dash where nothing is set."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    several = value if isinstance(value, list) else [value]
    return f"`{' '.join(map(_plain, several))}`"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).relative_to(ROOT).as_posix()
    return '""' if value == "" else str(value)


def meaning(action: argparse.Action) -> str:
    """The help text, with flags and braces set as code."""
    text = re.sub(r"--\w+|\{\}|<[\w-]+>", r"`\g<0>`", action.help or "")
    return text.replace("|", r"\|")


def values(action: argparse.Action) -> str:
    """What a flag takes: its choices, its range, or the name of its value."""
    if isinstance(action.default, bool):
        return NOTHING
    if action.choices:
        return " ".join(f"`{choice}`" for choice in action.choices)
    shown = value_range(action.type) or str(action.metavar or action.dest.upper())
    if value_range(action.type) and _accepts(action.type, "auto"):
        shown += " | auto"
    shown = shown.replace("|", r"\|")
    return f"`{shown} …`" if action.nargs == "+" else f"`{shown}`"


def value_range(parse: Callable | None) -> str:
    """The range of numbers that an argparse `type` takes, found by asking it; empty for what is not a number."""
    low = next((n for n in range(-1, 17) if parse and _is_number(parse, n)), None)
    if low is None:
        return ""
    if low < 0:
        return "X"
    if _accepts(parse, low + 0.5) or _accepts(parse, low / 2 + 0.25):
        return _float_range(parse)
    step = next(n for n in range(1, 17) if _accepts(parse, low + n))
    most = low + step * _largest(lambda n: _accepts(parse, low + step * n))
    first = f"{low}" if step == 1 else f"{low}, {low + step}"
    return f"{first} … {_short(most)}"


def _float_range(parse: Callable) -> str:
    from_zero = _accepts(parse, 0)
    if _accepts(parse, 1e300):
        return "≥ 0" if from_zero else "> 0"
    low, high = 0.0, 1e300
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _accepts(parse, middle) else (low, middle)
    return f"{'0' if from_zero else '> 0'} … {_short(low)}"


def _largest(accepts: Callable[[int], bool]) -> int:
    low, high = 0, _HIGHEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if accepts(middle) else (low, middle)
    return low


def _short(number: float) -> str:
    """`number` without a row of zeros, or as a power of two less one."""
    exponent = int(number).bit_length()
    if exponent > 32 and number == (1 << exponent) - 1:
        return f"2^{exponent} - 1"
    return "1e9" if number == 1e9 else f"{number:.7g}"


def _is_number(parse: Callable, value: object) -> bool:
    return _accepts(parse, value) and isinstance(parse(str(value)), int | float)


def _accepts(parse: Callable, value: object) -> bool:
    try:
        parse(str(value))
    except (argparse.ArgumentTypeError, ValueError):
        return False
    return True
