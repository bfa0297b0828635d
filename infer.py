"""Make images of learned concepts: embedding files + prompts -> PNG files, a contact sheet, a manifest."""

import importlib
import secrets
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from textual_inversion.cli.generation import infer_parser as build_parser
from textual_inversion.cli.generation import parse_infer, with_defaults, with_recorded_source
from textual_inversion.settings.flag import changed
from textual_inversion.settings.generation import ImagesToMake, InferConfig, InferSampling
from textual_inversion.settings.shared import source_of
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import OutputError, run_command
from textual_inversion.system.paths import is_demo, portable
from textual_inversion.system.process_share import ProcessShare, share_of_process
from textual_inversion.system.progress import duration, print_line, print_note
from textual_inversion.system.signals import Signals

__all__ = ["build_parser", "main"]

_MOST_SHOWN = 24  # prompts, where the user names none
_ALONE = ProcessShare()


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    config = parse_infer(argv)
    with Signals() as stop:
        stop.advice = "before the first image was made"
        if config.output.merge:
            stop.advice = "while folders were merged; the same command goes on"
            merge(config)
        else:
            run(config, stop)


def run(config: InferConfig, stop: Signals) -> None:
    """Make the images that the settings ask for."""
    from textual_inversion.embeddings.files import base_model_notes, base_model_of, doubted_records, read_concept_files

    share = share_of_process()
    files = read_concept_files(config.images.embeds, config.images.rename)
    named = config.base_model.pretrained_model_name_or_path
    base_model, records = base_model_of(files, named), doubted_records(files, config.base_model)
    config = with_recorded_source(config, [file.run for file in files])
    config = with_defaults(config, is_demo=is_demo(base_model), num_images=4)
    config = changed(config, prompt=config.images.prompt or _showcase(files, share))
    gallery = _open_gallery(config.output.output_dir, files, base_model)  # before the slow part: it may refuse

    with stop.held_back():
        prepare_environment(config.machine.num_threads, allow_tf32=config.machine.allow_tf32)
        importlib.import_module("ppdiffusers")
    from textual_inversion.models.attach import attach_files
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.precision import check_device, lower

    check_device(config.machine.mixed_precision, select_device(config.machine.device))
    source = source_of(config.base_model, config.base_model.hub_token)
    for note in base_model_notes(files, base_model, named):  # before a download, or what fails because of the model
        _note(note, share)
    model = load_base_model(base_model, tokenizer_name=config.base_model.tokenizer_name, **source, **records)
    attach_files(model, files)
    lower(model, config.machine.mixed_precision)
    tokens = [token for file in files for token in file.placeholder_tokens]
    about_prompts = notes(model, tokens, config.images.prompt, config.images.negative_prompt)
    about_drawing = model.drawing_notes(config.sampling.scheduler)
    for note in [*(note for file in files for note in file.notes), *about_drawing, *about_prompts]:
        _note(note, share)
    _make_images(config, model, gallery, share, stop)


def merge(config: InferConfig) -> None:
    """Copy what the processes of a grid drew into folders of their own into one folder."""
    from textual_inversion.generation.gallery import Gallery
    from textual_inversion.generation.merge import merge_folders

    target = Path(config.output.output_dir)
    copied, state = merge_folders([Path(folder) for folder in config.output.merge], target)
    if not state.images:
        raise OutputError(f"the folders of --merge hold no complete image yet; nothing is shown in {target}")
    sheet = Gallery(target, {}).write_sheet(state.images, config.output.num_cols or _columns(1, len(state.images)))
    missing = state.total - len(state.images)
    rest = f"; {missing} are still to be drawn" if missing else ""
    print_line(f"{copied} images copied; {len(state.images)} of {state.total} are in {target}{rest}: {sheet}")


def _note(note: str, share: ProcessShare) -> None:
    """Print a note that all processes have; one of them says it."""
    if share.is_main:
        print_note(note)


