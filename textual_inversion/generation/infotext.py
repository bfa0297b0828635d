"""The text "parameters" of a PNG file, in the form that AUTOMATIC1111's web UI writes and other programs read.

    PROMPT
    Negative prompt: NEGATIVE PROMPT
    Steps: 20, Sampler: Euler a, Schedule type: Uniform, CFG scale: 7.5, Seed: 3, Size: 512x512, Model: sd15, …

Its reader takes the last line for the settings, and a line that begins with "Negative prompt:" for the beginning of the
negative prompt. A value with a comma, a colon, a quotation mark or a line break is a JSON string.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from textual_inversion.settings.choices import SCHEDULERS

# ppdiffusers class -> the name of the same sampler there. The web UI has no DDPM, DEIS and DPM++ 2S without added
# noise; it then takes its default, and people can still read which it was.
_SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DDPMScheduler": "DDPM",
    "PNDMScheduler": "PLMS",
    "LMSDiscreteScheduler": "LMS",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "HeunDiscreteScheduler": "Heun",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSinglestepScheduler": "DPM++ 2S",
    "KDPM2DiscreteScheduler": "DPM2",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "DEISMultistepScheduler": "DEIS",
    "LCMScheduler": "LCM",
}
# Samplers that the web UI runs with Karras' noise levels unless it is told otherwise.
_KARRAS_THERE = ("DPM++ 2M", "DPM2", "DPM2 a")
_NEGATIVE = "Negative prompt:"
_SHORT_HASH = 12  # digits of an embedding file's SHA-256


def parameters(facts: Mapping[str, Any], embeds: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> str:
    """The text of one image.

    Args:
        facts: what the image was made with, as in the manifest.
        embeds: the embedding files: `file`, `words`, `sha256`.
        size: width and height in pixels.
    """
    lines = [_first_line(facts["prompt"])]
    if facts.get("negative_prompt"):
        lines.append(f"{_NEGATIVE} {_one_line(facts['negative_prompt'])}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in _settings(facts, embeds, size)))
    return "\n".join(lines)


def _settings(
    facts: Mapping[str, Any], embeds: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Iterator[tuple[str, Any]]:
    """Names and values of the last line, in the order that the web UI has."""
    scheduler = SCHEDULERS.get(facts["scheduler"], facts["scheduler"])
    sampler = _SAMPLERS.get(scheduler, scheduler)
    yield "Steps", facts["num_inference_steps"]
    yield "Sampler", sampler
    if sampler in _KARRAS_THERE:
        yield "Schedule type", "Uniform"
    yield "CFG scale", _number(facts["guidance_scale"])
    yield "Seed", facts["seed"]
    yield "Size", f"{size[0]}x{size[1]}"
    yield "Model", _model_name(facts["base_model"])
    if facts.get("vae"):
        yield "VAE", PurePath(facts["vae"]).name
    if facts.get("clip_skip"):
        yield "Clip skip", facts["clip_skip"]
    if facts.get("strength") is not None:
        yield "Denoising strength", _number(facts["strength"])
    if facts.get("eta") and sampler == "DDIM":
        yield "Eta DDIM", _number(facts["eta"])
    if hashes := _hashes(facts, embeds):
        yield "TI hashes", hashes


def _hashes(facts: Mapping[str, Any], embeds: Sequence[Mapping[str, Any]]) -> str:
    """The embedding files whose words are used, each as NAME: HASH; the web UI calls an embedding by its file's name.

    An image of a comparison names its column, whose files it was drawn with beside those of all columns.
    """
    text = f"{facts['prompt']} {facts.get('negative_prompt') or ''}"
    found = {}
    for one in embeds:
        is_of_column = one.get("column") in (None, facts.get("embeds"))
        if is_of_column and one.get("sha256") and any(word in text for word in one.get("words", ())):
            found[PurePath(one["file"]).stem.replace(":", "").replace(",", "")] = one["sha256"][:_SHORT_HASH]
    return ", ".join(f"{_one_line(name)}: {digits}" for name, digits in found.items())


def _model_name(base_model: str) -> str:
    path = PurePath(base_model)
    return _one_line(path.stem if path.suffix == ".safetensors" else path.name)


def _number(value: float) -> str:
    """The shortest text of the same number: 7 for 7.0."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ',:"\n') else text


def _first_line(prompt: str) -> str:
    """A prompt that cannot pass for a negative one."""
    line = _one_line(prompt)
    is_mistakable = line.lstrip().startswith(_NEGATIVE)
    return line.replace(_NEGATIVE, f"{_NEGATIVE[:-1]} :", 1) if is_mistakable else line


def _one_line(text: str) -> str:
    """A text that cannot pass for the next line. To a text encoder a line break is a blank."""
    return " ".join(text.splitlines())
