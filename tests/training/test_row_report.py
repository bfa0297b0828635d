"""How far the rows went, and how long they are beside the table's, by hand."""

import numpy as np
import pytest
from textual_inversion.training.row_report import row_figures, row_lines

from textual_inversion.settings.concept import Concept


def figures(rows, start=((3.0, 0.0), (0.0, 2.0), (1.0, 1.0))):
    concepts = [Concept("<a>", 2), Concept("<b>", 1)]
    norms = {"text_encoder": np.arange(1, 101, dtype="float32") / 100}  # 0.01 to 1
    start, rows = ({"text_encoder": np.array(values, "float32")} for values in (start, rows))
    return row_figures(concepts, start, rows, norms)


def test_distances_and_norms_are_their_formulas():
    found = figures([[5.0, 0.0], [3.0, 0.0], [-2.0, -2.0]])

    a, b = found["<a>"]["text_encoder"], found["<b>"]["text_encoder"]
    assert a["cosine_distance"] == pytest.approx([0.0, 1.0], abs=1e-6)
    assert b["cosine_distance"] == pytest.approx([2.0], abs=1e-6)
    assert (a["norm"], b["norm"]) == ([5.0, 3.0], [pytest.approx(8**0.5)])
    assert a["table_mean"] == pytest.approx(0.505) and a["table_largest"] == pytest.approx(1.0)
    assert a["table_95_percent"] == pytest.approx(np.percentile(np.arange(1, 101) / 100, 95))


def test_a_line_for_each_word_and_one_more_for_what_is_far_out():
    lines = row_lines(figures([[5.0, 0.0], [3.0, 0.0], [-2.0, -2.0]]))

    assert lines == [
        "<a>: cosine distance from the start 0 to 1, norm 3 to 5; norms of the table: 0.505 on average, "
        "95 % up to 0.951, the largest 1",
        "note: <a> is 5 times as long as the longest row of the table, so it may drown the other words of a prompt; "
        "a lower --learning_rate, fewer steps or --norm_reg_weight keep it shorter",
        "<b>: cosine distance from the start 2, norm 2.83; norms of the table: 0.505 on average, "
        "95 % up to 0.951, the largest 1",
    ]


def test_a_row_of_zeros_has_no_direction():
    found = figures([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])

    assert found["<a>"]["text_encoder"]["cosine_distance"] == [None, None]
    assert "from the start unknown, norm 0 to 0" in row_lines(found)[0]


def test_several_text_encoders_are_told_apart():
    one = figures([[5.0, 0.0], [0.0, 3.0], [1.0, 1.0]])["<b>"]["text_encoder"]

    lines = row_lines({"<b>": {"text_encoder": one, "text_encoder_2": one}})

    assert [line.split(":")[0] for line in lines] == ["<b> in text_encoder", "<b> in text_encoder_2"]
