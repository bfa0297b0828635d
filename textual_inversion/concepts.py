"""Concepts: new words, the rows behind them, and how prompts that hold them become token ids.

A prompt is expanded in one place, `PromptEncoder`: it cuts a prompt at the placeholders, lets the base model's own
tokenizer have the pieces between, and puts the new token ids in their places. The tokenizer itself is never changed,
so a placeholder that is a bare word (`det-logo`) cannot fire inside another word (`det-logos`), and nothing is expanded
twice.
"""

import re
from dataclasses import dataclass

import numpy as np

from textual_inversion.errors import ConceptError

# Spread of the vectors of one concept around the initializer, as a share of the table's own deviation: enough to tell
# them apart, too little to leave the word's neighbourhood.
_VECTOR_SPREAD = 0.1
# Tokens that the longest training sentence has besides the placeholder.
_SENTENCE = 12


@dataclass(frozen=True)
class Concept:
    """One new word.

    Attributes:
        placeholder_token: the word as it stands in prompts, e.g. `<cat-toy>`.
        num_vectors: rows it has (N).
        initializer_token: a word or phrase of the base model's vocabulary that the rows start from.
    """

    placeholder_token: str
    num_vectors: int = 1
    initializer_token: str = "toy"

    @property
    def tokens(self) -> list[str]:
        """One token per row: `<cat-toy>`, `<cat-toy>_1`, …: the names that ppdiffusers' pipelines expand."""
        return token_names(self.placeholder_token, self.num_vectors)


def token_names(placeholder_token: str, num_vectors: int) -> list[str]:
    """The names of a concept's N rows: the placeholder itself, then `placeholder_1` to `placeholder_(N-1)`."""
    return [placeholder_token] + [f"{placeholder_token}_{i}" for i in range(1, num_vectors)]


class PromptEncoder:
    """Prompts with placeholders -> token ids of one text encoder.

    Args:
        tokenizer: the base model's tokenizer, which stays as it is.
        num_vectors: placeholder -> number of its rows, in the order of the rows.
        first_id: token id of the first row (V, the number of rows in the frozen table).

    Attributes:
        max_length: tokens per prompt (L), start and end tokens included.
        room: tokens without them.
    """

    def __init__(self, tokenizer, num_vectors: dict[str, int] | None = None, first_id: int = 0):
        self._tokenizer = tokenizer
        self.max_length = int(min(tokenizer.model_max_length, 512))
        self.room = self.max_length - tokenizer.num_special_tokens_to_add(pair=False)
        self._ids: dict[str, list[int]] = {}
        self._names: dict[int, str] = {}
        for placeholder, count in (num_vectors or {}).items():
            ids = list(range(first_id, first_id + count))
            self._names.update(zip(ids, token_names(placeholder, count), strict=True))
            self._ids.update({self._names[i]: [i] for i in ids})
            self._ids[placeholder] = ids
            first_id += count
        self._pattern = _whole_words(self._ids)

    @property
    def placeholders(self) -> list[str]:
        """All words that stand for rows."""
        return list(self._ids)

    def holds_placeholder(self, prompt: str) -> bool:
        """Whether any learned word stands in the prompt."""
        return bool(self._pattern and self._pattern.search(prompt))

    def token_ids(self, text: str) -> list[int]:
        """Ids of a text without start, end and padding tokens, however long."""
        ids: list[int] = []
        pieces = self._pattern.split(text) if self._pattern else [text]
        for position, piece in enumerate(pieces):
            # re.split with one group alternates text and matched placeholder.
            if position % 2:
                ids.extend(self._ids[piece])
            elif piece.strip():
                ids.extend(self._tokenizer.convert_tokens_to_ids(self._tokenizer.tokenize(piece)))
        return ids

    def dropped(self, prompt: str) -> str:
        """The end of a prompt that the model does not read because it is past `max_length`; "" when all is read."""
        ids = self.token_ids(prompt)[self.room :]
        words = [self._names[i] if i in self._names else self._tokenizer.convert_ids_to_tokens(i) for i in ids]
        return "".join(word.replace("</w>", " ") for word in words).strip()

    def __call__(self, prompts: list[str]) -> np.ndarray:
        """Token ids of prompts: int64 [B, L], cut and padded to the model's length."""
        batch = np.full((len(prompts), self.max_length), self._tokenizer.pad_token_id, dtype=np.int64)
        for row, prompt in zip(batch, prompts, strict=True):
            ids = self._tokenizer.build_inputs_with_special_tokens(self.token_ids(prompt)[: self.room])
            row[: len(ids)] = ids
        return batch


