"""Prompts with alternatives."""

import itertools
import time

import numpy as np
import pytest

from textual_inversion.data.alternatives import MOST, literal, parsed, tidied
from textual_inversion.system.errors import SettingsError


def texts(text):
    return list(parsed(text, "--prompt").texts())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a <cat-toy>", ["a <cat-toy>"]),
        ("", [""]),
        ("a {red|blue} <cat-toy>", ["a red <cat-toy>", "a blue <cat-toy>"]),
        ("{a|b}{c|d}", ["ac", "ad", "bc", "bd"]),
        ("{a|{b|c}} d", ["a d", "b d", "c d"]),
        ("{{a|b} x|c}", ["a x", "b x", "c"]),
        ("x{a||b}", ["xa", "x", "xb"]),
        ("{}{|}", ["", ""]),
        ("{a}", ["a"]),
        ("x{ a | b }y", ["xa y", "xb y"]),
        ("{2$$a|b|c}", ["a,b", "a,c", "b,a", "b,c", "c,a", "c,b"]),
        ("{2$$ and $$a|b}", ["a and b", "b and a"]),
        ("{2$$|$$a|b}", ["a|b", "b|a"]),
        ("{1-2$$a|b}", ["a", "b", "a,b", "b,a"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{-2$$a|b|c}", ["a", "b", "c", "a,b", "a,c", "b,a", "b,c", "c,a", "c,b"]),
        ("{2-$$a|b}", ["a,b", "b,a"]),
        ("{2$$a|{b|c}}", ["a,b", "a,c", "b,a", "c,a"]),
        ("{3::a|0.5::b}", ["a", "b"]),
        ("a::b|c", ["a::b|c"]),
        ("50% off, $5 # not a comment, __not_a_file__", ["50% off, $5 # not a comment, __not_a_file__"]),
        (r"\{a|b\} {a\|b|\{c\}}", ["{a|b} a|b", "{a|b} {c}"]),
        (r"\(a:1.2\) {b|c}", [r"\(a:1.2\) b", r"\(a:1.2\) c"]),
        ("一张{红|蓝}色的<cat-toy>", ["一张红色的<cat-toy>", "一张蓝色的<cat-toy>"]),
    ],
)
def test_a_notation_stands_for_all_its_texts(text, wanted):
    template = parsed(text, "--prompt")

    assert list(template.texts()) == wanted and template.count == len(wanted)
    assert template.longest >= max(map(len, wanted))
    assert template.has_choices == ("{" in text.replace(r"\{", ""))


@pytest.mark.parametrize(("options", "least", "most"), [*itertools.product((1, 3, 4), (0, 1, 2), (1, 3, 4))])
def test_the_count_is_that_of_the_texts(options, least, most):
    if not least <= most <= options:
        return
    template = parsed(f"{{{least}-{most}$${'|'.join(['{a|b}', 'c', '{d|{e|f}}', 'g'][:options])}}} {{x|y}}", "here")

    found = list(template.texts())

    assert template.count == len(found) and template.longest == max(map(len, found))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {b", "here: a { without its }; write \\{ for a brace itself, in 'a {b'"),
        ("{a|{b}", "a { without its }"),
        ("a }", "a } without its {; write \\} for a brace itself, in 'a }'"),
        ("{3$$a|b}", "3 of 2 alternatives cannot be taken"),
        ("{2-1$$a|b}", "2-1 of 2 alternatives"),
        ("{0$$a}", "0 of 1 alternatives"),
        ("{$$a|b}", "a number is missing before $$"),
        ("{-$$a|b}", "a number is missing before $$"),
        ("{0::a|b}", "the weight 0:: must be greater than 0"),
        ("{" + "9" * 400 + "::a|b}", "must be greater than 0"),
        ("${color=red} a", "variables such as ${name=text} are not read"),
        ("{" * 51 + "}" * 51, "braces more than 50 deep"),
        ("{a|b}" * 10_001, "a text of 10001 letters, more than a text encoder can be given; keep below 10000"),
        ("a" * 100_001, "here: a prompt of 100001 letters; keep below 100000"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text, message):
    with pytest.raises(SettingsError) as caught:
        parsed(text, "here")

    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "{a|b}" * 2000,
        "{17$$" + "|".join("abcdefghijklmnopqrstuvwx") + "}",
        "{900$$" + "|".join(["a"] * 1000) + "}",
        "{2$$" * 49 + "a|b" + "|{a|b}}" * 49,
        "{" * 50 + "|" * 9000 + "}" * 50,
    ],
)
def test_whatever_it_stands_for_is_counted_at_once(text):
    begun = time.process_time()

    count = parsed(text, "here").count

    assert count == MOST or "||" in text
    assert time.process_time() - begun < 2


def test_a_text_that_is_drawn_is_one_of_them_and_follows_the_weights():
    template = parsed("{3::red|blue} {1-2$$a|b|c}", "here")
    generator, every = np.random.default_rng(0), list(template.texts())

    drawn = [template.drawn(generator) for _ in range(4000)]

    assert set(drawn) == set(every)
    assert abs(sum(text.startswith("red") for text in drawn) / 4000 - 0.75) < 0.03
    assert abs(sum("," in text for text in drawn) / 4000 - 0.5) < 0.03


@pytest.mark.parametrize("text", ["a {b} | c", "\\{d\\}", "{", "}", "a\\", "一{二}"])
def test_any_text_can_be_written_so_that_it_stands_for_itself(text):
    assert texts(literal(text)) == [text]


def test_blanks_of_empty_alternatives_are_dropped_and_others_are_not():
    template, plain = parsed("a  {|red} toy {}", "here"), parsed("a  toy ", "here")

    assert [tidied(text, template) for text in template.texts()] == ["a toy", "a red toy"]
    assert tidied("a  toy ", plain) == "a  toy "
