"""Embedding files with what is recorded about them, and the base model that they were learned on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual_inversion.embeddings.run_record import is_name, read_record
from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.embedding_file import LearnedEmbedding, check_token, read_embeddings
from textual_inversion.formats.learned_embedding import composed, embedding_notes, token_names
from textual_inversion.settings.choices import PROPERTIES
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL, LOCAL, LOCAL_DEMO, ROOT, has_demo, is_single_file


@dataclass(frozen=True)
class ConceptFile:
    """An embedding file and the record of the run that wrote it.

    Attributes:
        path: the file.
        concepts: the learned embeddings in it.
        run: content of the run.json beside it; empty if there is none or it is about other concepts.
    """

    path: Path
    concepts: tuple[LearnedEmbedding, ...]
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def placeholder_tokens(self) -> list[str]:
        """The placeholder tokens of the concepts in the file."""
        return [concept.placeholder_token for concept in self.concepts]

    @property
    def notes(self) -> list[str]:
        """What a user of the file should know; see `formats.learned_embedding.embedding_notes`."""
        return [note for concept in self.concepts for note in embedding_notes(concept)]

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def recorded_tokens(self) -> list[str]:
        """The placeholder tokens of the run, in the order in which its record lists values for each concept."""
        return _as_list(self.run.get("placeholder_token"))

    def recorded(self, key: str, token: str | None = None) -> str | None:
        """The entry `key` of the run's record, else of the file's own metadata; None where neither has one.

        Args:
            token: the placeholder token of the concept in question, for entries with a value for each concept.
        """
        value = self.run.get(key)
        if isinstance(value, list):
            value = dict(zip(self.recorded_tokens, value, strict=False)).get(token)
        if value is None:
            concepts = [c for c in self.concepts if token in (None, c.placeholder_token)]
            value = next((c.metadata[key] for c in concepts if key in c.metadata), None)
        return value if is_name(value) else None

    @property
    def language(self) -> str:
        """Language of the prompts of the training, one of `choices.LANGUAGES`; "en" where nothing is recorded."""
        return self.run.get("settings", {}).get("language", "en")

    def learnable_property(self, token: str) -> str:
        """Which of `choices.PROPERTIES` a concept was learned as; "object" where nothing is recorded."""
        recorded = self.recorded("learnable_property", token)
        return recorded if recorded in PROPERTIES else "object"


def read_concept_files(paths: Sequence[str | Path]) -> list[ConceptFile]:
    """Read embedding files with the records beside them.

    Args:
        paths: files, folders of runs, or repository ids of the Hugging Face hub.

    Raises:
        EmbeddingFileError: a file cannot be found or cannot be used.
        SettingsError: two concepts have the same token.
    """
    files = []
    for path in map(find_embedding_file, paths):
        concepts = tuple(read_embeddings(path))
        for concept in concepts:
            check_token(concept.placeholder_token, source=str(path))
        files.append(ConceptFile(path, concepts, _run_record(path, concepts)))
    _refuse_duplicates(files)
    return files


def read_initializer_embeds(sources: Sequence[str] | None, *, token: str | None = None) -> list[LearnedEmbedding]:
    """The learned embeddings that training starts from; [] for None.

    Args:
        sources: as `paths` of `read_concept_files`.
        token: for private and gated repositories; None takes the one of an earlier login.

    Raises:
        EmbeddingFileError: a file cannot be found or cannot be used.
    """
    return [embedding for source in sources or () for embedding in read_embeddings(find_embedding_file(source, token))]


def _run_record(path: Path, concepts: Sequence[LearnedEmbedding]) -> dict[str, Any]:
    """The run.json beside a file, if it is about one of the file's concepts."""
    record = read_record(path.parent)
    tokens = _as_list(record.get("placeholder_token"))
    return record if any(concept.placeholder_token in tokens for concept in concepts) else {}


def _as_list(value: Any) -> list:
    return [composed(one) if isinstance(one, str) else one for one in (value if isinstance(value, list) else [value])]


def _refuse_duplicates(files: Sequence[ConceptFile]) -> None:
    holders: dict[str, list[str]] = {}
    for file in files:
        for concept in file.concepts:
            for name in token_names(concept.placeholder_token, concept.num_vectors):
                holders.setdefault(name, []).append(str(file.path))
    for name, paths in holders.items():
        if len(paths) > 1:
            listed = ", ".join(dict.fromkeys(paths))
            raise SettingsError(f"the token {name} occurs twice in {listed}; use these embeddings one at a time")


def base_model_of(files: Sequence[ConceptFile], named: str | None = None) -> str:
    """Folder or repository id of the base model that embedding files were learned on.

    Args:
        named: the one that the user names, which overrides the records.

    Returns:
        The named one, else that of the run.json beside a file, else that of a file's metadata, else the demo's.

    Raises:
        SettingsError: the files were learned on different models, on one that no longer exists, or on an unknown one.
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
    if not found and not has_demo():
        raise SettingsError(
            f"{files[0].path} does not say which base model it was learned on; name it with "
            "--pretrained_model_name_or_path"
        )
    return next(iter(found), str(DEMO_MODEL))


def _existing(name: str, source: Path) -> str:
    """Where a recorded base model is now: a path may be relative to this project, which may have moved."""
    for candidate in (Path(name), ROOT / name):
        if candidate.is_dir() or is_single_file(candidate):
            return str(candidate.resolve())
    if name == LOCAL_DEMO or Path(name).parts[-2:] == DEMO_MODEL.parts[-2:]:
        return str(DEMO_MODEL)
    if Path(name).is_absolute() or name.startswith((".", LOCAL)):
        raise SettingsError(
            f"{source} was learned on {name}, which does not exist; name it with --pretrained_model_name_or_path"
        )
    return name
