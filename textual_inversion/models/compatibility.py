"""Whether a base model can use an embedding file, and why not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.embeddings.findings import NO, NOTE, WARNING, Finding
from textual_inversion.formats.errors import file_name, printable
from textual_inversion.formats.learned_embedding import LearnedEmbedding, check_width, made_for
from textual_inversion.models.hub import resolve
from textual_inversion.models.identity import public_name
from textual_inversion.models.placeholder_words import check_placeholder
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.models.text_encoders import TextEncoder
from textual_inversion.models.vocabulary import load_text_encoders, row_norms
from textual_inversion.system.errors import ConceptError, EmbeddingFileError
from textual_inversion.system.paths import LOCAL, how_to_call, located

# A norm is out of scale where it is beyond these multiples of the norms of the table's last and first hundredth.
_FAR_ABOVE, _FAR_BELOW = 3.0, 1 / 3
_PERCENTS = (1, 50, 99)
_FEW = 8  # tokens that a prompt should have room for beside a concept
_SHOWN = 60
_MOST = 5  # vectors that a finding lists


@dataclass(frozen=True, eq=False)
class ExaminedModel:
    """The parts of a base model that decide whether an embedding works with it.

    Attributes:
        name: as the user gave it.
        folder: where its files are.
        encoders: its text encoders.
    """

    name: str
    folder: Path
    encoders: Sequence[TextEncoder]

    @property
    def widths(self) -> dict[str, int]:
        """D by text encoder."""
        return {encoder.name: encoder.embedding_width for encoder in self.encoders}

    def is_called(self, recorded: str) -> bool:
        """Whether a record means this base model."""
        if recorded == self.name:
            return True
        own, place = public_name(self.name, self.folder), None if recorded.startswith(LOCAL) else located(recorded)
        if place is None:
            return recorded == own
        return place.resolve() == self.folder.resolve() or (place.is_dir() and public_name(recorded, place) == own)

    def mean_norms(self) -> dict[str, float]:
        """The mean norm of the rows of each text encoder's table."""
        return {encoder.name: float(row_norms(encoder).mean()) for encoder in self.encoders}

    def findings(self, file: ConceptFile) -> list[Finding]:
        """What is found when a file is held against this base model."""
        percentiles = {encoder.name: np.percentile(row_norms(encoder), _PERCENTS) for encoder in self.encoders}
        found = []
        for concept in file.concepts:
            found += _about_name(concept, self) + _about_room(concept, self)
            width = _about_width(concept, self)
            found += width or _about_norms(concept, percentiles)
            found += [] if width else _about_origin(file, concept, self)
        return found

    def notes_on_mix(self, new: LearnedEmbedding, recorded: Iterable[str]) -> list[str]:
        """What whoever mixes a new word with this base model should know.

        Args:
            recorded: the base models that the parts were learned on.

        Raises:
            WrongWidth: the new word is for another base model.
            UnusableToken, TokenTaken: this base model cannot have a word of this name.
        """
        check_width(new, self.widths, self.name)
        for encoder in self.encoders:
            check_placeholder(new.placeholder_token, encoder.tokenizer, num_vectors=new.num_vectors)
        other = next((name for name in recorded if not self.is_called(name)), None)
        if other is None:
            return []
        return [f"part of the mix was learned on {printable(other)}, which is not {printable(self.name)}"]


def load_encoders(name_or_path: str, *, tokenizer_name: str | None = None, **source: Any) -> ExaminedModel:
    """The text encoders of a base model; the arguments and errors are those of `vocabulary.load_text_encoders`."""
    folder = resolve(name_or_path, **source)
    return ExaminedModel(
        name_or_path, folder, load_text_encoders(name_or_path, tokenizer_name=tokenizer_name, **source)
    )


