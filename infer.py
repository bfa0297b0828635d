"""Make images of learned concepts: embedding files + prompts -> PNG files, a contact sheet, a manifest."""

import importlib
import secrets
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

from textual_inversion.cli.generation import infer_parser as build_parser
from textual_inversion.cli.generation import parse_infer, with_defaults, with_recorded_source
from textual_inversion.settings.flag import changed
from textual_inversion.settings.generation import FromImage, ImagesToMake, InferConfig, InferSampling
from textual_inversion.settings.shared import source_of
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import run_command
from textual_inversion.system.paths import is_demo, portable
from textual_inversion.system.progress import print_line, print_note
from textual_inversion.system.signals import Signals

__all__ = ["build_parser", "main"]

_MOST_SHOWN = 24  # prompts, where the user names none


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    config = parse_infer(argv)
    with Signals() as stop:
        stop.advice = "before the first image was made"
        run(config, stop)


def run(config: InferConfig, stop: Signals) -> None:
    """Make the images that the settings ask for."""
    from textual_inversion.embeddings.files import base_model_notes, base_model_of, doubted_records, read_concept_files
    from textual_inversion.formats.lora_file import read_lora

    files = read_concept_files(config.images.embeds, config.images.rename)
    loras = [read_lora(lora) for lora in config.images.lora or ()]
    named = config.base_model.pretrained_model_name_or_path
    base_model, records = base_model_of(files, named), doubted_records(files, config.base_model)
    config = with_recorded_source(config, [file.run for file in files])
    config = with_defaults(config, is_demo=is_demo(base_model), num_images=4)
    seed = secrets.randbelow(2**32) if config.images.seed is None else config.images.seed
    config = changed(config, prompt=config.images.prompt or _showcase(files), seed=seed)
    starts = _starts(config.start, config.sampling)
    gallery = _open_gallery(config.output.output_dir, files, base_model)  # before the slow part: it may refuse

    with stop.held_back():
        prepare_environment(config.machine.num_threads, allow_tf32=config.machine.allow_tf32)
        importlib.import_module("ppdiffusers")
    from textual_inversion.models.attach import attach_files
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.lora import merge_loras
    from textual_inversion.models.precision import check_device, lower

    check_device(config.machine.mixed_precision, select_device(config.machine.device))
    source = source_of(config.base_model, config.base_model.hub_token)
    for note in base_model_notes(files, base_model, named):  # before a download, or what fails because of the model
        print_note(note)
    model = load_base_model(base_model, tokenizer_name=config.base_model.tokenizer_name, **source, **records)
    merge_loras(model, loras)
    attach_files(model, files)
    lower(model, config.machine.mixed_precision)
    tokens = [token for file in files for token in file.placeholder_tokens]
    about_prompts = notes(model, tokens, config.images.prompt, config.images.negative_prompt)
    about_drawing = model.drawing_notes(config.sampling.scheduler)
    for note in [*(note for file in files for note in file.notes), *about_drawing, *about_prompts]:
        print_note(note)
    _make_images(config, model, gallery, stop, starts, {"lora": [lora.facts for lora in loras]} if loras else {})


def _showcase(files) -> list[str]:
    """Prompts that show the concepts, at most `_MOST_SHOWN`: a file may hold hundreds."""
    from textual_inversion.data.templates import plain_template
    from textual_inversion.generation.eval_prompts import showcase
    from textual_inversion.settings.choices import PROPERTIES

    kinds = {token: file.learnable_property(token) for file in files for token in file.placeholder_tokens}
    language = files[0].language
    plain = {kind: plain_template(kind, language) for kind in PROPERTIES}
    everything, shown = (showcase(kinds, plain, language, most=most) for most in (None, _MOST_SHOWN))
    if len(shown) < len(everything):
        print_note(
            f"{len(shown)} of the {len(everything)} prompts that show {len(kinds)} concepts are drawn; "
            "name others with --prompt",
        )
    return shown


def _open_gallery(output_dir: str, files, base_model: str):
    from textual_inversion.generation.gallery import Gallery
    from textual_inversion.system.output_folder import make_output_folder
    from textual_inversion.system.provenance import git_revision, versions

    embeds = [_described(file) for file in files]
    settings = {
        "base_model": portable(base_model),
        "embeds": embeds,
        "versions": versions(),
        "git_revision": git_revision(),
    }
    return Gallery(make_output_folder(output_dir), settings)


def _described(file) -> dict[str, Any]:
    """What the manifest says about an embedding file."""
    facts = {"file": portable(str(file.path)), "words": file.placeholder_tokens, "sha256": file.sha256}
    if file.partner is not None:
        facts |= {"partner": portable(str(file.partner)), "partner_sha256": file.partner_sha256}
    if renamed := {old: new for new, old in file.originals.items() if new in file.placeholder_tokens}:
        facts["renamed"] = renamed
    return facts


