"""Files of the same placeholder tokens, side by side."""

import json

import numpy as np
import pytest

from textual_inversion.embeddings.columns import labels, read_columns
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.system.errors import EmbeddingFileError, SettingsError


def stored(path, seed=0, token="<cat>", vectors=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).standard_normal((vectors, 32)).astype(np.float32)
    write_pdparams(path, [LearnedEmbedding(token, {"text_encoder": values})])
    return path


def read(*compared, embeds=(), renaming=None):
    return read_columns([str(one) for one in embeds], [str(one) for one in compared], renaming)


def test_files_are_columns_in_their_order_with_the_vectors_of_each(tmp_path):
    files = [stored(tmp_path / name, seed) for seed, name in enumerate(("b.pdparams", "a.pdparams"))]

    common, columns = read(*files, embeds=[stored(tmp_path / "style.pdparams", 9, "<style>")])

    assert list(columns) == ["b", "a"] and [file.path for file in columns.values()] == files
    assert [file.placeholder_tokens for file in common] == [["<style>"]]
    first, second = (file.concepts[0].vectors["text_encoder"] for file in columns.values())
    assert not np.array_equal(first, second)


def test_a_folder_of_a_run_is_a_column_for_each_step_and_equal_files_are_one(tmp_path):
    for step in (100, 20, 3):
        stored(tmp_path / f"run/learned_embeds-steps-{step}.pdparams", step)
    stored(tmp_path / "run/learned_embeds.pdparams", 100)  # as the last step
    stored(tmp_path / "other/learned_embeds.pdparams", 7)

    columns = read(tmp_path / "run", tmp_path / "other")[1]

    assert list(columns) == ["steps-3", "steps-20", "steps-100", "final"]
    assert columns["final"].path == tmp_path / "other/learned_embeds.pdparams"
    unfinished = tmp_path / "run/learned_embeds.pdparams"
    unfinished.unlink()
    assert list(read(tmp_path / "run")[1]) == ["steps-3", "steps-20", "steps-100"]
    assert list(read(tmp_path / "run/learned_embeds-steps-3.pdparams")[1]) == ["steps-3"]


def test_a_file_that_is_named_for_all_columns_too_is_compared(tmp_path):
    file = stored(tmp_path / "a.pdparams")

    assert read(file, embeds=[file])[0] == []


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a/learned_embeds-steps-5.pdparams", "a/learned_embeds-steps-50.pdparams"], ["steps-5", "steps-50"]),
        (["a/learned_embeds.pdparams", "b/learned_embeds.pdparams"], ["a/final", "b/final"]),
        (["a/x.pt", "a/y.bin"], ["x", "y"]),
        (["a/x.pt", "a/x.bin"], ["x.pt", "x.bin"]),
        (["a/c/x.pt", "b/c/x.pt"], ["a/c/x", "b/c/x"]),
        (["a/c/d/x.pt", "b/c/d/x.pt"], ["1: x", "2: x"]),
        (["a" * 90 + "1.pt", "a" * 90 + "2.pt"], ["1: ", "2: "]),
    ],
)
def test_labels_are_short_and_different(tmp_path, names, wanted):
    found = labels([tmp_path / name for name in names])

    assert len(set(found)) == len(names)
    assert all(one.startswith(start) if start.endswith(" ") else one == start
               for one, start in zip(found, wanted, strict=True))  # fmt: skip


def test_columns_of_different_tokens_are_refused_unless_one_is_renamed(tmp_path):
    one, other = stored(tmp_path / "one.pdparams"), stored(tmp_path / "other.pdparams", 1, "<dog>")
    (tmp_path / "run.json").write_text(json.dumps({"placeholder_token": ["<cat>", "<dog>"],
                                                   "learnable_property": ["object", "style"]}))  # fmt: skip

    with pytest.raises(SettingsError, match=r"one.pdparams holds <cat> and .*other.pdparams holds <dog>.*--rename"):
        read(one, other)
    columns = read(one, other, renaming=["other.pdparams=<cat>"])[1]

    assert [file.placeholder_tokens for file in columns.values()] == [["<cat>"]] * 2
    assert [file.learnable_property("<cat>") for file in columns.values()] == ["object", "style"]


def test_a_token_that_every_column_has_from_elsewhere_is_refused(tmp_path):
    files = [stored(tmp_path / f"{seed}.pdparams", seed) for seed in range(3)]

    with pytest.raises(SettingsError, match=r"<cat> occurs twice in .*0.pdparams, .*1.pdparams"):
        read(*files[1:], embeds=files[:1])
    with pytest.raises(SettingsError, match=r"<cat> occurs twice.*side by side with infer.py --compare"):
        read(embeds=files)
    with pytest.raises(EmbeddingFileError, match="nowhere"):
        read(files[0], "nowhere.pdparams")
