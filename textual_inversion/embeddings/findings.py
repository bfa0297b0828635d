"""What is found when a file is examined, and what can be found without a base model.

no        the embedding cannot work
warning   it works, and not as one would want
note      good to know
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.embeddings.files import ConceptFile, record_beside, refuse_duplicates
from textual_inversion.embeddings.pairs import read_files
from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.embedding_file import LearnedEmbedding, NotAnEmbedding, check_token
from textual_inversion.formats.errors import UnreadableFile, file_name, printable
from textual_inversion.formats.kinds import kind_of, why_no_embedding
from textual_inversion.formats.learned_embedding import made_for
from textual_inversion.system.errors import EmbeddingFileError, SettingsError

NO, WARNING, NOTE = LEVELS = ("no", "warning", "note")
_LARGEST_HALF = float(np.finfo(np.float16).max)
_ROOM = 75  # tokens of a prompt, of every base model with a CLIP text encoder
_SHOWN = 60


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        level: one of `LEVELS`.
        about: what it is about, a word for programs.
        text: one line that says it and names the way out.
        word: the placeholder token of the concept; "" for the whole file.
    """

    level: str
    about: str
    text: str
    word: str = ""


@dataclass(frozen=True, eq=False)
class Examination:
    """A file and what was found.

    Attributes:
        path: the file.
        file: its concepts; None if it cannot be read as an embedding.
        findings: the gravest first.
    """

    path: Path
    file: ConceptFile | None
    findings: tuple[Finding, ...] = field(default=())

    @property
    def works(self) -> bool:
        """Whether nothing speaks against using it."""
        return all(one.level != NO for one in self.findings)

    def with_more(self, more: Sequence[Finding]) -> "Examination":
        """The same with more findings."""
        ordered = sorted([*self.findings, *more], key=lambda one: LEVELS.index(one.level))
        return Examination(self.path, self.file, tuple(ordered))


def examined(name_or_path: str) -> Examination:
    """What can be said of a file without a base model.

    Raises:
        UnreadableFile: it is not there, or may not be read.
        EmbeddingFileError: a folder or a repository holds no embedding, or a hub cannot be reached.
    """
    path = find_embedding_file(name_or_path)
    try:
        (read,) = read_files([path])
        file = ConceptFile(path, read.concepts, record_beside(path, read.tokens), read.partner)
        for token in file.placeholder_tokens:
            file.recorded("base_model", token)  # raises for what can be no name
    except UnreadableFile:
        raise
    except EmbeddingFileError as error:
        return Examination(path, None, (Finding(NO, "file", _why_not(error, path)),))
    findings = [one for concept in file.concepts for one in _of_concept(concept)]
    return Examination(path, file).with_more([*findings, *_of_tokens(file)])


def _why_not(error: EmbeddingFileError, path: Path) -> str:
    """Why a file cannot be used, and what it is instead of an embedding."""
    if not isinstance(error, NotAnEmbedding):
        return str(error).removeprefix(f"{file_name(path)}: ")
    try:
        kind = kind_of(path)
    except OSError:
        return why_no_embedding(error, path)
    return f"it is {kind}, and no embedding; {error.way_out}"


def _of_tokens(file: ConceptFile) -> list[Finding]:
    """Placeholder tokens that cannot stand in a prompt, or that collide."""
    found = []
    for token in file.placeholder_tokens:
        try:
            check_token(token, source=str(file.path))
        except EmbeddingFileError as error:
            found.append(Finding(NO, "name", _without_path(error, file), token))
    try:
        refuse_duplicates([file])
    except SettingsError as error:
        found.append(Finding(NO, "name", str(error)))
    return found


def _without_path(error: Exception, file: ConceptFile) -> str:
    return str(error).removeprefix(f"{file_name(file.path)}: ")


def _of_concept(concept: LearnedEmbedding) -> list[Finding]:
    token, found = concept.placeholder_token, []
    shown = printable(token, _SHOWN)
    zeros = {name: np.flatnonzero(~array.any(axis=1)) + 1 for name, array in concept.vectors.items()}
    some = sorted({int(number) for numbers in zeros.values() for number in numbers})
    if all(len(numbers) == concept.num_vectors for numbers in zeros.values()):
        found.append(Finding(NO, "zeros", f"{shown} is all zeros and means nothing; train it again", token))
    elif some:
        listed = ", ".join(map(str, some[:20]))
        text = f"vector {listed} of {shown} is zero and says nothing to the model; train it again, or mix without it"
        found.append(Finding(WARNING, "zeros", text, token))
    if any(np.abs(array).max() > _LARGEST_HALF for array in concept.vectors.values()):
        text = f"{shown} holds values beyond {_LARGEST_HALF:.0f}, the largest of float16"
        found.append(Finding(WARNING, "half", f"{text}; use it in float32, or scale it down with mix", token))
    if "left_out" in concept.metadata:
        left_out = printable(concept.metadata["left_out"], _SHOWN)
        text = f"{left_out} of {shown} act after the text encoder and are not used; its own program uses them"
        found.append(Finding(NOTE, "left_out", text, token))
    return found


def without_base_model(file: ConceptFile) -> list[Finding]:
    """What is likely, where no base model is named."""
    found = []
    for concept in file.concepts:
        shown, token = printable(concept.placeholder_token, _SHOWN), concept.placeholder_token
        recorded = file.recorded("base_model", token) or file.hint
        on = f", learned on {printable(recorded)}" if recorded else ""
        text = f"{shown} is for {made_for(concept.widths)}{on}; name a base model to see whether it works there"
        found.append(Finding(NOTE, "family", text, token))
        if concept.num_vectors > _ROOM:
            text = f"{shown} has {concept.num_vectors} vectors, and prompts of CLIP have room for {_ROOM}"
            found.append(Finding(WARNING, "room", f"{text}; train it with fewer", token))
    return found


# ----------------------------------------------------------------------------------------------------------- reports


def report(found: Examination, base_model: str | None) -> list[str]:
    """Lines for people: the verdict, then a line for each finding.

    Args:
        base_model: the name of the one that it was examined for.
    """
    head = f"{file_name(found.path)}: {_verdict(found, base_model)}"
    return [head, *(f"  {one.level}: {one.text}" for one in found.findings)]


def refusal(found: Examination, base_model: str | None) -> EmbeddingFileError:
    """The error for a file that does not work: the first reason."""
    return EmbeddingFileError(f"{file_name(found.path)} {_verdict(found, base_model)}: {found.findings[0].text}")


def _verdict(found: Examination, base_model: str | None) -> str:
    if base_model is None:
        return "nothing speaks against it" if found.works else "cannot be used"
    return f"{'works' if found.works else 'does not work'} with {printable(base_model, 300)}"


def as_json(found: Examination, base_model: str | None) -> dict[str, Any]:
    """The same as JSON values."""
    concepts = () if found.file is None else found.file.concepts
    return {
        "file": str(found.path),
        "base_model": base_model,
        "works": found.works,
        "words": {one.placeholder_token: {"vectors": one.num_vectors, "widths": one.widths} for one in concepts},
        "findings": [vars(one) for one in found.findings],
    }
