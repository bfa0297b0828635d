"""Describe files: the concepts in an embedding file, and what any other file is."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from textual_inversion.embeddings.files import record_beside
from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.contents import FileContents, read_contents
from textual_inversion.formats.embedding_file import LearnedEmbedding, NotAnEmbedding, RefusedFile, UnreadableFile
from textual_inversion.formats.errors import file_name, printable
from textual_inversion.formats.kinds import kind_of, why_no_embedding
from textual_inversion.formats.learned_embedding import embedding_notes, made_for
from textual_inversion.settings.shared import READING
from textual_inversion.system.errors import EmbeddingFileError
from textual_inversion.system.user_files import size_text

_RECORDED = ("base_model", "learnable_property", "initializer_token", "seed", *READING)
_SAID = ("format", "placeholder_token", "left_out")  # in the lines above, or of no interest
_LONGEST = 100  # letters of an entry of the metadata
_SHOWN = 8  # vectors whose norms, or nearest words, stand in a table


class Words(Protocol):
    """The vocabulary of a text encoder that vectors are held against, such as `models.vocabulary.Vocabulary`."""

    name: str
    rows: np.ndarray
    norms: tuple[float, float]

    def nearest(self, vectors: np.ndarray, count: int = 5) -> list[list[tuple[str, float]]]:
        """For each vector, the nearest words with their cosines."""


@dataclass(frozen=True, eq=False)
class Description:
    """What is known about a file.

    Attributes:
        path: the file; where a folder was named, the embedding in it, if there is one.
        kind: what it is, if it is no embedding.
        problem: why it cannot be used as one, where `kind` does not say it.
        contents: its concepts; None if it is no embedding.
        recorded: what the record beside it says about its concepts.
        size: in bytes.
    """

    path: Path
    kind: str = "an embedding"
    problem: str | None = None
    contents: FileContents | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0


def described(name_or_path: str) -> Description:
    """What a file is.

    Args:
        name_or_path: any file; a folder, of which the embedding is described if it holds one; or a repository id.

    Raises:
        EmbeddingFileError: nothing is there, or it may not be read.
    """
    if os.path.isdir(name_or_path):
        try:
            path = find_embedding_file(name_or_path)
        except EmbeddingFileError:
            return Description(Path(name_or_path), _kind(Path(name_or_path)))
    else:
        path = find_embedding_file(name_or_path)
    try:
        contents = read_contents(path)
    except UnreadableFile:
        if not os.path.exists(path) or os.path.isfile(path):
            raise
        return Description(path, _kind(path))
    except EmbeddingFileError as error:
        kind, reason = _kind(path), why_no_embedding(error, path)
        is_said = isinstance(error, (NotAnEmbedding, RefusedFile)) or reason in kind
        return Description(path, kind, None if is_said else reason, size=path.stat().st_size)
    recorded, problem = {}, None
    try:
        recorded = record_beside(path, [one.placeholder_token for one in contents.embeddings])
    except EmbeddingFileError as error:
        problem = str(error)
    return Description(path, problem=problem, contents=contents, recorded=recorded, size=path.stat().st_size)


def _kind(path: Path) -> str:
    try:
        return kind_of(path)
    except OSError as error:
        raise EmbeddingFileError(f"{file_name(path)}: {error.strerror or error}; {UnreadableFile.way_out}") from error


# ------------------------------------------------------------------------------------------------------- for people


def report(found: Description, compared: Sequence[Words] = ()) -> list[str]:
    """The lines that describe a file: one, or a table of its concepts.

    Args:
        compared: the vocabularies of a base model's text encoders.
    """
    problem = [] if found.problem is None else [f"cannot be used: {found.problem}"]
    if found.contents is None:
        return ["; ".join([f"{file_name(found.path)}: {found.kind}", *problem])]
    contents = found.contents
    count = len(contents.embeddings)
    head = f"{count} concept{'' if count == 1 else 's'} in {contents.container}, {contents.layout}"
    lines = [f"{file_name(found.path)}: {head}; {', '.join(contents.types)}; {size_text(found.size)}", *problem]
    lines += _table([_row(one) for one in contents.embeddings])
    for one in contents.embeddings:
        lines += [f"  note: {note}" for note in embedding_notes(one)]
        lines += [line for words in compared for line in _against(one, words)]
    return lines + _facts(found)


def _row(one: LearnedEmbedding) -> tuple[str, ...]:
    norms = "; ".join(_numbers(_norms(array)) for array in one.vectors.values())
    widths = " + ".join(str(width) for width in one.widths.values())
    return (printable(one.placeholder_token, 60), str(one.num_vectors), widths, made_for(one.widths), norms)


def _norms(array: np.ndarray) -> np.ndarray:
    """The norm of each vector; in float64, since the squares of large values are beyond float32."""
    return np.linalg.norm(array.astype(np.float64), axis=1)


def _numbers(values: np.ndarray) -> str:
    more = f" … ({len(values)})" if len(values) > _SHOWN else ""
    return " ".join(f"{value:.3g}" for value in values[:_SHOWN]) + more


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    rows = [("word", "vectors", "width", "made for", "norm of each vector"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _against(one: LearnedEmbedding, words: Words) -> list[str]:
    """A concept's vectors against the vocabulary of a text encoder."""
    begin = f"  {printable(one.placeholder_token, 60)}, {words.name.replace('_', ' ')}:"
    vectors = one.vectors.get(words.name)
    if vectors is None or vectors.shape[1] != words.rows.shape[1]:
        return [f"{begin} no vectors of the width {words.rows.shape[1]} that it needs"]
    mean, deviation = words.norms
    lines = [f"{begin} rows of the table have the norm {mean:.3g} ± {deviation:.2g}"]
    for number, nearest in enumerate(words.nearest(vectors[:_SHOWN]), 1):
        listed = ", ".join(f"{printable(word, 30)} {cosine:.2f}" for word, cosine in nearest)
        lines.append(f"    vector {number} of {len(vectors)} is nearest to {listed}")
    return lines


