"""Figures and output that the documents quote, against the files that hold what was measured and recorded."""

import math
import re
import subprocess
import sys

import pytest

from benchmarks import machine, weights
from helpers.documents import READMES, code_blocks, read, tables
from helpers.paths import ROOT

QUICK_START = "docs/transcripts/quick-start.txt"
LEFT_OUT = "…"


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))


def _result_rows(document: str = "benchmarks/RESULTS.md") -> list[list[str]]:
    return [row for table in tables(read(document)) for row in table]


# ------------------------------------------------------------------------------------------------ recorded output


def _shown(readme: str) -> list[str]:
    (block,) = [block for language, block in code_blocks(read(readme)) if language == "text"]
    return block.splitlines()


@pytest.mark.parametrize("readme", READMES)
def test_the_output_of_the_quick_start_is_an_excerpt_of_a_recorded_run(readme):
    recorded = [line for line in read(QUICK_START).splitlines() if line != LEFT_OUT]

    position = 0
    for line in _shown(readme):
        if line != LEFT_OUT:
            assert line in recorded[position:], f"not recorded, or in another order: {line}"
            position = recorded.index(line, position) + 1


@pytest.mark.parametrize("readme", READMES)
def test_the_seconds_of_the_quick_start_are_those_of_the_recorded_run(readme):
    recorded = read(QUICK_START)
    whole = float(re.search(r"in all ([\d.]+) s", recorded)[1])
    training = float(re.search(r"training ([\d.]+) s", recorded)[1])

    (sentence,) = [line for line in read(readme).splitlines() if "AMD EPYC" in line]
    assert [int(number) for number in re.findall(r"\d+", sentence)] == [round(whole), round(training)]


def test_the_table_of_scores_is_the_recorded_one():
    (shown,) = [block for language, block in code_blocks(read("docs/guides/scoring.md")) if language == "text"]

    assert shown == read("docs/transcripts/score.txt")


def _masked(text: str) -> set[str]:
    return {re.sub(r"[+-]?\d+(?:\.\d+)?(?:e[+-]\d+)?", "#", line) for line in text.splitlines()}


