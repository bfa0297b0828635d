"""What every page knows: the runs that are there, also the one that has just begun."""

import pytest

from textual_inversion.studio.draw_queue import DrawQueue
from textual_inversion.studio.pictures import Pictures
from textual_inversion.studio.workspace import Workspace

pytest.importorskip("streamlit", reason="pip install -r requirements-studio.txt")


@pytest.fixture
def context(tmp_path):
    from textual_inversion.studio.pages.context import Context

    return Context(Workspace.at(tmp_path / "ws"), DrawQueue(), Pictures(), "en", {})


def begin(context, name):
    folder = context.workspace.new_folder("runs", name)
    folder.mkdir()
    return folder


def test_an_address_finds_a_run_that_has_begun_since_the_page_looked(context):
    first = begin(context, "first")
    assert context.runs() == [first]
    second = begin(context, "second")
    assert context.run_folder(context.run_id(second)) == second
    assert context.run_folder(context.run_id(first)) == first


@pytest.mark.parametrize("asked", ["", "0123456789ab", "../../x"])
def test_an_address_of_no_run_finds_none(context, asked):
    begin(context, "first")
    assert context.run_folder(asked) is None
