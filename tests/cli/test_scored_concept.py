"""What score.py takes from the record beside a file where flags are left out."""

import json

import numpy as np
import pytest
from PIL import Image

from textual_inversion.cli.scored_concept import find_training_images, images_beside, read_scored, recorded_flags
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.settings.generation import ScoredConcept
from textual_inversion.system.errors import ImageError, SettingsError


def learned(folder, *words, **record):
    """A file of concepts with a record beside it."""
    folder.mkdir()
    rows = np.ones((1, 4), np.float32)
    write_pdparams(folder / "f.pdparams", [LearnedEmbedding(word, {"text_encoder": rows}) for word in words])
    (folder / "run.json").write_text(json.dumps({"placeholder_token": list(words), **record}))
    return str(folder / "f.pdparams")


def test_flags_win_over_the_record_and_the_record_over_nothing(tmp_path):
    images = {"settings": {"train_data_dir": str(tmp_path), "language": "zh"}}
    path = learned(tmp_path / "run", "<w>", initializer_token=["cat"], learnable_property=["style"], **images)
    file = read_scored(ScoredConcept(embeds=(path,)))

    assert recorded_flags(ScoredConcept(), file) == {
        "placeholder_token": "<w>",
        "learnable_property": "style",
        "language": "zh",
        "initializer_token": "cat",
        "train_data_dir": str(tmp_path),
    }
    given = ScoredConcept(initializer_token="dog", learnable_property="object", language="en", train_data_dir="x")
    assert set(recorded_flags(given, file).values()) == {"<w>", "dog", "object", "en", "x"}


def test_one_word_is_scored_at_a_time(tmp_path):
    two = read_scored(ScoredConcept(embeds=(learned(tmp_path / "two", "<a>", "<b>"),)))
    with pytest.raises(SettingsError, match="holds <a>, <b>; choose one of them, not no --placeholder_token"):
        recorded_flags(ScoredConcept(), two)
    files = tuple(learned(tmp_path / name, f"<{name}>") for name in ("c", "d"))
    with pytest.raises(SettingsError, match="no pair of one concept; score one at a time"):
        read_scored(ScoredConcept(embeds=files))


def test_images_that_are_gone_name_the_flag(tmp_path):
    file = read_scored(ScoredConcept(embeds=(learned(tmp_path / "run", "<w>"),)))
    with pytest.raises(SettingsError, match="add --train_data_dir DIR"):
        images_beside(file, "<w>")


def test_training_images_come_with_their_sizes_and_damage_is_said(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert find_training_images(str(tmp_path)) == ([tmp_path / "a.png"], [(30, 20)])
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(ImageError, match="b.png"):
        find_training_images(str(tmp_path))
