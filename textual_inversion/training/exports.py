"""The files of `--export`: the learned embeddings as other programs read them.

    OUTPUT/export/kohya/cat-toy.safetensors

They are made to be given to others, so they name the base model as a published record does, and hold no more than such
a record shows. A concept is called as its file is called in programs that look for no placeholder token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textual_inversion.embeddings.conversion import NewFile, conversion
from textual_inversion.embeddings.file_names import FINAL_NAME
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.sharing.public_records import EXPORTS, public_metadata
from textual_inversion.system import atomic
from textual_inversion.system.errors import EmbeddingFileError, SettingsError


@dataclass(frozen=True)
class Export:
    """The files of one format.

    Attributes:
        format: one of `targets.TARGETS`.
        files: with what is in them.
        notes: what they do not hold.
    """

    format: str
    files: tuple[NewFile, ...]
    notes: tuple[str, ...]


def plan_exports(
    formats: Sequence[str] | None, learned: Sequence[LearnedEmbedding], base_model: str, folder: Path
) -> list[Export]:
    """The files to write, of which nothing is written yet.

    Args:
        formats: as `--export` has them.
        base_model: its name for others, see `models.identity`.
        folder: of the run.

    Raises:
        SettingsError: a format cannot hold these concepts.
    """
    public = [replace(one, metadata=public_metadata(one.metadata, base_model)) for one in learned]
    concepts = [ConceptFile(folder / FINAL_NAME, tuple(public))]
    exports = []
    for name in dict.fromkeys(formats or ()):
        try:
            files, notes = conversion(concepts, name, f"{folder / EXPORTS / name}/")
        except (EmbeddingFileError, SettingsError) as error:
            raise SettingsError(f"--export {name}: {error}") from error
        exports.append(Export(name, tuple(files), tuple(notes) + tuple(note for file in files for note in file.notes)))
    return exports


def write_exports(exports: Sequence[Export]) -> None:
    """Write the files, each in one step; raises OutputError."""
    for file in [file for export in exports for file in export.files]:
        atomic.make_folder(file.path.parent)
        atomic.write_bytes(file.path, file.content)
