"""Images are drawn once, by whichever rank, and the first rank has them all; validation images are saved and logged."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import train_textual_inversion
from helpers.configs import config_of
from helpers.training_runs import short_run
from textual_inversion.distributed.ranks import Ranks
from textual_inversion.generation.request import ImageRequest
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.models.tokenizers import load_clip_tokenizer
from textual_inversion.settings.train_run import ValidationSettings
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.tracking import Tracker
from textual_inversion.training import validation
from textual_inversion.training.artifacts import Saves
from textual_inversion.training.state import RunContext
from textual_inversion.training.validation import Painter, ValidationImages, share


def requests_of(*seeds):
    return [ImageRequest("a <w>", seed, num_inference_steps=2) for seed in seeds]


def painter_of(ranks, freed=None, *, size=(8, 16), one_by_one=False, keep_vae=False):
    """A painter of a model that only notes when its VAE is freed."""
    model = SimpleNamespace(free_vae=lambda: None if freed is None else freed.append(1))
    return Painter(model, RunContext(ranks, None), size, one_by_one=one_by_one, keep_vae=keep_vae)


@pytest.fixture
def asked(monkeypatch):
    """What the model was asked for: (requests, settings) of each call."""
    calls = []

    def generate(model, requests, *, height, width, **settings):
        calls.append((list(requests), {"height": height, "width": width} | settings))
        return [Image.new("RGB", (width, height), (request.seed, 0, 0)) for request in requests]

    monkeypatch.setattr(validation, "generate", generate)
    return calls


@pytest.fixture
def drawn(asked):
    """The same as lists of seeds, one a call."""

    class Seeds:
        def __eq__(self, other):
            return [[request.seed for request in requests] for requests, _ in asked] == other

    return Seeds()


# -------------------------------------------------------------------------------------------------------- all ranks


def test_equal_requests_are_drawn_once_and_come_in_the_order_they_were_asked_for(drawn):
    freed = []

    images = painter_of(Ranks(), freed).draw(requests_of(5, 3, 5, 4, 3))

    assert drawn == [[5, 3, 4]] and freed == [1]
    assert [image.getpixel((0, 0))[0] for image in images] == [5, 3, 5, 4, 3]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_the_ranks_share_the_requests_and_none_is_left_out_or_drawn_twice(world_size):
    requests = requests_of(*range(5), 2)

    shares = [share(requests, Ranks(rank, world_size)) for rank in range(world_size)]

    assert sorted(request.seed for own in shares for request in own) == list(range(5))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_first_rank_puts_the_shares_together(drawn, monkeypatch):
    """Three images on two ranks; the second one's share is drawn by a rank of its own beforehand."""
    met, sent = [], []

    def gather(tensor, received, dst):
        sent.append(tensor.numpy())
        if received is not None:
            received.extend([tensor, validation.paddle.to_tensor(sent[0])])

    monkeypatch.setattr(Ranks, "meet", lambda self, stop: met.append(self.rank))
    monkeypatch.setattr(validation.dist, "gather", gather)

    assert painter_of(Ranks(1, 2)).draw(requests_of(7, 8, 9)) is None
    images = painter_of(Ranks(0, 2)).draw(requests_of(7, 8, 9))

    assert drawn == [[8], [7, 9]] and met == [1, 0]
    assert [array.shape for array in sent] == [(2, 8, 16, 3)] * 2 and sent[0].dtype == np.uint8
    assert [(image.getpixel((0, 0))[0], image.size) for image in images] == [(seed, (16, 8)) for seed in (7, 8, 9)]


def test_a_rank_without_a_share_draws_nothing_and_takes_part(drawn, monkeypatch):
    sent = []
    monkeypatch.setattr(Ranks, "meet", lambda self, stop: None)
    monkeypatch.setattr(validation.dist, "gather", lambda tensor, received, dst: sent.append(tuple(tensor.shape)))

    assert painter_of(Ranks(2, 3)).draw(requests_of(7, 8)) is None

    assert drawn == [] and sent == [(1, 8, 16, 3)]


@pytest.mark.parametrize(
    ("size", "one_by_one", "batch_size"), [((8, 8), False, 8), ((8, 8), True, 1), ((256, 256), False, 1)]
)
def test_large_images_are_made_one_by_one_and_small_ones_together_unless_memory_is_short(
    asked, size, one_by_one, batch_size
):
    painter_of(Ranks(), size=size, one_by_one=one_by_one).draw(requests_of(1))

    assert asked[0][1].items() >= {"height": size[0], "width": size[1], "batch_size": batch_size}.items()


def test_a_vae_that_is_needed_again_stays(asked):
    freed = []
    painter_of(Ranks(), freed, keep_vae=True).draw(requests_of(1))
    assert freed == []


# ------------------------------------------------------------------------------------------------- validation images


class Log:
    """A writer that remembers images and texts."""

    def __init__(self):
        self.images, self.texts = [], []

    def add_image(self, tag, pixels, step, **_):
        self.images.append((tag, step))

    def add_text(self, tag, text, step):
        self.texts.append((tag, text, step))


