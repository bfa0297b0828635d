"""Measure how well a concept was learned: CLIP similarities with a baseline and a ceiling (arXiv 2208.01618).

Three flags measure something else with the same means: --curve, which step or mix is the best bargain; --leave_one_out,
which training image hurts; --pairs, which words survive together in one prompt.
"""

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textual_inversion.cli.generation import parse_score, with_defaults, with_recorded_source
from textual_inversion.cli.generation import score_parser as build_parser
from textual_inversion.settings.flag import all_flags, changed, values_of
from textual_inversion.settings.generation import Measuring, ScoreConfig, ScoredConcept, ScoreSampling
from textual_inversion.settings.shared import parts_of, source_of
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import SettingsError, run_command
from textual_inversion.system.paths import has_demo, how_to_call, in_shell, is_demo, portable
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
    from textual_inversion.embeddings.learned_on import base_model_of, doubted_records

    output = config.output.output
    if output and not Path(output).resolve().parent.is_dir():
        raise SettingsError(f"--output {output}: there is no such folder; make it first")
    if config.measuring.pairs:
        run_pairs(config, stop)
        return
    file = _read(config.concept)
    named = config.base_model.pretrained_model_name_or_path
    base_model, records = base_model_of([file], named), doubted_records([file], config.base_model)
    config = changed(config, **_recorded(config.concept, file))
    config = with_defaults(with_recorded_source(config, [file.run]), is_demo=is_demo(base_model))
    paths, sizes = _looked_at(_folder_of(config.concept.train_data_dir, config.base_model))
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
        rows = table(result) + ([] if leak is None else [_leak_line(leak)])
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


# -------------------------------------------------------------------------------------- curve, images, pairs, leak


def _curve(config: ScoreConfig, file, model, scorer, images, protocol) -> tuple[dict[str, Any], list[str]]:
    """The curve of likeness against editability, written into its folder, as a dictionary and as rows."""
    from textual_inversion.data.templates import generic_word
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.embeddings.sources import step_files, step_of
    from textual_inversion.evaluation.curve import as_json, table
    from textual_inversion.evaluation.curve_measuring import measure_curve
    from textual_inversion.reporting.curve_plot import curve_plot
    from textual_inversion.system import atomic
    from textual_inversion.system.errors import ConceptError
    from textual_inversion.training.start_vectors import start_vectors

    concept, word = config.concept, config.concept.placeholder_token
    learned = next(one for one in file.concepts if one.placeholder_token == word)
    try:
        start, note = start_vectors(file, learned, model.text_encoders, model.name)
    except ConceptError as error:
        start, note = None, f"no mix is measured: {error}"
    if note is not None:
        print_note(note)
    steps = {step_of(path): read_concept_files([path], concept.rename)[0] for path in step_files(file.path.parent)}
    curve = measure_curve(
        model, scorer, file, word, start, {n: own for n, own in steps.items() if word in own.placeholder_tokens},
        initializer=concept.initializer_token or generic_word(concept.learnable_property, concept.language),
        training_images=images, fresh_images=_fresh_drawings(concept.train_data_dir, model.resolution),
        protocol=protocol,
    )  # fmt: skip
    folder, result = Path(config.measuring.curve), as_json(curve)
    atomic.write_json(folder / "curve.json", result)
    atomic.write_text(folder / "curve.svg", curve_plot(curve))
    return result, [*table(curve), _how_to_take(curve.recommended(), file, word, model.name), f"{folder / 'curve.svg'}"]


def _how_to_take(point, file, word: str, base_model: str) -> str:
    """How a user gets the vectors of the recommended point."""
    from textual_inversion.embeddings.sources import step_files, step_of

    if point.kind == "step":
        path = next(path for path in step_files(file.path.parent) if step_of(path) == point.at)
        return f"best bargain: {point.label}: {in_shell(path)}"
    if point.at == 1:
        return f"best bargain: the word as it was learned: {in_shell(file.path)}"
    name = f"--name {in_shell(word)} --output mixed.safetensors"
    call = f"{how_to_call('convert.py mix')} {in_shell(file.path)} --from_start {point.at:g} {name}"
    return f"best bargain: {point.label}: {call} --pretrained_model_name_or_path {in_shell(base_model)}"


