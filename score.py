"""Measure how well a concept was learned: CLIP similarities with a baseline and a ceiling (arXiv 2208.01618)."""

import importlib
from pathlib import Path
from typing import Any

from textual_inversion.cli.generation import parse_score, with_defaults, with_recorded_source
from textual_inversion.cli.generation import score_parser as build_parser
from textual_inversion.settings.flag import all_flags, changed, values_of
from textual_inversion.settings.generation import Measuring, ScoreConfig, ScoredConcept, ScoreSampling
from textual_inversion.settings.shared import parts_of, source_of
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import SettingsError, run_command
from textual_inversion.system.paths import has_demo, is_demo, portable
from textual_inversion.system.progress import print_line, print_note
from textual_inversion.system.signals import Signals

__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    config = parse_score(argv)
    with Signals() as stop:
        stop.advice = "before everything was measured; nothing was written"
        run(config, stop)


def run(config: ScoreConfig, stop: Signals) -> None:
    """Measure what the settings ask for, and print and write the figures."""
    from textual_inversion.data.images import load_image
    from textual_inversion.embeddings.learned_on import base_model_notes, base_model_of, doubted_records

    output = config.output.output
    if output and not Path(output).resolve().parent.is_dir():
        raise SettingsError(f"--output {output}: there is no such folder; make it first")
    file = _read(config.concept)
    named = config.base_model.pretrained_model_name_or_path
    base_model, records = base_model_of([file], named), doubted_records([file], config.base_model)
    config = changed(config, **_recorded(config.concept, file))
    config = with_defaults(with_recorded_source(config, [file.run]), is_demo=is_demo(base_model))
    paths, sizes = _looked_at(_folder_of(config.concept.train_data_dir, config.base_model))

    with stop.held_back():
        prepare_environment(config.machine.num_threads, allow_tf32=config.machine.allow_tf32)
        importlib.import_module("ppdiffusers")
    from textual_inversion.evaluation.clip import ClipScorer, find_clip
    from textual_inversion.evaluation.training_images import as_trained
    from textual_inversion.models.attach import attach_files, vae_notes
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.hub import resolve
    from textual_inversion.models.precision import check_device, lower

    device = select_device(config.machine.device)
    check_device(config.machine.mixed_precision, device)
    source, clip_model = source_of(config.base_model, config.base_model.hub_token), config.measuring.clip_model
    for note in base_model_notes([file], base_model, named):
        print_note(note)
    folder = resolve(base_model, **source, recorded_in=records["recorded_in"])
    scorer = ClipScorer(find_clip(folder, clip_model), name=clip_model)
    model = load_base_model(base_model, **parts_of(config.base_model), **source, **records)
    attach_files(model, [file])
    for note in file.notes + vae_notes([file], model) + scorer.notes + model.drawing_notes(config.sampling.scheduler):
        print_note(note)
    lower(model, config.machine.mixed_precision)
    resizer = as_trained(file.run, model.resolution, model.side_factor)
    result = _measure(config.concept, _protocol(config.concept, config.measuring, config.sampling), file, model,
                      scorer, resizer.resize_all(paths, sizes, load_image))  # fmt: skip
    config = changed(config, device=device, clip_skip=model.clip_skip, max_token_length=model.max_token_length)
    _report(config, file, model, scorer, result, stop)


def _folder_of(images: str, base_model) -> str:
    """The folder of the training images, which may be a data set of a hub."""
    from textual_inversion.data.hub_images import image_folder
    from textual_inversion.hub import data_sets

    if not data_sets.is_name(images):
        return images
    return str(image_folder(images, cache_dir=base_model.cache_dir, token=base_model.hub_token)[0])


def _looked_at(folder: str) -> tuple[list[Path], list[tuple[int, int]]]:
    """The training images and their sizes. Whatever is wrong with one is said before a model is loaded."""
    from textual_inversion.data.image_folder import find_images
    from textual_inversion.data.images import load_image

    paths = find_images(folder, note=print_note)
    return paths, [load_image(path).size for path in paths]


