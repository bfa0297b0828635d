"""What a search shows: table, plot, page, the best embedding, and the command that trains it again."""

import csv
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from helpers.fake_cluster import LocalPool, measured, search_of
from textual_inversion.cli import train
from textual_inversion.cluster import report
from textual_inversion.cluster.space import Axis
from textual_inversion.cluster.trial import DONE, REFUSED, Outcome, embedding_name
from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams

pytest.importorskip("matplotlib")


def searched(tmp_path, task=measured, **changes):
    search = search_of(tmp_path, **changes)
    search.run(LocalPool(task=task))
    for one in search.trials:
        folder = search.run_folder(one.number)
        folder.mkdir(parents=True)
        vectors = np.full((1, 4), one.number, np.float32)
        for label in search.plan.labels:
            write_pdparams(folder / embedding_name(label), [LearnedEmbedding("<a>", {"text_encoder": vectors})])
    return search


def test_the_best_trial_comes_first_with_its_embedding_and_a_command_that_is_understood(tmp_path):
    search = searched(tmp_path, fixed=("--max_train_steps=99",))
    best = search.ladder().best()

    lines = report.write(search)

    rows = list(csv.reader((tmp_path / "trials.csv").open()))
    assert rows[0] == ["trial", "learning_rate", "flip_p", "seed", "fixed_set_loss", "steps", "status", "folder"]
    assert len(rows) == 13 and rows[1][0] == str(best) and rows[1][6] == "done"
    losses = [float(row[4]) for row in rows[1:]]
    assert losses == sorted(losses)
    (one,) = read_embeddings(tmp_path / "best" / "learned_embeds.pdparams")
    assert one.vectors["text_encoder"][0, 0] == best and (tmp_path / "best" / "learned_embeds.safetensors").is_file()
    command = shlex.split(lines[-1])
    assert command[:2] == ["python", "train_textual_inversion.py"]
    settings = train.parse(command[2:])
    assert settings.training.max_train_steps == 99
    assert f"{settings.training.learning_rate:g}" == search.trials[best].parameters["learning_rate"]
    assert f"trial {best}" in lines[-2] and "fixed_set_loss = mean squared error" in "\n".join(lines)
    assert Image.open(tmp_path / "sweep.png").size[0] > 500


def test_the_page_shows_texts_from_outside_as_texts_and_runs_no_script(tmp_path):
    hostile = "<script>alert(1)</script>"

    def task(part):
        return Outcome(REFUSED, {}, hostile) if part.folder.endswith("1") else measured(part)

    search = searched(tmp_path, task, space=(Axis("caption_prefix", ("$x$", "<b>")),), num_trials=2)
    report.write(search)

    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "<b>" not in page
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'", page)


def test_a_search_by_rungs_takes_the_embedding_of_the_rung_that_was_measured(tmp_path):
    search = searched(tmp_path, rungs=(11, 33, 100))
    report.write(search)

    rows = list(csv.reader((tmp_path / "trials.csv").open()))
    assert rows[1][6] == "done" and rows[-1][6] == "stopped after 11 steps"
    assert [float(row[5]) for row in rows[1:]] == sorted((float(row[5]) for row in rows[1:]), reverse=True)


def test_several_metrics_mark_the_front_and_take_its_best_in_the_first(tmp_path):
    def task(part):
        number = int(part.folder[-3:])
        return Outcome(DONE, {"fixed_set_loss": float(number), "steps": float(12 - number)})

    lines = report.write(searched(tmp_path, task, metrics=("fixed_set_loss", "steps")))
    rows = list(csv.reader((tmp_path / "trials.csv").open()))
    assert rows[0][-1] == "front" and {row[-1] for row in rows[1:]} == {"yes"}
    assert any("the best of them in the first metric is 0" in line for line in lines)


def test_where_nothing_could_be_measured_the_table_says_why(tmp_path):
    search = search_of(tmp_path)
    search.run(LocalPool(task=lambda part: Outcome(REFUSED, {}, "no images")))

    lines = report.write(search)
    assert "no trial could be measured" in lines[-1] and not (tmp_path / "best").exists()
    assert "refused: no images" in (tmp_path / "trials.csv").read_text()
