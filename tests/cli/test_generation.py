"""Flags that infer.py and score.py share."""

import argparse

import pytest
import yaml

from textual_inversion.cli.generation import with_defaults, with_recorded_source
from textual_inversion.settings.flag import changed
from textual_inversion.settings.generation import InferConfig, ScoreConfig
from textual_inversion.settings.shared import pixels
from textual_inversion.system.paths import ROOT


def test_defaults_outside_the_demo():
    infer = with_defaults(InferConfig(), is_demo=False, num_images=4)
    score = with_defaults(ScoreConfig(), is_demo=False)

    assert (infer.sampling.guidance_scale, infer.sampling.num_inference_steps) == ((7.5,), (50,))
    assert (infer.images.num_images, score.measuring.num_images) == (4, 64)
    assert (score.sampling.guidance_scale, score.sampling.num_inference_steps) == (7.5, 50)


def test_the_demos_own_defaults_and_the_command_line_win():
    demo = yaml.safe_load((ROOT / "demo" / "defaults.yaml").read_text())
    given = changed(InferConfig(), num_inference_steps=(7,))

    config = with_defaults(given, is_demo=True, num_images=4)

    assert config.sampling.guidance_scale == (demo["guidance_scale"],) != (7.5,)
    assert (config.sampling.num_inference_steps, config.images.num_images) == ((7,), demo.get("num_images", 4))


def test_pixels():
    assert pixels("64") == 64
    for text, message in (("20", "multiple of 8, not 20; try 16"), ("0", "at least 1"), ("x", "not a whole number")):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            pixels(text)


def test_where_the_base_model_came_from_is_taken_from_the_record():
    record = {"settings": {"tokenizer_name": "there", "revision": "v2", "variant": None}}

    unnamed = with_recorded_source(InferConfig(), [{}, record]).base_model
    assert (unnamed.tokenizer_name, unnamed.revision, unnamed.cache_dir) == ("there", "v2", None)

    chosen = with_recorded_source(changed(InferConfig(), revision="main"), [record]).base_model
    assert chosen.revision == "main"

    other = changed(InferConfig(), pretrained_model_name_or_path="other")
    named = with_recorded_source(other, [record]).base_model
    assert named.tokenizer_name is None and named.revision is None
