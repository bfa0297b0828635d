"""What other programs call the settings of this one: the table in `other_names.txt`, and how it is asked.

    found("train_textual_inversion.py", "weights")     what programs mean by a flag that is none here
    answer("train_textual_inversion.py", "weights", …) the same in words: kohya's --weights is --initializer_embeds here
    named("kohya", "train", "init_word")               one row, or None

The names, defaults and meanings are facts about those programs: diffusers' scripts and pipelines, kohya's sd-scripts,
the web UI of AUTOMATIC1111, OneTrainer, invoke-training, Determined's example and MindOne's.
"""

import functools
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_suffix(".txt")
FIXED = "*"  # the name of what a program has no name for
SYSTEMS = ("diffusers", "kohya", "A1111", "OneTrainer", "invoke-training", "Determined", "MindOne")
# Command in the table -> its script. Rows of "file" are keys of configuration files only.
SCRIPTS = {"train": "train_textual_inversion.py", "infer": "infer.py", "convert": "convert.py", "file": ""}
# Where else a name is looked for, if the command's own rows do not have it.
_NEXT = {
    "train_textual_inversion.py": ("train", "infer", "convert"),
    "infer.py": ("infer", "train", "convert"),
    "score.py": ("infer", "train", "convert"),
    "convert.py": ("convert", "train", "infer"),
}


@dataclass(frozen=True)
class OtherName:
    """A setting of another program.

    Attributes:
        system: the program, one of `SYSTEMS`.
        command: which of its settings, one of `SCRIPTS`.
        name: what it is called there, without dashes; `FIXED` for a value that nothing changes there.
        flag: the flag here, without dashes; None: there is no such flag.
        default: its default there, if that is another one than here.
        note: how its meaning differs; without a flag, the rest of a sentence that begins with the name.
    """

    system: str
    command: str
    name: str
    flag: str | None
    default: str = ""
    note: str = ""

    @property
    def owner(self) -> str:
        """The program in the genitive: "kohya's"."""
        return f"{self.system}'" if self.system.endswith("s") else f"{self.system}'s"


@functools.cache
def rows() -> tuple[OtherName, ...]:
    """The whole table, in the order of the file."""
    read, system, command = [], "", ""
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            system, command = line.strip("[]").split()
        elif line and not line.startswith("#"):
            names, flag, default, note = (cell.strip() for cell in line.split("|"))
            own = dict(default=default, note=note)
            read += [OtherName(system, command, name, name if flag == "=" else flag or None, **own)
                     for name in names.split()]  # fmt: skip
    return tuple(read)


@functools.cache
def _index() -> dict[tuple[str, str, str], OtherName]:
    return {(row.system, row.command, row.name): row for row in rows() if row.name != FIXED}


def named(system: str, command: str, name: str) -> OtherName | None:
    """The row of a name, or None."""
    return _index().get((system, command, name))


def found(script: str, name: str, flags: Container[str] = ()) -> list[OtherName]:
    """What other programs mean by a flag that a command does not have; those with a flag of the command come first.

    Args:
        script: the command, such as "infer.py", with its subcommand if it has one.
        name: with or without leading dashes; dashes within it are as good as underscores.
        flags: names of the flags that the command has.

    Returns:
        Rows of the first kind of settings that has the name; empty if no program has it.
    """
    name = name.lstrip("-").replace("-", "_")
    order = _NEXT.get(script.split()[0], ())
    own = order[:1]
    for group in (own, order[1:]):
        rows_of_group = [row for command in group for system in SYSTEMS if (row := named(system, command, name))]
        here = [row for row in rows_of_group if row.flag in flags]
        if here or rows_of_group:
            return here or rows_of_group
    return []


def answer(script: str, given: str, flags: Container[str]) -> str | None:
    """What to say of a flag that a command does not have, if it is one of another program; None if it is of none.

    Args:
        given: the flag as it was typed.
        flags: names of the flags that the command has.
    """
    if given.lstrip("-").replace("-", "_") in flags:  # the command's own flag, with other dashes
        return None
    said: dict[str, list[OtherName]] = {}
    for row in found(script, given, flags):
        said.setdefault(_meaning(row, script, flags), []).append(row)
    parts = []
    for meaning, own in said.items():
        owners = " and ".join(dict.fromkeys(row.owner for row in own))
        is_ours = own[0].flag == own[0].name
        parts.append(meaning if is_ours else f"{owners} {given} {meaning}")
    return "; ".join(parts) or None


def _meaning(row: OtherName, script: str, flags: Container[str]) -> str:
    if row.flag is None:
        return row.note
    other = SCRIPTS[row.command]
    if row.flag == row.name:
        return f"it is one of {other}"
    note = f": {row.note}" if row.note else ""
    return f"is --{row.flag} here{note}" if row.flag in flags else f"is --{row.flag} of {other}{note}"
