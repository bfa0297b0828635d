"""What the overview shows."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from textual_inversion.before_after import overview_prompts, save_overview
from textual_inversion.concepts import Concept
from textual_inversion.sample_prompts import SamplePrompt


def settings(kind="object", **changes):
    concept = Concept("<cat-toy>", learnable_property=kind)
    return SimpleNamespace(**dict(sample_prompts=[], concepts=[concept], language="en") | changes)


def test_the_users_own_prompts_come_first():
    own = [SamplePrompt("A <cat-toy> backpack", seed=3)]

    assert overview_prompts(settings(sample_prompts=own)) == own


def test_without_prompts_a_concept_is_shown_off_as_what_it_is():
    kinds = (overview_prompts(settings(kind)) for kind in ("object", "style"))
    thing, style = ([prompt.text for prompt in prompts] for prompts in kinds)

    assert all("<cat-toy>" in prompt for prompt in thing + style)
    assert thing[0] == "a photo of a <cat-toy>"
    assert all("in the style of <cat-toy>" in prompt for prompt in style)
    assert len(thing) >= 5 and len(style) >= 5


def test_the_overview_is_a_readable_picture(tmp_path):
    prompts = overview_prompts(settings())
    pixels = [np.full((3, 16, 16), value, dtype="float32") for value in (-1.0, 0.0, 1.0)]
    drawn = [Image.new("RGB", (16, 16), "red") for _ in prompts]

    save_overview(tmp_path / "overview.png", settings(), pixels, drawn, drawn)

    with Image.open(tmp_path / "overview.png") as picture:
        assert picture.width > 400 and picture.height > 400
