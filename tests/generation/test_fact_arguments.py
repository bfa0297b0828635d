"""From an image's facts back to a command line: read by a shell and by the parser, it gives the facts."""

import shlex

import pytest

from textual_inversion.cli.generation import parse_infer
from textual_inversion.generation.fact_arguments import command
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.settings.flag import values_of

EMBEDS = [{"file": "a b.pdparams", "partner": "-c.pdparams", "renamed": {"my cat": "<c>"}, "words": ["<c>"]}]
FACTS = {
    "prompt": "a <c>", "negative_prompt": "", "seed": 0, "guidance_scale": 7.5, "num_inference_steps": 20,
    "scheduler": "DDIMScheduler", "height": 64, "width": 32, "base_model": "models/sd", "key": "ff", "score": {"x": 1},
}  # fmt: skip


def understood(facts, embeds=EMBEDS):
    program, script, *argv = shlex.split(command(facts, embeds))
    assert (program, script) == ("python", "infer.py")
    return values_of(parse_infer(argv))


def single(value):
    """A flag of a single value, or of several of which one is given."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def test_all_facts_are_in_the_command():
    values = understood(FACTS)

    names = ["prompt", "seed", "guidance_scale", "num_inference_steps", "height", "width"]
    assert [single(values[name]) for name in names] == [FACTS[name] for name in names]
    assert values["embeds"] == ("a b.pdparams", "./-c.pdparams") and values["rename"] == ("my cat=<c>",)
    assert values["pretrained_model_name_or_path"] == "models/sd" and single(values["scheduler"]) == "ddim"
    assert values["num_images"] == 1 and not values["safety_checker"]


@pytest.mark.parametrize(
    "text",
    [
        "-x",
        "--seed",
        "'",
        '"',
        "$HOME `id` \\",
        "a\nb",
        "*",
        "!x",
        "~",
        "#x",
        "a  b ",
        "一只猫",
        "a; rm -rf /",
        "=",
        "<c>",
    ],
)
def test_any_text_comes_through_the_shell(text):
    base_model = f"models/{text}"
    values = understood({**FACTS, "prompt": text, "negative_prompt": text, "base_model": base_model})
    assert single(values["prompt"]) == single(values["negative_prompt"]) == text
    assert values["pretrained_model_name_or_path"] == base_model


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_comes_back(name):
    assert single(understood({**FACTS, "scheduler": SCHEDULERS[name]})["scheduler"]) == name


def test_a_scheduler_that_no_flag_names_is_the_base_models_own():
    assert understood({**FACTS, "scheduler": "DDIMParallelScheduler"})["scheduler"] is None


@pytest.mark.parametrize("scale", [10.269008415138138, 1e-05, 0.1 + 0.2])
def test_no_digit_is_lost(scale):
    assert single(understood({**FACTS, "guidance_scale": scale})["guidance_scale"]) == scale


def test_a_safety_checker_that_was_at_work_is_at_work_again():
    assert understood({**FACTS, "safety_checker": "blacked out"})["safety_checker"]
