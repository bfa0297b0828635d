"""What a run writes at its start and at its end, and what is there when the end is interrupted."""

import json
import os
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

import train_textual_inversion
from helpers.training_runs import short_run, vectors_in
from textual_inversion.system.errors import Stopped
from textual_inversion.training import validation
from textual_inversion.training.finish import closing_lines
from textual_inversion.training.state import Record


@pytest.mark.slow
def test_a_run_that_shows_nothing_draws_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(validation, "generate", None)

    train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds"))

    seconds = json.loads((tmp_path / "out" / "run.json").read_text())["figures"]["seconds"]
    assert list(seconds) == ["starting", "images", "base model", "training", "saving"]
    assert "drawing" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_records_are_there_before_the_first_step(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text("# my own\nseed: 3\n")
    found = []

    def train(config, run):
        record = json.loads((run.context.folder / "run.json").read_text())
        found.append((record["seed"], "rows" in record["figures"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(train_textual_inversion, "train", train)
    with pytest.raises(KeyboardInterrupt):
        train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds"))

    assert found == [(3, False)]
    assert "config.yaml is yours and stays as it is" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_is_ended_while_images_are_drawn_has_saved_what_it_learned(tmp_path, monkeypatch):
    argv = short_run(tmp_path, "--overview", "--only_save_embeds")
    train_textual_inversion.main(argv)
    whole = vectors_in(tmp_path / "out" / "learned_embeds.pdparams")
    argv += ["--output_dir", str(tmp_path / "cut")]
    draw = validation.generate

    def told(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return draw(*arguments, **options)

    monkeypatch.setattr(validation, "generate", told)
    with pytest.raises(Stopped) as caught:
        train_textual_inversion.main(argv)
    monkeypatch.undo()

    cut = tmp_path / "cut"
    assert str(caught.value) == (
        f"stopped by SIGINT after the last step, while before and after were drawn; <cat-toy> is in {cut}/"
        "learned_embeds.pdparams; for the rest resume with the same command and --resume_from_checkpoint latest "
        f"--output_dir {cut}"
    )
    np.testing.assert_array_equal(vectors_in(cut / "learned_embeds.pdparams"), whole)
    assert json.loads((cut / "run.json").read_text())["figures"]["rows"] and not (cut / "overview.png").exists()
    train_textual_inversion.main([*argv, "--resume_from_checkpoint", "latest"])
    assert (cut / "overview.png").read_bytes() == (tmp_path / "out" / "overview.png").read_bytes()


def test_the_line_that_draws_can_be_copied_from_any_folder():
    (line,) = [line for line in closing_lines(Record(), ["<a>"], Path("my toys [1]"), 2, "") if "infer.py" in line]
    assert shlex.split(line) == ["python", "infer.py", "--embeds", "my toys [1]/learned_embeds.pdparams"]
