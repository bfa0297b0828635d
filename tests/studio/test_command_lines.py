"""From forms to command lines that the commands take, and back from a refusal to the field that it means."""

import shlex
from pathlib import Path

import pytest

from helpers.paths import ROOT
from textual_inversion.cli.generation import parse_infer
from textual_inversion.cli.train import parse
from textual_inversion.settings.flag import values_of
from textual_inversion.studio import command_lines, forms
from textual_inversion.studio.children import Job
from textual_inversion.studio.runs import FINISHED, Run
from textual_inversion.system.errors import SettingsError

HOSTILE = ["$(touch /tmp/x)", "; rm -rf /", "`id`", "a\nb", "'\"'", "--output_dir=/etc", "-x", "| cat", "&& id", "猫"]


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_typed_is_one_word_for_the_command_and_for_a_shell(value):
    words = command_lines.arguments("infer", {"negative_prompt": [value], "prompt": value, "seed": ["3"]})

    assert parse_infer(words).images.negative_prompt == (value,) and parse_infer(words).images.prompt == (value,)
    assert shlex.split(command_lines.shown("infer", words))[2:] == words  # python infer.py …
    assert command_lines.process("infer", words)[3:] == words


def test_nothing_is_run_by_a_shell():
    sources = [path.read_text("utf-8") for path in (ROOT / "textual_inversion/studio").rglob("*.py")]
    assert not any(word in source for source in sources for word in ("shell=True", "os.system", "popen(", "getoutput"))


def test_empty_fields_are_left_out_and_all_kinds_of_values_are_taken():
    words = command_lines.arguments(
        "train",
        {"max_train_steps": "7", "learning_rate": 1e-05, "overview": False, "scale_lr": True, "seed": None,
         "placeholder_token": ["<a>", "<b>"], "train_data_dir": ["demo", "docs"], "resolution": "", "export": []},
    )  # fmt: skip
    config = parse(words)

    assert values_of(config)["max_train_steps"] == 7 and config.training.learning_rate == 1e-05
    assert config.validation.overview is False and config.training.scale_lr is True
    assert config.concept.placeholder_token == ("<a>", "<b>")
    assert not any(word.startswith(("--seed", "--resolution", "--export")) for word in words)


def test_of_several_values_none_may_look_like_a_flag():
    with pytest.raises(SettingsError, match="--prompt: of several values none may begin with a hyphen"):
        command_lines.arguments("infer", {"prompt": ["a", "--lora=/x"]})


def test_an_unknown_flag_is_a_mistake_of_the_page():
    with pytest.raises(KeyError):
        command_lines.arguments("train", {"x": 1})


@pytest.mark.parametrize(
    ("command", "values", "field"),
    [
        ("train", {"max_train_steps": "-3"}, "max_train_steps"),
        ("train", {"placeholder_token": ["<a>", "<a>"]}, "placeholder_token"),
        ("train", {"learning_rate": "fast"}, "learning_rate"),
        ("infer", {"seed": ["x"]}, "seed"),
        ("infer", {"height": ["63"]}, "height"),
    ],
)
def test_a_refusal_is_the_commands_own_line_and_names_its_field(command, values, field):
    words = command_lines.arguments(command, values)
    found, line = command_lines.refusal(command, words)

    assert found == field and f"--{field}" in line
    assert command_lines.refusal(command, []) is None


def run_of(folder, *argv, settings=None):
    job = Job(["python", "-u", "train.py", *argv], 1, 1, "b", 0.0)
    return Run(folder, FINISHED, {"settings": settings or {}}, job=job)


def test_a_run_goes_on_with_what_it_was_begun_with():
    run = run_of(Path("/w/a"), "--seed=3", "--prompt_weights", "--placeholder_token", "<a>", "<b>", "--output_dir=/w/a",
                 "--resume_from_checkpoint=latest")  # fmt: skip
    words = command_lines.going_on(run)

    assert words == ["--seed=3", "--prompt_weights", "--placeholder_token", "<a>", "<b>", "--output_dir=/w/a",
                     "--resume_from_checkpoint=latest"]  # fmt: skip


def test_a_fork_has_its_own_folder_and_what_was_changed(tmp_path):
    run = run_of(tmp_path / "a", "--learning_rate=0.1", "--output_dir=/w/a", "--push_to=huggingface", "--seed=3")
    words = command_lines.forked(run, tmp_path / "b", {"learning_rate": "0.2"}, tmp_path / "a/checkpoint-5")

    assert words == ["--seed=3", "--learning_rate=0.2", f"--output_dir={tmp_path}/b",
                     f"--resume_from_checkpoint={tmp_path}/a/checkpoint-5", "--allow_changed_settings"]  # fmt: skip
    other = Run(tmp_path / "c", FINISHED)
    with pytest.raises(SettingsError, match="c has no configuration"):
        command_lines.forked(other, tmp_path / "b", {})
    (tmp_path / "c").mkdir()
    (tmp_path / "c/config.yaml").write_text("seed: 3\n")
    assert command_lines.forked(other, tmp_path / "b", {})[0] == f"--config={tmp_path}/c/config.yaml"


# -------------------------------------------------------------------------------------------------------------- forms


def test_every_flag_that_is_no_secret_and_not_the_pages_own_has_a_field():
    for command in ("train", "infer"):
        offered = {field.name for fields in forms.fields(command).values() for field in fields}
        missing = set(forms.flags(command)) - offered
        assert missing == {
            name for name in missing if name in forms._NOT_OFFERED or forms.flags(command)[name].is_secret
        }
        assert len(offered) > 25
    assert "seed" not in {one.name for fields in forms.fields("infer", {"seed"}).values() for one in fields}


def test_several_values_are_split_at_blanks_and_quotes_hold_them_together():
    assert forms.several('a "b c" d') == ["a", "b c", "d"]
    assert forms.several("it's $x \\n") == ["it's", "$x", "\\n"]
    assert forms.several('a "b') == ["a", '"b']
    field = next(one for one in forms.fields("train")["concepts"] if one.name == "train_data_dir")
    assert forms.typed(field, forms.shown(("a b", "c"))) == ["a b", "c"]


def test_of_a_fork_only_what_differs_is_changed():
    settings = {"learning_rate": 0.025, "placeholder_token": "<a>", "seed": 3, "scale_lr": False}
    values = {"learning_rate": "0.025", "placeholder_token": ["<a>"], "seed": "4", "scale_lr": False, "loss_type": "l2"}
    assert forms.changed(settings, values) == {"seed": "4", "loss_type": "l2"}


def test_what_flags_mean_is_there_in_chinese_as_the_pages_have_it():
    from helpers.documents import script_of_docs

    pytest.importorskip("babel")
    script = script_of_docs("studio_help")
    from textual_inversion.studio.flag_help import CHINESE_FILE, help_of

    assert CHINESE_FILE.read_text("utf-8") == script.content(), "run python docs/studio_help.py"
    assert help_of("zh", "train", "max_train_steps") == "优化器步数"
    assert help_of("en", "train", "max_train_steps") == "optimizer steps"
    assert help_of("en", "groups", "images") == "images"
