"""Settings from a YAML file: the command line wins, refusals name the line, a run's own file repeats it."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

import infer
import score
from helpers.configs import flat, parsed
from textual_inversion.settings import config_yaml
from textual_inversion.settings.flag import all_flags, changed
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import ROOT

PROGRAM = "train_textual_inversion.py"
REAL = ["--pretrained_model_name_or_path", "some/model"]


@pytest.fixture
def config(tmp_path):
    """Writes a configuration and returns the words that name it."""

    def write(text: str) -> list[str]:
        (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
        return ["--config", str(tmp_path / "run.yaml")]

    return write


def test_numbers_lists_switches_and_groups_are_read_as_on_the_command_line(config):
    words = config(
        "learning_rate: 1e-3\nscale_lr: yes\noverview: false\nvalidation_prompt:\n- 'a: <cat-toy>'\n- no\n"
        "optimizer:\n  max_grad_norm: -1\nbase model: {language: zh}\nplaceholder_token: -x\nseed:\n"
    )

    args = parsed(REAL + words)

    assert (args.learning_rate, args.scale_lr, args.overview, args.max_grad_norm) == (1e-3, True, False, -1.0)
    assert (args.validation_prompt, args.language, args.placeholder_token) == (("a: <cat-toy>", "no"), "zh", ("-x",))
    assert args.seed is None


@pytest.mark.parametrize("before", [True, False])
def test_the_command_line_wins_wherever_the_file_is_named(config, before):
    words = config("learning_rate: 0.5\nscale_lr: true\nvalidation_prompt: [a, b]\n")
    typed = [*REAL, "--learning_rate", "0.1", "--scale_lr", "false", "--validation_prompt", "c"]

    args = parsed([*typed, *words] if before else [*words, *typed])

    assert (args.learning_rate, args.scale_lr, args.validation_prompt) == (0.1, False, ("c",))


def test_what_the_file_says_wins_over_the_demos_defaults(config):
    args = parsed(config("learning_rate: 0.0001\nmax_train_steps: 5000\n"))

    assert args.demo and (args.learning_rate, args.max_train_steps) == (1e-4, 5000)
    assert args.given == {"config", "learning_rate", "max_train_steps"}
    assert args.train_batch_size == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nlearning_rat: 1", "run.yaml, line 2: learning_rat is not a setting of train_textual_inversion.py; "
                                     "did you mean learning_rate?"),
        ("--learning-rate: 1", "did you mean learning_rate?"),
        ("training:\n  sed: 1", "line 2: sed is not a setting of train_textual_inversion.py; did you mean seed?"),
        ("trainig: {seed: 1}", "did you mean training?"),
        ("xyzzy: 1", "see python train_textual_inversion.py --help"),
        ("saving:\n  [a]: 3", "is not a setting"),
        ("config: other.yaml", "config is not a setting"),
        ("seed: 1\nseed: 2", "line 2: seed is set twice"),
        ("lr_scheduler: step", "line 1: --lr_scheduler: invalid choice: 'step'"),
        ("max_train_steps: 1.5", "line 1: --max_train_steps: '1.5' is not a whole number"),
        ("flip_p: no", "line 1: --flip_p: 'no' is not a number"),
        ("overview: 3", "line 1: --overview: must be true or false, not 3"),
        ("seed: [1, 2]", "line 1: seed takes one value, not a list"),
        ("validation_prompt: {a: b}", "line 1: validation_prompt takes plain values"),
        ("validation_prompt: [[a]]", "line 1: validation_prompt takes plain values"),
        ("validation_prompt: [a, --seed=4]", "line 1: '--seed=4' would be read as a flag"),
        ("validation_prompt: [a, ~]", "line 1: an item of validation_prompt is empty"),
        ("validation_prompt: []", "line 1: an item of validation_prompt is empty"),
        ("- a", "has no settings"),
        ("a: 'b", "this is not YAML"),
        ("a: \x07", "this is not YAML"),
        (r'train_data_dir: "C:\Users\me"', "found 's'); a backslash in double quotes is an escape"),
        (r'train_data_dir: "C:\images"', "character 'i'); a backslash in double quotes is an escape"),
        (r'train_data_dir: "D:\train"', "line 1: train_data_dir is a path with a control character; a backslash"),
        (r'train_data_dir: [a, "D:\new"]', "line 1: train_data_dir is a path with a control character; a backslash in"),
        ("saving:\n\tsave_steps: 3", "(found character '\\t' that cannot start any token); indent with blanks"),
        ("validation_prompt: a: b", "; put a value that contains a colon and a blank in quotes"),
        ("placeholder_token: @a", "; put a value that begins with this character in quotes"),
        ("placeholder_token: *a", "; put a value that begins with * or & in quotes"),
        ("placeholder_token: [a", "; close the bracket"),
        ('placeholder_token: "a', "; close the quotes"),
    ],
)  # fmt: skip
def test_refusals_are_one_line_that_names_the_place(config, text, message):
    with pytest.raises(SettingsError) as caught:
        parsed(config(text))

    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("written", [r"'C:\Users\train'", r"C:\Users\train", r'"C:\\Users\\train"'])
def test_a_windows_path_is_taken_as_it_is_meant(config, written):
    assert parsed(config(f"train_data_dir: {written}")).train_data_dir == (r"C:\Users\train",)


def test_a_prompt_may_hold_a_control_character(config):
    assert parsed(config('validation_prompt: "a\\tb"')).validation_prompt == ("a\tb",)


@pytest.mark.parametrize("words", [["--config", "none.yaml"], ["--config=none.yaml"], ["--config", "."]])
def test_a_file_that_cannot_be_read_is_said(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError, match="cannot be read"):
        parsed(words)


def test_bytes_that_are_no_text_are_said(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(SettingsError, match="not UTF-8 text"):
        parsed(["--config", str(tmp_path / "run.yaml")])


def test_an_empty_file_changes_nothing(config):
    one, other = parsed(config("# nothing\n")), parsed([])
    names = [*all_flags(TrainConfig), "concepts", "demo", "demo_defaults"]
    assert {n: getattr(one, n) for n in names} | {"config": None} == {n: getattr(other, n) for n in names}
    assert one.given == {"config"}


def test_the_other_commands_take_one_too(config):
    words = config("num_images: 3\nsampling: {guidance_scale: 2}\n")

    for command in (infer, score):
        args = command.build_parser().parse_args(words)
        assert (args.num_images, args.guidance_scale) == (3, [2.0] if command is infer else 2.0)


def test_what_a_run_writes_gives_its_settings_again_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "logs").mkdir()
    monkeypatch.chdir(tmp_path)
    prompts = ["a <cat-toy>", "a: #1 'cat'\n", "noch ein größeres"]
    args = parsed(
        ["--train_data_dir", "pictures", "--adam_epsilon", "1e-9", "--validation_prompt", *prompts, "--scale_lr",
         "--logging_dir", "logs", "--hub_token", "hf_secret", "--push_to_hub", "--num_train_epochs", "2"]
    )  # fmt: skip
    config = changed(args.whole, seed=7, max_train_steps=13, num_train_epochs=3)  # as settled with the images
    args = flat(config)

    assert config_yaml.write(tmp_path, config, PROGRAM, processes=2) == tmp_path / "config.yaml"
    monkeypatch.chdir("/")
    again = parsed(["--config", str(tmp_path / "config.yaml")])

    left_out = {"config", "hub_token", "push_to_hub", "num_train_epochs"}
    same = {*all_flags(TrainConfig), "concepts", "demo"} - left_out
    image_folder = str((tmp_path / "pictures").resolve())
    assert {name: getattr(again, name) for name in same} == {
        **{name: getattr(args, name) for name in same},
        "train_data_dir": (image_folder,),
        "concepts": (replace(args.concepts[0], image_folder=image_folder),),
    }
    assert {"seed", "max_train_steps", "learning_rate"} <= again.given and not again.push_to_hub
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert "hf_secret" not in text and "2 processes" in text and "# repeats: 100" in text


def test_a_users_own_file_is_not_written_over(tmp_path):
    own = tmp_path / "config.yaml"
    own.write_text("# my settings\nseed: 3\n")
    args = parsed(["--config", str(own), "--max_train_steps", "4"])

    written = config_yaml.write(tmp_path, args.whole, PROGRAM)

    assert written == tmp_path / "config-of-run.yaml" and own.read_text() == "# my settings\nseed: 3\n"
    again = parsed(["--config", str(written)])
    assert (again.seed, again.max_train_steps) == (3, 4)
    assert config_yaml.write(tmp_path, again.whole, PROGRAM) == written


def test_a_repetition_stays_out_of_the_first_runs_folder(tmp_path):
    run = tmp_path / "cat"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 3\n")
    words = ["--config", str(run / "config.yaml")]
    assert parsed(words).output_dir == "text-inversion-model"  # a user's own file in a folder of its own

    (run / "run.json").write_text("{}")
    assert parsed(words).output_dir == str(tmp_path / "cat-2")
    (tmp_path / "cat-2").mkdir()
    assert parsed(words).output_dir == str(tmp_path / "cat-2")
    (tmp_path / "cat-2" / "run.json").write_text("{}")
    assert parsed(words).output_dir == str(tmp_path / "cat-3")
    assert parsed([*words, "--output_dir", str(run)]).output_dir == str(run)


def test_reading_one_needs_no_paddle(config):
    code = "import sys; from textual_inversion.cli.train import parse; parse(sys.argv[1:]); "
    code += "sys.exit('paddle' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code, *config("seed: 1")], cwd=ROOT, env=os.environ).returncode == 0
