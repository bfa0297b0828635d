"""Learned embeddings between programs: describe and examine any file, write concepts for other programs, mix them."""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from textual_inversion.cli.convert import build_parser, parse
from textual_inversion.settings.choices import AUTO
from textual_inversion.settings.convert import ComparedModel, ConvertConfig, DoctorConfig, InspectConfig, MixConfig
from textual_inversion.settings.shared import source_of
from textual_inversion.system.environment import prepare_environment
from textual_inversion.system.errors import EmbeddingFileError, run_command
from textual_inversion.system.progress import print_line, print_note

__all__ = ["build_parser", "main"]

_THUMBNAIL, _PIXELS = 256, 768  # the longest side of a cover, as a JPEG and as an image of its own
_QUALITY = 80


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; `argv` without the program's name. Returns the exit status."""
    config = parse(argv)
    return _RUNS[type(config)](config)


# ---------------------------------------------------------------------------------------------------------- convert


def convert(config: ConvertConfig) -> None:
    """Write the concepts of some files in the layout of another program."""
    from textual_inversion.embeddings.conversion import conversion, write
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.formats.targets import Writing

    files, output = read_concept_files(config.files.files, config.files.rename), config.output
    for note in [note for file in files for note in file.notes]:
        print_note(note)
    cover = None if output.cover is None else _cover(output.cover, files)
    writing = Writing(is_half=output.half, cover=cover)
    new, notes = conversion(files, output.to, output.output, words=config.files.words, writing=writing)
    inputs = [path for file in files for path in (file.path, file.partner) if path is not None]
    write(new, inputs, overwrite=output.overwrite)
    for note in [*notes, *(note for one in new for note in one.notes)]:
        print_note(note)
    for one in new:
        print_line(f"{one.path}: {', '.join(one.tokens)}; in a prompt: {' '.join(one.prompts)}")


def _cover(choice: str, files):
    """The image that `--cover` names, or the newest one beside an embedding."""
    import numpy as np

    from textual_inversion.data.images import load_image
    from textual_inversion.data.previews import jpeg
    from textual_inversion.embeddings.run_images import newest_image
    from textual_inversion.formats.targets import Cover

    image = load_image(newest_image(files) if choice == AUTO else choice, print_note)
    thumbnail = jpeg(image, _THUMBNAIL, _QUALITY)
    image.thumbnail((_PIXELS, _PIXELS))
    return Cover(thumbnail, np.asarray(image))


# ---------------------------------------------------------------------------------------------------------- inspect


def inspect(config: InspectConfig) -> None:
    """Say what files are, and what a hub has. What is not there is said last: raises EmbeddingFileError."""
    from textual_inversion.embeddings import hub_listing
    from textual_inversion.embeddings.inspection import as_json, described, report

    name, token = config.files.hub, config.model.hub_token
    on_hub = [] if name is None else [hub_listing.embeddings_on_hub(name, token=token)]
    found, missing = _looked_at(config.files.files, described)
    compared = _vocabularies(config.model)
    if config.files.json:
        values = [as_json(one, compared) for one in found] + [hub_listing.as_json(one) for one in on_hub]
        lines = json.dumps(values, indent=2).splitlines()
    else:
        lines = [line for one in found for line in report(one, compared)]
        lines += [line for one in on_hub for line in hub_listing.report(one)]
    for line in lines:
        print_line(line, is_aligned=True)
    if missing:
        raise missing[0]


def _looked_at(names: Sequence[str], look: Callable[[str], Any]) -> tuple[list[Any], list[EmbeddingFileError]]:
    """What `look` says of each file, and the errors for those at which it cannot look."""
    found, missing = [], []
    for name in names:
        try:
            found.append(look(name))
        except EmbeddingFileError as error:
            missing.append(error)
    return found, missing


def _vocabularies(chosen: ComparedModel):
    """The vocabularies of a base model's text encoders; [] where none is named."""
    base = _base_model(chosen)
    if base is None:
        return []
    from textual_inversion.models.vocabulary import Vocabulary

    return [Vocabulary.of(one) for one in base.encoders]


