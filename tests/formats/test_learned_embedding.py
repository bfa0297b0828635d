import time

import numpy as np
import pytest

from textual_inversion.formats.embedding_file import (
    LearnedEmbedding,
    UnusableToken,
    WrongWidth,
    check_token,
    check_width,
)
from textual_inversion.formats.learned_embedding import composed, embedding_notes
from textual_inversion.system.errors import ConceptError


def embedding(**widths: int) -> LearnedEmbedding:
    return LearnedEmbedding(
        "<t>", {name: np.zeros((2, width), np.float32) for name, width in widths.items()}, {}, "f.pt"
    )


def test_vectors_of_zero_and_parts_that_are_not_used_are_told():
    vectors = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
    odd = LearnedEmbedding("<t>", {"text_encoder": vectors}, {"left_out": "clip_l_out"}, "f.pt")

    assert embedding_notes(odd) == [
        "f.pt: <t>: vector 2 of 3 is zero and says nothing to the model",
        "f.pt: <t>: clip_l_out act after the text encoder and are not used",
    ]
    assert embedding_notes(LearnedEmbedding("<t>", {"text_encoder": vectors[::2]})) == []


def test_heaps_of_marks_on_a_letter_cost_no_time():
    heap = "a" + "\u0301\u0316" * 400_000
    started = time.monotonic()
    assert composed(heap) == heap and time.monotonic() - started < 5
    assert composed("e\u0301" * 2000) == "\u00e9" * 2000  # long text is composed all the same


def test_a_fitting_width_passes():
    check_width(embedding(text_encoder=768), {"text_encoder": 768}, "sd")
    check_width(embedding(text_encoder=768, text_encoder_2=1280), {"text_encoder": 768, "text_encoder_2": 1280}, "xl")


def test_a_wrong_width_names_both_sides():
    with pytest.raises(WrongWidth) as caught:
        check_width(embedding(text_encoder=768), {"text_encoder": 1024}, "stable-diffusion-2-1")
    assert str(caught.value).startswith(
        "f.pt: holds vectors of 768 values (Stable Diffusion 1.x), and stable-diffusion-2-1 needs 1024 values (Stable"
    )


def test_two_encoders_do_not_fit_one():
    with pytest.raises(WrongWidth, match=r"768 . 1280 values \(Stable Diffusion XL\), and sd needs 768"):
        check_width(embedding(text_encoder=768, text_encoder_2=1280), {"text_encoder": 768}, "sd")
    with pytest.raises(WrongWidth, match="f.pt: holds vectors of 64 values, and sd needs 768"):
        check_width(embedding(text_encoder=64), {"text_encoder": 768}, "sd")


@pytest.mark.parametrize("token", ["<cat-toy>", "det-logo", "猫", "<t>_1"])
def test_a_usable_token_passes(token):
    check_token(token)


@pytest.mark.parametrize("token", ["", " ", "my cat", "a\nb", "a\tb", "\x1b[31m", "a\u3000b"])
def test_blanks_and_nothing_are_refused_in_one_line(token):
    with pytest.raises(UnusableToken) as caught:
        check_token(token, source="f.pt")
    assert str(caught.value).startswith("f.pt: ") and str(caught.value).isprintable()


def test_a_token_too_long_for_a_file_name_is_refused_and_shortened():
    with pytest.raises(ConceptError, match="has 300 bytes, more than 200") as caught:
        check_token("猫" * 100)
    assert len(str(caught.value)) < 200
