"""Embedding files with what is recorded about them."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual_inversion.embeddings.pairs import ReadFile, read_files
from textual_inversion.embeddings.renaming import read_renaming, rename
from textual_inversion.embeddings.run_record import FILE_NAME, is_name, is_place, read_record
from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.embedding_file import LearnedEmbedding, check_token
from textual_inversion.formats.errors import file_name, quoted
from textual_inversion.formats.learned_embedding import composed, embedding_notes, token_names
from textual_inversion.settings.choices import PROPERTIES
from textual_inversion.settings.shared import READING
from textual_inversion.settings.train import REUSED
from textual_inversion.system import user_files
from textual_inversion.system.errors import EmbeddingFileError, SettingsError
from textual_inversion.system.paths import portable


@dataclass(frozen=True)
class ConceptFile:
    """An embedding file and the record of the run that wrote it.

    Attributes:
        path: the file.
        concepts: the learned embeddings in it.
        run: content of the run.json beside it; empty if there is none or it is about other concepts.
        partner: the file with the vectors for the second text encoder, where there are two files.
        originals: placeholder token -> what the file calls it, for concepts that got another name.
        found_in: the folder that was named, if the file is not the one that a finished run writes; else None.
    """

    path: Path
    concepts: tuple[LearnedEmbedding, ...]
    run: dict[str, Any] = field(default_factory=dict)
    partner: Path | None = None
    originals: Mapping[str, str] = field(default_factory=dict)
    found_in: Path | None = None

    @property
    def placeholder_tokens(self) -> list[str]:
        """The placeholder tokens of the concepts in the file."""
        return [concept.placeholder_token for concept in self.concepts]

    @property
    def notes(self) -> list[str]:
        """What a user of the file should know; see `formats.learned_embedding.embedding_notes`."""
        return [*_how_found(self), *(note for concept in self.concepts for note in embedding_notes(concept))]

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return user_files.sha256(self.path, user_files.WEIGHTS)

    @property
    def partner_sha256(self) -> str | None:
        """SHA-256 of the partner; None where there is none."""
        return None if self.partner is None else user_files.sha256(self.partner, user_files.WEIGHTS)

    @property
    def described(self) -> dict[str, Any]:
        """What is recorded of the file beside images."""
        facts = {"file": portable(str(self.path)), "words": self.placeholder_tokens, "sha256": self.sha256}
        if self.partner is not None:
            facts |= {"partner": portable(str(self.partner)), "partner_sha256": self.partner_sha256}
        if renamed := {old: new for new, old in self.originals.items() if new in self.placeholder_tokens}:
            facts["renamed"] = renamed
        return facts | {name: value for name, value in self.reading.items() if value is not None}

    @property
    def reading(self) -> dict[str, int | None]:
        """How prompts were read when the vectors were learned: the values of `shared.READING`; None: the usual way.

        Raises:
            EmbeddingFileError: the file's metadata holds a value that no run has.
        """
        settings = self.run.get("settings", {})
        return {name: settings.get(name) or self._number(name) for name in READING}

    def _number(self, name: str) -> int | None:
        text = next((c.metadata[name] for c in self.concepts if name in c.metadata), None)
        try:
            return None if text is None else REUSED[name].type(str(text))
        except argparse.ArgumentTypeError as error:
            raise EmbeddingFileError(
                f"{file_name(self.path)}: its {name} {error}; save the embedding anew, or give --{name}"
            ) from None

    @property
    def recorded_tokens(self) -> list[str]:
        """The placeholder tokens of the run, in the order in which its record lists values for each concept."""
        return _as_list(self.run.get("placeholder_token"))

    def of_concept(self, value: Any, token: str | None) -> Any:
        """A recorded value for one concept, where the record lists one for each; None where it lists none for it."""
        if not isinstance(value, list):
            return value
        return dict(zip(self.recorded_tokens, value, strict=False)).get(self.originals.get(token, token))

    def recorded(self, key: str, token: str | None = None) -> str | None:
        """The entry `key` of the run's record, else of the file's own metadata; None where neither has one.

        Args:
            token: the placeholder token of the concept in question, for entries with a value for each concept.

        Raises:
            EmbeddingFileError: the metadata names a base model by what can be no name.
        """
        value = self.of_concept(self.run.get(key), token)
        if value is None:
            concepts = [c for c in self.concepts if token in (None, c.placeholder_token)]
            value = next((c.metadata[key] for c in concepts if key in c.metadata), None)
        if value is not None and key == "base_model" and not is_place(value):
            raise EmbeddingFileError(
                f"{file_name(self.path)}: says {quoted(value)} as {key}, which no run writes; save the embedding anew"
            )
        return value if is_name(value) else None

    @property
    def record_path(self) -> Path:
        """The file that says which base model this was learned on."""
        return self.path.parent / FILE_NAME if self.run.get("base_model") is not None else self.path

    @property
    def hint(self) -> str | None:
        """What another program noted about the base model: a text for people, never a path or a repository id."""
        return next((c.metadata["learned_on"] for c in self.concepts if "learned_on" in c.metadata), None)

    @property
    def language(self) -> str:
        """Language of the prompts of the training, one of `choices.LANGUAGES`; "en" where nothing is recorded."""
        return self.run.get("settings", {}).get("language", "en")

    def learnable_property(self, token: str) -> str:
        """Which of `choices.PROPERTIES` a concept was learned as; "object" where nothing is recorded."""
        recorded = self.recorded("learnable_property", token)
        return recorded if recorded in PROPERTIES else "object"


def read_concept_files(
    paths: Sequence[str | Path], renaming: Sequence[str] | None = None, *, may_share_tokens: bool = False
) -> list[ConceptFile]:
    """Read embedding files with the records beside them.

    Args:
        paths: files, folders of runs, or repositories on a hub, see `sources`. Two files may be one concept, see
            `pairs`.
        renaming: other placeholder tokens for some concepts, see `renaming.rename`; texts such as "OLD=NEW".
        may_share_tokens: whoever asks sees to it that no two concepts with one token are used together.

    Raises:
        EmbeddingFileError: a file, or the record beside it, cannot be found or cannot be used.
        SettingsError: two concepts have the same token, or nothing is called as `renaming` says.
    """
    found = [find_embedding_file(path) for path in paths]
    folders = {file: Path(path) for path, file in zip(paths, found, strict=True) if "-steps-" in file.name}
    read = read_files(found)
    runs = [record_beside(file.path, file.tokens) for file in read]
    files = []
    for (file, originals), run in zip(rename(read, read_renaming(renaming)), runs, strict=True):
        for concept in file.concepts:
            check_token(concept.placeholder_token, source=str(file.path))
        folder = folders.get(file.path)
        found_in = folder if folder is not None and folder.is_dir() else None
        files.append(ConceptFile(file.path, file.concepts, run, file.partner, originals, found_in))
    if not may_share_tokens:
        refuse_duplicates(files)
    return files


def read_initializer_embeds(
    sources: Sequence[str] | None, *, token: str | None = None, renaming: Sequence[str] | None = None
) -> list[LearnedEmbedding]:
    """The learned embeddings that training starts from; [] for None.

    Args:
        sources: as `paths` of `read_concept_files`.
        token: for private and gated repositories; None takes the one of an earlier login.
        renaming: as of `read_concept_files`.

    Raises:
        EmbeddingFileError: a file cannot be found or cannot be used.
        SettingsError: nothing is called as `renaming` says.
    """
    read: list[ReadFile] = read_files([find_embedding_file(source, token) for source in sources or ()])
    return [embedding for file, _ in rename(read, read_renaming(renaming)) for embedding in file.concepts]


def common_reading(files: Sequence[ConceptFile], names: Sequence[str] = READING) -> dict[str, int | None]:
    """How prompts are read that use the concepts of some files together.

    Args:
        names: of `shared.READING`, those that the user did not settle.

    Raises:
        SettingsError: the files were learned in different ways.
    """
    found: dict[str, int | None] = {}
    for name in names:
        by_value = {file.reading[name]: file for file in files}
        if len(by_value) > 1:
            (one, first), (other, second) = list(by_value.items())[:2]
            shown = [
                f"{file.path} with {'the usual' if v is None else v}" for v, file in ((one, first), (other, second))
            ]
            raise SettingsError(f"{' and '.join(shown)} were learned with different --{name}; give one for both")
        found[name] = next(iter(by_value), None)
    return found


def _how_found(file: ConceptFile) -> list[str]:
    """What a user should know about where the vectors come from."""
    found = []
    if file.found_in is not None:
        found.append(f"{file_name(file.found_in)} holds no finished embedding; {file.path.name} is its newest")
    if file.partner is not None:
        found.append(
            f"{file_name(file.path)} and {file_name(file.partner)} are one concept for two text encoders; both are used"
        )
    return found


def record_beside(path: Path, file_tokens: Sequence[str]) -> dict[str, Any]:
    """The run.json beside a file, if it is about one of the file's concepts; raises EmbeddingFileError."""
    record = read_record(path.parent)
    return record if set(file_tokens) & set(_as_list(record.get("placeholder_token"))) else {}


def _as_list(value: Any) -> list:
    return [composed(one) if isinstance(one, str) else one for one in (value if isinstance(value, list) else [value])]


def refuse_duplicates(files: Sequence[ConceptFile]) -> None:
    """Refuse files that cannot be used together: two of their vectors have one token. Raises SettingsError."""
    holders: dict[str, list[str]] = {}
    for file in files:
        for concept in file.concepts:
            for name in token_names(concept.placeholder_token, concept.num_vectors):
                holders.setdefault(name, []).append(str(file.path))
    for name, paths in holders.items():
        if len(paths) > 1:
            listed = ", ".join(dict.fromkeys(paths))
            raise SettingsError(
                f"the token {name} occurs twice in {listed}; use these embeddings one at a time, see them side by "
                "side with infer.py --compare, or give one another name with --rename FILE=NEW"
            )