def test_validation_images_take_each_prompts_own_options_and_are_logged_with_captions(tmp_path, asked):
    log = Log()
    prompts = [ValidationPrompt("a <w>"), ValidationPrompt("a <w> here", 9, 3.0, 7, "blurry")]
    settings = config_of(num_validation_images=2, guidance_scale=7.5, num_inference_steps=50).validation
    images = ValidationImages(
        settings, prompts, tmp_path,
        painter=painter_of(Ranks(), size=(8, 8)), tracker=Tracker(log), saves=Saves(tmp_path), resumed=None,
    )  # fmt: skip

    for step in (0, 5):
        drawn = images.draw(step)

    assert (
        asked[0][0]
        == asked[1][0]
        == [
            ImageRequest("a <w>", 0, "", 7.5, 50),
            ImageRequest("a <w>", 1, "", 7.5, 50),
            ImageRequest("a <w> here", 9, "blurry", 3.0, 7),
            ImageRequest("a <w> here", 10, "blurry", 3.0, 7),
        ]
    )
    assert asked[0][1].items() >= {"height": 8, "width": 8, "batch_size": 8}.items()
    assert drawn.prompts == ["a <w>", "a <w>", "a <w> here", "a <w> here"] and len(drawn.images) == 4
    captions = "a <w>\n\na <w> here (seed 9, guidance 3, steps 7, without blurry)"
    assert log.images == [("samples", 0), ("samples", 5)]
    assert log.texts == [("samples", captions, 0), ("samples", captions, 5)]
    with Image.open(drawn.path) as sheet:
        assert sheet.text["step"] == "5" and "without blurry" in sheet.text["prompts"]
    assert sorted(p.name for p in drawn.path.parent.iterdir()) == ["over-time.png", "step-0.png", "step-5.png"]


# ------------------------------------------------------------------------------------------------------------- notes


@pytest.mark.parametrize(
    ("text", "negative", "notes"),
    [
        ("a <w>", "", []),
        ("a dog", "a <w>", []),
        ("a <v>", "", ["<v> in the validation prompt 'a <v>' is no placeholder token; the run learns <w>"]),
        ("a <w>", "no <v>", ["<v> in the validation prompt 'no <v>' is no placeholder token; the run learns <w>"]),
        ("a dog", "", ["the validation prompt 'a dog' holds none of <w>"]),
        ("a <held>", "", ["the validation prompt 'a <held>' holds none of <w>"]),
        ("a <w> <held>", "a <held>", []),
    ],
)
def test_validation_prompts_without_a_word_of_the_run_are_noted(model, text, negative, notes):
    tokenizer = load_clip_tokenizer(model.folder / "tokenizer", longest=77)
    tokenizer.add_tokens("<held>")  # a word of the base model
    encode_ids = PromptEncoder(tokenizer, {"<w>": 2}, first_id=900)

    assert validation.prompt_notes([ValidationPrompt(text, negative_prompt=negative)], encode_ids, ["<w>"]) == notes


@pytest.mark.slow
def test_validation_images_have_weights_where_they_are_asked_for(tmp_path, capsys):
    """And a run says, in one line, what is read as text where they are not."""
    (tmp_path / "prompts.txt").write_text("a (<cat-toy>:1.3) --negative (dog)\n" + "a <cat-toy> " + "dog " * 90 + "\n")
    prompts = ["--validation_prompts_file", str(tmp_path / "prompts.txt"), "--validation_steps", "2"]

    said = {}
    for name, more in (("on", ["--prompt_weights"]), ("off", [])):
        (tmp_path / name).mkdir()
        train_textual_inversion.main(short_run(tmp_path / name, "--only_save_embeds", *prompts, *more))
        said[name] = capsys.readouterr().out

    assert "--prompt_weights reads them" not in said["on"] and "; cut: " not in said["on"]
    assert said["off"].count("--prompt_weights reads them") == 1 and said["off"].count("; cut: ") == 1
    on, off = (np.asarray(Image.open(tmp_path / name / "out/samples/step-2.png")) for name in ("on", "off"))
    assert on.shape == off.shape and not np.array_equal(on, off)
    run = [json.loads((tmp_path / name / "out/run.json").read_text())["settings"] for name in ("on", "off")]
    assert [settings["prompt_weights"] for settings in run] == [True, False]


@pytest.mark.parametrize("weights", [True, False])
def test_validation_requests_have_weights_as_the_settings_say(weights):
    settings = replace(ValidationSettings(), prompt_weights=weights)

    assert validation.request_of(ValidationPrompt("a (cat)"), 1, settings).prompt_weights is weights


@pytest.mark.parametrize("prompt", ["(<cat-toy>:101)", "((<cat-toy>:50):50)", "a <cat-toy> " + "dog " * 2_500])
def test_validation_prompts_with_weights_that_cannot_be_encoded_are_refused_before_training(tmp_path, prompt):
    flags = ["--prompt_weights", "--validation_prompt", prompt]

    with pytest.raises(SettingsError, match="has the weight|a text of 10"):
        train_textual_inversion.main(short_run(tmp_path, *flags))


def test_a_run_says_which_words_it_and_scheduler_it_does_not_know_and_what_capitals_cost(tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a <Cat-Toi>\na <Cat-Toy> --negative a <Cat-Toj>\n")
    prompts = ["--validation_prompts_file", str(tmp_path / "prompts.txt"), "--validation_steps", "2"]
    flags = ["--placeholder_token", "<Cat-Toy>", "--num_vectors", "2", "--only_save_embeds", *prompts]

    train_textual_inversion.main(short_run(tmp_path, *flags, scheduler={"_class_name": "SASolverScheduler"}))

    said = capsys.readouterr().out
    assert "note: <Cat-Toi> in the validation prompt 'a <Cat-Toi>' is no placeholder token; the run learns <Cat" in said
    assert "note: <Cat-Toj> in the validation prompt 'a <Cat-Toj>' is no placeholder token; the run learns <Cat" in said
    assert said.count("note: the base model names the scheduler SASolverScheduler, which is not drawn with here") == 1
    assert said.count("note: diffusers with transformers 5 reads only the first vector of <Cat-Toy>") == 1
