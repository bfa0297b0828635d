"""Describe files: the concepts in an embedding file, and what any other file is."""

from dataclasses import dataclass
from pathlib import Path

from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings


@dataclass(frozen=True)
class Description:
    """What is known about a file."""

    path: Path
    concepts: tuple[LearnedEmbedding, ...]


def described(name_or_path: str) -> Description:
    """What a file holds."""
    path = find_embedding_file(name_or_path)
    return Description(path, tuple(read_embeddings(path)))


def report(found: Description) -> list[str]:
    """The lines that describe a file."""
    return [str(found.path)] + [
        f"  {concept.placeholder_token}  {concept.num_vectors} x {'+'.join(map(str, concept.widths.values()))}"
        for concept in found.concepts
    ]
