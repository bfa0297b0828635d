"""A run with another trainer's configuration: it says what it took, and leaves records and a file that repeat it."""

import json

import train_textual_inversion
from helpers.training_runs import short_run
from textual_inversion.cli.train import parse

KOHYA = """
[any]
token_string = "<mine>"
init_word = "toy"
num_vectors_per_token = 2
max_train_steps = 2
flip_aug = false
optimizer_args = ["weight_decay=0.1"]
xformers = true
our_own_key = 1
"""


def test_a_run_with_kohyas_configuration_learns_what_it_says_and_can_be_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kohya.toml").write_text(KOHYA)
    argv = short_run(tmp_path, "--config", "kohya.toml")
    del argv[argv.index("--max_train_steps") : argv.index("--max_train_steps") + 2]

    train_textual_inversion.main(argv)

    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "note: kohya.toml is read as" in line]
    assert "not taken over: any (xformers); unknown: any (our_own_key)" in line
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    settings = record["settings"]
    assert settings["placeholder_token"] == "<mine>" and settings["num_vectors"] == 2
    assert (settings["flip_p"], settings["adam_weight_decay"], settings["max_train_steps"]) == (0.0, 0.1, 2)
    again = parse(["--config", str(tmp_path / "out" / "config.yaml")])
    assert again.notes == () and again.concept.placeholder_token == ("<mine>",) and again.images.flip_p == 0.0
    assert again.optimizer.adam_weight_decay == 0.1 and again.saving.output_dir.endswith("out-2")
