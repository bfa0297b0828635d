"""The vocabulary of a text encoder: its words, and which of them have the rows nearest to a vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.formats.errors import printable
from textual_inversion.models.concept_embedding import table_of
from textual_inversion.models.config_checks import explained
from textual_inversion.models.families import FAMILIES, read_index
from textual_inversion.models.hub import resolve
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.models.text_encoders import TextEncoder, load_text_encoder, tokenizer_folder
from textual_inversion.system.errors import ConceptError

# Vocabularies are in order of frequency. After so many words come names and fragments, whose rows were seldom trained.
_MOST = 8000
_SHORTEST = 3  # letters
_AT_ONCE = 64  # vectors that are held against the whole table


def load_text_encoders(
    name_or_path: str | Path,
    *,
    tokenizer_name: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    **source: Any,
) -> list[TextEncoder]:
    """The frozen text encoders of a base model with their tokenizers, without the rest of the model.

    Args:
        tokenizer_name: a tokenizer other than the base model's.
        revision, variant: of the base model, as in `models.hub.resolve`.
        source: where both come from: `cache_dir` and `token`, as there.

    Raises:
        BaseModelError: it is not there, incomplete or of an unknown kind.
    """
    folder = resolve(name_or_path, revision=revision, variant=variant, **source)
    index = read_index(folder)
    named = None if tokenizer_name is None else resolve(tokenizer_name, only_tokenizer=True, **source)
    encoders = []
    with explained(folder):
        for location in FAMILIES[index["_class_name"]].text_encoders:
            own = folder / location.tokenizer if named is None else tokenizer_folder(named, location.tokenizer)
            encoders.append(load_text_encoder(folder, location, index[location.folder][-1], own, variant))
    return encoders


def known_ids(text: str, tokenizer: Any) -> list[int]:
    """The token ids of a text; [] where there are none, or one of them stands for what is unknown."""
    ids, unknown = PromptEncoder(tokenizer).token_ids(text), tokenizer.unk_token_id
    # CLIP's tokenizers use one token for the end and for what is unknown; text never gives the end.
    return [] if unknown is not None and unknown in ids else ids


def word_vectors(text: str, encoders: Sequence[TextEncoder]) -> dict[str, np.ndarray]:
    """The rows of a text's tokens, float32 [N, D] by text encoder.

    Raises:
        ConceptError: a text encoder does not know the text, or has another number of tokens for it than the first.
    """
    found: dict[str, np.ndarray] = {}
    for encoder in encoders:
        ids = known_ids(text, encoder.tokenizer)
        if not ids:
            raise ConceptError(
                f"{printable(text, 60)!r} has no token in this base model's vocabulary; give words that it knows, such "
                "as toy, person or style"
            )
        rows = table_of(encoder.layer).numpy()[ids].astype(np.float32)
        if any(len(other) != len(rows) for other in found.values()):
            raise ConceptError(
                f"{printable(text, 60)!r} has different numbers of tokens for the two text encoders of this base "
                "model; choose another word"
            )
        found[encoder.name] = rows
    return found


def row_norms(encoder: TextEncoder) -> np.ndarray:
    """The norms of all rows of a text encoder's table, float32 [V]."""
    return np.linalg.norm(table_of(encoder.layer).numpy().astype(np.float32, copy=False), axis=1)


def marked_words(tokenizer: Any) -> list[tuple[str, str]]:
    """(word, token) of all tokens that stand for a word or its end, the most frequent first."""
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    # CLIP marks the end of a word, XLM-RoBERTa its beginning, BERT what goes on with one.
    if any(token.endswith("</w>") for token in tokens):
        return [(token.removesuffix("</w>"), token) for token in tokens if token.endswith("</w>")]
    if any(token.startswith("▁") for token in tokens):
        return [(token.removeprefix("▁"), token) for token in tokens if token.startswith("▁")]
    return [(token, token) for token in tokens if not token.startswith("##")]


def whole_words(tokenizer: Any, most: int = _MOST) -> list[str]:
    """Words that are one token each, of at least three plain small letters, the most frequent first."""
    found = []
    for word, token in marked_words(tokenizer):
        plain = len(word) >= _SHORTEST and word.isascii() and word.isalpha() and word.islower()
        if plain and tokenizer.tokenize(word) == [token]:
            found.append(word)
            if len(found) == most:
                break
    return found


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of a text encoder with their rows.

    Attributes:
        name: of the text encoder, "text_encoder" or "text_encoder_2".
        words: what stands for each row, the most frequent first.
        rows: float32 [W, D], of the words.
        norms: (mean, std) of the lengths of all rows of the table.
    """

    name: str
    words: list[str]
    rows: np.ndarray
    norms: tuple[float, float]

    @classmethod
    def of(cls, encoder: TextEncoder) -> "Vocabulary":
        """The vocabulary of a text encoder."""
        table = table_of(encoder.layer).numpy()
        ids = encoder.tokenizer.get_vocab()
        special = set(encoder.tokenizer.all_special_tokens)
        pairs = [(word, ids[token]) for word, token in marked_words(encoder.tokenizer) if token not in special and word]
        pairs = [(word, number) for word, number in pairs if number < len(table)]
        lengths = np.linalg.norm(table, axis=1)
        rows = table[[number for _, number in pairs]]
        return cls(encoder.name, [word for word, _ in pairs], rows, (float(lengths.mean()), float(lengths.std())))

    def nearest(self, vectors: np.ndarray, count: int = 5) -> list[list[tuple[str, float]]]:
        """For each vector of [N, D], the words with the largest cosines and these cosines, the nearest first."""
        rows = self.rows / np.maximum(np.linalg.norm(self.rows, axis=1, keepdims=True), 1e-12)
        found: list[list[tuple[str, float]]] = []
        for part in _parts(vectors):
            wide = part.astype(np.float64)  # whose squares may be beyond float32
            wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
            cosines = wide.astype(np.float32) @ rows.T  # [n, W]
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
            found += [[(self.words[i], float(row[i])) for i in order] for row, order in zip(cosines, best, strict=True)]
        return found


def _parts(vectors: np.ndarray) -> Sequence[np.ndarray]:
    return [vectors[begin : begin + _AT_ONCE] for begin in range(0, len(vectors), _AT_ONCE)]
