"""Words that do not learn are found in the first steps, with the likely reason."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from textual_inversion.training.movement import MovementCheck, unread_words

from helpers.parameters import parameter
from textual_inversion.data.sampler import TrainingImage
from textual_inversion.settings.concept import Concept


class Words:
    """Ids of prompts: a number for each word, as many rows for a placeholder as it has vectors."""

    def __init__(self, room):
        self.room = room

    def token_ids(self, text):
        return [number for word in text.split() for number in ([word + "0", word + "1"] if "<" in word else [word])]


def unread(*sentences, rooms=(75,), words=("<a>",)):
    text_encoders = [
        SimpleNamespace(name=f"encoder_{number}", encode_ids=Words(room)) for number, room in enumerate(rooms, 1)
    ]
    return unread_words(text_encoders, [Concept(word) for word in words], [TrainingImage(0, sentences)])


def test_a_word_in_some_sentence_is_read():
    assert unread("a photo", "a photo of <a>") == []


def test_a_word_in_no_sentence_is_told_once_for_all_encoders():
    (warning,) = unread("a photo of <a>", "a dog", rooms=(75, 75), words=("<a>", "<b>"))

    assert "<b> stands in none of the 2 training sentence(s)" in warning and "--no_captions" in warning


def test_an_encoder_that_reads_less_is_named():
    (warning,) = unread("a photo of <a>", rooms=(75, 3))

    assert "encoder_2 never reads <a>" in warning and "behind the 3 tokens" in warning


class Guard:
    """A guard that has seen so many steps."""

    def __init__(self, norms, active, skipped=0):
        self.norms, self.active_steps, self.skipped = norms, active, skipped

    def look(self):
        pass

    def gradient_norms(self):
        return self.norms


def check(encoders=1, words=("<a>",), warm_up=0):
    """A check, the rows by (encoder, word), and what it says."""
    embeddings = {
        f"encoder_{e}": SimpleNamespace(parts=[parameter([1.0, 2.0]) for _ in words]) for e in range(encoders)
    }
    run = SimpleNamespace(
        embeddings=embeddings,
        concepts=[Concept(word) for word in words],
        parameters=[rows for embedding in embeddings.values() for rows in embedding.parts],
    )
    said = []
    return MovementCheck(run, warm_up, said.append), run.parameters, said


def move(*parameters):
    for rows in parameters:
        paddle.assign(rows.detach() + 0.1, output=rows.detach())
        assert not np.array_equal(rows.numpy(), [1.0, 2.0])


def test_rows_that_move_with_a_gradient_are_not_spoken_of():
    checked, rows, said = check()
    move(*rows)
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


def test_no_gradient_at_all_is_told_from_one_word_without():
    for norms, reason in (([0.0, 0.0], "depends on no new word"), ([1.0, 0.0], "no sentence shows it")):
        checked, rows, said = check(words=("<a>", "<b>"))
        move(*rows)
        checked.look(10, 1e-3, Guard(norms, [10, 10]))

        assert [line.split()[1] for line in said] == ["<a>", "<b>"][-norms.count(0.0) :]
        assert all(reason in line and "had no gradient in 10 step(s)" in line for line in said)


def test_an_encoder_without_a_gradient_is_named():
    checked, rows, said = check(encoders=2)
    move(rows[0])
    checked.look(10, 1e-3, Guard([1.0, 0.0], [10, 10]))

    assert len(said) == 1 and "<a> in encoder_1 had no gradient" in said[0]


def test_rows_that_rest_with_a_gradient_name_the_learning_rate():
    checked, _, said = check()
    checked.look(10, 1e-30, Guard([0.5], [10]))

    assert len(said) == 1 and "learning rate of 1.0e-30" in said[0] and "raise --learning_rate" in said[0]


@pytest.mark.parametrize("moves", [True, False])
def test_warming_up_is_no_reason_to_warn_until_it_is_over(moves):
    checked, rows, said = check(warm_up=25)
    for step in (10, 20):
        checked.look(step, 0.0, Guard([0.5], [step]))
    assert said == [] and not checked.done

    if moves:
        move(*rows)
    checked.look(30, 1e-30, Guard([0.5], [30]))

    assert checked.done and len(said) == (not moves)
