"""The command verify.py: a run is proved, a changed embedding is not."""

import numpy as np
import pytest

import train_textual_inversion
import verify
from helpers.training_runs import short_run
from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams
from textual_inversion.system.errors import SettingsError


@pytest.mark.slow
def test_a_run_is_proved_and_a_changed_embedding_is_not(tmp_path, capsys):
    train_textual_inversion.main(short_run(tmp_path, "--validation_prompt", "a <cat-toy>"))
    run = tmp_path / "out"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()

    assert verify.main([str(run)]) == 0
    shown = capsys.readouterr().out
    assert f"train_data_dir: {tmp_path / 'pictures'}" in shown and "left out" in shown
    assert shown.splitlines()[-1].startswith(
        f"the same bytes: {run / 'learned_embeds.pdparams'} is what its config.yaml"
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before  # nothing of it was written

    (one,) = read_embeddings(run / "learned_embeds.pdparams")
    changed = {name: own.copy() for name, own in one.vectors.items()}
    changed["text_encoder"][0, 0] += np.float32(0.5)  # one number alone
    write_pdparams(run / "learned_embeds.pdparams", [LearnedEmbedding(one.placeholder_token, changed)])
    assert verify.main([str(run)]) == verify.OTHER_BYTES == 3
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("not the same bytes") and second.startswith("the vectors differ by 0.5 at most")


def test_showing_trains_nothing(tmp_path, capsys, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "config.yaml").write_text(f"train_data_dir: {tmp_path / 'images'}\nseed: 1\n")
    (tmp_path / "run.json").write_text('{"placeholder_token": "<w>", "versions": {"numpy": "0.1"}}')
    write_pdparams(
        tmp_path / "learned_embeds.pdparams", [LearnedEmbedding("<w>", {"text_encoder": np.ones((1, 4), np.float32)})]
    )
    monkeypatch.setattr("textual_inversion.cli.repeat.train_again", lambda *_, **__: pytest.fail("it trained"))
    assert verify.main([str(tmp_path), "--show"]) == 0
    found = capsys.readouterr()
    assert f"train_data_dir: {tmp_path / 'images'}" in found.out and "the run had numpy 0.1, here is" in found.err


def test_a_folder_without_an_embedding_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(SettingsError, match="holds no learned_embeds.pdparams"):
        verify.main([str(tmp_path)])
