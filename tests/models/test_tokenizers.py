"""Tokenizers: every file set gives the same ids; what is missing or does not fit is refused."""

import codecs
import json
import os
from pathlib import Path

import pytest

from helpers.tiny_models import WORDS, tree, write_tokenizer
from textual_inversion.models.tokenizers import load_clip_tokenizer
from textual_inversion.system import user_files
from textual_inversion.system.errors import BaseModelError

TEXT = "A photo of THE cat, zürich 猫 it's 1234!"


def changed(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_words_are_one_token_and_all_other_text_is_read_byte_by_byte(tmp_path):
    write_tokenizer(tmp_path)

    tokenizer = load_clip_tokenizer(tmp_path, longest=77)

    assert tokenizer.tokenize(" ".join(WORDS)) == [f"{word}</w>" for word in WORDS]
    assert tokenizer.unk_token_id not in tokenizer.convert_tokens_to_ids(tokenizer.tokenize(TEXT))
    assert (tokenizer.model_max_length, len(tokenizer)) == (77, tokenizer.eos_token_id + 1)


def test_a_tokenizer_json_alone_gives_the_same_ids(tmp_path):
    for name, json_only in (("two", False), ("one", True)):
        write_tokenizer(tmp_path / name, json_only=json_only, pad="!")
    before = tree(tmp_path)

    two, one = (load_clip_tokenizer(tmp_path / name, longest=77) for name in ("two", "one"))

    assert one(TEXT)["input_ids"] == two(TEXT)["input_ids"]
    assert one.pad_token_id == two.pad_token_id == 0
    assert tree(tmp_path) == before


def test_a_rebuilt_tokenizer_can_be_saved_and_leaves_nothing_behind(tmp_path):
    write_tokenizer(tmp_path / "one", json_only=True)
    tokenizer = load_clip_tokenizer(tmp_path / "one", longest=77)
    temporary = Path(tokenizer._files.name)

    tokenizer.save_pretrained(str(tmp_path / "saved"))

    assert (tmp_path / "saved/merges.txt").is_file() and temporary.is_dir()
    del tokenizer
    import gc

    gc.collect()
    assert not os.path.exists(temporary)


@pytest.mark.parametrize("json_only", [False, True])
def test_byte_order_marks_are_no_part_of_a_tokenizer(tmp_path, json_only):
    for name in ("plain", "marked"):
        write_tokenizer(tmp_path / name, json_only=json_only)
    for path in (tmp_path / "marked").iterdir():
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())

    plain, marked = (load_clip_tokenizer(tmp_path / name, longest=77) for name in ("plain", "marked"))

    assert marked(TEXT)["input_ids"] == plain(TEXT)["input_ids"]
    assert marked.bpe_ranks == plain.bpe_ranks and marked.encoder == plain.encoder


def test_positions_of_the_text_encoder_limit_the_length(tmp_path):
    write_tokenizer(tmp_path)
    changed(tmp_path / "tokenizer_config.json", model_max_length=10**30)

    assert load_clip_tokenizer(tmp_path, longest=40).model_max_length == 40


@pytest.mark.parametrize("place", ["added_tokens.json", "tokenizer_config.json"])
def test_added_tokens_get_the_ids_they_had(tmp_path, place):
    size = len(write_tokenizer(tmp_path))
    names = {"<cat>": size, "<cat>_1": size + 1}
    if place == "added_tokens.json":
        (tmp_path / place).write_text(json.dumps(names))
    else:
        decoder = {str(number): {"content": token, "special": False} for token, number in names.items()}
        changed(tmp_path / place, added_tokens_decoder=decoder)

    tokenizer = load_clip_tokenizer(tmp_path, longest=77)

    assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize("a <cat> <cat>_1")[1:]) == [size, size + 1]


def test_a_gap_before_an_added_token_is_refused(tmp_path):
    size = len(write_tokenizer(tmp_path))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<cat>": size + 5}))

    with pytest.raises(BaseModelError, match=f"<cat> the id {size + 5}, where {size} would be next"):
        load_clip_tokenizer(tmp_path, longest=77)


