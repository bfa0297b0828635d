"""A list of concepts under way: each run once, what fails out of the others' way, and what is left behind."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from helpers.fake_cluster import LocalPool
from helpers.training_runs import draw_images
from textual_inversion.cluster import taught
from textual_inversion.cluster.child import Child
from textual_inversion.cluster.lesson_run import RunOutcome
from textual_inversion.cluster.lessons import Group, Lesson, run_folder
from textual_inversion.cluster.pool import Lost
from textual_inversion.cluster.teaching import CONCEPTS, Known, Teaching
from textual_inversion.cluster.trial import DIED, DONE, REFUSED
from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams
from textual_inversion.generation.png_files import save_png


def groups_of(*sizes, images="/images"):
    names = iter("abcdefgh")
    made = [[Lesson(f"<{name}>", str(images), {}, {}) for _, name in zip(range(size), names)] for size in sizes]  # noqa: B905
    return [Group(tuple(run), (4 * len(run), 1) if len(run) > 1 else None) for run in made]


def teaching_of(tmp_path, groups, known=None, **more):
    settings = dict(fixed=("--max_train_steps=3",), output=tmp_path, child=Child("."), max_failures=1,
                    prompt_of=lambda one: f"a photo of a {one.token}", say=lambda line: None)  # fmt: skip
    return Teaching(groups, known=known, **(settings | more))


def done(order):
    return RunOutcome(DONE, {"loss_before": 0.5, "loss_after": 0.25, "seconds": 8.0})


def test_every_run_is_done_once_with_a_prompt_for_each_concept(tmp_path):
    teaching, pool = teaching_of(tmp_path, groups_of(2, 1)), LocalPool(task=done)
    teaching.run(pool)

    orders = dict(pool.orders)
    assert list(orders) == ["a-and-1-more", "c"]
    assert orders["a-and-1-more"].prompts == ("a photo of a <a>", "a photo of a <b>")
    assert orders["c"].folder == str(tmp_path / "runs" / "c")
    assert orders["c"].arguments == ("--max_train_steps=3", "--placeholder_token", "<c>", "--train_data_dir", "/images")
    assert teaching.is_done() and all(known.status == "taught" for _, known in teaching.by_concept())


def test_a_concept_that_fails_is_found_and_the_others_are_learned(tmp_path):
    def task(order):
        if "<b>" in order.arguments:
            return RunOutcome(REFUSED, {}, "images of <b> are damaged")
        return done(order)

    teaching, pool = teaching_of(tmp_path, groups_of(3, 1)), LocalPool(task=task)
    teaching.run(pool)

    assert [key for key, _ in pool.orders].count("b") == 1
    status = {one.token: known.status for (_, one), known in teaching.by_concept()}
    assert status == {"<a>": "taught", "<b>": "refused", "<c>": "taught", "<d>": "taught"}
    alone = dict(pool.orders)["a"]
    assert "--train_batch_size=12" not in alone.arguments, "alone it is learned as if it had always been"

    entries = json.loads((tmp_path / CONCEPTS).read_text())
    again = teaching_of(tmp_path, groups_of(3, 1), {name: Known(**one) for name, one in entries.items()})
    assert again.is_done(), "what is done, and what cannot be, is not done again"


def test_a_run_that_died_is_tried_again_and_again_after_a_new_start(tmp_path):
    tries = []

    def task(order):
        tries.append(order.folder)
        return Lost("the machine is gone") if len(tries) == 1 else RunOutcome(DIED, {}, "ended by signal 9")

    teaching = teaching_of(tmp_path, groups_of(1))
    teaching.run(LocalPool(task=task))

    assert len(tries) == 2 and teaching.known["a"].status == DIED
    assert not teaching_of(tmp_path, groups_of(1), teaching.known).is_done()


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_list_that_is_interrupted_goes_on_where_it_was(tmp_path, stop_after):
    calls = []

    def task(order):
        calls.append(order.folder)
        if len(calls) > stop_after:
            raise KeyboardInterrupt
        return done(order)

    with pytest.raises(KeyboardInterrupt):
        teaching_of(tmp_path, groups_of(2, 1, 1)).run(LocalPool(task=task))
    path = tmp_path / CONCEPTS
    entries = json.loads(path.read_text()) if path.exists() else {}
    again = teaching_of(tmp_path, groups_of(2, 1, 1), {name: Known(**one) for name, one in entries.items()})
    pool = LocalPool(task=done)
    again.run(pool)

    assert len(pool.orders) == 3 - stop_after and again.is_done()


def test_a_file_for_each_concept_one_table_and_one_sheet(tmp_path):
    images = draw_images(tmp_path / "images")
    groups = groups_of(2, 1, images=images)
    for group in groups:
        folder = run_folder(tmp_path, group)
        (folder / "images").mkdir(parents=True)
        learned = [LearnedEmbedding(token, {"text_encoder": np.full((1, 4), ord(token[1]), np.float32)})
                   for token in group.tokens]  # fmt: skip
        write_pdparams(folder / "learned_embeds.pdparams", learned)
        for place, _ in enumerate(group.tokens):
            save_png(Image.new("RGB", (32, 32), "blue"), folder / "images" / f"{place:03d}-seed0.png")
    teaching = teaching_of(tmp_path, groups)
    teaching.run(LocalPool(task=done))

    lines = taught.write(teaching, [("<=bad>", "=cmd()")], has_images=True)

    (one,) = read_embeddings(tmp_path / "embeds" / "b.pdparams")
    assert one.placeholder_token == "<b>" and one.vectors["text_encoder"][0, 0] == ord("b")
    assert {path.name for path in (tmp_path / "embeds").iterdir()} == {
        f"{name}.{ending}" for name in "abc" for ending in ("pdparams", "safetensors")}  # fmt: skip
    rows = list(csv.reader((tmp_path / "concepts.csv").open()))
    assert [row[0] for row in rows] == ["word", "<a>", "<b>", "<c>", "<=bad>"]
    assert rows[1][1:] == ["3", "2", "0.5", "0.25", "4", "taught", "runs/a-and-1-more"]
    assert rows[4][6] == "left out: =cmd()"
    assert Image.open(tmp_path / "sheet.png").width > 6 * 128
    assert "3 of 4 concepts are learned" in "\n".join(lines) and "<=bad> is not learned" in "\n".join(lines)
