"""What a mix may say, how it is read, and what is refused; it is never evaluated as code."""

import random

import pytest

from textual_inversion.embeddings.mix_expression import (
    LONGEST,
    Joined,
    Known,
    Learned,
    Number,
    Product,
    Sum,
    parse,
    parts_of,
    written,
)
from textual_inversion.system.errors import SettingsError

A, B = Learned("a.pt"), Learned("b.pt")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("a.pt", A),
        ("a.pt*0.7 + b.pt*0.3", Sum(Product(A, Number(0.7)), Product(B, Number(0.3)))),
        ("0.5*a.pt+b.pt", Product(Number(0.5), Learned("a.pt+b.pt"))),  # within a name
        ("a.pt*.5+b.pt", Sum(Product(A, Number(0.5)), B)),  # behind a number
        ("(1-0.25)*a.pt", Product(Sum(Number(1), Number(0.25), True), A)),
        ("a.pt -b.pt", Sum(A, B, True)),
        ("a.pt - (b.pt - a.pt)", Sum(A, Sum(B, A, True), True)),
        ("-2*a.pt", Product(Number(-2), A)),
        ("-a.pt", Product(Number(-1), A)),
        ("a.pt & b.pt + a.pt", Joined(A, Sum(B, A))),
        ("learned_embeds-steps-500.pdparams", Learned("learned_embeds-steps-500.pdparams")),
        ("a.pt:<x>-b.pt:<y>*2", Sum(Learned("a.pt", "<x>"), Product(Learned("b.pt", "<y>"), Number(2)), True)),
        ("a.pt:<a*b>", Learned("a.pt", "<a*b>")),
        ("a.pt:det-logo", Learned("a.pt:det-logo")),
        ("{my cat (2).pt}:{two words}*2", Product(Learned("my cat (2).pt", "two words"), Number(2))),
        ("{3-cats.pt}", Learned("3-cats.pt")),
        ('"toy car" - 1e-1*"cat"', Sum(Known("toy car"), Product(Number(0.1), Known("cat")), True)),
        ("aistudio:owner/name:<c>", Learned("aistudio:owner/name", "<c>")),
    ],
)  # fmt: skip
def test_a_mix_is_read_and_written_again(text, node):
    assert parse(text) == node
    assert parse(written(node)) == node


def test_what_is_written_is_read_as_the_same_whatever_it_is():
    chance = random.Random(5)
    leaves = [A, B, Learned("a b.pt", "<x>"), Learned("2-x", "w w"), Known("toy car"), Number(0.25), Number(-3)]

    def grown(depth):
        if depth == 0 or chance.random() < 0.2:
            return chance.choice(leaves)
        left, right = grown(depth - 1), grown(depth - 1)
        return chance.choice([Sum(left, right), Sum(left, right, True), Product(left, right), Joined(left, right)])

    for _ in range(300):
        node = grown(4)
        assert parse(written(node)) == node, written(node)


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "a.pt*", "*a.pt", "(a.pt", "a.pt)", "a.pt b.pt", "a.pt(b.pt)", '"cat', "{a", "a}", "{}", "a & & b",
        "()", "a.pt:<x", "a.pt *(", "&", "a.pt / 2)", "2 3",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_where_it_stops(text):
    with pytest.raises(SettingsError, match="the mix cannot be read at .*; write such as"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a" * (LONGEST + 1), "4001 letters, more than 4000"),
        ("(" * 41 + "a" + ")" * 41, "more than 40 brackets"),
        ("+".join(["1"] * 300) + "*a", "more than 400 signs and names"),
        (" + ".join(["a"] * 65), "more than 64 parts"),
        ("1e400*a", "the number 1e400, more than 1000000"),
        ("9" * 3000 + "*a", "more than 1000000"),
        ("a*1" * 900, "more than 400"),
        ("-" * 3000 + "a", "more than 400"),
    ],
)
def test_a_mix_is_bounded(text, said):
    with pytest.raises(SettingsError) as raised:
        parse(text)

    assert said in str(raised.value) and len(str(raised.value)) < 400


def test_the_deepest_mix_that_is_read_fits_on_the_stack():
    text = "(" * 40 + "a" + "*1" * 100 + ")" * 40 + "*1" * 50
    node = parse(text)

    assert len(written(node)) > 300 and list(parts_of(node)) == [Learned("a")]


def test_nothing_is_executed():
    node = parse("\"__import__('os').system('id')\"")

    assert node == Known("__import__('os').system('id')")
