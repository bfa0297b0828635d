"""A home folder that is missing, read-only or unknown: another stands in, or one line says what to do."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helpers.paths import ROOT
from textual_inversion.cli.parser import OneLineParser
from textual_inversion.settings.flag import flags_of
from textual_inversion.settings.train_run import SavingSettings
from textual_inversion.system import home
from textual_inversion.system.errors import OutputError, SettingsError

INFER = ["infer.py", "--num_images", "1", "--num_inference_steps", "2", "--prompt", "a <cat-toy>"]
TRAIN = [
    "train_textual_inversion.py",
    "--max_train_steps",
    "1",
    "--num_inference_steps",
    "2",
    "--report_to",
    "visualdl",
]
SCORE = ["score.py", "--num_images", "1", "--images_per_edit_prompt", "1", "--num_inference_steps", "2"]
# Another user, without an entry in the password file, who may read everything and write nothing that is not his.
AS_NOBODY_KNOWN = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups",
                   "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # fmt: skip


@pytest.fixture(autouse=True)
def own_stand_in(monkeypatch, tmp_path):
    home._stand_in.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    home._stand_in.cache_clear()


def a_file(folder: Path) -> str:
    (folder / "file").write_text("")
    return str(folder / "file")


@pytest.mark.parametrize("name", ["/proc/nonexistent", "a file", "a folder with a file in the way"])
def test_for_an_import_another_folder_stands_in(tmp_path, monkeypatch, name):
    value = {"a file": a_file(tmp_path), "a folder with a file in the way": str(tmp_path)}.get(name, name)
    (tmp_path / ".cache").write_text("in the way")
    monkeypatch.setenv("HOME", value)

    with home.taking(*home.OF_PADDLE) as takes_it:
        inside = os.environ["HOME"]
        assert not takes_it and inside != value and home.home_folder() is None
        os.makedirs(os.path.expanduser("~/.cache/paddle/dataset"))
    assert os.environ["HOME"] == value and home.home_folder() == Path(value)


def test_a_home_folder_that_takes_them_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "new"))
    with home.taking(*home.OF_VISUALDL) as takes_it:
        assert takes_it and (tmp_path / "new/.visualdl/conf").is_dir() and os.environ["HOME"] == str(tmp_path / "new")


def test_a_process_without_any_home_folder_gets_one_for_its_lifetime(monkeypatch):
    monkeypatch.setenv("HOME", "relative")
    assert home.home_folder() is None
    home.prepare()
    assert os.path.isdir(os.environ["HOME"]) and home.home_folder() is None


def no_temporary_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda: (_ for _ in ()).throw(FileNotFoundError(2, "none")))


def test_where_nothing_can_be_written_one_line_names_the_variables(monkeypatch):
    no_temporary_folder(monkeypatch)
    monkeypatch.setenv("HOME", "/proc/nonexistent")

    with pytest.raises(OutputError, match="home folder /proc/nonexistent, nor .* set HOME or TMPDIR"):
        home.prepare()


def test_without_temporary_folders_the_home_folder_takes_what_is_temporary(tmp_path, monkeypatch):
    no_temporary_folder(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    home.prepare()
    assert tempfile.gettempdir() == str(tmp_path / ".cache")


def test_a_path_in_a_home_folder_that_is_unknown_is_refused(monkeypatch):
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    parser = OneLineParser(prog="infer.py")
    parser.add_argument("--output_dir").flag = flags_of(SavingSettings)["output_dir"]

    assert parser.parse_args(["--output_dir", "~x"]).output_dir == "~x"
    for value in ("~", "~/x"):
        with pytest.raises(SettingsError, match="--output_dir ~.*: there is no home folder here; set HOME"):
            parser.parse_args([f"--output_dir={value}"])


# ---------------------------------------------------------------------------------------------------- whole commands


def call(words, folder, *, prefix=(), **changed):
    """Run a command in a folder; a variable that is None is not set."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **changed}
    environment = {name: value for name, value in environment.items() if value is not None}
    arguments = [str(ROOT / words[0]), *words[1:], *(["--output_dir", "out"] if words[0] != "score.py" else [])]
    return subprocess.run([*prefix, sys.executable, *arguments], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=280)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("words", [INFER, TRAIN, [*TRAIN, "--compile"], SCORE])
def test_every_command_works_without_a_home_folder_that_can_be_written(tmp_path, words):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = call(words, tmp_path, HOME="/proc/nonexistent", TMPDIR=str(temporary), PPNLP_HOME=None, XDG_CACHE_HOME=None)

    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", [{"HOME": "/nonexistent"}, {"HOME": None}, {"HOME": ""}, {"PPNLP_HOME": "/proc/x"}]
)
def test_a_user_without_a_name_or_a_home_folder_can_draw(tmp_path, variables):
    if not shutil.which("setpriv") or subprocess.run([*AS_NOBODY_KNOWN, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody become another user here")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o777)
        done = call(INFER, folder, prefix=AS_NOBODY_KNOWN, XDG_CACHE_HOME=None, **variables)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in folder.iterdir()] == ["out"]  # and no folder named ~
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_working_folder_that_cannot_be_written_is_named(tmp_path):
    done = call(INFER, "/proc")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --output_dir out cannot be made (No such file or directory); choose another folder\n"