def test_missing_damaged_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(BaseModelError, match=r"lacks vocab\.json and merges\.txt"):
        load_clip_tokenizer(tmp_path, longest=77)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0}}}))
    with pytest.raises(BaseModelError, match="not a CLIP tokenizer"):
        load_clip_tokenizer(tmp_path, longest=77)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(BaseModelError, match="no readable JSON"):
        load_clip_tokenizer(tmp_path, longest=77)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_vocabulary_that_may_not_be_read_is_named(tmp_path, monkeypatch, name):
    write_tokenizer(tmp_path)
    read = user_files.read_bytes

    def read_but_one(path, most):  # root, as which tests may run, can read every file
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, most)

    monkeypatch.setattr(user_files, "read_bytes", read_but_one)

    with pytest.raises(BaseModelError, match=rf"{name} cannot be read \(Permission denied\); change its permissions"):
        load_clip_tokenizer(tmp_path, longest=77)


# --------------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (lambda size: size, r"the id \d+, although it has \d+ tokens"),  # where the learned vectors begin
        (lambda size: size + 7, r"the id \d+, although it has \d+ tokens"),
        (lambda size: 10**18, r"the id 10+, although it has \d+ tokens"),
        (lambda size: -1, "the id -1, which is no whole number"),
        (lambda size: 5.5, "the id 5.5, which is no whole number"),
        (lambda size: 5.0, "the id 5.0, which is no whole number"),
        (lambda size: True, "the id True, which is no whole number"),
        (lambda size: "5", "the id '5', which is no whole number"),
        (lambda size: None, "the id None, which is no whole number"),
        (lambda size: [5], "vocab.json is damaged"),
        (lambda size: 5, r"'.*' the id 5, which is '.*'s; download"),
    ],
)
@pytest.mark.parametrize("json_only", [False, True])
def test_a_word_whose_id_is_not_its_own_is_refused(tmp_path, number, fault, json_only):
    size = len(write_tokenizer(tmp_path, json_only=json_only))
    path = tmp_path / ("tokenizer.json" if json_only else "vocab.json")
    content = json.loads(path.read_text())
    (content["model"]["vocab"] if json_only else content)["cat</w>"] = number(size)
    path.write_text(json.dumps(content))

    with pytest.raises(BaseModelError, match=fault):
        load_clip_tokenizer(tmp_path, longest=77)


def test_every_id_lies_inside_the_table(tmp_path):
    size = len(write_tokenizer(tmp_path))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<cat>": size}))

    load_clip_tokenizer(tmp_path, longest=77, rows=size + 1)
    with pytest.raises(BaseModelError, match=rf"'<cat>' the id {size}, and its text encoder has {size} tokens"):
        load_clip_tokenizer(tmp_path, longest=77, rows=size)


@pytest.mark.parametrize(
    "added",
    [
        {"<cat>": "x"},
        {"<cat>": 1.5},
        {"<cat>": None},
        {"added_tokens_decoder": {"x": {"content": "<cat>"}}},
        {"added_tokens_decoder": ["<cat>"]},
        {"added_tokens_decoder": {"5": {"content": 5}}},
    ],
)
def test_added_tokens_without_an_id_are_refused(tmp_path, added):
    write_tokenizer(tmp_path)
    if "added_tokens_decoder" in added:
        changed(tmp_path / "tokenizer_config.json", **added)
    else:
        (tmp_path / "added_tokens.json").write_text(json.dumps(added))

    with pytest.raises(BaseModelError, match="no whole number; download|in no known way; download"):
        load_clip_tokenizer(tmp_path, longest=77)


@pytest.mark.parametrize(
    ("special", "fault"),
    [
        ({"bos_token": "<nothing>"}, "names '<nothing>' as bos_token, and its vocabulary has no such token"),
        ({"eos_token": "<nothing>"}, "names '<nothing>' as eos_token"),
        ({"bos_token": "<|endoftext|>"}, "one token for the beginning and the end of a text"),
    ],
)
def test_special_tokens_are_in_the_vocabulary_and_differ(tmp_path, special, fault):
    write_tokenizer(tmp_path)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        changed(tmp_path / name, **special)

    with pytest.raises(BaseModelError, match=fault):
        load_clip_tokenizer(tmp_path, longest=77)
