"""Sums, rows and norms of mixed vectors, held against NumPy."""

import numpy as np
import pytest

from textual_inversion.embeddings.mix_expression import Known, Learned, parse
from textual_inversion.embeddings.mixing import described, interpolated, mixed, rescaled
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.settings.choices import KEEP, MEAN, REPEAT, TABLE, ZEROS
from textual_inversion.system.errors import SettingsError

CHANCE = np.random.default_rng(3)


def one(vectors, width=5, **more):
    return {"text_encoder": CHANCE.standard_normal((vectors, width)).astype(np.float32), **more}


A, B, C = one(2), one(2), one(1)
XL = {name: one(2, width)["text_encoder"] for name, width in (("text_encoder", 5), ("text_encoder_2", 7))}
XL2 = {name: one(2, width)["text_encoder"] for name, width in (("text_encoder", 5), ("text_encoder_2", 7))}
WORDS = {
    "a": A,
    "b": B,
    "c": C,
    "xl": XL,
    "xl2": XL2,
    "wide": one(2, 6),
    "zero": {"text_encoder": A["text_encoder"] * 0},
}


def vectors_of(part):
    return WORDS[part.file if isinstance(part, Learned) else part.text]


def mix(text, norm=KEEP, table=None, pad=None):
    return rescaled(mixed(parse(text), vectors_of, pad), norm, table)


a, b, c = (words["text_encoder"].astype(np.float64) for words in (A, B, C))


@pytest.mark.parametrize(
    ("text", "pad", "wanted"),
    [
        ("a", None, a),
        ("a*0.7 + b*0.3", None, 0.7 * a + 0.3 * b),
        ("2*(a - b)*(1 - 0.25)", None, 1.5 * (a - b)),
        ('"a" - -b', None, a + b),
        ("a & c", None, np.concatenate([a, c])),
        ("(a & c)*2 - (c & b)", None, 2 * np.concatenate([a, c]) - np.concatenate([c, b])),
        ("a + c*2", ZEROS, a + np.concatenate([2 * c, 0 * c])),
        ("c*2 - a", REPEAT, 2 * np.concatenate([c, c]) - a),
        ("a & b & c", None, np.concatenate([a, b, c])),
    ],
)
def test_a_mix_is_what_numpy_says(text, pad, wanted):
    found = mix(text, pad=pad)["text_encoder"]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted.astype(np.float32))


def test_a_word_alone_keeps_every_bit():
    assert mix("a")["text_encoder"].tobytes() == A["text_encoder"].tobytes()
    assert mix("a*0 + b")["text_encoder"].tobytes() == B["text_encoder"].tobytes()


def test_both_text_encoders_are_mixed_alike():
    found = mix("xl*0.25 + xl2*0.75")

    for name in XL:
        wanted = 0.25 * XL[name].astype(np.float64) + 0.75 * XL2[name].astype(np.float64)
        np.testing.assert_array_equal(found[name], wanted.astype(np.float32))


def norms(array):
    return np.linalg.norm(array.astype(np.float64), axis=1)


def test_norms_are_those_of_the_parts_or_of_the_table():
    mean = mix("a*0.75 - b*0.25", MEAN)["text_encoder"]
    table = mix("a*0.75 - b*0.25 & c*9", TABLE, {"text_encoder": 0.4})["text_encoder"]
    padded = mix("c*3 + a", MEAN, pad=ZEROS)["text_encoder"]

    np.testing.assert_allclose(norms(mean), 0.75 * norms(a) + 0.25 * norms(b), rtol=1e-6)
    np.testing.assert_allclose(norms(table), 0.4, rtol=1e-6)
    np.testing.assert_allclose(norms(padded), [(3 * norms(c)[0] + norms(a)[0]) / 4, norms(a)[1]], rtol=1e-6)
    straight = 0.75 * a - 0.25 * b
    np.testing.assert_allclose(mean / norms(mean)[:, None], straight / norms(straight)[:, None], atol=1e-6)


def test_the_way_from_the_start_ends_at_what_was_learned():
    for share, wanted in ((1, A), (0, B)):
        np.testing.assert_array_equal(interpolated(B, A, share)["text_encoder"], wanted["text_encoder"])
    np.testing.assert_allclose(interpolated(B, A, 0.6)["text_encoder"], b + 0.6 * (a - b), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "norm", "said"),
    [
        ("3", KEEP, "3 is a number and no word"),
        ("a*b", KEEP, "a*b multiplies words"),
        ("a + 1", KEEP, "a + 1 adds a number to a word; multiply a word by a number with *"),
        ("a & 1", KEEP, "joins a number"),
        ("a + wide", KEEP, "a has vectors of width 5 and wide of 6; mix words of one base model"),
        ("a & xl", KEEP, "a has vectors of width 5 and xl of 5 + 7"),
        ("a + c", KEEP, "a has 2 vectors and c 1 vector; fill up the smaller one with --pad zeros or --pad repeat"),
        ("a - a", MEAN, "vector 1 of the mix is zero, to which --norm mean can give no norm; choose --norm keep"),
        ("a & zero", TABLE, "vector 3 of the mix is zero"),
        ("1e6*" * 90 + "a", KEEP, "the mix has values beyond float32; choose smaller weights"),
        ("(1e6*" * 30 + "a" + ")" * 30, MEAN, None),
        ("1e6*" * 90 + "a - " + "1e6*" * 90 + "a", KEEP, "beyond float32"),
        ("1e6*" * 90 + "a", MEAN, "beyond float32"),
    ],
)
def test_what_does_not_go_together_is_refused(text, norm, said, recwarn):
    if said is None:
        np.testing.assert_allclose(norms(mix(text, norm)["text_encoder"]), norms(a), rtol=1e-6)
    else:
        with pytest.raises(SettingsError) as raised:
            mix(text, norm, {"text_encoder": 0.4})
        assert said in str(raised.value)
    assert not recwarn.list


def test_a_new_word_is_described():
    xl = LearnedEmbedding("<x>", {"text_encoder": np.full((1, 4), 0.5, np.float32), "text_encoder_2": np.ones((1, 9))})

    assert described(xl) == "<x>, 1 vector, norm 1; 3"
    assert described(LearnedEmbedding("<x>", one(12))).endswith(" …")


def test_a_known_word_is_asked_for_as_it_is_written():
    asked = []
    mixed(parse('"toy car"*2 + a:<x>'), lambda part: asked.append(part) or A)

    assert asked == [Known("toy car"), Learned("a", "<x>")]
