"""The concept that `score.py` measures: its file, and the flags about it that were left out, as recorded beside it."""

from pathlib import Path
from typing import Any

from textual_inversion.embeddings.files import ConceptFile, read_concept_files
from textual_inversion.settings.generation import BaseModelSettings, ScoredConcept
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.progress import print_note


def read_scored(concept: ScoredConcept) -> ConceptFile:
    """The embedding file; raises SettingsError for several that are not one concept."""
    file, *others = read_concept_files(concept.embeds, concept.rename)
    if others:
        raise SettingsError(f"{file.path} and {others[0].path} are no pair of one concept; score one at a time")
    return file


def recorded_flags(concept: ScoredConcept, file: ConceptFile) -> dict[str, Any]:
    """The flags about the concept, filled in from what was recorded beside the file.

    Raises:
        SettingsError: the file does not hold the placeholder token, or several, or no images are known.
    """
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
        "train_data_dir": concept.train_data_dir or images_beside(file, token),
    }


def images_beside(file: ConceptFile, token: str) -> str:
    """The folder of training images that is recorded beside an embedding, if it still exists; raises SettingsError."""
    from textual_inversion.evaluation.training_images import recorded_images

    try:
        return str(recorded_images(file, token))
    except SettingsError as error:
        raise SettingsError(f"{error}; add --train_data_dir DIR") from None


def folder_of(images: str, base_model: BaseModelSettings) -> str:
    """The folder of the training images, which may be a data set of a hub; raises ImageError."""
    from textual_inversion.data.hub_images import image_folder
    from textual_inversion.hub import data_sets

    if not data_sets.is_name(images):
        return images
    return str(image_folder(images, cache_dir=base_model.cache_dir, token=base_model.hub_token)[0])


def find_training_images(folder: str) -> tuple[list[Path], list[tuple[int, int]]]:
    """The training images and their (width, height) in pixels.

    Whatever is wrong with one is said now, before a model is loaded: raises ImageError.
    """
    from textual_inversion.data.image_folder import find_images
    from textual_inversion.data.images import load_image

    paths = find_images(folder, note=print_note)
    return paths, [load_image(path).size for path in paths]
