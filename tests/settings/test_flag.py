"""Flags that are declared once: what their declaration is turned into."""

import dataclasses
from dataclasses import dataclass

import pytest

from textual_inversion.settings.bounds import positive
from textual_inversion.settings.flag import all_flags, changed, filled, flag, flags_of, group, groups_of, values_of


@group("how fast")
class Speed:
    rate: float = flag(0.5, "peak learning rate", type=positive, metavar="RATE")
    words: tuple[str, ...] = flag(("a",), "some words", nargs="+", per_concept=True, decides_result=False)

    @property
    def doubled(self) -> float:
        return 2 * self.rate


@group("where")
class Places:
    folder: str | None = flag(None, "where to", metavar="DIR")
    number: int = 3  # known to no user


@dataclass(frozen=True)
class Config:
    speed: Speed = Speed()
    places: Places = Places()
    given: frozenset[str] = frozenset()


def test_a_group_is_a_frozen_dataclass_with_the_title_of_its_help():
    assert Speed.title == "how fast" and Speed().doubled == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        Speed().rate = 1.0


@pytest.mark.parametrize("config", [Config, Config()])
def test_flags_stand_in_the_order_of_their_declaration_and_other_fields_are_none(config):
    assert list(groups_of(config)) == [("speed", Speed), ("places", Places)]
    assert list(all_flags(config)) == ["rate", "words", "folder"]
    assert list(flags_of(Places)) == ["folder"] and values_of(Config()) == {
        "rate": 0.5,
        "words": ("a",),
        "folder": None,
    }


def test_a_flag_knows_what_was_declared_and_counts_unless_it_says_otherwise():
    rate, words, folder = all_flags(Config).values()

    assert (rate.help, rate.type, rate.metavar) == ("peak learning rate", positive, "RATE")
    assert rate.decides_result and rate.same_everywhere and rate.repeatable
    assert not (rate.per_concept or rate.is_secret or rate.is_inside_output)
    assert words.per_concept and not words.decides_result
    assert [one.is_path for one in (rate, words, folder)] == [False, False, True]


def test_a_changed_copy_has_other_values_and_the_first_one_stays():
    first = Config(given=frozenset({"rate"}))

    second = changed(first, rate=2.0, words=["b", "c"], folder="x")

    assert values_of(second) == {"rate": 2.0, "words": ("b", "c"), "folder": "x"} and second.given == {"rate"}
    assert first == Config(given=frozenset({"rate"})) and changed(first) == first


@pytest.mark.parametrize("name", ["rates", "number", "speed", "given"])
def test_what_is_no_flag_cannot_be_changed(name):
    with pytest.raises(KeyError, match=f"no such flag: {name}"):
        changed(Config(), rate=1.0, **{name: 1})


def test_values_by_name_fill_a_configuration_and_the_rest_keeps_its_defaults():
    filled_one = filled(Config, {"words": ["b"], "unknown": 1}, given=frozenset({"words"}))

    assert filled_one == Config(Speed(words=("b",)), given=frozenset({"words"}))
