"""JSON from outside: what can be parsed, and the types that a schema asks for."""

import sys
import tracemalloc

import pytest
from typing_extensions import NotRequired, TypedDict

from textual_inversion.system.checked_json import (
    MOST_ITEMS,
    MOST_LEVELS,
    UnusableJson,
    checked,
    finite_number,
    parse_json,
    whole_number,
)
from textual_inversion.system.errors import TextualInversionError

NAN = float("nan")


class Inner(TypedDict):
    share: finite_number()


class Outer(TypedDict):
    step: whole_number(0, 10)
    inner: NotRequired[Inner]
    names: NotRequired[list[str]]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, true, null]}', {"a": [1, 2.5, True, None]}),
        ('"猫"'.encode("utf-16"), "猫"),
        (b"\xef\xbb\xbf[]", []),
        ('["\\ud83d\\ude00"]', ["😀"]),  # both halves of one character
        (b"-" + b"9" * (63), -int("9" * 63)),
        ("[" * MOST_LEVELS + "]" * MOST_LEVELS, eval("[" * MOST_LEVELS + "]" * MOST_LEVELS)),
    ],
)
def test_what_json_is_is_read(data, value):
    assert parse_json(data) == value


def test_infinities_are_read_where_configurations_hold_them():
    assert parse_json(b"[-Infinity, 1e999]", allows_nan=True) == [-float("inf"), float("inf")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1"),
        (b'{"a": 1,\n}', "line 2"),
        (b"NaN", "holds NaN, which is no number"),
        (b"[1, -Infinity]", "holds -Infinity"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"1" * 5000, "a number of 5,000 digits"),
        (b'["\\ud800"]', "half of a character"),
        (b'{"a": {"\\uDC00": 1}}', "half of a character"),
        (b'"\xed\xa0\x80"', "not text in UTF-8"),
        (b"\xff", "not text in UTF-8"),
        (b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1), f"more than {MOST_LEVELS} lists or objects"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, f"more than {MOST_LEVELS} lists or objects"),
        (b"[" * 200_000, f"more than {MOST_LEVELS} lists or objects"),
    ],
)
def test_what_breaks_a_program_later_is_refused(data, words):
    with pytest.raises(UnusableJson) as caught:
        parse_json(data)

    assert words in str(caught.value) and str(caught.value).isprintable()
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, TextualInversionError)


def test_what_is_of_the_type_stays_as_it_is():
    value = {"step": 1, "inner": {"share": 1, "more": []}, "more": None}

    assert checked(value, Outer) is value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "holds a list as the whole, which should be an object"),
        ({}, "lacks step"),
        ({"step": True}, "holds True as step"),
        ({"step": "1"}, "holds '1' as step, which should be a valid integer"),
        ({"step": 1.0}, "holds 1.0 as step"),
        ({"step": 11}, "holds 11 as step, which should be less than or equal to 10"),
        ({"step": -1}, "greater than or equal to 0"),
        ({"step": 1, "inner": {"share": NAN}}, "holds nan as inner.share"),
        ({"step": 1, "inner": {"share": sys.float_info.max * 2}}, "holds inf as inner.share"),
        ({"step": 1, "names": ["a", {}]}, "holds an object as names.1"),
        ({"step": "\x1b[31m" + "x" * 500}, "holds '\\x1b[31mxxx"),
    ],
)
def test_what_is_of_another_type_is_named_with_its_place(value, words):
    with pytest.raises(UnusableJson) as caught:
        checked(value, Outer)

    assert words in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_bytes_of_file_names_pass_where_a_run_writes_them():
    assert parse_json(b'["\\udce9.png"]', allows_odd_names=True) == ["\udce9.png"]
    for text in (b'["\\ud800"]', b'["\\udfff"]', b'["\\udc7f"]'):
        with pytest.raises(UnusableJson, match="half of a character"):
            parse_json(text, allows_odd_names=True)
    with pytest.raises(UnusableJson, match="half of a character"):
        parse_json(b'["\\udce9.png"]')


@pytest.mark.parametrize("small", [b"[],", b"{},", b"1,", b'"",'])
def test_a_text_of_a_few_megabytes_does_not_become_hundreds(small):
    text = b"[" + small * (MOST_ITEMS + 1) + b"0]"
    tracemalloc.start()
    try:
        for form in (text, text.decode(), text.decode().encode("utf-16")):
            with pytest.raises(UnusableJson, match="more than 1,000,000 values"):
                parse_json(form)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 32 << 20  # the three texts
    assert len(parse_json(b"[" + b"1," * (MOST_ITEMS - 2) + b"0]")) == MOST_ITEMS - 1
