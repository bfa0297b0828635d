"""The matrix of formats in the reference: each cell is tried on a file of that format."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from helpers.documents import read, tables
from helpers.embedding_samples import assert_same, concept, concept_xl
from helpers.paths import ROOT
from helpers.strangers import valid_files
from textual_inversion.embeddings.conversion import conversion, write
from textual_inversion.embeddings.files import ConceptFile, read_concept_files
from textual_inversion.formats.contents import read_contents
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.formats.targets import TARGETS, Cover, Writing
from textual_inversion.system.errors import TextualInversionError

MATRIX, CONTENTS = tables(read("docs/reference/formats.md"))
COLUMNS = ("read", "written", "sdxl", "several", "half", "metadata", "cover", "tests")
ROWS = {row[0].strip("`"): dict(zip(COLUMNS, row[1:], strict=True)) for row in MATRIX}
WRITTEN = [name for name, row in ROWS.items() if row["written"] == "✓"]
FACTS = {"base_model": "owner/model", "steps": "300"}
SAMPLES = valid_files()


def written(folder, name, *concepts, **options):
    """The files of some concepts in a format, in a folder."""
    new, _ = conversion([ConceptFile(folder / "in", concepts)], name, f"{folder}/", **options)
    write(new, [], overwrite=False)
    return [one.path for one in new]


def works(*arguments, **options) -> bool:
    try:
        return bool(written(*arguments, **options))
    except TextualInversionError:
        return False


def test_the_matrix_lists_all_that_is_written_and_each_format_once():
    assert WRITTEN == list(TARGETS) and len(ROWS) == len(MATRIX) >= 14
    described = {name for row in CONTENTS for name in row[0].replace("`", "").split(", ")}
    assert described == set(ROWS)
    for row in ROWS.values():
        assert row["read"] == "✓" and {row[key] for key in ("written", "sdxl", "several", "half", "cover")} <= {
            "✓",
            "–",
        }


@pytest.mark.parametrize("name", ROWS)
def test_it_is_read(tmp_path, name):
    if ROWS[name]["written"] == "✓":
        (path,) = written(tmp_path, name, concept("<cat>", width=8))
        (one,) = read_embeddings(path)
        assert_same(one, concept("<cat>", width=8))
    else:
        (tmp_path / "sample").write_bytes(SAMPLES[name])
        (one,) = read_embeddings(tmp_path / "sample")
        assert one.num_vectors >= 1 and np.isfinite(one.vectors["text_encoder"]).all()
        assert name not in TARGETS


@pytest.mark.parametrize("name", WRITTEN)
def test_both_text_encoders(tmp_path, name):
    can = works(tmp_path, name, concept_xl("learned_embeds"))
    assert can == (ROWS[name]["sdxl"] == "✓")
    if can:
        (file,) = read_concept_files(sorted(tmp_path.iterdir()))
        np.testing.assert_array_equal(
            file.concepts[0].vectors["text_encoder_2"], concept_xl().vectors["text_encoder_2"]
        )


@pytest.mark.parametrize("name", WRITTEN)
def test_several_concepts(tmp_path, name):
    paths = written(tmp_path, name, concept("<a>"), concept("<b>", seed=1))
    assert (len(paths) == 1) == (ROWS[name]["several"] == "✓")


@pytest.mark.parametrize("name", WRITTEN)
def test_half_precision(tmp_path, name):
    can = works(tmp_path, name, concept("<a>"), writing=Writing(is_half=True))
    assert can == (ROWS[name]["half"] == "✓")
    assert not can or read_contents(next(tmp_path.iterdir())).types == ("float16",)


@pytest.mark.parametrize("name", WRITTEN)
def test_metadata(tmp_path, name):
    (path,) = written(tmp_path, name, concept("<a>", **FACTS))
    (one,) = read_embeddings(path)
    kept = {key for key, value in FACTS.items() if value in one.metadata.values()}
    said = ROWS[name]["metadata"]
    wanted = {"✓": set(FACTS), "–": set()}.get(said, set(said.replace("`", "").split()))
    assert kept == wanted


@pytest.mark.parametrize("name", WRITTEN)
def test_an_image(tmp_path, name):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, "JPEG")
    cover = Cover(buffer.getvalue(), np.full((64, 32, 3), 200, np.uint8))
    can = works(tmp_path, name, concept("<a>"), writing=Writing(cover=cover))
    assert can == (ROWS[name]["cover"] == "✓")
    if can and name != "webui-png":
        assert "ssmd_cover_images" in read_contents(next(tmp_path.iterdir())).metadata


@pytest.mark.parametrize("name", ROWS)
def test_the_test_that_is_named_is_there(name):
    found = re.findall(r"`([\w/]+\.py)::(test_\w+)`", ROWS[name]["tests"])
    assert found
    for file, test in found:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
