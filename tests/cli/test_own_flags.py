"""A command's own flags beside those of the training command."""

import pytest

from textual_inversion.cli import own_flags, sweep
from textual_inversion.system.errors import SettingsError


def split(*words):
    return own_flags.split(words, sweep.build_parser())


def test_each_flag_goes_where_it_belongs_with_its_values():
    own, training = split("--train_data_dir", "a", "b", "--metric", "score", "steps", "--learning_rate=0.1", "--asha",
                          "--max_grad_norm", "-1", "--output_dir", "o")  # fmt: skip

    assert own == ["--metric", "score", "steps", "--asha", "--output_dir", "o"]
    assert training == ["--train_data_dir", "a", "b", "--learning_rate=0.1", "--max_grad_norm", "-1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metrc", "x"], "--metrc is a flag neither of sweep.py nor of the training command; did you mean --metric?"),
        (["--learnin_rate", "1"], "did you mean --learning_rate?"),
        (["--xyzzy"], "see python sweep.py --help"),
        (["stray"], "stray stands without a flag"),
        (["--hub_token", "secret"], "--hub_token cannot be given to sweep.py: it would be seen"),
        (["--push_to", "huggingface"], "--push_to cannot be given to sweep.py"),
        (["--resume_from_checkpoint", "latest"], "see --resume"),
        (["--num_threads", "3"], "see --cpus_per_run"),
    ],
)
def test_what_belongs_nowhere_is_named(words, said):
    with pytest.raises(SettingsError) as caught:
        split(*words)
    assert said in str(caught.value)


def test_a_configuration_is_taken_as_it_is_now(tmp_path):
    (tmp_path / "run.yaml").write_text("learning_rate: 0.5\ntrain_batch_size: 3\n")

    words = own_flags.with_configuration(["--config", str(tmp_path / "run.yaml"), "--train_batch_size", "4"])
    assert words == ["--learning_rate=0.5", "--train_batch_size=3", "--train_batch_size", "4"]

    (tmp_path / "run.yaml").write_text("push_to: huggingface\n")
    with pytest.raises(SettingsError, match="--push_to of --config cannot be given to many runs"):
        own_flags.with_configuration([f"--config={tmp_path / 'run.yaml'}"])
