"""One budget per reading: whatever a file asks for, memory and time are bounded, and the refusal says so."""

import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from helpers.embedding_samples import stored
from helpers.fuzz_formats import MOST_MEMORY, most_memory
from helpers.greedy_files import greedy_files, view_of_a_table
from helpers.paths import ROOT
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.embedding_file import (
    AsksTooMuch,
    LearnedEmbedding,
    NotAnEmbedding,
    read_embeddings,
    read_pickled_tensors,
    write_pdparams,
)
from textual_inversion.system.errors import EmbeddingFileError

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
OTHERWISE = {
    "a type that laughs a billion times": "WrongValues",
    "a name of a type that laughs": "NotAnEmbedding",
    "nested header": "BrokenFile",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(greedy_files()))
def test_what_asks_for_too_much_is_refused_within_little_memory_and_time(tmp_path, name):
    data = greedy_files()[name]
    path = stored(tmp_path, data)
    started = time.monotonic()
    tracemalloc.start()
    with pytest.raises(EmbeddingFileError) as caught:
        read_embeddings(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert type(caught.value).__name__ == OTHERWISE.get(name, "AsksTooMuch")
    if name not in OTHERWISE:
        assert "asks for too much" in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()
    assert peak < most_memory(len(data)) <= MOST_MEMORY
    assert time.monotonic() - started < 10


def test_as_weights_too_what_is_shared_is_not_copied_without_end(tmp_path):
    for name in ("one array of half precision under many names", "one tensor under many names"):
        data = greedy_files()[name]
        tracemalloc.start()
        assert len(read_pickled_tensors(stored(tmp_path, data))) == 4000
        assert tracemalloc.get_traced_memory()[1] < most_memory(len(data))
        tracemalloc.stop()


def test_names_and_letters_are_counted_together():
    budget = Budget(0, names=2, letters=10)
    budget.spend_name("12345")
    with pytest.raises(AsksTooMuch, match="more than 10 letters"):
        budget.spend_name("123456")
    with pytest.raises(AsksTooMuch, match="more than 2 names"):
        budget.spend_name("")


@pytest.mark.slow
def test_as_many_vectors_as_are_allowed_are_read(tmp_path):
    """Of the widths of Stable Diffusion XL: the largest file that this project writes."""
    concepts = [
        LearnedEmbedding(
            f"<concept-{index}>",
            {"text_encoder": np.full((8, 768), index + 1, "f4"), "text_encoder_2": np.full((8, 1280), -1, "f4")},
        )
        for index in range(256)
    ]
    write_pdparams(tmp_path / "f.pdparams", concepts)

    tracemalloc.start()
    read = read_embeddings(tmp_path / "f.pdparams")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [len(one.vectors["text_encoder_2"]) for one in read] == [8] * 256
    assert read[255].vectors["text_encoder"][7, 767] == 256 and peak < MOST_MEMORY


@pytest.mark.parametrize("plain", [False, True])
def test_of_a_whole_table_behind_a_view_only_the_view_is_read(tmp_path, plain):
    """diffusers' script on a CPU: 152 MB for a few vectors."""
    rows = np.arange(2 * 768, dtype=np.float32).reshape(2, 768) + 1
    view_of_a_table(tmp_path / "learned_embeds.bin", rows, plain=plain)
    assert (tmp_path / "learned_embeds.bin").stat().st_size > 151e6

    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import resource, gc\n"
    program += "from textual_inversion.formats.embedding_file import read_embeddings\n"
    program += "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    program += f"(one,) = read_embeddings({str(tmp_path / 'learned_embeds.bin')!r})\n"
    program += "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    program += "print(one.placeholder_token, one.vectors['text_encoder'].sum(), after - before)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert said[0] == "<cat>" and float(said[1]) == rows.sum()
    assert int(said[2]) < 20_000  # kilobytes


def test_a_view_of_a_small_table_is_read_with_its_checksum(tmp_path):
    view_of_a_table(tmp_path / "f.bin", ROWS, table=10)
    (read,) = read_embeddings(tmp_path / "f.bin")
    np.testing.assert_array_equal(read.vectors["text_encoder"], ROWS)


def test_what_is_materialised_of_a_large_file_is_bounded_too(tmp_path):
    rows = np.ones((1, 40_000_000), np.float32)
    view_of_a_table(tmp_path / "f.bin", rows, table=1)
    with pytest.raises(AsksTooMuch, match="more than 50 MB of values"):
        read_embeddings(tmp_path / "f.bin")


def test_a_table_instead_of_a_view_is_named(tmp_path):
    view_of_a_table(tmp_path / "f.bin", np.ones((2000, 4), np.float32), table=2000)
    with pytest.raises(NotAnEmbedding, match="a whole table or a model"):
        read_embeddings(tmp_path / "f.bin")