def _base_model(chosen: ComparedModel):
    """A base model's text encoders; None where none is named, and then Paddle is not imported."""
    name = chosen.pretrained_model_name_or_path
    if name is None:
        return None
    prepare_environment(None, allow_tf32=False)
    importlib.import_module("ppdiffusers")
    from textual_inversion.models.compatibility import load_encoders

    return load_encoders(name, tokenizer_name=chosen.tokenizer_name, **source_of(chosen, chosen.hub_token))


# -------------------------------------------------------------------------------------------------------------- mix


def mix(config: MixConfig) -> None:
    """Make a new word from learned and vocabulary words."""
    from textual_inversion.embeddings.conversion import conversion, write
    from textual_inversion.embeddings.files import ConceptFile
    from textual_inversion.embeddings.mix_expression import parse as parse_mix
    from textual_inversion.embeddings.mix_words import MixWords, as_new_word
    from textual_inversion.embeddings.mixing import described, mixed, rescaled
    from textual_inversion.formats.targets import Writing

    options, output, node = config.mix, config.output, parse_mix(config.mix.expression)
    words = MixWords(node)
    base, notes = _base_model(config.model), words.notes()
    mixture = mixed(node, _finder(options.from_start, words, base, notes), options.pad)
    vectors = rescaled(mixture, options.norm, base and base.mean_norms())
    facts = {"norm": options.norm, "from_start": options.from_start, "base_model": base and base.name}
    new = as_new_word(options.name, vectors, words, **facts)
    if base is not None:
        notes += base.notes_on_mix(new, words.base_models())
    writing = Writing(output.half, None if output.cover is None else _cover(output.cover, words.files))
    file = ConceptFile(words.files[0].path if words.files else Path(output.output), (new,))
    files, more = conversion([file], output.to, output.output, writing=writing)
    write(files, words.paths, overwrite=output.overwrite)
    for note in dict.fromkeys([*notes, *more, *(note for one in files for note in one.notes)]):
        print_note(note)
    for one in files:
        print_line(f"{one.path}: {described(new)}; in a prompt: {' '.join(one.prompts)}")


def _finder(from_start: float | None, words, base, notes: list[str]) -> Callable[[Any], Any]:
    """What finds the vectors of a word of a mix; `notes` gets what is to be said of their start."""
    from textual_inversion.embeddings.mix_expression import Known
    from textual_inversion.embeddings.mixing import interpolated

    def vectors_of(part):
        if isinstance(part, Known):
            from textual_inversion.models.vocabulary import word_vectors

            return word_vectors(part.text, base.encoders)
        file, learned = words.found[part]
        if from_start is None:
            return learned.vectors
        from textual_inversion.training.start_vectors import start_vectors

        start, note = start_vectors(file, learned, base.encoders, base.name)
        notes.extend([] if note is None else [note])
        return interpolated(start, learned.vectors, from_start)

    return vectors_of


# ----------------------------------------------------------------------------------------------------------- doctor


def doctor(config: DoctorConfig) -> None:
    """Say whether embeddings can work with a base model. Ends in why not, where one cannot: raises EmbeddingFileError.

    What cannot be looked at is said last, too.
    """
    from textual_inversion.embeddings.findings import as_json, examined, refusal, report, without_base_model

    found, missing = _looked_at(config.files.files, examined)
    base = _base_model(config.model)
    name = None if base is None else base.name
    for index, one in enumerate(found):
        if one.file is not None:
            found[index] = one.with_more(without_base_model(one.file) if base is None else base.findings(one.file))
    if config.files.json:
        lines = json.dumps([as_json(one, name) for one in found], indent=2).splitlines()
    else:
        lines = [line for one in found for line in report(one, name)]
    for line in lines:
        print_line(line, is_aligned=True)
    if problems := [*missing, *(refusal(one, name) for one in found if not one.works)]:
        raise problems[0]


# What is done with the settings of each subcommand, by their class.
_RUNS: dict[type, Callable[[Any], int | None]] = {
    ConvertConfig: convert,
    InspectConfig: inspect,
    MixConfig: mix,
    DoctorConfig: doctor,
}


if __name__ == "__main__":
    run_command(main)
