"""Flags that infer.py and score.py share."""

import argparse

import pytest
import yaml

from textual_inversion.cli import generation_arguments as shared
from textual_inversion.system.paths import ROOT


def settings(**given):
    return argparse.Namespace(**{"guidance_scale": None, "num_inference_steps": None, "num_images": None, **given})


def test_defaults_outside_the_demo():
    args = settings()

    shared.settle(args, is_demo=False, num_images=4)

    assert (args.guidance_scale, args.num_inference_steps, args.num_images) == (7.5, 50, 4)


def test_the_demos_own_defaults_and_the_command_line_win():
    demo = yaml.safe_load((ROOT / "demo" / "defaults.yaml").read_text())
    args = settings(num_inference_steps=7)

    shared.settle(args, is_demo=True, num_images=4)

    assert args.guidance_scale == demo["guidance_scale"] != 7.5
    assert (args.num_inference_steps, args.num_images) == (7, demo.get("num_images", 4))


def test_pixels():
    assert shared.pixels("64") == 64
    for text, message in (("20", "multiple of 8, not 20; try 16"), ("0", "at least 1"), ("x", "no whole number")):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            shared.pixels(text)


def test_where_the_base_model_came_from_is_taken_from_the_record():
    file = argparse.Namespace(run={"settings": {"tokenizer_name": "there", "revision": "v2", "variant": None}})
    empty = dict(tokenizer_name=None, variant=None, cache_dir=None)

    unnamed = argparse.Namespace(pretrained_model_name_or_path=None, revision=None, **empty)
    shared.settle_source(unnamed, [argparse.Namespace(run={}), file])
    assert (unnamed.tokenizer_name, unnamed.revision, unnamed.cache_dir) == ("there", "v2", None)

    chosen = argparse.Namespace(pretrained_model_name_or_path=None, revision="main", **empty)
    shared.settle_source(chosen, [file])
    assert chosen.revision == "main"

    named = argparse.Namespace(pretrained_model_name_or_path="other", revision=None, **empty)
    shared.settle_source(named, [file])
    assert named.tokenizer_name is None and named.revision is None
