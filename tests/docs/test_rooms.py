"""The house: which packages there are, what each says of itself, and which way imports may point."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT

LIBRARY = ROOT / "textual_inversion"
ROOMS = sorted(path for path in LIBRARY.iterdir() if (path / "__init__.py").is_file())


def test_no_module_stands_outside_a_room():
    assert [path.name for path in LIBRARY.glob("*.py")] == ["__init__.py"]
    assert len(ROOMS) > 10


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_a_room_says_what_belongs_there_and_what_it_may_import(room):
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""

    assert "import" in text.lower() and len(text.splitlines()) >= 2, f"{room.name}: {text!r}"


def test_arrows_between_rooms_point_one_way():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout[-3000:]
    assert "3 kept, 0 broken" in done.stdout


def test_a_name_for_everything_else_is_not_there():
    names = {path.stem for path in LIBRARY.rglob("*.py")}

    assert not names & {"utils", "util", "helpers", "misc", "common"}
