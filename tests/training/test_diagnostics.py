"""Concepts that do not learn are found in the first steps, vectors that went far are told, and so is what to try."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from helpers.parameters import parameter
from textual_inversion.settings.concept import Concept
from textual_inversion.training.diagnostics import MovementCheck, unread_tokens, vector_figures, vector_lines, way_out
from textual_inversion.training.state import ConceptVectors

# ------------------------------------------------------------------------------------------------- unread tokens


class Encoder:
    """Ids of prompts: one for each word, two for a placeholder token of two vectors."""

    def __init__(self, room):
        self.room, self.num_chunks = room, 1

    def read_ids(self, text):
        return self.token_ids(text)[: self.room]

    def token_ids(self, text):
        return [number for word in text.split() for number in ([word + "0", word + "1"] if "<" in word else [word])]


def unread(*prompts, rooms=(75,), tokens=("<a>",)):
    text_encoders = [
        SimpleNamespace(name=f"encoder_{number}", encode_ids=Encoder(room)) for number, room in enumerate(rooms, 1)
    ]
    return unread_tokens(text_encoders, tokens, prompts)


def test_a_token_in_some_prompt_is_read():
    assert unread("a photo", "a photo of <a>") == []


def test_a_token_in_no_prompt_is_told_once_for_all_encoders():
    (warning,) = unread("a photo of <a>", "a dog", rooms=(75, 75), tokens=("<a>", "<b>"))

    assert "none of the 2 training prompt(s) holds <b>" in warning and "--no_captions" in warning


def test_an_encoder_that_reads_less_is_named():
    (warning,) = unread("a photo of <a>", rooms=(75, 3))

    assert "encoder_2 never reads <a>" in warning and "behind the 3 tokens" in warning


# ------------------------------------------------------------------------------------------------------ movement


class Guard:
    """A guard that has seen so many steps."""

    def __init__(self, norms, active, skipped=0):
        self.norms, self.active_steps, self.skipped = norms, active, skipped

    def look(self):
        pass

    def gradient_norms(self):
        return self.norms


def check(encoders=1, tokens=("<a>",), warm_up=0):
    """A check, the vectors by (encoder, concept), and what it says."""
    embeddings = {
        f"encoder_{e}": SimpleNamespace(parts=[parameter([1.0, 2.0]) for _ in tokens]) for e in range(encoders)
    }
    vectors, said = ConceptVectors([Concept(token) for token in tokens], embeddings, {}), []
    return MovementCheck(vectors, warm_up, said.append), vectors.parameters, said


def move(*parameters):
    for vector in parameters:
        paddle.assign(vector.detach() + 0.1, output=vector.detach())
        assert not np.array_equal(vector.numpy(), [1.0, 2.0])


def test_vectors_that_move_with_a_gradient_are_not_spoken_of():
    checked, vectors, said = check()
    move(*vectors)
    checked.look(10, 1e-3, Guard([1.0], [10]))

    assert checked.done and said == []


def test_nothing_is_judged_before_a_few_good_steps():
    checked, _, said = check()

    checked.look(1, 1e-3, Guard([0.0], [1]))
    checked.look(10, 1e-3, Guard([0.0], [10], skipped=6))
    assert not checked.done and said == []

    checked.look(20, 1e-3, Guard([0.0], [20], skipped=6))
    assert checked.done and len(said) == 1
    checked.look(30, 1e-3, Guard([0.0], [30], skipped=6))
    assert len(said) == 1


def test_a_short_run_is_judged_at_its_end():
    checked, _, said = check()
    checked.look(2, 1e-3, Guard([0.0], [2]), is_last=True)

    assert len(said) == 1


def test_no_gradient_at_all_is_told_from_one_concept_without():
    for norms, reason in (([0.0, 0.0], "depends on no concept"), ([1.0, 0.0], "no prompt shows it")):
        checked, vectors, said = check(tokens=("<a>", "<b>"))
        move(*vectors)
        checked.look(10, 1e-3, Guard(norms, [10, 10]))

        assert [line.split()[1] for line in said] == ["<a>", "<b>"][-norms.count(0.0) :]
        assert all(reason in line and "had no gradient in 10 step(s)" in line for line in said)


def test_an_encoder_without_a_gradient_is_named():
    checked, vectors, said = check(encoders=2)
    move(vectors[0])
    checked.look(10, 1e-3, Guard([1.0, 0.0], [10, 10]))

    assert len(said) == 1 and "<a> in encoder_1 had no gradient" in said[0]


def test_vectors_that_rest_with_a_gradient_name_the_learning_rate():
    checked, _, said = check()
    checked.look(10, 1e-30, Guard([0.5], [10]))

    assert len(said) == 1 and "learning rate of 1.0e-30" in said[0] and "raise --learning_rate" in said[0]


@pytest.mark.parametrize("moves", [True, False])
def test_warming_up_is_no_reason_to_warn_until_it_is_over(moves):
    checked, vectors, said = check(warm_up=25)
    for step in (10, 20):
        checked.look(step, 0.0, Guard([0.5], [step]))
    assert said == [] and not checked.done

    if moves:
        move(*vectors)
    checked.look(30, 1e-30, Guard([0.5], [30]))

    assert checked.done and len(said) == (not moves)


# ------------------------------------------------------------------------------------- distance from the start


def figures(vectors, start=((3.0, 0.0), (0.0, 2.0), (1.0, 1.0))):
    concepts = [Concept("<a>", 2), Concept("<b>", 1)]
    norms = {"text_encoder": np.arange(1, 101, dtype="float32") / 100}  # 0.01 to 1
    start, vectors = ({"text_encoder": np.array(values, "float32")} for values in (start, vectors))
    return vector_figures(concepts, start, vectors, norms)


def test_distances_and_norms_are_their_formulas():
    found = figures([[5.0, 0.0], [3.0, 0.0], [-2.0, -2.0]])

    a, b = found["<a>"]["text_encoder"], found["<b>"]["text_encoder"]
    assert a["cosine_distance"] == pytest.approx([0.0, 1.0], abs=1e-6)
    assert b["cosine_distance"] == pytest.approx([2.0], abs=1e-6)
    assert (a["norm"], b["norm"]) == ([5.0, 3.0], [pytest.approx(8**0.5)])
    assert a["table_mean"] == pytest.approx(0.505) and a["table_largest"] == pytest.approx(1.0)
    assert a["table_95_percent"] == pytest.approx(np.percentile(np.arange(1, 101) / 100, 95))


def test_a_line_for_each_concept_and_one_more_for_what_is_far_out():
    lines = vector_lines(figures([[5.0, 0.0], [3.0, 0.0], [-2.0, -2.0]]))

    assert lines == [
        "<a>: cosine distance from the start 0 to 1, norm 3 to 5; norms of the table: mean 0.505, "
        "95 % up to 0.951, largest 1",
        "note: <a> is 5 times as long as the longest row of the table, so it may drown the other words of a prompt; "
        "a lower --learning_rate, fewer steps or --norm_reg_weight keep it shorter",
        "<b>: cosine distance from the start 2, norm 2.83; norms of the table: mean 0.505, 95 % up to 0.951, largest 1",
    ]


def test_a_vector_of_zeros_has_no_direction():
    found = figures([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])

    assert found["<a>"]["text_encoder"]["cosine_distance"] == [None, None]
    assert "from the start unknown, norm 0 to 0" in vector_lines(found)[0]


def test_several_text_encoders_are_told_apart():
    one = figures([[5.0, 0.0], [0.0, 3.0], [1.0, 1.0]])["<b>"]["text_encoder"]

    lines = vector_lines({"<b>": {"text_encoder": one, "text_encoder_2": one}})

    assert [line.split(":")[0] for line in lines] == ["<b> in text_encoder", "<b> in text_encoder_2"]


# ------------------------------------------------------------------------------------------------------ way out


@pytest.mark.parametrize(
    ("settings", "last_good", "named", "unnamed"),
    [
        ({}, 7, ["--learning_rate, now 0.5", "--max_grad_norm 1"], ["base model"]),
        ({"max_grad_norm": 1.0}, 7, ["--learning_rate"], ["--max_grad_norm", "--variant"]),
        ({}, 0, ["--learning_rate", "base model"], ["--variant"]),
        ({"variant": "fp16"}, 0, ["full precision, without --variant fp16"], ["--learning_rate"]),
        ({"variant": "fp16"}, 7, ["--learning_rate"], ["--variant"]),
    ],
)
def test_the_advice_fits_what_happened(settings, last_good, named, unnamed):
    advice = way_out(last_good, 0.5, **{"variant": None, "max_grad_norm": -1.0} | settings)

    assert all(part in advice for part in named) and not any(part in advice for part in unnamed)
