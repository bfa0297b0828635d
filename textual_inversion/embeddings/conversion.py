"""Write the concepts of embedding files in the layout of another program, and say what that layout cannot hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual_inversion.embeddings.file_names import safe_name
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.targets import TARGETS
from textual_inversion.system import atomic


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        path: the file.
        words: the placeholder tokens of the concepts in it.
        notes: what it does not hold of them.
    """

    path: Path
    words: list[str]
    notes: list[str] = field(default_factory=list)


def converted(
    files: Sequence[ConceptFile], to: str, output: str, *, words: Sequence[str] | None = None
) -> Iterator[Written]:
    """Write the concepts of some files; a file is written when it is asked for."""
    target = TARGETS[to]
    concepts = [
        concept for file in files for concept in file.concepts if words is None or concept.placeholder_token in words
    ]
    parts: list[list[LearnedEmbedding]] = [concepts] if target.holds_many else [[concept] for concept in concepts]
    is_file = len(parts) == 1 and output.endswith(target.ending)
    for part in parts:
        path = Path(output) if is_file else Path(output) / f"{safe_name(part[0].placeholder_token)}{target.ending}"
        atomic.write_bytes(path, target.encode(part))
        yield Written(path, [concept.placeholder_token for concept in part])
