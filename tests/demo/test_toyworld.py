"""The demo world: images are functions of their numbers, and nothing that is held out occurs."""

import json

import numpy as np
import pytest

from demo.specs import HELD_OUT_TOYS, NAMED_TOYS
from demo.toyworld import FIRST_PAIR, picture
from helpers.paths import ROOT

SAMPLE = [*range(0, 2000, 7), *range(FIRST_PAIR, FIRST_PAIR + 1000, 7)]


def test_an_image_and_its_captions_are_functions_of_its_number():
    for index in (0, 7, FIRST_PAIR):
        one, other = picture(index), picture(index)
        assert one == other and [one.caption(i) for i in range(4)] == [other.caption(i) for i in range(4)]
        assert one.draw(64).tobytes() == other.draw(64).tobytes()
    assert picture(0).draw(64).tobytes() != picture(1).draw(64).tobytes()


def test_two_toys_stand_side_by_side_from_a_number_on():
    assert all((picture(index).beside is not None) == (index >= FIRST_PAIR) for index in SAMPLE)
    for index in range(FIRST_PAIR, FIRST_PAIR + 20):
        shown = picture(index)
        both, alone = (
            np.asarray(shown.draw(64), int),
            np.asarray(type(shown)(**vars(shown) | {"beside": None}).draw(64), int),
        )
        assert shown.beside != shown.toy
        assert np.abs(both - alone)[:, 40:].max() > 40  # the second one stands on the right


def test_captions_of_two_toys_name_both():
    for index in range(FIRST_PAIR, FIRST_PAIR + 200):
        shown = picture(index)
        said = [shown.caption(variant) for variant in range(8)]
        for name in filter(None, (shown.toy_name, shown.beside_name)):
            assert any(name in sentence.split() for sentence in said)
        assert shown.style_name or all(" and a" in sentence for sentence in said)


def test_the_second_of_two_toys_is_often_named_by_its_kind_alone():
    """As in "a <cat-toy> and a duck", where the duck may have any colours, but not those of the cat."""
    shown = [picture(index) for index in range(FIRST_PAIR, FIRST_PAIR + 300)]
    said = [(one, one.caption(variant)) for one in shown if one.beside_name for variant in range(4)]
    plain = [f" and a {one.beside.species} " in f"{sentence} " for one, sentence in said]
    assert 0.2 < sum(plain) / len(plain) < 0.4


def test_what_is_held_out_never_occurs():
    toys = {toy for index in SAMPLE for toy in (picture(index).toy, picture(index).beside)}
    assert not toys & set(HELD_OUT_TOYS.values()) and not set(NAMED_TOYS.values()) & set(HELD_OUT_TOYS.values())


@pytest.mark.parametrize("first", [0, FIRST_PAIR])
def test_the_shipped_vocabulary_holds_every_word_of_the_captions(first):
    vocabulary = json.loads((ROOT / "demo/model/tokenizer/vocab.json").read_text())
    words = {
        word for index in range(first, first + 3000) for word in picture(index).caption(1).replace("-", " - ").split()
    }
    assert {word for word in words if f"{word}</w>" not in vocabulary} == set()
