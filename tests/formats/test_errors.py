"""Errors about files from outside: one line, the file's name, the way out."""

import struct

import pytest

from textual_inversion.formats import errors
from textual_inversion.formats.errors import (
    BrokenFile,
    NotAnEmbedding,
    RefusedFile,
    UnreadableFile,
    naming,
    near,
    printable,
)
from textual_inversion.system.errors import EmbeddingFileError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EmbeddingFileError)]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind is not EmbeddingFileError], ids=lambda kind: kind.__name__
)
def test_every_kind_has_a_way_out_that_is_told(kind):
    with pytest.raises(kind) as caught, naming("cat.pt"):
        raise kind("holds x")
    assert str(caught.value) == f"cat.pt: holds x; {kind.way_out}" and kind.way_out.isprintable()


def test_a_file_of_another_kind_is_told_what_is_wanted():
    with (
        pytest.raises(NotAnEmbedding, match="cat.pt: holds x; choose a model"),
        naming("cat.pt", {NotAnEmbedding: "choose a model"}),
    ):
        raise NotAnEmbedding("holds x")
    with pytest.raises(RefusedFile, match="ask its author"), naming("cat.pt", {NotAnEmbedding: "choose a model"}):
        raise RefusedFile("asks for os.system")


@pytest.mark.parametrize(
    "error",
    [KeyError(5), IndexError(), TypeError("x"), RecursionError(), MemoryError(), struct.error(), OverflowError()],
)
def test_what_damage_makes_python_raise_is_a_broken_file(error):
    with pytest.raises(BrokenFile, match=rf"cat.pt: damaged \({type(error).__name__}\); download"), naming("cat.pt"):
        raise error
    with pytest.raises(BrokenFile, match="damaged near byte 7"), near(lambda: 7):
        raise error


def test_the_systems_errors_are_told_in_its_words():
    with pytest.raises(UnreadableFile, match="cat.pt: No such file or directory; check the path"), naming("cat.pt"):
        open("nowhere/at/all")


def test_our_own_faults_and_interruptions_pass():
    for error in (KeyboardInterrupt, AssertionError):
        with pytest.raises(error), naming("cat.pt"):
            raise error


def test_names_from_files_cannot_steer_a_terminal():
    assert printable("a\x1b[31m\nb") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b"
    assert printable("x" * 500, 10) == "x" * 9 + "…"
    with pytest.raises(NotAnEmbedding) as caught, naming("c\nat\x07.pt"):
        raise NotAnEmbedding("holds x")
    assert str(caught.value).isprintable()
