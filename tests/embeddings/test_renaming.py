"""Concepts under other placeholder tokens than those that their files chose."""

import json
import shlex

import numpy as np
import pytest

from textual_inversion.embeddings.files import read_concept_files, read_initializer_embeds
from textual_inversion.formats.embedding_file import LearnedEmbedding, UnusableToken, write_pdparams
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.system.errors import SettingsError

VECTORS = np.ones((1, 4), np.float32)


def saved(path, *tokens):
    path.write_bytes(safetensors_bytes({token: VECTORS for token in tokens}, {}))
    return path


def tokens_of(paths, *renaming):
    return [token for file in read_concept_files(paths, renaming) for token in file.placeholder_tokens]


@pytest.mark.parametrize("old", ["my cat", "f.safetensors", "f", "{path}"])
@pytest.mark.parametrize("token", ["my cat", "my\x1bcat", "x" * 300, "a=b c"])
def test_a_name_that_cannot_be_used_is_replaced_by_token_or_by_file(tmp_path, token, old):
    path = saved(tmp_path / "f.safetensors", token)
    with pytest.raises(UnusableToken):
        read_concept_files([path])
    old = token if old == "my cat" else old.replace("{path}", str(path))
    assert tokens_of([path], f"{old}=<cat>") == ["<cat>"]


@pytest.mark.parametrize("inner", ["*", ""])
@pytest.mark.parametrize("old", ["*", "", "my cat", "my cat.safetensors"])
def test_a_file_without_a_name_for_its_concept_gets_one(tmp_path, inner, old):
    assert tokens_of([saved(tmp_path / "my cat.safetensors", inner)], f"{old}=<cat>") == ["<cat>"]


@pytest.mark.parametrize(
    ("name", "token", "way"),
    [
        ("toy.safetensors", "my cat", "--rename 'my cat=<toy>'"),
        ("my toy!.safetensors", "*", "--rename 'my toy!=<my-toy>'"),
        ("toy.safetensors", "a\nb", "--rename 'toy.safetensors=<toy>'"),
        ("toy.safetensors", "x" * 300, "--rename 'toy.safetensors=<toy>'"),
        ("!!.safetensors", "it's a", "--rename 'it'\"'\"'s a=<concept>'"),
    ],
)
def test_the_way_out_is_a_renaming_that_works(tmp_path, name, token, way):
    path = saved(tmp_path / name, token)
    with pytest.raises(UnusableToken) as caught:
        read_concept_files([path])
    assert str(caught.value).endswith(f"choose another with {way}") and str(caught.value).isprintable()
    _, renaming = shlex.split(way)
    assert tokens_of([path], renaming) == [renaming.rpartition("=")[2]]


def test_two_files_with_one_name_are_told_apart_by_file(tmp_path):
    paths = [saved(tmp_path / name, "<cat>") for name in ("a.safetensors", "b.safetensors")]
    assert tokens_of(paths, "b=<dog>") == ["<cat>", "<dog>"]
    assert tokens_of(paths, "b=<dog>", "a.safetensors=<bird>") == ["<bird>", "<dog>"]
    with pytest.raises(SettingsError, match="'<cat>' is in .*a.safetensors, .*b.safetensors; name the file"):
        tokens_of(paths, "<cat>=<dog>")


@pytest.mark.parametrize(
    ("renaming", "words"),
    [
        (["<x>=<y>"], "nothing is called '<x>'; the files hold <a>, <b>"),
        (["f=<y>"], "'f' holds <a>, <b>; name one of them"),
        (["*=<y>"], "nothing is called"),
        (["<a>=<y>", "<a>=<z>"], "gives '<a>' two names, <y> and <z>"),
        (["<a>=<b>"], "<b> occurs twice"),
        (["<a>=<y>", "<b>=<y>"], "<y> occurs twice"),
    ],
)
def test_a_renaming_that_means_nothing_is_named(tmp_path, renaming, words):
    with pytest.raises(SettingsError) as caught:
        tokens_of([saved(tmp_path / "f.safetensors", "<a>", "<b>")], *renaming)
    assert words in str(caught.value)


def test_names_can_be_swapped(tmp_path):
    path = saved(tmp_path / "f.safetensors", "<a>", "<b>")
    assert tokens_of([path], "<a>=<b>", "<b>=<a>") == ["<b>", "<a>"]


def test_what_was_recorded_under_the_old_name_stays_known(tmp_path):
    values = {"text_encoder": VECTORS}
    write_pdparams(tmp_path / "f.pdparams", [LearnedEmbedding("<a>", values), LearnedEmbedding("<b>", values)])
    record = {"placeholder_token": ["<a>", "<b>"], "learnable_property": ["object", "style"]}
    (tmp_path / "run.json").write_text(json.dumps(record))

    (file,) = read_concept_files([tmp_path / "f.pdparams"], ["<b>=<c>"])

    assert (file.learnable_property("<a>"), file.learnable_property("<c>")) == ("object", "style")
    assert file.originals == {"<c>": "<b>"}


def test_training_starts_from_renamed_concepts(tmp_path):
    path = saved(tmp_path / "f.safetensors", "my cat")
    (learned,) = read_initializer_embeds([str(path)], renaming=["my cat=<cat>"])
    assert learned.placeholder_token == "<cat>"


def test_the_composed_form_is_compared_here_too(tmp_path):
    path = saved(tmp_path / "f.safetensors", "cafe\u0301 x")
    assert tokens_of([path], "caf\u00e9 x=<cafe\u0301>") == ["<caf\u00e9>"]
