"""How a list of concepts is cut into runs: a function of the list alone."""

import pytest

from textual_inversion.cli import train
from textual_inversion.cluster.lessons import Group, Lesson, groups, why_not_together


def lessons_of(*names, own=None, shared=None):
    return [Lesson(f"<{name}>", f"/images/{name}", own or {}, shared or {}) for name in names]


def settings_of(lessons, *training):
    return {one.token: train.parse([*training, *Group((one,)).arguments()]) for one in lessons}


REAL = ("--pretrained_model_name_or_path", "owner/model", "--train_batch_size", "4",
        "--gradient_accumulation_steps", "2")  # fmt: skip


def cut(lessons, most, *training):
    return [[one.token for one in run.lessons] for run in groups(lessons, most, settings_of(lessons, *training))]


def test_concepts_with_the_same_flags_are_learned_together_in_the_order_of_the_list():
    one = lessons_of("a", "b", "c", "d", "e")
    other = lessons_of("x", "y", shared={"resolution": "64"})
    started = lessons_of("p", own={"initializer_token": "cat"})

    assert cut([*one[:2], other[0], *one[2:], started[0], other[1]], 3) == [
        ["<a>", "<b>", "<c>"], ["<x>", "<y>"], ["<d>", "<e>"], ["<p>"]]  # fmt: skip
    assert cut(one, 1) == [["<a>"], ["<b>"], ["<c>"], ["<d>"], ["<e>"]]


def test_each_concept_gets_as_many_samples_as_alone():
    (run,) = groups(lessons_of("a", "b", "c"), 8, settings_of(lessons_of("a", "b", "c"), *REAL))
    assert run.batch == (4, 6), "a step has more micro-batches, so it takes no more memory"

    (demo,) = groups(lessons_of("a", "b", "c"), 8, settings_of(lessons_of("a", "b", "c"), "--train_batch_size", "4"))
    assert demo.batch == (12, 1)
    (alone,) = groups(lessons_of("a"), 8, settings_of(lessons_of("a"), *REAL))
    assert alone.batch is None


def test_a_run_has_a_value_of_each_concepts_flags_for_each_of_them():
    pair = (Lesson("<a>", "/a", {"num_vectors": "2"}, {"resolution": "64"}),
            Lesson("<b>", "/b", {"num_vectors": "3"}, {"resolution": "64"}))  # fmt: skip

    assert Group(pair, (8, 2)).arguments() == [
        "--placeholder_token", "<a>", "<b>", "--train_data_dir", "/a", "/b", "--num_vectors", "2", "3",
        "--resolution=64", "--train_batch_size=8", "--gradient_accumulation_steps=2"]  # fmt: skip
    assert Group(pair).name == "a-and-1-more" and [one.name for one in Group(pair).alone()] == ["a", "b"]


@pytest.mark.parametrize(
    "flag",
    [("--optimizer", "sgd"), ("--max_grad_norm", "1"), ("--norm_reg_weight", "0.1"), ("--initial_reg_weight", "0.1"),
     ("--hidden_reg_weight", "0.1"), ("--resize_mode", "bucket"), ("--keep_best",), ("--scale_lr",),
     ("--num_train_epochs", "3")],
)  # fmt: skip
def test_what_would_make_a_concept_depend_on_the_others_keeps_it_alone(flag):
    pair = lessons_of("a", "b", own={"initializer_token": "toy"})
    settings = settings_of(pair, *flag)

    assert flag[0] in why_not_together(settings["<a>"])
    assert [len(run.lessons) for run in groups(pair, 8, settings)] == [1, 1]


def test_nothing_else_does():
    assert why_not_together(settings_of(lessons_of("a"))["<a>"]) is None