def _facts(found: Description) -> list[str]:
    """What the file, and the record beside it, say beside the vectors."""
    own: dict[str, str] = {}
    for one in found.contents.embeddings:
        own |= one.metadata
    beside = {key: found.recorded[key] for key in _RECORDED if found.recorded.get(key) is not None and key not in own}
    said = {key: value for key, value in own.items() if key not in _SAID}
    lines = [f"  {printable(key, 40)}: {printable(value, _LONGEST)}" for key, value in said.items()]
    return lines + [f"  {key}: {printable(value, _LONGEST)} (run.json beside it)" for key, value in beside.items()]


# ----------------------------------------------------------------------------------------------------- for programs


def as_json(found: Description, compared: Sequence[Words] = ()) -> dict[str, Any]:
    """The same as JSON values."""
    facts = {"file": str(found.path), "kind": found.kind, "bytes": found.size, "problem": found.problem}
    if found.contents is None:
        return facts
    contents = found.contents
    return facts | {
        "container": contents.container,
        "layout": contents.layout,
        "types": list(contents.types),
        "metadata": contents.metadata,
        "recorded": {key: found.recorded[key] for key in _RECORDED if key in found.recorded},
        "concepts": [_concept_json(one, compared) for one in contents.embeddings],
    }


def _concept_json(one: LearnedEmbedding, compared: Sequence[Words]) -> dict[str, Any]:
    norms = {name: [float(norm) for norm in _norms(array)] for name, array in one.vectors.items()}
    facts = {
        "word": one.placeholder_token,
        "vectors": one.num_vectors,
        "widths": one.widths,
        "made_for": made_for(one.widths),
        "norms": norms,
        "metadata": dict(one.metadata),
    }
    fitting = [words for words in compared if one.widths.get(words.name) == words.rows.shape[1]]
    if compared:
        facts["table_norms"] = {words.name: {"mean": words.norms[0], "std": words.norms[1]} for words in compared}
        facts["nearest_words"] = {words.name: words.nearest(one.vectors[words.name]) for words in fitting}
    return facts
