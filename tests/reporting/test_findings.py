"""Each finding on a made-up run in which it must be found, and on one in which it must not."""

import pytest

from textual_inversion.reporting.findings import BAD, FIXED_SET, TEXTS, Finding, findings
from textual_inversion.reporting.run_facts import RunFacts

SETTLED = [(0, 1.0), (25, 0.6), (50, 0.5), (75, 0.5), (100, 0.5)]


def codes(curve=SETTLED, score=None, **figures):
    figures = figures | ({"scores": {"<w>": score}} if score else {})
    record = {"placeholder_token": "<w>", "settings": {"max_train_steps": 100}}
    return [one.code for one in findings(RunFacts(None, record, figures, {FIXED_SET: list(curve)}))]


@pytest.mark.parametrize(
    "found, curve",
    [
        (["fine"], SETTLED),
        (["still_falling"], [(0, 1.0), (25, 0.9), (50, 0.8), (75, 0.7), (100, 0.6)]),
        # Twice too long: lowest in the middle, and risen since by a twentieth of the way.
        (["too_long"], [(0, 1.0), (25, 0.6), (50, 0.5), (75, 0.51), (100, 0.53)]),
        (["fine"], [(0, 1.0), (25, 0.6), (75, 0.5), (90, 0.51), (100, 0.53)]),  # lowest late: no run was too long
        (["not_learned"], [(0, 1.0), (25, 1.0), (50, 0.995), (75, 1.0), (100, 0.995)]),
        (["not_learned"], [(0, 1.0), (25, 1.2), (50, 1.3), (75, 1.4), (100, 1.5)]),
        (["unmeasured"], []),
        (["fine"], [(0, 1.0), (100, 0.5)]),  # two looks say nothing about when
    ],
)
def test_the_loss_on_the_fixed_set(found, curve):
    assert codes(curve) == found


@pytest.mark.parametrize(
    "found, score",
    [
        (["fine"], {"share_of_the_way": 0.9, "text_ratio": 1.0, "copies": {"repeats": False, "share": 0.1}}),
        (["unlike"], {"share_of_the_way": 0.2, "text_ratio": 1.0}),
        (["rigid"], {"share_of_the_way": 0.9, "text_ratio": 0.7}),
        (["repeats", "rigid"], {"text_ratio": 0.7, "copies": {"repeats": True, "share": 0.8}}),
        (["leaks"], {"background_leak": {"concept": 0.70, "baseline": 0.3, "outside": 0.72}}),
        (["fine"], {"background_leak": {"concept": 0.40, "baseline": 0.3, "outside": 0.72}}),
        (["fine"], {"share_of_the_way": None, "text_ratio": None, "copies": None}),
    ],
)
def test_the_score(found, score):
    assert codes(score=score) == found


def test_images_that_were_not_learned_and_what_the_look_at_them_found():
    odd = {"unlearned_images": {"6": [-0.21, 0.29]}, "unlearned_names": {"6": "other.png"}}

    assert codes(**odd) == ["image_not_learned"] and codes(unlearned_images={"6": [0.1, 0.3]}) == ["image_not_learned"]
    assert codes(unlearned_images={}) == ["fine"] and codes(unlearned_images={"6": [0.1]}) == ["fine"]
    assert codes(image_findings={"duplicate": 1}) == ["images"] and codes(image_findings={}) == ["fine"]
    (one,) = findings(RunFacts(None, {}, odd, {FIXED_SET: SETTLED}))
    assert one.text() == (
        "other.png was not learned: its loss changed by +21%, that of the others by -29%. Does it show the same thing? "
        "If not, train without it."
    )
    assert one.text("zh").startswith("other.png 没有被学会：它的损失变化为 +21%，其他图片为 -29%。")


def test_skipped_steps_and_long_vectors():
    def rows(norm):
        return {"<w>": {"text_encoder": {"norm": [norm, None], "table_largest": 1.0}}}

    assert codes(skipped_steps=3) == ["skipped"] and codes(skipped_steps=2) == ["fine"]
    assert codes(rows=rows(1.5)) == ["long_vector"] and codes(rows=rows(1.1)) == ["fine"]


def test_every_finding_is_said_in_both_languages_with_its_numbers():
    values = {"share": 0.5, "more": 200, "best": 50, "steps": 100, "change": -0.001, "word": "<w>", "ratio": 0.7,
              "leak": 0.7, "outside": 0.72, "skipped": 3, "times": 1.5, "image": "a.png",
              "others": -0.3, "count": 2}  # fmt: skip
    for code, texts in TEXTS.items():
        assert texts.keys() == {"en", "zh"}
        shown = [Finding(code, BAD, values).text(language) for language in texts]
        assert shown[0].isascii() and not shown[1].isascii() and not any("{" in text for text in shown)
    assert Finding("too_long", BAD, values).text() == (
        "The run was too long: the loss was lowest at step 50 of 100, and has risen since. Take the embedding saved "
        "nearest to that step, or train with --max_train_steps 50."
    )
