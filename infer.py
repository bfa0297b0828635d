"""Make images of learned concepts: embedding files + prompts -> PNG files, a contact sheet, a manifest."""

import importlib
import secrets
import time
from collections.abc import Sequence
from typing import Any

from textual_inversion.cli.generation import infer_parser as build_parser
from textual_inversion.cli.generation import parse_infer, plan_of, prompt_lines, with_defaults, with_recorded_source
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.settings.flag import changed
from textual_inversion.settings.generation import InferConfig
from textual_inversion.settings.shared import source_of
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import SettingsError, run_command
from textual_inversion.system.paths import is_demo, portable
from textual_inversion.system.progress import print_line, print_note
from textual_inversion.system.signals import Signals

__all__ = ["build_parser", "main"]

_MOST_SHOWN = 24  # prompts, where the user names none
_MOST_READ, _MOST_NOTED = 1000, 20  # prompts of a grid that are looked at for notes, and notes on them


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    config = parse_infer(argv)
    with Signals() as stop:
        stop.advice = "before the first image was made"
        run(config, stop)


def run(config: InferConfig, stop: Signals) -> None:
    """Make the images that the settings ask for."""
    from textual_inversion.embeddings.columns import read_columns
    from textual_inversion.embeddings.files import base_model_notes, base_model_of, doubted_records

    common, columns = read_columns(config.images.embeds, config.images.compare or (), config.images.rename)
    files, named = [*common, *columns.values()], config.base_model.pretrained_model_name_or_path
    base_model, records = base_model_of(files, named), doubted_records(files, config.base_model)
    config = _settled(config, [file.run for file in files], base_model)
    lines = prompt_lines(config.images, lambda: _showcase(files))
    plan = plan_of(config.images, config.sampling, lines, {label: [*common, one] for label, one in columns.items()})
    gallery = _open_gallery(config.output.output_dir, common, columns, base_model)  # before the slow part: may refuse

    with stop.held_back():
        prepare_environment(config.machine.num_threads, allow_tf32=config.machine.allow_tf32)
        importlib.import_module("ppdiffusers")
    from textual_inversion.models.attach import attach_files
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.precision import check_device, lower

    check_device(config.machine.mixed_precision, select_device(config.machine.device))
    source = source_of(config.base_model, config.base_model.hub_token)
    for note in base_model_notes(files, base_model, named):  # before a download, or what fails because of the model
        print_note(note)
    model = load_base_model(base_model, tokenizer_name=config.base_model.tokenizer_name, **source, **records)
    for attached in plan.columns.values() or [common]:  # a column that does not fit is refused before any is drawn
        attach_files(model, attached)
    scorer = _column_scorer(config.scoring.clip_model, columns, model)
    lower(model, config.machine.mixed_precision)
    tokens = list(dict.fromkeys(token for file in files for token in file.placeholder_tokens))
    about_prompts = notes(model, tokens, plan.texts("prompt"), plan.texts("negative_prompt"))
    about_drawing = drawing_notes(model, plan)
    for note in [*(note for file in files for note in file.notes), *about_drawing, *about_prompts]:
        print_note(note)
    _make_images(config, model, plan, gallery, scorer, stop)


def _settled(config: InferConfig, records: Sequence[dict[str, Any]], base_model: str) -> InferConfig:
    """The settings with what was recorded, the defaults, and a seed."""
    config = with_recorded_source(config, records)
    counted = {} if config.images.random_samples else {"num_images": 4}  # the seeds of samples count up by themselves
    config = with_defaults(config, is_demo=is_demo(base_model), **counted)
    return config if config.images.seed is not None else changed(config, seed=(secrets.randbelow(2**32),))


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


def _open_gallery(output_dir: str, files, columns, base_model: str):
    from textual_inversion.generation.gallery import Gallery
    from textual_inversion.system.output_folder import make_output_folder
    from textual_inversion.system.provenance import git_revision, versions

    embeds = [_described(file) for file in files]
    embeds += [{**_described(file), "column": label} for label, file in columns.items()]
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


def _column_scorer(clip_model: str | None, columns, model):
    """What scores the images of a comparison; None where nothing is compared, or with no CLIP model at hand."""
    from textual_inversion.evaluation.clip import ClipScorer, find_clip
    from textual_inversion.evaluation.column_scores import ColumnScorer

    if not columns:
        return None
    try:
        folder = find_clip(model.folder, clip_model)
    except SettingsError as error:
        if clip_model is not None:
            raise
        print_note(f"the columns are not scored: {error}")
        return None
    scorer = ClipScorer(folder, name=clip_model)
    for note in scorer.notes:
        print_note(note)
    return ColumnScorer(scorer, columns, model, print_note)


