"""Figures are told from those of other weights."""

import pytest

from benchmarks import all as results
from benchmarks import machine, tables, weights
from demo import report


def section(title, named):
    return f"## {title}\n\n`python x.py`\n\nprocessor: X; {machine.WEIGHTS}: {named}; revision: 0.\n\n| a |\n"


@pytest.fixture
def root(tmp_path):
    """A checkout with figures of weights 1, 2 and of none."""
    for folder in ("benchmarks", "demo", weights.TRANSCRIPTS):
        (tmp_path / folder).mkdir(parents=True)
    parts = {
        "growth": section("Growth", "1"),
        "generation": section("Generation, demo model", "2") + section("Generation, full model", "2"),
        "memory": section("Memory", "2"),
        "start_up": "## Start-up\n\nprocessor: X; revision: 0.",
    }
    text = "\n\n".join(f"<!-- {name} -->\n{body}\n<!-- /{name} -->" for name, body in parts.items())
    (tmp_path / "benchmarks/RESULTS.md").write_text(text)
    (tmp_path / "demo/FIGURES.md").write_text(f"<!-- clip -->\n{section('Clip', '1')}\n<!-- /clip -->")
    return tmp_path


def test_figures_of_other_weights_and_of_unknown_ones_are_found_and_those_of_no_demo_model_are_not(root):
    found = {one.place: one.weights for one in weights.stale("1", root)}

    assert found == {
        "benchmarks/RESULTS.md, Generation, demo model": "2",
        "benchmarks/RESULTS.md, Start-up": "unknown",
        "docs/transcripts": "unknown",
    }


def test_recorded_output_has_its_weights_in_a_file_beside_it(root):
    (root / weights.TRANSCRIPTS / weights.HASH_FILE).write_text("1\n")

    assert "docs/transcripts" not in {one.place for one in weights.stale("1", root)}
    assert "docs/transcripts" in {one.place for one in weights.stale("3", root)}


@pytest.mark.parametrize("page", ["docs/guides/words.md", "README_zh.md", "demo/README.md"])
def test_a_page_that_names_weights_is_of_those(root, page):
    (root / "docs/guides").mkdir()
    (root / page).write_text(f"Means ({machine.WEIGHTS} 0123456789ab), and {machine.WEIGHTS} alone.")

    assert weights.Measured(page, "0123456789ab") in weights.stale("1", root)


def test_what_a_benchmark_writes_names_the_weights_of_now(root, monkeypatch):
    text = tables.section("Growth", "| a |")
    (root / "benchmarks/RESULTS.md").write_text(f"<!-- growth -->\n{text}\n<!-- /growth -->")

    assert next(weights.measured(root)) == weights.Measured("benchmarks/RESULTS.md, Growth", machine.weights())


def test_the_hash_tells_contents_and_names_apart(tmp_path):
    hashes = set()
    for name, content in (("a", b"1"), ("a", b"2"), ("b", b"2")):
        folder = tmp_path / f"{name}{content.decode()}" / "part"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        hashes.add(machine.weights(folder.parent))

    assert len(hashes) == 3


def test_the_command_lists_them_and_ends_with_1(capsys, monkeypatch):
    monkeypatch.setattr(weights, "stale", lambda now: [weights.Measured("a document, a section", "old")])
    assert weights.main([]) == 1
    assert capsys.readouterr().out == f"a document, a section: measured on old, now {machine.weights()}\n"

    monkeypatch.setattr(weights, "stale", lambda now: [])
    assert weights.main([]) == 0 and weights.main(["--hash"]) == 0
    assert capsys.readouterr().out == f"{machine.weights()}\n"


def test_what_the_commands_write_is_what_makes_no_revision_dirty():
    written = {results.RESULTS, report.FIGURES, report.SHEET}

    assert written == {machine.ROOT / path for path in machine.WRITTEN}
