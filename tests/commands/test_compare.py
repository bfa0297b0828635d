"""The command compare.py."""

import subprocess
import sys

import pytest

import compare
from helpers.paths import ROOT
from helpers.reported_runs import data_of, run_folder


def test_runs_are_compared_in_the_terminal_and_on_a_page(tmp_path, capsys):
    runs = [str(run_folder(tmp_path / "a")), str(run_folder(tmp_path / "b", settings={"learning_rate": 0.1}))]
    page = tmp_path / "comparison.html"
    compare.main([*runs, "--output", str(page)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["learning_rate", "0.5", "0.1"] and lines[-1] == f"side by side: {page}"
    assert data_of(page)["labels"] == ["a", "b"]
    compare.main([*runs, "--output", str(page)])  # its own page is replaced
    page.write_text("my own page")
    with pytest.raises(Exception, match="no page of this program; choose another --output, or add --overwrite"):
        compare.main([*runs, "--output", str(page)])
    assert page.read_text() == "my own page"
    compare.main([*runs, "--output", str(page), "--overwrite"])
    assert data_of(page)["labels"] == ["a", "b"]


def test_the_same_run_twice_is_said_to_have_the_same_settings(tmp_path, capsys):
    runs = [str(run_folder(tmp_path / name)) for name in ("a", "b")]
    compare.main([*runs, "--output", str(tmp_path / "c.html")])
    assert "all settings are the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, error",
    [
        (["{a}", "{a}"], "is named twice"),
        (["{a}", "nowhere"], "nowhere is no folder; give the --output_dir of a run"),
        (["{a}", "--output", "no/such/page.html"], "there is no such folder; make it first"),
        ([], "the following arguments are required"),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, error):
    run_folder(tmp_path / "a")
    command = [sys.executable, str(ROOT / "compare.py"), *(one.format(a=tmp_path / "a") for one in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and error in done.stderr, done.stderr
