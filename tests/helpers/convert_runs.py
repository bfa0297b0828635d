"""convert.py, run in this process as users run it."""

import pytest

import convert
from textual_inversion.cli.convert import build_parser
from textual_inversion.settings.flag import all_flags
from textual_inversion.system.errors import run_command

PYTHONS_WORDS = ("NoneType", "object has no", "not supported between", "Errno", "unhashable", "expected str")


def run(argv, capsys) -> tuple[int, str, str]:
    """Status, stdout and stderr, as `python convert.py ARGV` would give them."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        run_command(lambda: convert.main([str(word) for word in argv]))
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


def refused(argv, capsys, said: str) -> str:
    """The one line with which a command line is refused, which must hold `said`."""
    status, _, err = run(argv, capsys)
    last = err.splitlines()[-1]
    assert (status, last[:7]) == (2, "error: "), err
    assert said in last and last.isprintable() and len(last) < 700, last
    assert not any(word in last for word in PYTHONS_WORDS) and err.count("error: ") == 1 and "Traceback" not in err
    return last


def untried(config: type, subcommand: str | None, rows) -> set[str]:
    """Flags of a command with a range or choices of which no row of bad input has a wrong value."""
    tried = {word for words, _ in rows for word in words}
    checked = {f"--{name}" for name, flag in all_flags(config).items() if flag.type or flag.choices}
    flags = {action.option_strings[-1] for action in build_parser(subcommand)._actions if action.option_strings}
    assert checked <= flags
    return checked - tried
