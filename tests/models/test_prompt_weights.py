"""Marks of weights: their meaning, their escapes, and whatever only looks like one."""

import math
import random
import re
import time

import pytest

from textual_inversion.models.prompt_weights import holds_marks, weighted_pieces, without_marks

PARTS = (
    "(",
    "(",
    ")",
    "[",
    "]",
    ":1.3)",
    ":.5)",
    ":2)",
    ":-1)",
    ":",
    "\\",
    "\\(",
    "\\]",
    "\\\\",
    "a",
    "b c",
    " ",
    "é",
    ", ",
)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("", []),
        ("()", []),
        ("a (cat:1.3) sits", [("a ", 1.0), ("cat", 1.3), (" sits", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("a [cat]", [("a ", 1.0), ("cat", 1 / 1.1)]),
        ("((cat:1.3))", [("cat", 1.3 * 1.1)]),
        ("((a) cat:2)", [("a", 1.1 * 2), (" cat", 2.0)]),
        ("(a [b])", [("a ", 1.1), ("b", 1 / 1.1 * 1.1)]),
        ("(cat: 1.3 )", [("cat", 1.3)]),
        ("(cat:.5)(dog:2.)(+:+3)(-:-1)", [("cat", 0.5), ("dog", 2.0), ("+", 3.0), ("-", -1.0)]),
        (r"a \(cat\) \[x\] \\", [(r"a (cat) [x] " + "\\", 1.0)]),
        (r"(\(cat\):1.3)", [("(cat)", 1.3)]),
        ("[cat:1.3]", [("cat:1.3", 1 / 1.1)]),
        ("(猫:1.2)在 (雪:0.5)", [("猫", 1.2), ("在 ", 1.0), ("雪", 0.5)]),
    ],
)
def test_marks_weight_what_they_enclose(text, pieces):
    assert weighted_pieces(text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("(cat", [("cat", 1.1)]),  # never closed: to the end of the prompt
        ("[a (cat", [("a ", 1 / 1.1), ("cat", 1.1 * (1 / 1.1))]),
        ("cat)", [("cat)", 1.0)]),
        ("cat]:", [("cat]:", 1.0)]),
        ("cat:1.3)", [("cat:1.3)", 1.0)]),
        ("(cat:x)", [("cat:x", 1.1)]),
        ("(cat:)", [("cat:", 1.1)]),
        ("(cat:nan)", [("cat:nan", 1.1)]),
        ("(cat:inf)", [("cat:inf", 1.1)]),
        ("(cat:1e9)", [("cat:1e9", 1.1)]),
        ("(cat:1.2.3)", [("cat:1.2.3", 1.1)]),
        ("(cat:１.3)", [("cat:１.3", 1.1)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.1 * (1 / 1.1)), (" c", 1 / 1.1)]),
        ("BREAK a cat", [("BREAK a cat", 1.0)]),
    ],
)
def test_what_is_no_complete_mark_is_text(text, pieces):
    assert weighted_pieces(text) == pieces


def test_weights_are_those_of_ppdiffusers():
    """On any text, number for number, but for those that ppdiffusers cannot read at all."""
    from ppdiffusers.pipelines.paddleinfer_utils import parse_prompt_attention

    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(draw.choices(PARTS, k=draw.randint(1, 14)))

        assert weighted_pieces(text) in ([tuple(piece) for piece in parse_prompt_attention(text)], []), text


def test_equal_weights_are_one_text():
    """So that words are split into tokens as in the plain prompt."""
    assert weighted_pieces("un(believ:1.0)able ((cat:2):0.5), x") == [("unbelievable cat, x", 1.0)]


def test_words_that_hold_brackets_are_no_marks():
    words = re.compile(r"(\[V\]|<a:1\.2>)")

    assert weighted_pieces("([V]:1.5) [<a:1.2>]", words) == [("[V]", 1.5), (" ", 1.0), ("<a:1.2>", 1 / 1.1)]
    assert not holds_marks("a [V]", words) and holds_marks("a [W]", words)


@pytest.mark.parametrize(
    "text",
    ["(" * 10_000, "(a" * 5_000, "[(a:9)" * 1_600, "\\" * 10_000, ":" * 10_000, "(a:" + "9" * 9_990 + ")"]
    + ["(:" + " " * 9_000, "(a" * 3_000 + ")" * 3_000, ":" + "1" * 9_990, (":" + " " * 98) * 100],
    ids=range(10),
)  # fmt: skip
def test_hostile_marks_take_bounded_work(text):
    begun = time.process_time()

    pieces = weighted_pieces(text)

    assert time.process_time() - begun < 2
    assert sum(len(piece) for piece, _ in pieces) <= len(text)


def test_weights_that_are_too_large_to_count_are_infinite_and_not_an_error():
    ((_, nested),) = weighted_pieces("(" * 9_999 + "a")
    ((_, typed),) = weighted_pieces("(a:" + "9" * 400 + ")")

    assert math.isinf(nested) and math.isinf(typed)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("a (cat:1.3)", "a cat"), (r"a \(cat\)", "a (cat)"), ("a cat", "a cat"), ("", ""), ("a: b", "a: b")],
)
def test_the_text_without_its_marks(text, plain):
    assert without_marks(text) == plain
    assert holds_marks(text) is (text != plain)