def drawing_notes(model, plan) -> list[str]:
    """What the user should know of how images are drawn."""
    schedulers = plan.texts("scheduler")
    found = [note for name in schedulers for note in model.drawing_notes(name)]
    if any(one.eta for one in plan.requests):
        used = {name: type(model.sampling_scheduler(name)).__name__ for name in schedulers}
        if others := sorted({name for name in used.values() if name != SCHEDULERS["ddim"]}):
            found.append(f"--eta has no effect on {', '.join(others)}; only ddim adds such noise")
    return found


def notes(model, tokens: list[str], prompts: Sequence[str], negative_prompts: Sequence[str]) -> list[str]:
    """What the user should know before the images are made: unknown placeholder tokens, text that is not read."""
    from textual_inversion.formats.learned_embedding import composed
    from textual_inversion.models.prompt_encoder import cut_notes

    encode_ids = model.text_encoders[0].encode_ids
    listed, found, drawn = ", ".join(tokens), [], set(prompts)
    texts = list(dict.fromkeys([*prompts, *negative_prompts]))[:_MOST_READ]
    avoided = any(encode_ids.holds_learned_word(text) for text in negative_prompts[:_MOST_READ])
    for prompt in texts:
        words = composed(prompt).split()
        bare = [token for token in tokens if token.strip("<>") in words and token not in composed(prompt)]
        if unknown := encode_ids.unknown_placeholders(prompt):
            found.append(f"no file holds {', '.join(unknown)}, which {prompt!r} names; the files hold {listed}")
        elif bare:
            found.append(f"{prompt!r} lacks the brackets of {', '.join(bare)}")
        elif prompt in drawn and not avoided and not encode_ids.holds_learned_word(prompt):
            found.append(f"{prompt!r} holds no placeholder token; the files hold {listed}")
    found += cut_notes(encode_ids, texts)
    rest = len(found) - _MOST_NOTED
    return [*found[:_MOST_NOTED], f"and {rest} more such notes on other prompts"] if rest > 0 else found


def _make_images(config: InferConfig, model, plan, gallery, scorer, stop: Signals) -> None:
    """Generate, save each image as soon as it is there, and write sheet and manifest even when interrupted."""
    from textual_inversion.generation.draw_plan import draw
    from textual_inversion.generation.generate import batches, blank_notes, total_steps
    from textual_inversion.system.progress import Progress, duration

    begun, made = time.monotonic(), {}
    pipeline = model.pipeline(with_safety_checker=config.images.safety_checker)
    if config.images.safety_checker and getattr(pipeline, "safety_checker", None) is None:
        print_note("this base model comes without a safety checker; nothing is checked")
    plan = plan.settled(model.image_size, type(pipeline.scheduler).__name__)
    requests, chosen, all_facts = plan.requests, batches(plan.requests, config.sampling.batch_size), []
    try:
        gallery.reserve(len(requests))
        with Progress(total_steps(requests), description="denoising step") as progress:
            for position, image in draw(model, plan, chosen, pipeline=pipeline, progress=progress):
                facts = _facts(requests[position], model, pipeline, image, scorer)
                with stop.noted():
                    gallery.save(position, image, facts)
                    made[position] = image
                    all_facts.append(facts)
                    stop.advice = f"after {len(made)} of {len(requests)} images, which are in {gallery.folder}"
    finally:
        images = [made[position] for position in sorted(made)]
        with stop.noted():
            gallery.finish(images, config.output.num_cols or _columns(plan, config.images.num_images))
    for note in blank_notes(images):
        print_note(note)
    if scorer is not None:
        from textual_inversion.evaluation.column_scores import column_scores, table

        for row in table(column_scores(all_facts)):
            print_line(row, is_aligned=True)
    print_line(
        f"{len(images)} images in {duration(time.monotonic() - begun)} min, seeds from {requests[0].seed}: "
        f"{gallery.folder / 'contact_sheet.png'}"
    )


def _columns(plan, num_images: int | None) -> int:
    """A row for each prompt and setting; where each has one image only, a rectangle."""
    if plan.columns:
        return len(plan.columns)
    if num_images is not None and num_images > 1:
        return num_images
    return max(1, round(len(plan.requests) ** 0.5 + 0.5))


def _facts(request, model, pipeline, image, scorer) -> dict[str, Any]:
    """What one image was made with."""
    facts = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "guidance_scale": request.guidance_scale,
        "num_inference_steps": request.num_inference_steps,
        "scheduler": SCHEDULERS.get(request.scheduler, type(pipeline.scheduler).__name__),
        "eta": request.eta,
        "height": image.height,
        "width": image.width,
        "base_model": portable(model.name),
    }
    if request.embeds:
        facts["embeds"] = request.embeds
    if scorer is not None:
        facts["score"] = scorer.score(image, request.prompt, request.embeds)
    if "safety_checker" in image.info:
        facts["safety_checker"] = image.info["safety_checker"]
    return facts


if __name__ == "__main__":
    run_command(main)
