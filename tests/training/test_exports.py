"""The files of --export: what other programs get, and that it shows no more than a published record."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import train_textual_inversion
from helpers.local_hub import TOKEN, LocalHub, use
from helpers.paths import ROOT
from helpers.training_runs import short_run, vectors_in
from helpers.written_runs import LOCAL_HASH
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.targets import TARGETS
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.training import finish
from textual_inversion.training.exports import plan_exports, write_exports

OF_SDXL = [name for name, target in TARGETS.items() if target.most_encoders > 1]


def learned(token="<cat>", encoders=("text_encoder",)):
    values = np.random.default_rng(len(token)).standard_normal((2, 8)).astype(np.float32)
    facts = {"base_model": "/home/ann/models/sd15", "steps": "3", "seed": "1", "note": "/home/ann"}
    return LearnedEmbedding(token, dict.fromkeys(encoders, values), facts)


@pytest.mark.parametrize(("formats", "encoders"), [(list(TARGETS), 1), (OF_SDXL, 2)])
def test_every_format_holds_all_vectors_and_nothing_private(tmp_path, formats, encoders):
    words = [learned(token, ("text_encoder", "text_encoder_2")[:encoders]) for token in ("<cat>", "<my dog>")]

    exports = plan_exports([*formats, formats[0]], words, LOCAL_HASH, tmp_path)
    assert not list(tmp_path.iterdir())
    write_exports(exports)

    assert [one.format for one in exports] == formats
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.relative_to(tmp_path).as_posix() for path in files} == {f"export/{name}" for name in formats}
    for path in files:
        assert not re.search(rb"ann|sd15", path.read_bytes()), path
        for embedding in read_embeddings(path):
            own = words[0 if "cat" in path.name or embedding.placeholder_token == "<cat>" else 1]
            for values in embedding.vectors.values():
                np.testing.assert_array_equal(values, own.vectors["text_encoder"])


def test_what_a_format_cannot_hold_is_said(tmp_path):
    (export,) = plan_exports(["webui-pt"], [learned()], LOCAL_HASH, tmp_path)

    assert [note for note in export.notes if "webui-pt has no place for" in note and "seed" in note]


def test_a_format_for_one_text_encoder_is_refused_for_two(tmp_path):
    with pytest.raises(SettingsError, match="--export webui-png: .*two text encoders.*write webui-pt"):
        plan_exports(["webui-png"], [learned(encoders=("text_encoder", "text_encoder_2"))], LOCAL_HASH, tmp_path)


def test_without_formats_there_is_nothing(tmp_path):
    assert plan_exports(None, [learned()], LOCAL_HASH, tmp_path) == []


@pytest.mark.slow
def test_a_run_writes_all_formats_lists_them_on_its_card_and_uploads_them(tmp_path, monkeypatch, capsys):
    with LocalHub() as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        argv = short_run(tmp_path, "--only_save_embeds", "--num_vectors", "2", "--export", *TARGETS, "--push_to",
                         "huggingface", "--hub_token", TOKEN, "--hub_model_id", "me/cat")  # fmt: skip
        (tmp_path / "out/export/kohya").mkdir(parents=True)
        (tmp_path / "out/export/kohya/mine.safetensors").write_bytes(b"a private matter")
        train_textual_inversion.main(argv)
        up = {name: content for name, content in hub.repositories["me/cat"].items() if name.startswith("export/")}

    files = {f"export/{name}/cat-toy{target.ending}" for name, target in TARGETS.items()}
    assert set(up) == files  # and not what lay there before
    card = (tmp_path / "out/README.md").read_text()
    for name in files:
        assert np.array_equal(read_embeddings(tmp_path / "out" / name)[0].vectors["text_encoder"],
                              vectors_in(tmp_path / "out/learned_embeds.pdparams"))  # fmt: skip
        assert f"| `{name}` |" in card and up[name] == (tmp_path / "out" / name).read_bytes()
        assert str(tmp_path).encode() not in up[name] and b"base" not in up[name].replace(b"base_model", b"")
    assert f"for other programs ({', '.join(TARGETS)}): {tmp_path / 'out/export'}" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/run.json").read_text())["settings"]["export"] == list(TARGETS)


@pytest.mark.slow
def test_a_format_that_cannot_hold_the_concepts_is_refused_before_training(tmp_path):
    argv = short_run(tmp_path, "--only_save_embeds", "--export", "webui-png", family="sdxl")
    command = [sys.executable, str(ROOT / "train_textual_inversion.py"), *argv]

    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=250, cwd=tmp_path)

    assert done.returncode == 2 and "error: --export webui-png:" in done.stderr.splitlines()[-1]
    assert "step 1" not in done.stdout and not (tmp_path / "out/learned_embeds.pdparams").exists()


@pytest.mark.slow
def test_a_format_that_fails_at_the_end_leaves_all_else(tmp_path, monkeypatch, capsys):
    planned = []

    def plan(formats, words, base_model, folder):
        planned.append(formats)
        if len(planned) > 1:
            raise SettingsError("--export kohya: these values cannot be held")
        return []

    monkeypatch.setattr(finish, "plan_exports", plan)
    with pytest.raises(OutputError, match="these values cannot be held; the learned vectors are in"):
        train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds", "--export", "kohya"))

    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"learned_embeds.pdparams", "learned_embeds.safetensors", "README.md", "run.json"} <= written
