"""The text "parameters" of a PNG, read back as AUTOMATIC1111's web UI reads it."""

import json

import pytest

from textual_inversion.generation.infotext import parameters
from textual_inversion.settings.choices import SCHEDULERS

EMBEDS = [
    {"file": "runs/my cat, v2.pdparams", "words": ["<cat-toy>"], "sha256": "0123456789abcdef" * 4},
    {"file": "b.safetensors", "words": ["<other>"], "sha256": "f" * 64},
]


def facts(**changes):
    usual = dict(prompt="a <cat-toy>", negative_prompt="", seed=3, guidance_scale=7.5, num_inference_steps=20)
    return {**usual, "scheduler": "DDIMScheduler", "base_model": "models/sd", **changes}


def read_back(text):
    """(prompt, negative prompt, settings).

    The web UI's rules: the last line holds the settings, NAME: VALUE with commas between; a value in quotation marks is
    a JSON string; a line that begins with "Negative prompt:" begins the negative prompt; blanks around lines go.
    """
    *lines, last = text.strip().split("\n")
    before, after = [], None
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            after = [line.removeprefix("Negative prompt:").strip()]
        else:
            (before if after is None else after).append(line)
    settings = {}
    while last:
        name, _, last = last.lstrip().partition(": ")
        if last.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(last)
            last = last[end:].removeprefix(",")
        else:
            value, _, last = last.partition(",")
        settings[name] = value
    return "\n".join(before), "\n".join(after or []), settings


def test_everything_is_read_back():
    text = parameters(facts(negative_prompt="fog, (dark:1.2)", eta=0.5, strength=0.75), EMBEDS, (64, 32))

    assert read_back(text) == (
        "a <cat-toy>",
        "fog, (dark:1.2)",
        {
            "Steps": "20",
            "Sampler": "DDIM",
            "CFG scale": "7.5",
            "Seed": "3",
            "Size": "64x32",
            "Model": "sd",
            "Denoising strength": "0.75",
            "Eta DDIM": "0.5",
            "TI hashes": "my cat v2: 0123456789ab",
        },
    )


@pytest.mark.parametrize(
    "prompt, read",
    [
        ("a cat\non two lines", "a cat on two lines"),
        ("a cat\r\nNegative prompt: dogs", "a cat Negative prompt: dogs"),
        ("Negative prompt: dogs", "Negative prompt : dogs"),
        ("  Negative prompt: dogs", "Negative prompt : dogs"),
        ("a cat\u2028Steps: 1, Sampler: x, Seed: 5", "a cat Steps: 1, Sampler: x, Seed: 5"),
        ('a "cat", in 16:9', 'a "cat", in 16:9'),
        ("", ""),
        ("一只<猫>，雪", "一只<猫>，雪"),
    ],
)
def test_no_prompt_passes_for_something_else(prompt, read):
    for negative in ("", "Steps: 9, Seed: 9, CFG scale: 9"):
        found = read_back(parameters(facts(prompt=prompt, negative_prompt=negative), [], (8, 8)))
        assert found[:2] == (read, negative) and found[2]["Steps"] == "20" and len(found[2]) == 6


@pytest.mark.parametrize(
    "name", ["a, b: c", 'a "quoted" name', 'ends with "', '"', "back\\slash, and comma", "猫: 1", "plain.v1-5"]
)
def test_any_name_of_a_model_is_one_value(name):
    _, _, settings = read_back(parameters(facts(base_model=f"models/{name}"), [], (8, 8)))

    assert settings["Model"] == name and len(settings) == 6


def test_a_checkpoint_is_named_without_its_ending():
    assert read_back(parameters(facts(base_model="x/sd15.safetensors"), [], (8, 8)))[2]["Model"] == "sd15"


@pytest.mark.parametrize(
    "scheduler, sampler", [("ddim", "DDIM"), ("euler-a", "Euler a"), ("dpm++", "DPM++ 2M"), ("pndm", "PLMS")]
)
def test_samplers_have_the_web_uis_names(scheduler, sampler):
    for name in (scheduler, SCHEDULERS[scheduler]):
        assert read_back(parameters(facts(scheduler=name), [], (8, 8)))[2]["Sampler"] == sampler


def test_every_scheduler_has_a_name_there():
    named = {read_back(parameters(facts(scheduler=one), [], (8, 8)))[2]["Sampler"] for one in SCHEDULERS}
    assert len(named) == len(SCHEDULERS) and not any("Scheduler" in name for name in named)


def test_noise_levels_are_said_where_the_web_ui_would_take_others():
    assert read_back(parameters(facts(scheduler="dpm++"), [], (8, 8)))[2]["Schedule type"] == "Uniform"
    assert "Schedule type" not in read_back(parameters(facts(), [], (8, 8)))[2]


@pytest.mark.parametrize("scale", [10.269008415138138, 7.0, 1e-7, 1000.0, 0.1])
def test_no_digit_of_a_number_is_lost(scale):
    assert float(read_back(parameters(facts(guidance_scale=scale), [], (8, 8)))[2]["CFG scale"]) == scale


def test_only_the_embeddings_of_the_image_are_named():
    columns = [{**EMBEDS[0], "file": f"{label}.pdparams", "column": label} for label in ("500", "1000")]

    hashes = [read_back(parameters(facts(embeds=one, prompt=p), columns, (8, 8)))[2].get("TI hashes")
              for one, p in [("500", "<cat-toy>"), ("1000", "<cat-toy>"), ("1000", "a cat")]]  # fmt: skip
    assert hashes == ["500: 0123456789ab", "1000: 0123456789ab", None]
