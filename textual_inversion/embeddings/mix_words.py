"""The learned words that a mix names, and what its result says about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from textual_inversion.embeddings.files import ConceptFile, record_beside
from textual_inversion.embeddings.mix_expression import Learned, Node, parts_of, written
from textual_inversion.embeddings.pairs import read_files
from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.errors import file_name, printable, quoted
from textual_inversion.formats.learned_embedding import LearnedEmbedding, composed
from textual_inversion.hub.aistudio import is_name
from textual_inversion.settings.choices import KEEP
from textual_inversion.system.errors import EmbeddingFileError, SettingsError
from textual_inversion.system.paths import is_possible_path, leads_in_circles, portable

_SHOWN = 20  # words of a file in a message


class MixWords:
    """The learned words of a mix, each file read once.

    Args:
        node: what is mixed.

    Attributes:
        found: for each learned word of the mix its file and what was learned.

    Raises:
        EmbeddingFileError: a file, or the record beside it, cannot be found or cannot be used.
        SettingsError: a file does not hold the word, or several where none is named.
    """

    def __init__(self, node: Node):
        self._node, self._files = node, dict[Path, ConceptFile]()
        learned = dict.fromkeys(part for part in parts_of(node) if isinstance(part, Learned))
        self.found: dict[Learned, tuple[ConceptFile, LearnedEmbedding]] = {one: self._find(one) for one in learned}

    @property
    def files(self) -> list[ConceptFile]:
        """The files, in the order in which the mix names them."""
        return list(self._files.values())

    @property
    def paths(self) -> list[Path]:
        """All files that were read, those of pairs included."""
        return [path for file in self.files for path in (file.path, file.partner) if path is not None]

    def _find(self, word: Learned) -> tuple[ConceptFile, LearnedEmbedding]:
        name, token = _name_and_token(word)
        try:
            file = self._read(find_embedding_file(name))
        except EmbeddingFileError as error:
            if any(sign in name for sign in "+-") and not Path(name).exists():
                raise EmbeddingFileError(f"{error}; between names, + and - want blanks around them") from error
            raise
        held = ", ".join(printable(own, 60) for own in file.placeholder_tokens[:_SHOWN])
        if token is not None:
            concept = next((one for one in file.concepts if one.placeholder_token == composed(token)), None)
            if concept is None:
                raise SettingsError(f"{file_name(name)} holds no {quoted(token)}; it holds {held}")
            return file, concept
        if len(file.concepts) > 1:
            raise SettingsError(f"{file_name(name)} holds {held}; name one of them, as in FILE:<word>")
        return file, file.concepts[0]

    def _read(self, path: Path) -> ConceptFile:
        if path not in self._files:
            (read,) = read_files([path])
            run = record_beside(path, read.tokens)
            self._files[path] = ConceptFile(path, read.concepts, run, read.partner)
        return self._files[path]

    @property
    def metadata(self) -> dict[str, str]:
        """What the result says about what it was mixed from: without the folders of this machine."""
        files = {file_name(file.path.name): file.sha256 for file in self.files}
        facts = {"mixed_from": written(self._node, self._public)}
        if files:
            facts["mixed_files"] = ", ".join(f"{name} sha256:{sum_}" for name, sum_ in files.items())
        return facts | {key: value for key in ("base_model", "learnable_property") if (value := self._common(key))}

    def _public(self, word: Learned) -> Learned:
        file, concept = self.found[word]
        return Learned(file.path.name, concept.placeholder_token if len(file.concepts) > 1 or word.word else None)

    def _common(self, key: str) -> str | None:
        """What is recorded of all words alike."""
        values = {file.recorded(key, concept.placeholder_token) for file, concept in self.found.values()}
        return values.pop() if len(values) == 1 else None

    def base_models(self) -> Mapping[str, Sequence[Path]]:
        """The base models that are recorded, with the files that were learned on each."""
        models: dict[str, list[Path]] = {}
        for file, concept in self.found.values():
            recorded = file.recorded("base_model", concept.placeholder_token)
            if recorded is not None and file.path not in models.setdefault(recorded, []):
                models[recorded].append(file.path)
        return models

    def notes(self) -> list[str]:
        """What whoever mixes these words should know."""
        models = list(self.base_models().items())
        found = [note for file in self.files for note in file.notes]
        if len(models) > 1:
            (one, (first, *_)), (other, (second, *_)) = models[:2]
            found.append(
                f"{file_name(first)} was learned on {printable(one)} and {file_name(second)} on {printable(other)}; "
                "vectors of different base models may mean nothing together"
            )
        return found


def as_new_word(
    name: str,
    vectors: Mapping[str, np.ndarray],
    words: MixWords,
    *,
    norm: str,
    from_start: float | None,
    base_model: str | None,
) -> LearnedEmbedding:
    """The result of a mix, which says what it was made from and how.

    Args:
        vectors: float32 [N, D] by text encoder.
        norm: one of `choices.NORMS`.
        from_start: how far each learned word was taken from its start; None: all the way.
        base_model: the one whose words were mixed in; it counts where the learned words do not name one and the same.
    """
    facts = {} if base_model is None else {"base_model": portable(base_model)}
    facts |= words.metadata
    facts |= {"mixed_norm": norm} if norm != KEEP else {}
    facts |= {} if from_start is None else {"mixed_from_start": f"{from_start:g}"}
    return LearnedEmbedding(name, vectors, facts, "the mix")


def _name_and_token(word: Learned) -> tuple[str, str | None]:
    """A file or repository, and the token in it."""
    name, token = word.file, word.word
    if token is None and not (_is_there(name) or is_name(name)) and ":" in name:
        name, _, token = name.rpartition(":")
    if not name or not is_possible_path(name):
        raise SettingsError(f"{printable(name or word.file, 80)} can be the name of no file; shorten it")
    if leads_in_circles(name):
        raise SettingsError(f"{file_name(name)}: its symbolic links lead in circles; give another path")
    return name, token


def _is_there(name: str) -> bool:
    return is_possible_path(name) and not leads_in_circles(name) and Path(name).expanduser().exists()