@pytest.mark.slow
def test_the_lines_of_the_quick_start_are_still_those_that_the_command_prints(tmp_path):
    """Every line shown, numbers aside, comes out of a run of a few steps."""
    shorter = ["--max_train_steps", "2", "--eval_steps", "1", "--num_inference_steps", "1", "--train_batch_size", "2"]
    command = [sys.executable, "train_textual_inversion.py", *shorter, "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, check=True)

    printed = _masked(done.stdout.replace(str(tmp_path / "out"), "text-inversion-model"))
    assert _masked("\n".join(_shown("README.md"))) - {LEFT_OUT} - printed == set()


# ------------------------------------------------------------------------------------------------ measured figures


def test_the_figures_of_performance_are_those_of_the_results():
    """A row has the label and the figures of one row of RESULTS.md, or only figures that stand there."""
    rows = [row for table in tables(read("docs/explanation/performance.md")) for row in table]
    results = _result_rows()
    figures = {cell for row in results for cell in row}

    assert len(rows) > 14
    for label, *cells in rows:
        own = [row for row in results if row[0] == label]
        assert set(cells) <= (set(own[0]) if own else figures), label


def test_the_figures_in_the_text_of_performance_stand_in_the_results():
    text = read("docs/explanation/performance.md")
    results = {cell for row in _result_rows() for cell in re.split(r" – ", " – ".join(row))}

    quoted = re.findall(
        r"\d[\d.]* (?:×|s|kB|MB|GB)(?!\w| \d)", " ".join(re.findall(r"^[^|#`\n].*", text, re.MULTILINE))
    )
    assert len(quoted) >= 7
    ratios = {figure.removesuffix(" ×") for figure in quoted}
    assert [figure for figure in quoted if figure not in results and figure.removesuffix(" ×") not in results] == []
    assert "0.997" in ratios and "0.492" in ratios


def test_the_measured_figures_of_growth_are_those_of_the_results():
    prose = "\n".join(
        line for line in read("docs/explanation/how-it-grows.md").splitlines() if not line.startswith("|")
    )
    quoted = set(re.findall(r"\d+\.\d+ (?:s|kB|×(?! 10))(?=\W)", prose)) | {"152 MB", "160 s"}
    results = {cell for row in _result_rows() for cell in row}

    assert len(quoted) >= 10 and all(one in prose for one in quoted)
    assert [figure for figure in quoted if figure not in results] == []


def test_the_computed_figures_of_growth_follow_from_what_they_are_said_to():
    page = read("docs/explanation/how-it-grows.md")
    hop, sample, table, link = 40e-6, 1.6e12 / 100e12, 152e6, 25e9

    (rows,) = [rows for rows in tables(page) if any("0.12 ms" in row for row in rows)]
    assert len(rows) == 3
    for cards, exchange, share, whole in rows:
        seconds = hop * math.log2(int(cards))
        assert exchange == f"{seconds * 1e3:.2f} ms" and share == f"{100 * seconds / (seconds + sample):.1f} %"
        assert whole == f"{2 * (int(cards) - 1) / int(cards) * table / link * 1e3:.0f} ms"
    concept = 3000 * 4 * sample
    assert f"3000 steps of 4 samples take {concept:.0f} s" in page
    assert f"{1000 * concept / 3600:.0f} hours of one card, or {1000 * concept / 64 / 60:.0f} minutes of 64" in page
    assert f"wait for {1000 * 4 / 10:.0f} s" in page and f"{1000 // 8} machines, and {125 * 4 / 10:.0f} s" in page


def test_the_steps_of_the_recipes_are_those_of_the_results():
    table = next(table for table in tables(read("docs/guides/recipe.md")) if len(table[0]) == 4)
    results = _result_rows()

    def column(recipe: str, index: int, first_table: bool) -> list[str]:
        rows = [row for row in results if row[0] == recipe and len(row) == 9]
        return [row[index] for row in (rows[:3] if first_table else rows[3:])]

    wanted = [(3, True), (6, True), (3, False), (6, False)]
    assert [row[1].split(", ") for row in table] == [column("plain", *place) for place in wanted]
    assert [row[2].split(", ") for row in table] == [column("demo", *place) for place in wanted]
    means = [row[2] for row in results if row[0].startswith("demo: steps to")]
    assert [row[3].removesuffix(" ×") for row in table] == means


def test_the_figures_of_words_for_what_is_not_wanted_are_those_of_the_results():
    part = read("docs/guides/negative-words.md").partition("## What it does on the demo")[2].partition("\n## ")[0]
    (table,) = tables(part)
    (results,) = re.findall(r"<!-- negative_words -->(.*?)<!-- /", read("benchmarks/RESULTS.md"), re.DOTALL)
    colourless = [rows for rows in tables(results) if len(rows[0]) == 6][-1]
    cells = {cell for rows in tables(results) for row in rows for cell in row}

    assert [row[1:] for row in table] == [[*row[1:4], row[5]] for row in colourless if row[2] != "–"]
    quoted = re.findall(r"(?<![\d.])\d\.\d\d(?![\d.])|\d\d\.\d\d(?![\d.])", part)
    assert len(quoted) >= 9 and [figure for figure in quoted if figure not in cells] == []


def test_the_figures_of_killed_runs_and_hostile_files_are_those_of_the_results():
    rows = {row[-1].strip("`"): row[:2] for row in tables(read("docs/explanation/reliability.md"))[0]}
    parts = dict(re.findall(r"<!-- (\w+) -->(.*?)<!-- /\1 -->", read("benchmarks/RESULTS.md"), re.DOTALL))
    measured_here = tables(parts["kill_and_resume"] + parts["fuzz_formats"])
    results = {row[0].strip("*"): row[1:] for table in measured_here for row in table}

    killed = _numbers(rows["python benchmarks/kill_and_resume.py"][1].replace(",", ""))
    measured = ("kills in all", "kills at a step of a save", "kills at a random moment", "resumed runs",
                "resumed runs equal to the untouched one", "files opened after the kills")  # fmt: skip
    assert killed == {results[name][0] for name in measured}

    tried, came = rows["python tests/helpers/fuzz_formats.py"]
    kinds = [results[name][0] for name in ("crafted", "damaged", "made up")]
    assert [number.replace(",", "") for number in re.findall(r"\b\d[\d,]*", tried)] == kinds
    broken, none, refused, wrong, read_well = results["in all"][1:]
    total = str(2 * int(results["in all"][0]))
    assert [total, broken, refused, none, wrong, read_well] == [
        number.replace(",", "") for number in re.findall(r"\d[\d,]*(?= )", came)[:6]
    ]
    assert re.search(r"one reading took ([\d.]+ MB)", read("benchmarks/RESULTS.md"))[1] in came
    security = read("docs/explanation/security.md")
    assert f"{int(total):,} readings" in security and "9.0 MB" in security


def test_the_scores_of_three_concepts_are_those_of_the_demo():
    together = read("demo/FIGURES.md").split("<!-- together -->")[1]
    kept = [row[4].removesuffix("%") for row in tables(together)[0]]

    (sentence,) = re.findall(r"Cat, rabbit and style keep (.+?) of the text", read("docs/guides/several-concepts.md"))
    assert re.findall(r"\d+", sentence) == kept


def test_the_scores_in_the_readme_of_the_demo_are_measured():
    text, figures = read("demo/README.md"), read("demo/FIGURES.md")
    (section,) = re.findall(r"^## Figures\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)

    lists = " ".join(re.findall(r"^- (.+?)(?=^- |^$)", section, re.MULTILINE | re.DOTALL))
    quoted = re.findall(r"(\d+\.\d+) (?:dB|%)", lists)
    measured = {f"{float(number):.1f}" for number in re.findall(r"\d+\.\d+", figures)}
    assert len(quoted) >= 4 and [number for number in quoted if number not in measured] == []


# ---------------------------------------------------------------------------------------------------------- weights


def test_no_figure_outlives_the_weights_that_it_was_measured_on():
    assert weights.stale(machine.weights()) == []
