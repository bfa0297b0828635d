"""The descriptions that the demo's CLIP model tells apart: each twin differs in one thing that can be seen."""

import random
from dataclasses import astuple

import pytest

from demo.pretrain_data import SIMILAR, colourless, similar_styles, twin
from demo.specs import NAMED_STYLES
from demo.toyworld import picture

PHOTOS = [shown for shown in map(picture, range(300)) if not shown.style_name]
STYLED = [shown for shown in map(picture, range(1500)) if shown.style_name]


def shared(one: str, other: str) -> int:
    return sum(a == b for a, b in zip(astuple(NAMED_STYLES[one]), astuple(NAMED_STYLES[other]), strict=True))


def test_no_other_style_is_more_similar_than_the_similar_ones():
    for name in list(NAMED_STYLES)[:20]:
        chosen = similar_styles(name)
        others = set(NAMED_STYLES) - {name, *chosen}

        assert len(set(chosen)) == SIMILAR and name not in chosen
        assert min(shared(name, one) for one in chosen) >= max(shared(name, one) for one in others)


def differences(one, other) -> list[str]:
    found = [name for name in vars(one.toy) if getattr(one.toy, name) != getattr(other.toy, name)]
    return found + [name for name in vars(one) if name != "toy" and getattr(one, name) != getattr(other, name)]


@pytest.mark.parametrize("pictures", [PHOTOS, STYLED])
def test_a_twin_differs_in_one_thing_that_can_be_seen(pictures):
    rng = random.Random(0)
    for shown in pictures:
        (changed,) = differences(shown, twin(shown, rng))
        assert changed == "style_name" or not colourless(shown) or changed in ("species", "pattern")


def test_about_half_of_the_twins_of_a_styled_image_have_another_style_and_no_other_one_has():
    rng = random.Random(0)
    restyled = [twin(shown, rng).style_name != shown.style_name for shown in STYLED]

    assert 0.4 < sum(restyled) / len(restyled) < 0.6
    assert not any(twin(shown, rng).style_name for shown in PHOTOS)
