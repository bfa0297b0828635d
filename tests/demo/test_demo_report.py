"""The demo's figures: what is counted as told rightly, and what the report makes of scores."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import runs
from demo import judging, report
from demo.judging import ATTRIBUTES, STYLE, descriptions, random_shown, random_styled
from demo.specs import NAMED_STYLES


class Oracle:
    """Knows every text by a direction of its own; an "image" is the text that it shows."""

    def text_features(self, texts, *, trimmed=False):
        rows = [np.random.default_rng(list(text.encode())).standard_normal(64) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)

    image_features = text_features


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_the_true_description_comes_first_and_each_other_differs_from_it(attribute):
    for shown in random_shown(20, seed=1):
        texts = descriptions(shown, attribute)
        values = 6 if attribute in ("scene", "species") else 3 if attribute == "pattern" else 12
        assert texts[0] == shown.description and len(set(texts)) == len(texts) == values


def test_a_style_competes_with_all_named_ones():
    (shown,) = random_styled(1, seed=3)
    texts = descriptions(shown, STYLE)
    assert len(set(texts)) == len(NAMED_STYLES) and texts[0].endswith(f"in the style of {shown.style_name}")


def test_right_is_what_is_nearest_to_the_true_description():
    shown = random_shown(10, seed=2)
    true = [one.description for one in shown]
    altered = [descriptions(one, "species")[1] for one in shown]

    assert judging.accuracies(Oracle(), true, shown, ATTRIBUTES) == dict.fromkeys(ATTRIBUTES, 1.0)
    assert judging.accuracies(Oracle(), altered, shown, ["species"]) == {"species": 0.0}
    assert judging.accuracies(Oracle(), [*true[:5], *altered[5:]], shown, ["species"]) == {"species": 0.5}


def test_only_accepted_toys_are_shown():
    assert {one.toy.species for one in random_shown(30, 5, lambda toy: toy.species == "cat")} == {"cat"}


def test_a_gap_is_counted_in_the_errors_that_so_many_images_leave_to_chance():
    assert report.gap_in_errors(0.9, 0.9, 128) == 0 == report.gap_in_errors(1.0, 1.0, 128)
    assert report.gap_in_errors(0.6, 0.4, 200) == pytest.approx(4)  # the error of one share is 0.035
    assert report.gap_in_errors(0.4, 0.6, 200) == pytest.approx(-4)


def test_named_pairs_are_photos_of_two_toys_with_names():
    pairs = judging.named_pairs(12)
    assert len({one.index for one in pairs}) == 12
    assert all(one.beside and one.toy_name and one.beside_name and one.medium == "photo" for one in pairs)


def a_score(way, kept):
    row = {"image_similarity": 0.1, "text_similarity": 0.5}
    return {
        "baseline": row, "concept": row, "ceiling": {"image_similarity": 0.8}, "share_of_the_way": way,
        "text_ratio": kept,
    }  # fmt: skip


def test_every_concept_is_trained_from_every_seed_and_the_least_score_counts(tmp_path, monkeypatch):
    asked = []

    def run(words, **_):
        words = [str(word) for word in words]
        asked.append(words)
        if words[1].endswith("score.py"):
            path = Path(words[words.index("--output") + 1])
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(a_score(0.7 if "cat-2" in str(path) else 0.9, 0.86)))

    monkeypatch.setattr(runs, "run", run)

    _, table, targets = report.inversion(None, Namespace(seeds=[1, 2], work_dir=tmp_path, reuse=False, scored=64))

    assert len(asked) == 2 * 3 * 2 and table.count("seed") == 6
    assert "| cat: share of the way, the least | ≥ 0.750 | 0.700 | not met |" in targets
    assert targets.count("not met") == 1


def test_words_that_an_earlier_call_learned_are_scored_anew_and_not_trained_again(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runs, "run", lambda words, **_: asked.append(words))
    monkeypatch.setattr(report, "_score", lambda output, count, word=None: a_score(0.8, 0.9))
    (tmp_path / "demo-rabbit-1").mkdir()
    (tmp_path / "demo-rabbit-1" / "learned_embeds.pdparams").touch()

    for reuse, trainings in ((True, 2), (False, 3)):
        asked.clear()
        report.inversion(None, Namespace(seeds=[1], work_dir=tmp_path, reuse=reuse, scored=64))
        assert len(asked) == trainings


def test_three_concepts_in_one_run_have_the_steps_of_three(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runs, "run", lambda words, **_: asked.append([str(word) for word in words]))
    monkeypatch.setattr(report, "_score", lambda output, count, word: a_score(0.8, 0.9))

    said = report.together(None, Namespace(work_dir=tmp_path, reuse=False, scored=64))

    steps = int(asked[0][asked[0].index("--max_train_steps") + 1])
    assert (
        steps == 3 * report.demo_defaults()["max_train_steps"]
        and said[0] == f"{steps} steps in all, 64 pictures a row."
    )
    assert "not met" not in said[2]


class Brightness:
    """Sees how bright an image is, and takes every text for white."""

    def image_features(self, images):
        return np.array([[np.asarray(image).mean() / 255] for image in images], np.float32)

    def text_features(self, texts, *, trimmed=False):
        return np.ones((len(texts), 1), np.float32)


@pytest.mark.parametrize(("grey", "met"), [(0, False), (255, True)])
def test_images_of_a_toy_and_a_duck_are_held_against_drawings_of_both(tmp_path, monkeypatch, grey, met):
    asked = []

    def run(words, **_):
        words = [str(word) for word in words]
        asked.append(words)
        if words[1].endswith("infer.py"):
            folder = Path(words[words.index("--output_dir") + 1])
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(4):  # one more than is asked for: of an earlier call
                Image.new("L", (64, 64), grey if number < 3 else 128).save(folder / f"{number:04d}.png")

    monkeypatch.setattr(runs, "run", run)
    subject = Namespace(scorer=Brightness(), side=64)

    said, table, targets = report.pairs(subject, Namespace(seeds=[3, 4], work_dir=tmp_path, scored=3))

    prompts = [words[words.index("--prompt") + 1] for words in asked if "--prompt" in words]
    assert prompts == ["a <cat> and a duck", "a <rabbit> and a duck"]
    assert len([words for words in asked if words[2].endswith("train_textual_inversion.py")]) == 2
    assert said == "3 pictures of each." and f"| {grey / 255:.3f} |" in table
    assert targets.count("not met") == (0 if met else 2)