def notes(model, tokens: list[str], prompts: Sequence[str], negative_prompt: str) -> list[str]:
    """What the user should know before the images are made: unknown placeholder tokens, text that is not read."""
    from textual_inversion.formats.learned_embedding import composed
    from textual_inversion.models.prompt_encoder import cut_notes

    encode_ids = model.text_encoders[0].encode_ids
    listed, found = ", ".join(tokens), []
    avoided = encode_ids.holds_learned_word(negative_prompt)
    for prompt in dict.fromkeys([*prompts, negative_prompt]):
        words = composed(prompt).split()
        bare = [token for token in tokens if token.strip("<>") in words and token not in composed(prompt)]
        if unknown := encode_ids.unknown_placeholders(prompt):
            found.append(f"no file holds {', '.join(unknown)}, which {prompt!r} names; the files hold {listed}")
        elif bare:
            found.append(f"{prompt!r} lacks the brackets of {', '.join(bare)}")
        elif prompt in prompts and not avoided and not encode_ids.holds_learned_word(prompt):
            found.append(f"{prompt!r} holds no placeholder token; the files hold {listed}")
    return found + cut_notes(encode_ids, [*prompts, negative_prompt])


def _starts(start: FromImage, sampling: InferSampling) -> list:
    """What images are made from, checked before a model is loaded; [None] for noise alone."""
    from textual_inversion.generation.start_image import start_images

    found = start_images(start.image, start.strength, start.mask_image, print_note)
    for one, steps in product(found, sampling.num_inference_steps):
        if one is not None:
            one.check_steps(steps)
    return found


def _requests(images: ImagesToMake, sampling: InferSampling, starts: Sequence) -> list:
    """The images to make: from each start, for each prompt, guidance and number of steps, `num_images` seeds."""
    from textual_inversion.generation.generate import ImageRequest

    settings = product(images.prompt, starts, sampling.guidance_scale, sampling.num_inference_steps)
    return [
        ImageRequest(prompt, (images.seed + i) % 2**64, images.negative_prompt, scale, steps, start=start)
        for prompt, start, scale, steps in settings
        for i in range(images.num_images)
    ]


def _make_images(config: InferConfig, model, gallery, stop: Signals, starts: Sequence, common: dict[str, Any]) -> None:
    """Generate, save each image as soon as it is there, and write sheet and manifest even when interrupted."""
    from textual_inversion.generation.from_image import check_model, size_notes
    from textual_inversion.generation.generate import blank_notes, generate_each, total_steps
    from textual_inversion.system.progress import Progress, duration

    requests = _requests(config.images, config.sampling, starts)
    begun, made = time.monotonic(), {}
    pipeline = model.pipeline(config.sampling.scheduler, with_safety_checker=config.images.safety_checker)
    if config.images.safety_checker and getattr(pipeline, "safety_checker", None) is None:
        print_note("this base model comes without a safety checker; nothing is checked")
    size = dict(height=config.images.height, width=config.images.width)
    check_model(model, starts)
    for note in size_notes(model, starts, **size):
        print_note(note)
    try:
        gallery.reserve(len(requests))
        with Progress(total_steps(requests), description="denoising step") as progress:
            for position, image in generate_each(
                model, requests, batch_size=config.sampling.batch_size, progress=progress, pipeline=pipeline, **size
            ):
                with stop.noted():
                    gallery.save(position, image, _facts(requests[position], model, pipeline, image) | common)
                    made[position] = image
                    stop.advice = f"after {len(made)} of {len(requests)} images, which are in {gallery.folder}"
    finally:
        images = [made[position] for position in sorted(made)]
        with stop.noted():
            gallery.finish(images, config.output.num_cols or _columns(config.images.num_images, len(requests)))
    for note in blank_notes(images):
        print_note(note)
    print_line(
        f"{len(images)} images in {duration(time.monotonic() - begun)} min, seeds from {config.images.seed}: "
        f"{gallery.folder / 'contact_sheet.png'}"
    )


def _columns(num_images: int, num_requests: int) -> int:
    """A row for each prompt and setting; where each has one image only, a rectangle."""
    return num_images if num_images > 1 else max(1, round(num_requests**0.5 + 0.5))


def _facts(request, model, pipeline, image) -> dict[str, Any]:
    """What one image was made with."""
    facts = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "guidance_scale": request.guidance_scale,
        "num_inference_steps": request.num_inference_steps,
        "scheduler": type(pipeline.scheduler).__name__,
        "base_model": portable(model.name),
    } | (request.start.facts if request.start else {})
    if "safety_checker" in image.info:
        facts["safety_checker"] = image.info["safety_checker"]
    return facts


if __name__ == "__main__":
    run_command(main)