def _showcase(files, share: ProcessShare = _ALONE) -> list[str]:
    """Prompts that show the concepts, at most `_MOST_SHOWN`: a file may hold hundreds."""
    from textual_inversion.data.templates import plain_template
    from textual_inversion.generation.eval_prompts import showcase
    from textual_inversion.settings.choices import PROPERTIES

    kinds = {token: file.learnable_property(token) for file in files for token in file.placeholder_tokens}
    language = files[0].language
    plain = {kind: plain_template(kind, language) for kind in PROPERTIES}
    everything, shown = (showcase(kinds, plain, language, most=most) for most in (None, _MOST_SHOWN))
    if len(shown) < len(everything):
        _note(
            f"{len(shown)} of the {len(everything)} prompts that show {len(kinds)} concepts are drawn; "
            "name others with --prompt",
            share,
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


def _plan(images: ImagesToMake, sampling: InferSampling, seed: int):
    """The images to make: for each prompt, each guidance and each number of steps, `num_images` seeds."""
    from textual_inversion.generation.generate import ImageRequest
    from textual_inversion.generation.plan import Axis, Plan

    requests = [
        ImageRequest(
            prompt, (seed + i) % 2**64, images.negative_prompt, scale, steps, height=images.height, width=images.width
        )
        for prompt, scale, steps in product(images.prompt, sampling.guidance_scale, sampling.num_inference_steps)
        for i in range(images.num_images)
    ]
    seeds = tuple((seed + i) % 2**64 for i in range(images.num_images))
    several = {
        "prompt": images.prompt,
        "guidance_scale": sampling.guidance_scale,
        "num_inference_steps": sampling.num_inference_steps,
        "seed": seeds,
    }
    return Plan(requests, tuple(Axis(name, tuple(values)) for name, values in several.items() if len(values) > 1))


def _planned(config: InferConfig, model, pipeline, gallery, share: ProcessShare):
    """The plan, with a seed where the user gave none, and what the gallery has to know of it."""
    from textual_inversion.generation.gallery import PlannedImages
    from textual_inversion.generation.manifest import plan_key

    def plan_with(seed: int):
        plan = _plan(config.images, config.sampling, seed)
        return plan, _keys(config, model, pipeline, gallery.embeds, plan)

    given, settings, drawn = config.images.seed, "", None
    if given is None:
        settings = plan_key(plan_with(0)[1])
        drawn = gallery.drawn_seed(settings, share)
        if drawn is None:
            drawn = secrets.randbelow(2**32) if share.world_size == 1 else share.common_seed()
    plan, keys = plan_with(drawn if given is None else given)
    is_grid = share.world_size > 1 or any(axis.name not in ("prompt", "seed") for axis in plan.axes)
    return plan, PlannedImages(keys, [request.seed for request in plan.requests], is_grid, settings, drawn)


def _keys(config: InferConfig, model, pipeline, embeds: Sequence[dict], plan) -> list[str]:
    """The key of each image of a plan."""
    from textual_inversion.generation.image_key import image_keys
    from textual_inversion.models.identity import content_hash

    tokenizer = model.tokenizer_folder
    common = {
        "base_model": content_hash(model.folder),
        "tokenizer": None if tokenizer is None else content_hash(tokenizer),
        "variant": config.base_model.variant,
        "embeds": [{name: value for name, value in file.items() if "file" not in name} for file in embeds],
        "mixed_precision": config.machine.mixed_precision,
        "allow_tf32": config.machine.allow_tf32,
        "safety_checker": config.images.safety_checker,
    }
    height, width = model.image_size()
    defaults = {"scheduler": type(pipeline.scheduler).__name__, "height": height, "width": width}
    return image_keys(plan.requests, common, defaults)


def _make_images(config: InferConfig, model, gallery, share: ProcessShare, stop: Signals) -> None:
    """Draw this process's share of the images that are not there yet; whoever finds all there shows them."""
    from textual_inversion.generation.draw_plan import plan_batches
    from textual_inversion.generation.generate import blank_count_notes
    from textual_inversion.generation.run_plan import run_plan

    pipeline = model.pipeline(config.sampling.scheduler, with_safety_checker=config.images.safety_checker)
    if config.images.safety_checker and getattr(pipeline, "safety_checker", None) is None:
        _note("this base model comes without a safety checker; nothing is checked", share)
    plan, planned = _planned(config, model, pipeline, gallery, share)
    begun, saved, blank, done = time.monotonic(), 0, 0, gallery.begin(planned, share)
    if done and len(done) < len(plan.requests):
        seed = "" if planned.drawn_seed is None else f", with their seed {planned.drawn_seed}"
        _note(f"{len(done)} of {len(plan.requests)} images are there already; the others are drawn{seed}", share)
    batches = share.of(plan_batches(plan, config.sampling.batch_size))
    missing = [batch for batch in batches if not done.issuperset(batch)]
    try:
        shown = dict(pipeline=pipeline, shows_progress=share.is_main)
        saved, blank = run_plan(model, plan, missing, gallery, done, stop, **shown)
    finally:
        with stop.noted():
            state, sheet = _finish(gallery, config, share)
    for note in blank_count_notes(blank, saved):
        print_note(note)
    _report(state, sheet, saved, time.monotonic() - begun, planned, share)


def _finish(gallery, config: InferConfig, share: ProcessShare):
    """Bring the record up to date, and show the images: those of a lone process, also when it was interrupted."""
    state, sheet = gallery.finish(), None
    if state.images and (state.is_complete or share.world_size == 1):
        columns = config.output.num_cols or _columns(config.images.num_images, state.total)
        sheet = gallery.write_sheet(state.images, columns)
    gallery.close()
    return state, sheet


def _report(state, sheet: Path | None, saved: int, seconds: float, planned, share: ProcessShare) -> None:
    """The last line of a run."""
    if not saved and state.is_complete:
        line = f"all {state.total} images are there already: {sheet}"
    elif sheet is None:
        line = f"{saved} images in {duration(seconds)} min; {len(state.images)} of {state.total} are there, and the "
        line += "process that draws the last one shows them all"
    else:
        all_of_them = f" ({len(state.images)} with the rest)" if saved < len(state.images) else ""
        line = f"{saved} images{all_of_them} in {duration(seconds)} min, seeds from {planned.seeds[0]}: {sheet}"
    if share.is_main or sheet is not None:
        print_line(line)


def _columns(num_images: int, num_requests: int) -> int:
    """A row for each prompt and setting; where each has one image only, a rectangle."""
    return num_images if num_images > 1 else max(1, round(num_requests**0.5 + 0.5))


if __name__ == "__main__":
    run_command(main)
