"""Learned embeddings between programs: describe any file, and write concepts in the layout of another program."""

import importlib
import json
from collections.abc import Callable
from typing import Any

from textual_inversion.cli.convert import build_parser, parse
from textual_inversion.settings.choices import AUTO
from textual_inversion.settings.convert import ComparedModel, ConvertConfig, InspectConfig
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
    found, missing = [], []
    for path in config.files.files:
        try:
            found.append(described(path))
        except EmbeddingFileError as error:
            missing.append(error)
    compared = [] if config.model.pretrained_model_name_or_path is None else _vocabularies(config.model)
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


def _vocabularies(chosen: ComparedModel):
    """The vocabularies of a base model's text encoders."""
    prepare_environment(None, allow_tf32=False)
    importlib.import_module("ppdiffusers")
    from textual_inversion.models.vocabulary import Vocabulary, load_text_encoders

    source = source_of(chosen, chosen.hub_token)
    name = chosen.pretrained_model_name_or_path
    return [Vocabulary.of(one) for one in load_text_encoders(name, tokenizer_name=chosen.tokenizer_name, **source)]


# What is done with the settings of each subcommand, by their class.
_RUNS: dict[type, Callable[[Any], int | None]] = {ConvertConfig: convert, InspectConfig: inspect}


if __name__ == "__main__":
    run_command(main)