def _without_each(config: ScoreConfig, repetition, model, scorer, images, paths: Sequence[Path], protocol):
    """The word learned without each image, as a dictionary and as rows."""
    from textual_inversion.cli.repeat import train_again
    from textual_inversion.embeddings.file_names import FINAL_NAME
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.evaluation.leave_one_out import as_json, gains, table
    from textual_inversion.models.attach import attach_files

    word, rename = config.concept.placeholder_token, config.concept.rename
    draw = _drawer(model, scorer, word, protocol)
    whole, without = draw(), []
    for number, path in enumerate(paths):
        print_note(f"training without {path.name}, {number + 1} of {len(paths)}")
        with tempfile.TemporaryDirectory(prefix="textual-inversion-") as scratch:
            others = _copy_of_all_but(path, Path(scratch) / "images")
            train_again(repetition, Path(scratch) / "run", train_data_dir=[str(others)])
            attach_files(model, [read_concept_files([Path(scratch) / "run" / FINAL_NAME], rename)[0]])
            without.append(draw())
    found = gains([path.name for path in paths], whole, without, scorer.image_features(images))
    return as_json(found), table(found)


def _drawer(model, scorer, word: str, protocol) -> Callable[[], Any]:
    """What draws the plain prompt of a word with the vectors that the model has, and gives the CLIP features."""
    from textual_inversion.data.templates import plain_template
    from textual_inversion.evaluation.pairs_measuring import requests_of
    from textual_inversion.generation.generate import generate

    prompt = plain_template(protocol.learnable_property, protocol.language).replace("{}", word)
    requests = requests_of(prompt, protocol)
    return lambda: scorer.image_features(generate(model, requests, batch_size=protocol.batch_size))


def _copy_of_all_but(left_out: Path, folder: Path) -> Path:
    """A folder with the files beside an image, captions too, but neither the image nor what has its name."""
    from textual_inversion.system import atomic, user_files

    atomic.make_folder(folder)
    for path in sorted(left_out.parent.iterdir()):
        if path.is_file() and path.stem != left_out.stem:
            atomic.write_bytes(folder / path.name, user_files.read_bytes(path, user_files.IMAGE))
    return folder


def run_pairs(config: ScoreConfig, stop: Signals) -> None:
    """Say which of several words survive together in one prompt."""
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
    looked_at = {token: _looked_at(_recorded_images(file, token)) for token, file in holders.items()}
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
    from textual_inversion.data.masks import masks_for
    from textual_inversion.data.templates import generic_word
    from textual_inversion.evaluation.leak import background_leak

    concept, folder = config.concept, config.measuring.mask_dir
    paths, sizes = looked_at
    if folder is not None:
        files = masks_for(list(zip(paths, sizes, strict=True)), folder, alpha=False, note=print_note)
        by_path = dict(zip(paths, files, strict=True))
        drawn, masks = images, resizer.resize_all(paths, sizes, lambda path: by_path[path].load())
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


def _leak_line(leak: Mapping[str, float]) -> str:
    error = f" ± {leak['standard_error']:.3f}" if "standard_error" in leak else ""
    return (
        f"background leak: {leak['concept']:.3f}{error} of the word's attention lies beside the thing, of the "
        f"baseline's {leak['baseline']:.3f}; without any aim it would be {leak['outside']:.3f}"
    )


# ------------------------------------------------------------------------------------------------------------ report


def _portable(value: Any) -> Any:
    """A setting as the report holds it: paths, one or several, as another machine can read them."""
    if isinstance(value, tuple):
        return [_portable(one) for one in value]
    return portable(value) if isinstance(value, str) else value


def _report(
    config: ScoreConfig, file, model, scorer, result: dict[str, Any], rows: Sequence[str], stop: Signals
) -> None:
    """Write the JSON file, then print the table: whoever reads it may leave without loss of a figure."""
    output = config.output.output
    if output:
        _write(config, file, model, scorer, result)
        stop.advice = f"after everything was measured; the figures are in {output}"
    for row in rows:
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
