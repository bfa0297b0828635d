import os
import pickle

import pytest

from helpers.embedding_samples import read_one
from textual_inversion.formats.budget import MOST_WHOLE
from textual_inversion.formats.embedding_file import (
    NotAnEmbedding,
    UnreadableFile,
    read_embeddings,
    read_pickled_tensors,
)
from textual_inversion.system.errors import EmbeddingFileError


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n", "is an image"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b'{"a": 1}', "is JSON"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"hello", "nor a pickle"),
        (pickle.dumps([1, 2]), "a list"),
        (pickle.dumps({"<t>": "text"}), "no tensor"),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path, data, words):
    with pytest.raises(NotAnEmbedding, match=words):
        read_one(tmp_path, data)


def test_what_cannot_be_opened_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe", tmp_path / "circle", "/dev/zero", "a\x00b"):
        with pytest.raises(EmbeddingFileError):
            read_embeddings(path)
        with pytest.raises(EmbeddingFileError):
            read_pickled_tensors(path)
    with pytest.raises(UnreadableFile, match=r"absent: No such file or directory; check the path"):
        read_embeddings(tmp_path / "absent")


def test_a_large_file_is_not_even_read(tmp_path):
    with open(tmp_path / "f", "wb") as file:
        file.truncate(MOST_WHOLE + 1)
    with pytest.raises(NotAnEmbedding, match="has 50 MB"):
        read_embeddings(tmp_path / "f")