def _about_width(concept: LearnedEmbedding, model: ExaminedModel) -> list[Finding]:
    token, shown, name = concept.placeholder_token, printable(concept.placeholder_token, _SHOWN), printable(model.name)
    own, wanted = concept.widths, model.widths
    if own == wanted:
        return []
    sizes = set(own.values())
    if len(own) < len(wanted) and sizes < set(wanted.values()):
        there = next(encoder for encoder, width in wanted.items() if width in sizes)
        which = ("second", "first") if there == "text_encoder_2" else ("first", "second")
        text = (
            f"{shown} has vectors for the {which[0]} text encoder alone, and {name} has two: those for the {which[1]} "
            "are missing; put their file beside it, such as learned_embeds_2.safetensors beside "
            "learned_embeds.safetensors, or train it on such a model"
        )
        return [Finding(NO, "encoder", text, token)]
    if len(own) > len(wanted):
        text = (
            f"{shown} has vectors for two text encoders, for {made_for(own)}, and {name} has one; choose a base model "
            "with two, or train it on this one"
        )
        return [Finding(NO, "encoder", text, token)]
    try:
        check_width(concept, wanted, model.name)
    except EmbeddingFileError as error:
        said = str(error).removeprefix(f"{file_name(concept.source)}: ")
        return [Finding(NO, "width", f"{shown} {said}", token)]
    return []


def _about_name(concept: LearnedEmbedding, model: ExaminedModel) -> list[Finding]:
    for encoder in model.encoders:
        try:
            check_placeholder(
                concept.placeholder_token, encoder.tokenizer, num_vectors=concept.num_vectors, source=concept.source
            )
        except ConceptError as error:
            said = str(error).removeprefix(f"{file_name(concept.source)}: ")
            return [Finding(NO, "name", said, concept.placeholder_token)]
    return []


def _about_room(concept: LearnedEmbedding, model: ExaminedModel) -> list[Finding]:
    room = min(PromptEncoder(encoder.tokenizer).room for encoder in model.encoders)
    left, shown = room - concept.num_vectors, printable(concept.placeholder_token, _SHOWN)
    if left >= _FEW:
        return []
    text = f"{shown} has {concept.num_vectors} vectors, and a prompt of {printable(model.name)} has room for {room}"
    if left < 0:
        return [Finding(NO, "room", f"{text}; train it with fewer --num_vectors", concept.placeholder_token)]
    text += f", which leaves {left} for other words"
    return [Finding(WARNING, "room", f"{text}; train it with fewer --num_vectors", concept.placeholder_token)]


def _about_norms(concept: LearnedEmbedding, percentiles: dict[str, np.ndarray]) -> list[Finding]:
    found, shown = [], printable(concept.placeholder_token, _SHOWN)
    for name, array in concept.vectors.items():
        norms = np.linalg.norm(array.astype(np.float64), axis=1)
        low, middle, high = percentiles[name]
        encoder = (
            "" if len(concept.vectors) == 1 else f" for the {'second' if name.endswith('_2') else 'first'} text encoder"
        )
        scale = f"98 of 100 rows of the table have {low:.3g} to {high:.3g}"
        remedy = f"rescale it with --norm table of {how_to_call('convert.py mix')}"
        for is_far, what in (
            (norms > _FAR_ABOVE * high, "it may overrule the rest of a prompt"),
            ((norms < _FAR_BELOW * low) & (norms > 0), "it may do nothing"),
        ):
            numbers = np.flatnonzero(is_far)
            if len(numbers):
                listed = ", ".join(f"{number + 1} ({norms[number]:.3g})" for number in numbers[:_MOST])
                more = ", …" if len(numbers) > _MOST else ""
                text = f"the norm of vector {listed}{more} of {shown}{encoder} is out of scale: {scale}, half of them "
                text += f"less than {middle:.3g}"
                found.append(Finding(WARNING, "norm", f"{text}; {what}; {remedy}", concept.placeholder_token))
    return found


def _about_origin(file: ConceptFile, concept: LearnedEmbedding, model: ExaminedModel) -> list[Finding]:
    """Whether it was learned on another base model that has the same width."""
    token, shown = concept.placeholder_token, printable(concept.placeholder_token, _SHOWN)
    recorded = file.recorded("base_model", token)
    if recorded is not None and not model.is_called(recorded):
        text = (
            f"{shown} was learned on {printable(recorded)}, which has the width of {printable(model.name)} too; "
            "only if one was made from the other will it look alike: choose that one, or train it on this one"
        )
        return [Finding(WARNING, "base_model", text, token)]
    if recorded is None and file.hint is not None:
        text = (
            f"{shown} says that it was learned on {printable(file.hint)}; see whether {printable(model.name)} is akin"
        )
        return [Finding(NOTE, "base_model", text, token)]
    return []
