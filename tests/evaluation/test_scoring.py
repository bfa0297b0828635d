"""The score: what is generated, what is compared with what."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model
from textual_inversion.evaluation import scoring
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.evaluation.scoring import Protocol, Similarity
from textual_inversion.generation.generate import generate
from textual_inversion.models.base_model import load_base_model

QUICK = Protocol(num_images=3, num_inference_steps=1, guidance_scale=1.0, seed=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base") / "sd1"))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return ClipScorer(build_clip(tmp_path_factory.mktemp("clip")))


def noise_images(n, seed=0):
    draws = np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return [Image.fromarray(draw) for draw in draws]


class Recorder:
    def __init__(self):
        self.steps = []

    def update(self, step, **figures):
        self.steps.append(step)


@pytest.mark.parametrize(
    ("kind", "plain"), [("object", "a photo of a <w>"), ("style", "a picture in the style of <w>")]
)
def test_prompts_and_seeds(kind, plain):
    requests = Protocol(kind, num_images=8, seed=5).requests("<w>")

    assert [r.prompt for r in requests[:8]] == [plain] * 8
    assert [r.seed for r in requests[:8]] == list(range(5, 13))
    assert len(requests) == 8 + 7 * 2 and {r.seed for r in requests[8:]} == {5, 6}  # 8 over 7 edits, rounded up
    assert all("<w>" in r.prompt and "{}" not in r.prompt for r in requests)


def test_the_papers_count_can_be_asked_for():
    protocol = Protocol(num_images=64, images_per_edit_prompt=64, num_inference_steps=50)

    assert len(protocol.requests("<w>")) == 8 * 64
    assert protocol.steps(2) == 2 * 8 * 64 * 50


def test_similarities_are_those_of_the_generated_images(model, scorer):
    training = scorer.image_features(noise_images(4))

    (measured,) = scoring.measure(model, scorer, ["cat"], training, QUICK)

    features = scorer.image_features(generate(model, QUICK.requests("cat"), batch_size=8))
    text = scorer.text_features(["a photo of a on the beach"])
    assert measured.image == pytest.approx(float((features[:3] @ training.T).mean()), abs=1e-4)
    assert measured.text_by_edit["a photo of a {} on the beach"] == pytest.approx(
        float(features[3] @ text[0]), abs=1e-4
    )
    assert measured.text == pytest.approx(np.mean(list(measured.text_by_edit.values())))


def test_score_compares_the_word_with_the_initializer_from_the_same_seeds(model, scorer):
    progress = Recorder()

    result = scoring.score(
        model, scorer, word="cat", initializer="cat", training_images=noise_images(4), protocol=QUICK, progress=progress
    )

    baseline, concept = result["baseline"], result["concept"]
    assert baseline["word"] == concept["word"] == "cat"
    assert concept["image_similarity"] == pytest.approx(baseline["image_similarity"], abs=1e-4)
    assert concept["text_by_edit"] == pytest.approx(baseline["text_by_edit"], abs=1e-4)
    assert result["share_of_the_way"] == pytest.approx(0.0, abs=0.01)
    assert progress.steps[-1] == QUICK.steps(2)
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(("kind", "word"), [("object", "toy"), ("style", "style")])
def test_without_an_initializer_a_generic_word_is_the_baseline(model, scorer, kind, word):
    protocol = Protocol(kind, num_images=1, num_inference_steps=1, guidance_scale=1.0)

    result = scoring.score(model, scorer, word="dog", training_images=noise_images(2), protocol=protocol)

    assert (result["baseline"]["word"], result["concept"]["word"]) == (word, "dog")


def test_the_ceiling_is_that_of_fresh_images_where_there_are_any(scorer):
    training, fresh = scorer.image_features(noise_images(4)), noise_images(3, seed=9)

    expected = float((scorer.image_features(fresh) @ training.T).mean())
    assert scoring.ceiling(scorer, training, fresh) == pytest.approx(expected, abs=1e-5)
    cosines = training @ training.T
    assert scoring.ceiling(scorer, training) == pytest.approx((cosines.sum() - 4) / 12, abs=1e-5)
    assert scoring.ceiling(scorer, training[:1]) is None


def test_shares():
    result = scoring.report(
        Similarity(0.2, 0.4, {}), Similarity(0.5, 0.3, {}), 0.6, word="<cat-toy>", initializer="toy"
    )

    assert result["share_of_the_way"] == pytest.approx(0.75)
    assert result["text_ratio"] == pytest.approx(0.75)


def test_the_table_shows_every_row():
    result = scoring.report(
        Similarity(0.2, 0.4, {}), Similarity(0.5, 0.3, {}), 0.6, word="<cat-toy>", initializer="toy"
    )

    lines = scoring.table(result)

    assert [line.split()[-2:] for line in lines[1:4]] == [["0.200", "0.400"], ["0.500", "0.300"], ["0.600", "-"]]
    assert "<cat-toy>" in lines[2] and lines[4].split()[2:] == ["75", "%", "of", "the", "way", "75", "%", "kept"]
    assert len({len(line) for line in lines}) == 1


def test_means_have_their_standard_errors_and_each_image_its_cosine():
    images, texts = (0.4, 0.5, 0.6), (0.3, 0.3)
    result = scoring.report(Similarity(0.2, 0.4, {}), Similarity(0.5, 0.3, {}, images, texts), 0.6, word="<w>",
                            initializer="toy")  # fmt: skip

    concept = result["concept"]
    assert concept["image_standard_error"] == pytest.approx(0.1 / 3**0.5) and concept["text_standard_error"] == 0
    assert (concept["images"], concept["texts"]) == ([0.4, 0.5, 0.6], [0.3, 0.3])
    assert "0.500 ± 0.058" in scoring.table(result)[2] and result["baseline"]["image_standard_error"] is None


@pytest.mark.parametrize("repeats", [True, False])
def test_a_word_that_repeats_its_pictures_is_said_to(repeats):
    copies = {"repeats": repeats, "share": 0.5}
    result = scoring.report(Similarity(0.2, 0.4, {}), Similarity(0.5, 0.3, {}), 0.6, word="<w>", initializer="toy",
                            copies=copies)  # fmt: skip
    assert scoring.table(result)[-1].startswith("this word repeats its pictures: 50%") == repeats


def test_images_that_are_the_training_images_are_copies(model, scorer):
    protocol, training = Protocol(num_images=7), noise_images(4)
    features = scorer.image_features(training)
    (copied, anew) = scoring.compare(scorer, [*[training[i % 4] for i in range(14)], *noise_images(14, seed=5)],
                                     features, protocol)  # fmt: skip
    look = [scoring.copies_among(one.features, (features, scoring.pixel_features(training))) for one in (copied, anew)]
    assert look[0]["share"] == 1 and look[0]["nearest"][:4] == [0, 1, 2, 3] and look[1]["share"] == 0
    assert copied.of_images == pytest.approx(
        [float(f @ features.mean(axis=0)) for f in copied.features[0][:7]], abs=1e-4
    )


def test_a_table_without_a_ceiling():
    result = scoring.report(Similarity(0.2, -0.1, {}), Similarity(0.5, 0.3, {}), None, word="<w>", initializer="toy")

    assert result["share_of_the_way"] is None and result["text_ratio"] is None
    assert scoring.table(result)[-1].split() == ["concept's", "share", "-", "-"]


# ---------------------------------------------------------------------------------------------------- means of cosines


def unit_features(n, seed, width=5):
    array = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_mean_cosine_is_the_mean_over_all_pairs():
    first, second = unit_features(3, 0), unit_features(4, 1)

    pairs = [float(a @ b) for a in first for b in second]

    assert scoring.mean_cosine(first, second) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_mean_cosine_among_leaves_a_feature_with_itself_out():
    own = unit_features(4, 2)

    pairs = [float(own[i] @ own[j]) for i in range(4) for j in range(4) if i != j]

    assert scoring.mean_cosine_among(own) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_equal_features_have_cosine_one():
    own = np.repeat(unit_features(1, 3), 6, axis=0)

    assert scoring.mean_cosine_among(own) == pytest.approx(1.0, abs=1e-6)
    assert scoring.mean_cosine(own, -own) == pytest.approx(-1.0, abs=1e-6)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="no pairs"):
        scoring.mean_cosine(unit_features(0, 0), unit_features(2, 0))
    with pytest.raises(ValueError, match="no pair"):
        scoring.mean_cosine_among(unit_features(1, 0))


@pytest.mark.parametrize(
    ("baseline", "value", "ceiling", "share"),
    [(0.2, 0.2, 0.8, 0.0), (0.2, 0.8, 0.8, 1.0), (0.2, 0.5, 0.8, 0.5), (0.2, 0.1, 0.6, -0.25), (0.8, 0.9, 0.7, None)],
)
def test_share_of_the_way(baseline, value, ceiling, share):
    assert scoring.share_of_the_way(baseline, value, ceiling) == (share if share is None else pytest.approx(share))


def test_ratio_is_undefined_for_a_baseline_that_is_not_positive():
    assert scoring.ratio(0.3, 0.4) == pytest.approx(0.75)
    assert scoring.ratio(0.3, -0.1) is None
