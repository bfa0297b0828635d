"""Flags that infer.py and score.py share."""

import argparse

import pytest
import yaml

from textual_inversion.cli.generation import (
    parse_infer,
    plan_of,
    prompt_lines,
    with_defaults,
    with_recorded_source,
)
from textual_inversion.settings.flag import changed
from textual_inversion.settings.generation import InferConfig, ScoreConfig
from textual_inversion.settings.ranges import Range
from textual_inversion.settings.shared import pixels
from textual_inversion.system.errors import SettingsError
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


def plan(*argv):
    config = with_defaults(parse_infer(list(argv)), is_demo=True)
    lines = prompt_lines(config.images, lambda: ["shown {a|b}"])
    return plan_of(config.images, config.sampling, lines)


def test_the_demos_grid_has_480_images_and_every_axis_shows_something():
    grid = plan("--config", str(ROOT / "demo" / "grid.yaml"))

    assert len(grid.requests) == len(set(grid.requests)) == 480
    assert {axis.name: len(axis.values) for axis in grid.axes} == {
        "prompt": 8, "guidance_scale": 5, "num_inference_steps": 3, "seed": 4,
    }  # fmt: skip
    assert all("<cat-toy>" in request.prompt and "{" not in request.prompt for request in grid.requests)


def test_lists_and_ranges_are_read_alike_from_a_file_and_from_the_command_line(tmp_path):
    (tmp_path / "prompts.txt").write_text("c --steps 3 --h 128\n")
    (tmp_path / "grid.yaml").write_text(
        f"prompt: ['{{a|b}}', x]\nprompts_file: {tmp_path}/prompts.txt\nnegative_prompt: ['', blurry]\n"
        "guidance_scale: [1:3:3, 7.5]\nnum_inference_steps: 10:20:2\nscheduler: [ddim, euler]\neta: [0, 0.5]\n"
        "seed: [1, 9]\nnum_images: 2\nheight: 64\nwidth: 64:128:2\n"
    )
    typed = (
        f"--prompt {{a|b}} x --prompts_file {tmp_path}/prompts.txt --guidance_scale 1:3:3 7.5 --eta 0 0.5 --seed 1 9"
    )
    typed += " --num_inference_steps 10:20:2 --scheduler ddim euler --num_images 2 --height 64 --width 64:128:2"

    found = plan("--config", str(tmp_path / "grid.yaml"))

    assert found == plan(*typed.split(), "--negative_prompt", "", "blurry")
    assert len(found.requests) == (3 * 2 + 1) * 2 * 4 * 2 * 2 * 4 * 2  # prompts x steps, then the other axes
    config = parse_infer(["--config", str(tmp_path / "grid.yaml"), "--eta", "0.1:0.3:3"])
    assert config.sampling.eta == (Range("0.1:0.3:3", (0.1, 0.2, 0.3)),)


def test_prompts_of_the_program_are_no_notation_and_random_samples_are_counted():
    assert [one.prompt for one in plan("--seed", "1", "--num_images", "2").requests] == ["shown {a|b}"] * 2
    samples = plan("--seed", "1", "--random_samples", "5", "--guidance_scale", "1:9:2")
    assert samples.is_random and [one.seed for one in samples.requests] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("argv", "embeds"),
    [
        (["--compare", "a", "b"], ()),
        (["--compare", "a", "--embeds", "demo/learned_embeds.pdparams"], ("demo/learned_embeds.pdparams",)),
        ([], (str(ROOT / "demo/learned_embeds.pdparams"),)),
    ],
)
def test_the_demos_concept_is_for_those_who_name_none(argv, embeds):
    assert parse_infer(argv).images.embeds == embeds


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--size 64 --width 64", "--size and --height or --width both set the size"),
        ("--clip_model x/y", "--clip_model has no effect without --compare"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(argv, message):
    with pytest.raises(SettingsError, match=message):
        parse_infer(argv.split())
