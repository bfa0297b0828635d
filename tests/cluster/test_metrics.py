"""What makes a trial better: formulas, directions, and the front of several metrics."""

from textual_inversion.cluster import metrics
from textual_inversion.settings.choices import METRICS


def report(share, ratio, image=0.5, text=0.2):
    return {"share_of_the_way": share, "text_ratio": ratio,
            "concept": {"image_similarity": image, "text_similarity": text}}  # fmt: skip


def test_the_score_is_the_way_times_what_is_kept_of_the_text():
    figures = metrics.of_scores([report(0.5, 0.8)])

    assert METRICS["score"][0] == "share_of_the_way x min(1, text_ratio)"
    assert figures == {"score": 0.4, "share_of_the_way": 0.5, "text_ratio": 0.8, "image_similarity": 0.5,
                       "text_similarity": 0.2}  # fmt: skip
    assert metrics.of_scores([report(0.5, 1.4)])["score"] == 0.5, "more than all of the text counts as all"


def test_several_concepts_count_by_their_mean_and_one_without_a_score_leaves_none():
    assert metrics.of_scores([report(0.2, 1.0), report(0.6, 1.0)])["score"] == 0.4
    assert metrics.of_scores([report(0.2, 1.0), report(None, 1.0)])["score"] is None
    assert metrics.of_scores([{"concept": "no report"}])["image_similarity"] is None


def test_less_loss_and_fewer_steps_are_better():
    assert metrics.goodness({"fixed_set_loss": 0.2, "score": 0.5}, ("score", "fixed_set_loss")) == (0.5, -0.2)
    assert metrics.goodness({"fixed_set_loss": None}, ("fixed_set_loss",)) is None
    assert {name for name in METRICS if not metrics.is_more_better(name)} == {"fixed_set_loss", "steps"}


def test_the_front_holds_what_no_other_beats():
    good = {0: (1.0, 1.0), 1: (2.0, 0.5), 2: (0.5, 0.5), 3: (1.0, 1.0), 4: (2.0, 0.4)}

    assert metrics.pareto_front(good) == [0, 1, 3]
    assert metrics.pareto_front({}) == []