def _read(concept: ScoredConcept):
    """The embedding file; raises SettingsError for several that are not one concept."""
    from textual_inversion.embeddings.files import read_concept_files

    file, *others = read_concept_files(concept.embeds, concept.rename)
    if others:
        raise SettingsError(f"{file.path} and {others[0].path} are no pair of one concept; score one at a time")
    return file


def _recorded(concept: ScoredConcept, file) -> dict[str, Any]:
    """The flags about the concept, filled in from what was recorded beside the file."""
    token = concept.placeholder_token
    if token is None and len(file.placeholder_tokens) == 1:
        token = file.placeholder_tokens[0]
    if token not in file.placeholder_tokens:
        asked = token or "no --placeholder_token"
        raise SettingsError(f"{file.path} holds {', '.join(file.placeholder_tokens)}; choose one of them, not {asked}")
    return {
        "placeholder_token": token,
        "learnable_property": concept.learnable_property or file.learnable_property(token),
        "language": concept.language or file.language,
        "initializer_token": concept.initializer_token or file.recorded("initializer_token", token),
        "train_data_dir": concept.train_data_dir or _recorded_images(file, token),
    }


def _recorded_images(file, token: str) -> str:
    """The folder of training images that is recorded beside an embedding, if it still exists."""
    from textual_inversion.evaluation.training_images import recorded_images

    try:
        return str(recorded_images(file, token))
    except SettingsError as error:
        raise SettingsError(f"{error}; add --train_data_dir DIR") from None


def _protocol(concept: ScoredConcept, measuring: Measuring, sampling: ScoreSampling):
    from textual_inversion.evaluation.scoring import Protocol

    return Protocol(
        learnable_property=concept.learnable_property,
        language=concept.language,
        num_images=measuring.num_images,
        images_per_edit_prompt=measuring.images_per_edit_prompt,
        seed=measuring.seed,
        guidance_scale=sampling.guidance_scale,
        num_inference_steps=sampling.num_inference_steps,
        scheduler=sampling.scheduler,
        batch_size=sampling.batch_size,
    )


def _fresh_drawings(train_data_dir: str, size: int) -> list:
    """Other images of the concept that a folder shows, which only the demo's own folders have."""
    if not has_demo():
        return []
    from demo.shipped import fresh_drawings

    return fresh_drawings(train_data_dir, size)


def _measure(concept: ScoredConcept, protocol, file, model, scorer, images) -> dict[str, Any]:
    from textual_inversion.evaluation.scoring import score
    from textual_inversion.system.progress import Progress

    with Progress(protocol.steps(2), description="denoising step") as progress:
        return score(
            model,
            scorer,
            word=concept.placeholder_token,
            initializer=concept.initializer_token,
            training_images=images,
            fresh_images=_fresh_drawings(concept.train_data_dir, model.resolution),
            protocol=protocol,
            progress=progress,
        )


def _portable(value: Any) -> Any:
    """A setting as the report holds it: paths, one or several, as another machine can read them."""
    if isinstance(value, tuple):
        return [_portable(one) for one in value]
    return portable(value) if isinstance(value, str) else value


def _report(config: ScoreConfig, file, model, scorer, result: dict[str, Any], stop: Signals) -> None:
    """Write the JSON file, then print the table: whoever reads it may leave without loss of a figure."""
    from textual_inversion.evaluation.scoring import table

    output = config.output.output
    if output:
        _write(config, file, model, scorer, result)
        stop.advice = f"after everything was measured; the figures are in {output}"
    for row in table(result):
        print_line(row, is_aligned=True)
    if output:
        print_line(output)


def _write(config: ScoreConfig, file, model, scorer, result: dict[str, Any]) -> None:
    from textual_inversion.system import atomic
    from textual_inversion.system.provenance import git_revision, versions

    flags, values = all_flags(ScoreConfig), values_of(config)
    facts = {
        "embeds": {"file": portable(str(file.path)), "sha256": file.sha256},
        "base_model": portable(model.name),
        "clip_model": portable(scorer.name),
        "settings": {
            name: _portable(values[name]) for name in sorted(values) if name != "output" and not flags[name].is_secret
        },
        "versions": versions(),
        "git_revision": git_revision(),
    }
    atomic.write_json(config.output.output, {**result, **facts})


if __name__ == "__main__":
    run_command(main)