def _whole_words(words) -> re.Pattern | None:
    """A pattern, with one group, that finds any of the words where it does not stand inside a longer word."""
    if not words:
        return None
    alternatives = []
    for word in sorted(words, key=len, reverse=True):
        left = r"(?<![\w-])" if re.match(r"\w", word[0]) else ""
        right = r"(?![\w-])" if re.match(r"\w", word[-1]) else ""
        alternatives.append(f"{left}{re.escape(word)}{right}")
    return re.compile("(" + "|".join(alternatives) + ")")


def check_placeholder(placeholder: str, tokenizer) -> None:
    """Refuse a placeholder that could not be told from text.

    Raises:
        ConceptError: it is empty, holds blanks or control characters, or is a token of the base model already.
    """
    if not placeholder or re.search(r"\s", placeholder) or not placeholder.isprintable():
        raise ConceptError(
            f"the placeholder {placeholder!r} is empty or holds blanks or control characters; write one word, such as "
            "<cat-toy>"
        )
    vocabulary = tokenizer.get_vocab()
    if placeholder in vocabulary or f"{placeholder.lower()}</w>" in vocabulary:
        raise ConceptError(
            f"the placeholder {placeholder} is a token of this base model already; choose another, such as <my-word>"
        )


def initial_rows(concept: Concept, tokenizer, table, generator: np.random.Generator) -> np.ndarray:
    """The rows a concept starts from: the mean of its initializer's token rows, for each vector.

    Vectors after the first get a small random shift, so that they do not start as copies of one another.

    Args:
        table: float [V, D], the frozen embedding table.
        generator: source of the shifts.

    Returns:
        float32 [N, D].

    Raises:
        ConceptError: the initializer is empty or unknown to the tokenizer.
    """
    encoder = PromptEncoder(tokenizer)
    ids = encoder.token_ids(concept.initializer_token or "")
    unknown = tokenizer.unk_token_id
    if not ids or (unknown is not None and unknown in ids):
        raise ConceptError(
            f"the initializer {concept.initializer_token!r} has no token in this base model's vocabulary; "
            "give a word that it knows, such as toy, person or style"
        )
    mean = table[ids].numpy().astype(np.float32).mean(axis=0)
    rows = np.repeat(mean[None], concept.num_vectors, axis=0)
    shift = generator.standard_normal(rows.shape, dtype=np.float32)
    shift[0] = 0.0
    return rows + _VECTOR_SPREAD * float(table.numpy().std()) * shift


def start_rows(model, concepts: list[Concept], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """What the rows of all concepts start from, for each text encoder of a base model.

    Returns:
        Text encoder name -> float32 [N, D], N over all concepts.

    Raises:
        ConceptError: a placeholder or an initializer cannot be used with this base model.
    """
    from textual_inversion.embedding import table_of

    rows = {}
    for tower in model.towers:
        for concept in concepts:
            check_placeholder(concept.placeholder_token, tower.tokenizer)
        table = table_of(tower.text_encoder)
        rows[tower.name] = np.concatenate([initial_rows(c, tower.tokenizer, table, generator) for c in concepts])
        room = PromptEncoder(tower.tokenizer).room
        needed = sum(concept.num_vectors for concept in concepts)
        if needed > room - _SENTENCE:
            raise ConceptError(
                f"{needed} vectors leave no room for a sentence in the {room} tokens that this base model reads; "
                f"--num_vectors can be at most {room - _SENTENCE}"
            )
    return rows


def attach_concepts(model, num_vectors: dict[str, int], rows: dict[str, np.ndarray]) -> dict:
    """Give a base model new words: rows beside each text encoder's table, and prompt encoders that know the words.

    Args:
        model: a `models.BaseModel`.
        num_vectors: placeholder -> number of its rows, in the order of the rows.
        rows: text encoder name -> float32 [N, D], the rows of all concepts in that order.

    Returns:
        Text encoder name -> `embedding.ConceptEmbedding`.
    """
    from textual_inversion.embedding import attach

    embeddings = {}
    for tower in model.towers:
        embeddings[tower.name] = attach(tower.text_encoder, rows[tower.name])
        tower.encode_ids = PromptEncoder(tower.tokenizer, num_vectors, embeddings[tower.name].first_id)
    return embeddings
