"""`textual-inversion`: the commands from a checkout and from a wheel."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers.paths import ROOT
from textual_inversion import commands
from textual_inversion.system import paths

CALL = "import sys; from textual_inversion.commands import main; main(sys.argv[1:])"


def call(*words, cwd=ROOT, path=ROOT):
    program = f"import sys; sys.path.insert(0, {str(path)!r}); " + CALL
    return subprocess.run([sys.executable, "-I", "-c", program, *words], cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this project, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_each_command_answers(tmp_path):
    done = call("--help")
    assert done.returncode == 0 and all(name in done.stdout for name in commands.SCRIPTS)
    for name, script in commands.SCRIPTS.items():
        done = call(name, "--help", cwd=tmp_path)
        assert done.returncode == 0 and f"usage: {script}" in done.stdout
    done = call("paint")
    assert (done.returncode, done.stderr) == (
        2,
        "error: 'paint' is not a command; choose one of train, infer, score, convert, compare, verify, sweep, teach, "
        "studio\n",
    )


@pytest.mark.slow
def test_a_wheel_holds_the_commands_and_no_demo(wheel):
    names = {path.relative_to(wheel).parts[0] for path in wheel.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"textual_inversion"}
    for script in commands.SCRIPTS.values():
        assert (wheel / "textual_inversion/commands" / Path(script).name).read_bytes() == (ROOT / script).read_bytes()
    presets = {path.name: path.read_bytes() for path in (ROOT / "presets").iterdir()}
    assert {path.name: path.read_bytes() for path in (wheel / "textual_inversion/presets").iterdir()} == presets


@pytest.mark.slow
def test_a_preset_is_found_in_a_wheel(wheel):
    code = (
        "from textual_inversion.cli.train import build_parser; print(build_parser().parse_args(['--preset', 'fast']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=wheel, capture_output=True, text=True)
    assert "max_train_steps=200" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "name a base model with --pretrained_model_name_or_path and your images with --train_data_dir"),
        (["infer"], "name an embedding file with --embeds"),
        (["score"], "name an embedding file with --embeds"),
        (["infer", "--embeds", str(ROOT / "demo/learned_embeds.pdparams")], "name it with --pretrained_model_name_or"),
        (["infer", "--promt", "x"], "did you mean --prompt?"),
        (["infer", "--xyzzy", "x"], "see textual-inversion infer --help"),
        (["convert", "--xyzzy"], "see textual-inversion convert --help"),
        (["sweep", "--xyzzy"], "see textual-inversion sweep --help"),
        (["teach"], "name a folder or a CSV file with --concepts"),
        (["convert", "inspect"], "see textual-inversion convert inspect --help"),
    ],
)
def test_without_the_demo_the_defaults_say_in_one_line_what_to_do(wheel, tmp_path, words, said):
    done = call(*words, cwd=tmp_path, path=wheel)

    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and said in errors[0] and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_installed_package_draws_and_names_no_commit(wheel, tmp_path):
    own = ["--embeds", str(ROOT / "demo/learned_embeds.pdparams"), "--prompt", "a <cat-toy>", "--num_images", "1"]
    model = ["--pretrained_model_name_or_path", str(ROOT / "demo/model"), "--num_inference_steps", "2"]
    done = call("infer", *own, *model, "--output_dir", "out", cwd=tmp_path, path=wheel)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/contact_sheet.png").is_file()
    assert (tmp_path / "out/index.html").is_file()  # its template is a file of the package
    assert '"git_revision": null' in (tmp_path / "out/manifest.json").read_text()


def test_a_user_is_told_the_command_that_is_there(monkeypatch, tmp_path):
    assert paths.how_to_call("infer.py") == "python infer.py"
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert paths.how_to_call("train_textual_inversion.py") == "textual-inversion train"


def requirements(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith(("#", "--"))]


def test_what_an_installation_needs_is_what_the_requirements_say():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = requirements((ROOT / "requirements.txt").read_text())
    on_cards = requirements((ROOT / "requirements-gpu.txt").read_text())

    assert project["dependencies"] + project["optional-dependencies"]["test"] == needed
    page = requirements((ROOT / "requirements-studio.txt").read_text())
    assert project["optional-dependencies"]["studio"] == page
    storage, *of_tests = requirements((ROOT / "requirements-storage.txt").read_text())
    assert project["optional-dependencies"]["storage"] == [storage] and len(of_tests) == 1
    assert [re.sub("^paddlepaddle-gpu", "paddlepaddle", line) for line in on_cards] == needed
