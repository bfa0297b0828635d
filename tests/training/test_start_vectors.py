"""What learned vectors started from: with the record of the run to the last bit, else as the file says."""

import json
from dataclasses import replace

import numpy as np
import pytest

import train_textual_inversion
from helpers.training_runs import short_run
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.models.vocabulary import load_text_encoders, word_vectors
from textual_inversion.system.errors import ConceptError, EmbeddingFileError
from textual_inversion.training.start_vectors import start_vectors

TWO = ["--placeholder_token", "<a>", "<b>", "--num_vectors", "2", "auto", "--initializer_token", "cat", "toy cat"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two concepts that learned nothing: what it saved is what it started from."""
    root = tmp_path_factory.mktemp("run")
    argv = short_run(root, *TWO, "--learning_rate", "1e-30", "--only_save_embeds", "--overview", "false")
    position = argv.index("--train_data_dir")
    argv[position + 1 : position + 2] = [str(root / "pictures")] * 2
    train_textual_inversion.main(argv)
    return root, load_text_encoders(root / "base")


def test_the_start_of_a_run_is_found_again_to_the_last_bit(run):
    root, encoders = run
    (file,) = read_concept_files([root / "out"])

    for concept in file.concepts:
        start, note = start_vectors(file, concept, encoders, "base")
        assert note is None and concept.num_vectors == 2
        np.testing.assert_array_equal(start["text_encoder"], concept.vectors["text_encoder"])


def test_without_the_record_the_file_says_the_word(run, tmp_path):
    root, encoders = run
    (tmp_path / "b.safetensors").write_bytes((root / "out" / "learned_embeds-b.safetensors").read_bytes())
    (file,) = read_concept_files([tmp_path / "b.safetensors"])
    start, note = start_vectors(file, file.concepts[0], encoders, "base")

    assert "no run.json describes" in note and "'toy cat'" in note
    np.testing.assert_array_equal(start["text_encoder"], word_vectors("toy cat", encoders)["text_encoder"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_vectors", [2, 10**9]), ("num_vectors", "2"), ("num_vectors", [2]), ("num_vectors", [3, 2]), ("seed", "x"),
     ("seed", -1), ("seed", None), ("initializer_token", ["cat"])],
)  # fmt: skip
def test_a_record_that_does_not_say_it_is_not_believed(run, tmp_path, key, value):
    root, encoders = run
    for name in ("run.json", "learned_embeds.pdparams"):
        (tmp_path / name).write_bytes((root / "out" / name).read_bytes())
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {key: value}))
    (file,) = read_concept_files([tmp_path / "learned_embeds.pdparams"])

    if key == "initializer_token":
        with pytest.raises(ConceptError, match="neither .*b> nor a run.json beside it says what it started from"):
            start_vectors(file, file.concepts[1], encoders, "base")
    else:
        assert "its start is taken to be 'cat'" in start_vectors(file, file.concepts[0], encoders, "base")[1]


def test_what_nobody_knows_is_refused(run, tmp_path):
    root, encoders = run
    (tmp_path / "x.pdparams").write_bytes((root / "out" / "learned_embeds.pdparams").read_bytes())
    (bare,) = read_concept_files([tmp_path / "x.pdparams"])
    (whole,) = read_concept_files([root / "out"])
    other = replace(whole, run=whole.run | {"settings": {"initializer_embeds": ["a.pt"]}})

    with pytest.raises(ConceptError, match="mix it with that word instead of --from_start"):
        start_vectors(bare, bare.concepts[0], encoders, "base")
    with pytest.raises(ConceptError, match="started from another embedding"):
        start_vectors(other, other.concepts[0], encoders, "base")
    wide = replace(whole.concepts[0], vectors={"text_encoder": np.ones((2, 7), np.float32)})
    with pytest.raises(EmbeddingFileError, match="7 values"):
        start_vectors(whole, wide, encoders, "base")
