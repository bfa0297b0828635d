"""The notebooks run from top to bottom, and what is committed in them is what they give."""

import ast
import base64
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import textual_inversion
from benchmarks import machine
from helpers.paths import ROOT

nbformat = pytest.importorskip("nbformat", reason="pip install -r requirements-notebooks.txt")
pytest.importorskip("nbclient", reason="pip install -r requirements-notebooks.txt")

from notebooks.run import NAMES, WEIGHTS, executed  # noqa: E402

MOST_BYTES = 1_000_000
# What a notebook reaches in the folder above its own; it writes into outputs/.
NEEDED = ("train_textual_inversion.py", "textual_inversion", "demo", "cat_toy_images", "README.md")


def read(name):
    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


def code(notebook):
    """The code cells; commands of the notebook itself, which begin with a percent sign, are left out."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [re.sub(r"^%.*$", "", source, flags=re.MULTILINE) for source in cells]


def without_words(source):
    """The syntax of a cell without comments and docstrings, which are in the reader's language."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def images(notebook):
    """Every image that is shown, as arrays."""
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    encoded = [output["data"]["image/png"] for output in shown if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB"), float) for one in encoded]


def test_both_languages_run_the_same_code():
    one, other = ([without_words(source) for source in code(read(name))] for name in NAMES)
    assert one == other and len(one) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_the_public_interface_alone(name):
    tree = ast.parse("\n".join(code(read(name))))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ti"
    }

    assert "textual_inversion" in imported and not {module for module in modules if "textual" in module}
    assert used <= set(textual_inversion.PUBLIC)
    needed = {"train", "curves", "load_base_model", "attach_embeddings", "words", "generate", "contact_sheet"}
    assert used >= needed | {"inspect_embeddings", "convert_embeddings"}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_whole_and_of_the_present_model(name):
    notebook = read(name)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert (ROOT / "notebooks" / name).stat().st_size < MOST_BYTES
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert notebook.metadata[WEIGHTS] == machine.weights()
    assert "/root" not in str(notebook) and "/tmp" not in str(notebook)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom_and_shows_what_is_committed(name, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(ROOT / "notebooks" / name, folder)
    for needed in NEEDED:
        (tmp_path / needed).symlink_to(ROOT / needed)
    committed = images(read(name))

    drawn = images(executed(folder / name, folder))

    assert len(drawn) == len(committed) >= 5
    # The curve is drawn anew while training goes on; the other images are those of the committed vectors.
    different = [float(np.abs(a - b).mean()) for a, b in zip(drawn, committed, strict=True) if a.shape == b.shape]
    assert len(different) == len(drawn) and max(different) < 8
    assert {path.name for path in (tmp_path / "outputs").iterdir()} >= {
        "notebook-cat", "notebook-beach.png", "notebook-cat.pt", "notebook-cat.bin",
    }  # fmt: skip
