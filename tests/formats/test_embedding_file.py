import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.embedding_samples import assert_same, concept, concept_xl, read_one, stored
from helpers.fuzz_formats import fuzz
from helpers.paths import ROOT
from helpers.strangers import ExecutionWatch, attacks_by_global, attacks_by_structure, valid_files
from textual_inversion.formats.embedding_file import (
    NotAnEmbedding,
    RefusedFile,
    read_embeddings,
    read_pickled_tensors,
    write_pdparams,
    write_safetensors,
)
from textual_inversion.system.errors import EmbeddingFileError, OutputError


def test_pdparams_comes_back(tmp_path):
    concepts = [concept("<a>", 3), concept("<b>", 1, seed=1), concept("猫", 12, seed=2)]
    write_pdparams(tmp_path / "f", concepts)
    read = read_embeddings(tmp_path / "f")
    for one, other in zip(read, concepts, strict=True):
        assert_same(one, other)


def test_pdparams_of_two_encoders_comes_back(tmp_path):
    write_pdparams(tmp_path / "f", [concept_xl("<a>"), concept_xl("<b>", 1)])
    first, second = read_embeddings(tmp_path / "f")
    assert_same(first, concept_xl("<a>"))
    assert_same(second, concept_xl("<b>", 1))


def test_equal_input_gives_equal_bytes(tmp_path):
    token = "".join(["<c", "at>"])  # another object than the literal, which pickle.dumps would write differently
    for write, first, second in [
        (write_pdparams, [concept()], [concept(token)]),
        (write_safetensors, concept(b="2", a="1"), concept(token, a="1", b="2")),
    ]:
        write(tmp_path / "1", first)
        write(tmp_path / "2", second)
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("tokens", [("<a>", "<a>"), ("<a>", "<a>_1"), ("<a>_1", "<a>")])
def test_names_that_run_into_each_other_are_not_written(tmp_path, tokens):
    with pytest.raises(OutputError, match="concept"):
        write_pdparams(tmp_path / "f", [concept(tokens[0], 2), concept(tokens[1], 1)])
    assert list(tmp_path.iterdir()) == []


def test_numbered_names_of_their_own_are_written(tmp_path):
    concepts = [concept("<a>_1", 2), concept("<b>_2", 1), concept("<b>", 1)]
    write_pdparams(tmp_path / "f", concepts)
    assert [read.placeholder_token for read in read_embeddings(tmp_path / "f")] == ["<a>_1", "<b>_2", "<b>"]


def test_concepts_of_unlike_models_are_not_written_together(tmp_path):
    with pytest.raises(OutputError, match="need a file each"):
        write_pdparams(tmp_path / "f", [concept("<a>"), concept_xl("<b>")])


@pytest.mark.parametrize("name", list(attacks_by_global(Path("mark"))))
def test_a_pickle_that_would_run_code_is_refused_by_the_name_it_asks_for(tmp_path, name):
    mark = tmp_path / "mark"
    data, asked = attacks_by_global(mark)[name]
    path = stored(tmp_path, data)
    for read in (read_embeddings, read_pickled_tensors):
        with ExecutionWatch() as watch, pytest.raises(RefusedFile) as caught:
            read(path)
        assert f"asks for {asked}, which could run any code" in str(caught.value)
        assert watch.seen == [] and not mark.exists()


@pytest.mark.parametrize("name", list(attacks_by_structure()))
def test_a_crafted_file_is_refused_by_name(tmp_path, name):
    data, error = attacks_by_structure()[name]
    path = stored(tmp_path, data)
    with ExecutionWatch() as watch, pytest.raises(EmbeddingFileError) as caught:
        read_embeddings(path)
    assert type(caught.value).__name__ == error
    assert str(caught.value).isprintable() and str(caught.value).startswith(f"{path}: ")
    assert watch.seen == [] and list(tmp_path.iterdir()) == [path]


def test_the_watch_sees_what_python_itself_would_run(tmp_path):
    data, _ = attacks_by_global(tmp_path / "mark")["os.system"]
    with ExecutionWatch() as watch:
        pickle.loads(data)
    assert any("os.system" in event for event in watch.seen) and (tmp_path / "mark").exists()


@pytest.mark.slow
def test_hostile_files_end_in_a_named_error_and_nothing_runs(tmp_path):
    figures = fuzz(1500, 1, tmp_path, made=300)
    assert figures.executions == [] and figures.unnamed == [] and figures.greedy == []
    assert set(figures.names()) >= {"read", "BrokenFile", "RefusedFile", "NotAnEmbedding", "WrongValues"}
    assert figures.files["damaged"] == 1500 and figures.files["made up"] == 300 and figures.files["crafted"] > 70
    assert list(tmp_path.iterdir()) == [tmp_path / "hostile"]


@pytest.mark.parametrize("name", list(valid_files()))
def test_a_file_cut_short_is_never_read(tmp_path, name):
    data = valid_files()[name]
    for length in range(1, len(data), max(1, len(data) // 40)):
        with pytest.raises(EmbeddingFileError):
            read_one(tmp_path, data[:length])


def test_neither_paddle_nor_torch_is_imported():
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import textual_inversion.formats.embedding_file; "
    program += "print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "'numpy'" in modules and not any(
        f"'{name}'" in modules for name in ("paddle", "torch", "safetensors", "pickle5")
    )


def test_a_file_that_is_no_weights_says_what_is_wanted(tmp_path):
    write_pdparams(tmp_path / "f", [concept_xl()])
    with pytest.raises(NotAnEmbedding, match="not a dictionary of weights; choose a file of weights"):
        read_pickled_tensors(tmp_path / "f")
