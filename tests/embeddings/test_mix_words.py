"""The words that a mix names in files, and what the result says about them."""

import json

import pytest

from helpers.embedding_samples import concept
from textual_inversion.embeddings.mix_expression import Learned, parse
from textual_inversion.embeddings.mix_words import MixWords, as_new_word
from textual_inversion.formats.embedding_file import write_pdparams, write_safetensors
from textual_inversion.settings.choices import KEEP, MEAN
from textual_inversion.system.errors import EmbeddingFileError, SettingsError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pdparams(tmp_path / "two.pdparams", [concept("<a>"), concept("det-logo", seed=1)])
    write_safetensors(tmp_path / "a:b.safetensors", concept("<c>", base_model="x/y", learnable_property="style"))
    write_safetensors(tmp_path / "d+e-f.safetensors", concept("<d>", base_model="x/y", learnable_property="object"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("two.pdparams:<a>", "<a>"),
        ("two.pdparams:det-logo", "det-logo"),
        ("two.pdparams:{det-logo}", "det-logo"),
        ("a:b.safetensors", "<c>"),
        ("a:b.safetensors:<c>", "<c>"),
        ("d+e-f.safetensors", "<d>"),
        ("./two.pdparams:<a>", "<a>"),
    ],
)
def test_a_word_is_found_by_its_file_and_its_token(folder, text, token):
    ((_, found),) = MixWords(parse(text)).found.values()

    assert found.placeholder_token == token


def test_a_file_is_read_once_and_a_record_beside_it_counts(folder):
    (folder / "run.json").write_text(json.dumps({"placeholder_token": ["<a>", "det-logo"], "base_model": "o/m"}))
    words = MixWords(parse("two.pdparams:<a> + two.pdparams:det-logo + a:b.safetensors"))

    assert [file.path.name for file in words.files] == ["two.pdparams", "a:b.safetensors"]
    assert list(words.base_models()) == ["o/m", "x/y"] and len(words.paths) == 2
    (note,) = words.notes()
    assert note.startswith(
        "two.pdparams was learned on o/m and a:b.safetensors on x/y; vectors of different base models"
    )


def test_the_result_says_how_it_was_mixed(folder):
    words = MixWords(parse(f"{folder}/d+e-f.safetensors*0.5 + ./a:b.safetensors:<c> + two.pdparams:<a>"))
    vectors = concept().vectors
    plain = as_new_word("<n>", vectors, words, norm=KEEP, from_start=None, base_model=None).metadata
    all_ = as_new_word("<n>", vectors, words, norm=MEAN, from_start=0.5, base_model="m/n").metadata

    assert plain["mixed_from"] == "d+e-f.safetensors*0.5 + {a:b.safetensors}:<c> + two.pdparams:<a>"
    assert plain.keys() == {"mixed_from", "mixed_files"} and plain["mixed_files"].count("sha256:") == 3
    assert (all_["mixed_norm"], all_["mixed_from_start"], all_["base_model"]) == ("mean", "0.5", "m/n")
    assert isinstance(next(iter(words.found)), Learned)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("two.pdparams", "two.pdparams holds <a>, det-logo; name one of them, as in FILE:<word>"),
        ("two.pdparams:<x>", "two.pdparams holds no '<x>'; it holds <a>, det-logo"),
        ("nothing.pt:<x>", "nothing.pt: No such file or directory"),
        ("two.pdparams-nothing.pt", "between names, + and - want blanks around them"),
        ("x" * 300, "can be the name of no file"),
        ("circle.pt", "its symbolic links lead in circles"),
        ("circle.pt:<x>", "its symbolic links lead in circles"),
    ],
)
def test_what_is_not_there_is_said(folder, text, said):
    (folder / "circle.pt").symlink_to("circle.pt")
    with pytest.raises((SettingsError, EmbeddingFileError)) as raised:
        MixWords(parse(text))

    assert said in str(raised.value)
