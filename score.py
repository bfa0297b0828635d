"""Measure how well a concept was learned: CLIP similarities with a baseline and a ceiling (arXiv 2208.01618).

Three flags measure something else with the same means: --curve, which step or mix is the best bargain; --leave_one_out,
which training image hurts; --pairs, which words survive together in one prompt.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textual_inversion.cli.generation import parse_score, with_defaults, with_recorded_source
from textual_inversion.cli.generation import score_parser as build_parser
from textual_inversion.settings.flag import changed
from textual_inversion.settings.generation import Measuring, ScoreConfig, ScoredConcept, ScoreSampling
from textual_inversion.settings.shared import parts_of, source_of
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import SettingsError, run_command
from textual_inversion.system.paths import has_demo, is_demo
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
    from textual_inversion.cli.scored_concept import find_training_images, folder_of, read_scored, recorded_flags
    from textual_inversion.embeddings.learned_on import base_model_of, doubted_records

    output = config.output.output
    if output and not Path(output).resolve().parent.is_dir():
        raise SettingsError(f"--output {output}: there is no such folder; make it first")
    if config.measuring.pairs:
        run_pairs(config, stop)
        return
    file = read_scored(config.concept)
    named = config.base_model.pretrained_model_name_or_path
    base_model, records = base_model_of([file], named), doubted_records([file], config.base_model)
    config = changed(config, **recorded_flags(config.concept, file))
    config = with_defaults(with_recorded_source(config, [file.run]), is_demo=is_demo(base_model))
    paths, sizes = find_training_images(folder_of(config.concept.train_data_dir, config.base_model))
    begun = _begun(config, file, paths)  # may refuse, before a model is loaded
    model, scorer, device = _loaded(config, [file], base_model, records, named, stop)
    _measured(config, file, model, scorer, (paths, sizes), begun, device, stop)


def _loaded(config: ScoreConfig, files, base_model: str, records, named: str | None, stop: Signals):
    """The base model with the concepts of the files, the CLIP model, and the device."""
    from textual_inversion.embeddings.learned_on import base_model_notes

    with stop.held_back():
        prepare_environment(config.machine.num_threads, allow_tf32=config.machine.allow_tf32)
        importlib.import_module("ppdiffusers")
    from textual_inversion.evaluation.clip import ClipScorer, find_clip
    from textual_inversion.models.attach import attach_files, vae_notes
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.hub import resolve
    from textual_inversion.models.precision import check_device, lower

    device = select_device(config.machine.device)
    check_device(config.machine.mixed_precision, device)
    source, clip_model = source_of(config.base_model, config.base_model.hub_token), config.measuring.clip_model
    for note in base_model_notes(files, base_model, named):
        print_note(note)
    folder = resolve(base_model, **source, recorded_in=records["recorded_in"])
    scorer = ClipScorer(find_clip(folder, clip_model), name=clip_model)
    model = load_base_model(base_model, **parts_of(config.base_model), **source, **records)
    attach_files(model, files)
    about = [note for file in files for note in file.notes] + vae_notes(files, model)
    for note in about + scorer.notes + model.drawing_notes(config.sampling.scheduler):
        print_note(note)
    lower(model, config.machine.mixed_precision)
    return model, scorer, device


def _measured(config: ScoreConfig, file, model, scorer, looked_at, begun, device: str, stop: Signals) -> None:
    """Measure one concept, in the way that was chosen, and report it."""
    from textual_inversion.data.images import load_image
    from textual_inversion.evaluation.leak import sentence
    from textual_inversion.evaluation.scoring import table
    from textual_inversion.evaluation.training_images import as_trained

    paths, sizes = looked_at
    protocol = _protocol(config.concept, config.measuring, config.sampling)
    resizer = as_trained(file.run, model.resolution, model.side_factor)
    images = resizer.resize_all(paths, sizes, load_image)
    config = changed(config, device=device, clip_skip=model.clip_skip, max_token_length=model.max_token_length)
    if config.measuring.curve:
        _report(config, file, model, scorer, *_curve(config, file, model, scorer, images, protocol), stop)
    elif config.measuring.leave_one_out:
        found = _without_each(config, begun, model, scorer, images, paths, protocol)
        _report(config, file, model, scorer, *found, stop)
    else:
        result = _measure(config.concept, protocol, file, model, scorer, images)
        leak = _leak(config, model, (paths, sizes), resizer, images, protocol)
        found = result if leak is None else result | {"background_leak": leak}
        rows = table(result) + ([] if leak is None else [sentence(leak)])
        _report(config, file, model, scorer, found, rows, stop)


def _begun(config: ScoreConfig, file, paths: Sequence[Path]):
    """What a measurement needs beside the model; None where it needs nothing."""
    if config.measuring.leave_one_out:
        from textual_inversion.cli.repeat import read_repetition

        if len(paths) < 3:
            raise SettingsError(f"--leave_one_out: {len(paths)} training images are too few; it takes three or more")
        if len(file.recorded_tokens) > 1:
            raise SettingsError("--leave_one_out: the run learned several words; score one that learned a single one")
        return read_repetition(file.path.parent, trusts=config.base_model.trust_record)
    if config.measuring.curve:
        from textual_inversion.system.output_folder import make_output_folder

        make_output_folder(config.measuring.curve)
    return None


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


# -------------------------------------------------------------------------------------- curve, images, pairs, leak


def _curve(config: ScoreConfig, file, model, scorer, images, protocol) -> tuple[dict[str, Any], list[str]]:
    """The curve of likeness against editability, written into its folder, as a dictionary and as rows."""
    from textual_inversion.data.templates import generic_word
    from textual_inversion.evaluation.curve import table
    from textual_inversion.evaluation.curve_measuring import measure_curve, saved_steps
    from textual_inversion.reporting.curve_files import PICTURE, how_to_take, write_curve
    from textual_inversion.system.errors import ConceptError
    from textual_inversion.training.start_vectors import start_vectors

    concept, word, folder = config.concept, config.concept.placeholder_token, Path(config.measuring.curve)
    learned = next(one for one in file.concepts if one.placeholder_token == word)
    try:
        start, note = start_vectors(file, learned, model.text_encoders, model.name)
    except ConceptError as error:
        start, note = None, f"no mix is measured: {error}"
    if note is not None:
        print_note(note)
    curve = measure_curve(
        model, scorer, file, word, start, saved_steps(file, word, concept.rename),
        initializer=concept.initializer_token or generic_word(concept.learnable_property, concept.language),
        training_images=images, fresh_images=_fresh_drawings(concept.train_data_dir, model.resolution),
        protocol=protocol,
    )  # fmt: skip
    result = write_curve(curve, folder)
    return result, [*table(curve), how_to_take(curve.recommended(), file, word, model.name), f"{folder / PICTURE}"]


def _without_each(config: ScoreConfig, repetition, model, scorer, images, paths: Sequence[Path], protocol):
    """The word learned without each image, as a dictionary and as rows."""
    from textual_inversion.cli.repeat import train_again
    from textual_inversion.embeddings.file_names import FINAL_NAME
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.evaluation.leave_one_out import as_json, table
    from textual_inversion.evaluation.leave_one_out_measuring import measure_without_each

    def learn(left: Path, folder: Path):
        train_again(repetition, folder, train_data_dir=[str(left)])
        return read_concept_files([folder / FINAL_NAME], config.concept.rename)[0]

    word = config.concept.placeholder_token
    found = measure_without_each(model, scorer, word, paths, images, learn, protocol)
    return as_json(found), table(found)


def run_pairs(config: ScoreConfig, stop: Signals) -> None:
    """Say which of several words survive together in one prompt."""
    from textual_inversion.cli.scored_concept import find_training_images, images_beside
    from textual_inversion.data.images import load_image
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.embeddings.learned_on import base_model_of, doubted_records
    from textual_inversion.evaluation.pairs import as_json, table
    from textual_inversion.evaluation.pairs_measuring import measure_pairs
    from textual_inversion.evaluation.training_images import as_trained

    files = read_concept_files(config.concept.embeds, config.concept.rename)
    holders = {token: file for file in files for token in file.placeholder_tokens}
    if len(holders) < 2:
        raise SettingsError("--pairs takes two words or more; give --embeds several files, or one with several words")
    named = config.base_model.pretrained_model_name_or_path
    base_model, records = base_model_of(files, named), doubted_records(files, config.base_model)
    config = with_defaults(with_recorded_source(config, [one.run for one in files]), is_demo=is_demo(base_model))
    own = {"learnable_property": config.concept.learnable_property or "object",
           "language": config.concept.language or files[0].language}  # fmt: skip
    config = changed(config, **own)
    looked_at = {token: find_training_images(images_beside(file, token)) for token, file in holders.items()}
    model, scorer, device = _loaded(config, files, base_model, records, named, stop)
    training = {
        token: scorer.image_features(
            as_trained(file.run, model.resolution, model.side_factor).resize_all(*looked_at[token], load_image)
        )
        for token, file in holders.items()
    }
    found = measure_pairs(model, scorer, training, _protocol(config.concept, config.measuring, config.sampling))
    config = changed(config, device=device, clip_skip=model.clip_skip, max_token_length=model.max_token_length)
    _report(config, files[0], model, scorer, {"pairs": as_json(found)}, table(found), stop)


def _leak(config: ScoreConfig, model, looked_at, resizer, images, protocol) -> Mapping[str, float] | None:
    """The background leak, where it is known where the thing is; None elsewhere."""
    from textual_inversion.data.templates import generic_word
    from textual_inversion.evaluation.leak import background_leak, masks_as_trained

    concept, folder = config.concept, config.measuring.mask_dir
    paths, sizes = looked_at
    if folder is not None:
        drawn, masks = images, masks_as_trained(paths, sizes, folder, resizer, note=print_note)
    else:
        both = _masked_drawings(concept.train_data_dir, model.resolution)
        drawn, masks = [image for image, _ in both], [mask for _, mask in both]
    if not len(drawn):
        return None
    words = [concept.initializer_token or generic_word(protocol.learnable_property, protocol.language)]
    how = {"learnable_property": protocol.learnable_property, "language": protocol.language}
    return background_leak(model, [*words, concept.placeholder_token], drawn, masks, **how)


def _masked_drawings(train_data_dir: str, size: int) -> list:
    """Images of the concept with masks of the thing, which only the demo's own folders have."""
    if not has_demo():
        return []
    from demo.shipped import masked_drawings

    return masked_drawings(train_data_dir, size)


def _report(
    config: ScoreConfig, file, model, scorer, result: dict[str, Any], rows: Sequence[str], stop: Signals
) -> None:
    """Write the JSON file, then print the table: whoever reads it may leave without loss of a figure."""
    from textual_inversion.evaluation.score_file import write_score

    output = config.output.output
    if output:
        write_score(output, result, config, file, base_model=model.name, clip_model=scorer.name)
        stop.advice = f"after everything was measured; the figures are in {output}"
    for row in rows:
        print_line(row, is_aligned=True)
    if output:
        print_line(output)


if __name__ == "__main__":
    run_command(main)
