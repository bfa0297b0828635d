"""The page "Coming from other systems": its tables, from the table of names that the commands answer with.

The page holds a comment `<!-- other names -->`, which `conf.py` replaces by `markdown()`, and `<!-- their flags -->`,
for the sentence that says how many of the flags of other programs' scripts are answered:

    python docs/other_names.py --figure

Nothing here imports paddle.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import flags  # noqa: E402

from textual_inversion.settings.other_names import FIXED, SYSTEMS, OtherName, named, rows  # noqa: E402

TITLES = {"train": "Names for training", "infer": "Names for generating images", "convert": "Names for converting"}

FOREIGN = flags.ROOT / "tests" / "helpers" / "foreign_flags"
# A list of the flags of a program's scripts -> the program, our command for the same, what to call the scripts.
SCRIPTS = {
    "diffusers": ("diffusers", "train", "diffusers' two training scripts", "diffusers 的两个训练脚本"),
    "kohya": ("kohya", "train", "kohya's training scripts", "kohya 的训练脚本"),
    "kohya_gen_img": ("kohya", "infer", "kohya's `gen_img.py`", "kohya 的 `gen_img.py`"),
}


@dataclass(frozen=True)
class Answers:
    """What becomes of the flags of a program's scripts.

    Attributes:
        known: they have the same name here.
        hinted: they are answered with another flag.
        refused: they are refused with the reason.
        unknown: they have no row in the table.
    """

    known: tuple[str, ...]
    hinted: tuple[str, ...]
    refused: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def total(self) -> int:
        """Flags of the scripts."""
        return sum(map(len, (self.known, self.hinted, self.refused, self.unknown)))


def answers(name: str) -> Answers:
    """What the command answers to each flag of a list, one of `SCRIPTS`."""
    system, command, *_ = SCRIPTS[name]
    here = set(_in_order(command))
    found = {flag: named(system, command, flag) for flag in (FOREIGN / f"{name}.txt").read_text("utf-8").split()}
    others = {flag: row for flag, row in found.items() if flag not in here}
    return Answers(
        known=tuple(flag for flag in found if flag in here),
        hinted=tuple(flag for flag, row in others.items() if row and row.flag),
        refused=tuple(flag for flag, row in others.items() if row and not row.flag),
        unknown=tuple(flag for flag, row in others.items() if not row),
    )


def figure(language: str = "en") -> str:
    """The sentence about these flags, as HTML: its numbers are counted, so no catalogue can hold it."""
    is_chinese, parts = language.startswith("zh"), []
    for name, (_, _, english, chinese) in SCRIPTS.items():
        one = answers(name)
        total, known, hinted, refused, unknown = (
            one.total, len(one.known), len(one.hinted), len(one.refused), len(one.unknown)
        )  # fmt: skip
        if is_chinese:
            parts.append(
                f"{chinese}共有 {total} 个参数：{known} 个在这里同名，{hinted} 个有另一个名称，"
                f"{refused} 个会被拒绝并说明原因，{unknown} 个没有答复"
            )
        else:
            parts.append(
                f"of the {total} flags of {english}, {known} have the same name here, {hinted} have another, "
                f"{refused} are refused with the reason, and {unknown} have no answer"
            )
    text = "；".join(parts) + "。" if is_chinese else "; ".join(parts) + "."
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text[0].upper() + text[1:])
    return f"```{{raw}} html\n<p>{text}</p>\n```"


def markdown() -> str:
    """All tables: names and defaults by program, what differs in meaning, and what is not here."""
    return "\n".join([*map(_names, TITLES), _differences(), _absent()])


def _names(command: str) -> str:
    """A row for each flag here that has a name elsewhere, a column for each program."""
    kinds = ("train", "file") if command == "train" else (command,)
    own = [row for row in rows() if row.command in kinds and row.flag]
    systems = [system for system in SYSTEMS if any(row.system == system for row in own)]
    lines = [f"| `--{flag}` | {' | '.join(_cell(own, flag, system) for system in systems)} |"
             for flag in _in_order(command) if any(row.flag == flag for row in own)]  # fmt: skip
    head = [f"| Here | {' | '.join(systems)} |", "|---|" + "---|" * len(systems)]
    return "\n".join([f"## {TITLES[command]}", "", *head, *lines, ""])


def _in_order(command: str) -> list[str]:
    return [action.dest for actions in flags.groups(command).values() for action in actions]


def _cell(own: list[OtherName], flag: str, system: str) -> str:
    """The names of a flag in a program; the first default that is another one than here in parentheses."""
    there = [row for row in own if (row.flag, row.system) == (flag, system)]
    names = ", ".join(f"`{row.name}`" for row in there if row.name != FIXED)
    default = next((row.default for row in there if row.default), "")
    return " ".join(filter(None, [names, f"(`{default}`)" if default else ""])) or flags.NOTHING


def _differences() -> str:
    found: dict[tuple[str, str], list[OtherName]] = {}
    for row in rows():
        if row.flag and row.note:
            found.setdefault((row.flag, row.note), []).append(row)
    lines = [f"| `--{flag}` | {_there(own)} | {_as_text(note)} |" for (flag, note), own in sorted(found.items())]
    return "\n".join(["## What differs in meaning", "", "| Here | There | Difference |", "|---|---|---|", *lines, ""])


def _absent() -> str:
    found: dict[str, list[OtherName]] = {}
    for row in rows():
        if row.flag is None:
            found.setdefault(row.note, []).append(row)
    lines = [f"| {_there(own)} | {_as_text(note)} |" for note, own in sorted(found.items())]
    return "\n".join(["## What has no flag here", "", "| There | It |", "|---|---|", *lines, ""])


def _there(own: list[OtherName]) -> str:
    """Names by program, all of it as code: `kohya: weights`."""
    by_system = {system: [row.name for row in own if row.system == system] for system in SYSTEMS}
    return ", ".join(f"`{system}: {' '.join(dict.fromkeys(names))}`" for system, names in by_system.items() if names)


def _as_text(note: str) -> str:
    return re.sub(r"--\w+|\{\}|\[name\]|a \{\}", r"`\g<0>`", note).replace("|", r"\|")


def main() -> None:
    """Print how many flags of each list are known, hinted at, refused, and without an answer."""
    if sys.argv[1:] != ["--figure"]:
        print("usage: python docs/other_names.py --figure", file=sys.stderr)
        sys.exit(2)
    for name in SCRIPTS:
        one = answers(name)
        print(f"{name}: {one.total} flags, {len(one.known)} of the same name, {len(one.hinted)} of another, "
              f"{len(one.refused)} refused with a reason, {len(one.unknown)} without an answer")  # fmt: skip


if __name__ == "__main__":
    main()
