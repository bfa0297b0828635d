"""Embedding files on their way into a base model: what was recorded about them, which model they fit, attaching."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual_inversion.embeddings.run_record import is_name, read_record
from textual_inversion.embeddings.sources import find_embedding_files
from textual_inversion.formats.embedding_file import LearnedEmbedding, check_token, read_embeddings
from textual_inversion.formats.learned_embedding import token_names
from textual_inversion.settings.choices import PROPERTIES
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL, ROOT, is_single_file


@dataclass(frozen=True)
class ConceptFile:
    """An embedding file and the record of the run that made it.

    Attributes:
        path: the file.
        concepts: what it holds.
        run: contents of the run.json beside it; empty where there is none, or where that is of another concept.
    """

    path: Path
    concepts: tuple[LearnedEmbedding, ...]
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The placeholder tokens."""
        return [concept.placeholder_token for concept in self.concepts]

    @property
    def sha256(self) -> str:
        """Check sum of the file, in hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def recorded_words(self) -> list[str]:
        """The words of the run that made it, in the order in which its record lists what is said of each."""
        return _as_list(self.run.get("placeholder_token"))

    def recorded(self, key: str, word: str | None = None) -> str | None:
        """What the run's record, else the file's own metadata, says under `key`: of the run, or of one of its words."""
        value = self.run.get(key)
        if isinstance(value, list):
            value = dict(zip(self.recorded_words, value, strict=False)).get(word)
        if value is None:
            concepts = [c for c in self.concepts if word in (None, c.placeholder_token)]
            value = next((c.metadata[key] for c in concepts if key in c.metadata), None)
        return value if is_name(value) else None

    @property
    def language(self) -> str:
        """Of the sentences that it was trained with, one of `choices.LANGUAGES`; "en" where nothing is recorded."""
        return self.run.get("settings", {}).get("language", "en")

    def kind(self, word: str) -> str:
        """Which of `choices.PROPERTIES` a word stands for; "object" where nothing is recorded."""
        recorded = self.recorded("learnable_property", word)
        return recorded if recorded in PROPERTIES else "object"


def read_concept_files(paths: Sequence[str | Path]) -> list[ConceptFile]:
    """Read embedding files with the records beside them.

    Args:
        paths: files, folders of runs, or names of repositories on the Hugging Face hub.

    Raises:
        EmbeddingFileError: a file cannot be used, or is not to be had.
        SettingsError: two concepts claim one token.
    """
    files = []
    for path in (file for name in paths for file in find_embedding_files(name)):
        concepts = tuple(read_embeddings(path))
        for concept in concepts:
            check_token(concept.placeholder_token, source=str(path))
        files.append(ConceptFile(path, concepts, _run_record(path, concepts)))
    _refuse_doubles(files)
    return files


def read_initializer_embeds(sources: Sequence[str] | None, *, token: str | None = None) -> list[LearnedEmbedding]:
    """The concepts of embedding files that training starts from; [] for None.

    Args:
        token: for hub repositories that ask who you are.

    Raises:
        EmbeddingFileError: a file cannot be used.
    """
    files = [file for source in sources or () for file in find_embedding_files(source, token)]
    return [concept for file in files for concept in read_embeddings(file)]


def _run_record(path: Path, concepts) -> dict[str, Any]:
    """The run.json beside a file, if it is about one of the file's concepts."""
    record = read_record(path.parent)
    words = _as_list(record.get("placeholder_token"))
    return record if any(concept.placeholder_token in words for concept in concepts) else {}


def _as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def _refuse_doubles(files: list[ConceptFile]) -> None:
    concepts = [concept for file in files for concept in file.concepts]
    counts = Counter(name for c in concepts for name in token_names(c.placeholder_token, c.num_vectors))
    double = next((name for name, count in counts.items() if count > 1), None)
    if double is not None:
        holders = ", ".join(
            dict.fromkeys(
                str(file.path)
                for file in files
                for c in file.concepts
                if double in token_names(c.placeholder_token, c.num_vectors)
            )
        )
        raise SettingsError(f"the token {double} stands twice in {holders}; use these embeddings one at a time")


def base_model_of(files: Sequence[ConceptFile], named: str | None = None) -> str:
    """Folder or hub name of the base model that embedding files belong to.

    The one that is named; else the one in the run.json beside a file; else in a file's metadata; else the demo's.

    Raises:
        SettingsError: the files were learned on different models, or on one that is not there any more.
    """
    if named is not None:
        return named
    found = {}
    for file in files:
        recorded = file.recorded("base_model")
        if recorded is not None:
            found.setdefault(_existing(recorded, file.path), file.path)
    if len(found) > 1:
        (first, one), (second, other) = list(found.items())[:2]
        raise SettingsError(
            f"{one} was learned on {first} and {other} on {second}; use them one at a time, or choose a model "
            "with --pretrained_model_name_or_path"
        )
    return next(iter(found), str(DEMO_MODEL))


def _existing(name: str, source: Path) -> str:
    """A recorded base model as it can be found now: paths may be relative to this repository, which may have moved."""
    for candidate in (Path(name), ROOT / name):
        if candidate.is_dir() or is_single_file(candidate):
            return str(candidate.resolve())
    if Path(name).parts[-2:] == DEMO_MODEL.parts[-2:]:
        return str(DEMO_MODEL)
    if Path(name).is_absolute() or name.startswith("."):
        raise SettingsError(
            f"{source} was learned on {name}, which is not there; say where it is with --pretrained_model_name_or_path"
        )
    return name
