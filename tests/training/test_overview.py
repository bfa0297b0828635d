"""What the overview shows, and that before and after are what they say though both are drawn after training."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import train_textual_inversion
from helpers.configs import config_of
from helpers.interrupted_runs import stopped_in
from helpers.paths import ROOT
from helpers.tiny_models import FAMILIES
from helpers.training_runs import short_run
from textual_inversion.cli.parser import demo_defaults
from textual_inversion.generation.generate import ImageRequest, generate
from textual_inversion.models.prompt_encoder import Reading
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.training import overview, validation
from textual_inversion.training.overview import Drawings, plan_drawings, save_overview
from textual_inversion.training.validation import request_of


class Encoder:
    """Knows one placeholder token."""

    def holds_placeholder(self, text):
        return "<cat-toy>" in text


def plan(kind="object", prompts=(), *, scores=False, **flags):
    concept = Concept("<cat-toy>", learnable_property=kind)
    return plan_drawings(config_of(**flags).validation, prompts, [concept], "en", Encoder(), scores=scores)


def test_the_users_own_prompts_come_first():
    own = [ValidationPrompt("A <cat-toy> backpack", seed=3), ValidationPrompt("a dog")]

    made = plan(prompts=own)

    assert made.prompts == own and made.scored == {}
    assert [(request.prompt, request.seed) for request in made.after] == [("A <cat-toy> backpack", 3), ("a dog", 1)]
    # Where no concept is named nothing changes, and it is drawn once.
    assert [request.initial_vectors for request in made.before] == [True, False] and made.distinct == 3


def test_without_prompts_a_concept_is_shown_off_as_what_it_is():
    thing, style = ([prompt.text for prompt in plan(kind).prompts] for kind in ("object", "style"))

    assert all("<cat-toy>" in prompt for prompt in thing + style)
    assert thing[0] == "a photo of a <cat-toy>"
    assert all("in the style of <cat-toy>" in prompt for prompt in style)
    assert len(thing) >= 5 and len(style) >= 5


# The shortest training that anybody is shown: the demo's own, with its six scenes of one concept.
SHORT_TRAINING = demo_defaults()["max_train_steps"] * demo_defaults()["train_batch_size"]


def plan_of(kinds, prompts=(), *, scores=True, **flags):
    concepts = [Concept(f"<c{number}>", learnable_property=kind) for number, kind in enumerate(kinds)]
    settings = config_of(**{"num_inference_steps": demo_defaults()["num_inference_steps"], **flags}).validation
    return plan_drawings(settings, prompts, concepts, "en", PromptEncoderOfAll(), scores=scores)


class PromptEncoderOfAll:
    """Knows all placeholder tokens of `plan_of`."""

    def holds_placeholder(self, text):
        return "<c" in text


def denoising_steps(made):
    requests = {*made.before, *made.after, *(request for one in made.scored.values() for request in one)}
    return sum(request.num_inference_steps for request in requests)


@pytest.mark.parametrize("kinds", [["object"], ["object", "style"], ["object"] * 20, ["object", "style", "face"] * 100])
def test_the_default_overview_costs_no_more_than_a_short_training_and_a_third(kinds):
    made = plan_of(kinds)

    # A sample goes through the U-Net forward and backward, a guided denoising step twice forward.
    assert denoising_steps(made) <= 4 / 3 * SHORT_TRAINING
    assert len(made.prompts) == 6 and len(made.scored) == min(2, len(kinds))
    assert (
        denoising_steps(plan_of(kinds, [ValidationPrompt(f"<c0> {n}") for n in range(500)])) <= 4 / 3 * SHORT_TRAINING
    )


def test_one_concept_is_shown_and_scored_as_a_whole():
    made = plan_of(["object"])

    assert made.left_out == () and made.distinct == 66 and len(made.scored["<c0>"]) == 56


def test_of_several_concepts_each_has_its_turn_and_what_is_left_out_is_said():
    made = plan_of(["object", "style", "object"])

    assert [prompt.text for prompt in made.prompts] == [
        "a photo of a <c0>",
        "a photo of a <c0> on the beach",
        "a photo of a <c0> in the snow",
        "a picture in the style of <c1>",
        "a cat in the style of <c1>",
        "a <c0> in the style of <c1>",
    ]
    assert made.left_out == ("1 of 3 concepts (--overview_concepts)", "7 of 13 prompts (--overview_images)")


def test_more_is_shown_on_request():
    made = plan_of(["object"] * 20, overview_concepts=20, overview_images=500)

    assert made.left_out == () and len(made.scored) == 20 and len(made.prompts) == 120
    assert all(len(requests) == 28 for requests in made.scored.values())


def test_of_many_validation_prompts_the_first_are_shown():
    prompts = [ValidationPrompt(f"a <c0> {number}") for number in range(10)]
    made = plan_of(["object"] * 3, prompts, scores=False, overview_images=4)

    assert made.prompts == prompts[:4] and made.left_out == ("6 of 10 prompts (--overview_images)",)


def test_the_overview_is_a_readable_image(tmp_path):
    made = plan()
    training = [Image.new("RGB", (16, 16), color) for color in ("black", "grey", "white")]
    drawn = [Image.new("RGB", (16, 16), "red") for _ in made.prompts]

    save_overview(tmp_path / "overview.png", made, training, Drawings(drawn, drawn, {}))

    with Image.open(tmp_path / "overview.png") as image:
        assert image.width > 400 and image.height > 400


# ---------------------------------------------------------------------------------------------------- whole runs

PROMPTS = ["a <one>", "a two-logo beside <two>_1, not two-logos"]
TWO_CONCEPTS = ["--placeholder_token", "<one>", "<two>", "--num_vectors", "1", "2", "--learning_rate", "5",
                "--overview", "--guidance_scale", "30", "--only_save_embeds", "--num_inference_steps", "3",
                "--validation_epochs", "1000",
                "--validation_prompt", *PROMPTS, "a <two> --negative <one> --seed 9"]  # fmt: skip


@pytest.fixture
def watched(monkeypatch):
    """What is seen when training begins, and at the end.

    `looked` and `read`: images and the text encoders' states; `shown` and `read_then`: the overview's images, and the
    states of the prompts with the initial vectors and with the trained ones.
    """
    seen = SimpleNamespace(looked=None, shown=None, read=None, read_then=None)
    train, save = train_textual_inversion.train, overview.save_overview

    def look_first(config, run):
        requests = [request_of(prompt, i if prompt.seed is None else prompt.seed, config.validation)
                    for i, prompt in enumerate(config.validation_prompts)]  # fmt: skip
        images = generate(run.model, requests, height=config.images.height, width=config.images.width)
        seen.looked = [np.asarray(image).astype(int) for image in images]
        encode = lambda *prompts: run.model.encode_prompts(*prompts).hidden_states.numpy()  # noqa: E731
        seen.read = encode(PROMPTS)
        train(config, run)
        seen.read_then = encode(PROMPTS, [Reading(initial=True)] * len(PROMPTS)), encode(PROMPTS)

    def keep(path, plan, training, drawings):
        both = (drawings.before, drawings.after)
        seen.shown = [[np.asarray(image).astype(int) for image in images] for images in both]
        save(path, plan, training, drawings)

    monkeypatch.setattr(train_textual_inversion, "train", look_first)
    monkeypatch.setattr(overview, "save_overview", keep)
    return seen


def run_of(tmp_path, family, *more):
    images = str(tmp_path / "pictures")
    return short_run(tmp_path, *TWO_CONCEPTS, "--train_data_dir", images, images, *more, family=family)


def check(seen):
    before, after = seen.shown
    assert len(before) == len(after) == len(seen.looked) == 3
    for drawn, looked in zip(before, seen.looked, strict=True):
        assert np.abs(drawn - looked).max() <= 1
    assert any(np.abs(old - new).max() > 1 for old, new in zip(before, after, strict=True))
    started, learned = seen.read_then
    np.testing.assert_array_equal(started, seen.read)
    assert (np.abs(learned - started).max(axis=(1, 2)) > 0.001).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_before_is_what_was_drawn_before_training(tmp_path, watched, family):
    train_textual_inversion.main(run_of(tmp_path, family))

    check(watched)


@pytest.mark.slow
def test_before_is_the_start_of_a_run_that_was_resumed_too(tmp_path, watched):
    argv = run_of(tmp_path, "sd1", "--max_train_steps", "4")
    stopped_in(argv, step=3)
    first = watched.looked

    train_textual_inversion.main([*argv, "--resume_from_checkpoint", "latest"])

    check(watched)
    for early, late in zip(first, watched.looked, strict=True):
        np.testing.assert_array_equal(early, late)


@pytest.mark.slow
def test_the_demo_draws_every_image_once_and_all_after_training(tmp_path, monkeypatch, capsys):
    drawn, draw = [], validation.generate

    def told(model, requests, **how):
        print(f"{len(requests)} images begin")
        drawn.extend(requests)
        return draw(model, [ImageRequest(r.prompt, r.seed, num_inference_steps=1) for r in requests], **how)

    monkeypatch.setattr(validation, "generate", told)
    tokens = ["--placeholder_token", "<cat-toy>", "<rabbit>", "--learnable_property", "object", "object"]
    folders = [str(ROOT / "cat_toy_images"), str(ROOT / "demo" / "rabbit_toy_images")]
    train_textual_inversion.main(
        [*tokens, "--train_data_dir", *folders, "--max_train_steps", "1", "--report_to", "none"]
        + ["--output_dir", str(tmp_path / "out")]
    )

    said = capsys.readouterr()
    # For each concept 14 images to score, 3 before and 3 after; of those after one is among the scored ones. Both start
    # from "toy", whose 14 images are drawn once.
    assert said.out.index("drawing 52 images") < said.out.index("52 images begin")
    assert "note: they leave out 6 of 12 prompts (--overview_images)" in said.out
    assert said.out.count("images begin") == 1 and len(set(drawn)) == len(drawn)
    assert "step 1/1" in said.err.partition("denoising step 52/")[0]
    figures = json.loads((tmp_path / "out" / "run.json").read_text())["figures"]
    assert set(figures["scores"]) == {"<cat-toy>", "<rabbit>"}
    assert list(figures["seconds"])[-3:] == ["saving", "pictures", "scores"]


@pytest.mark.slow
def test_the_demo_draws_nothing_at_its_end_where_that_is_not_wanted(tmp_path, capsys):
    argv = ["--max_train_steps", "1", "--report_to", "none", "--output_dir", str(tmp_path / "out")]
    train_textual_inversion.main([*argv, "--overview", "false"])

    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert not {"scores", "overview"} & set(record["figures"]) and "drawing" not in capsys.readouterr().out
    assert not (tmp_path / "out" / "overview.png").exists()
