"""How prompts that hold placeholder tokens become token ids.

`PromptEncoder` alone expands prompts: it cuts a prompt at the placeholders, gives the text between them
to the base model's own tokenizer, and puts the new token ids where the placeholders stood. The tokenizer itself never
changes. So a placeholder that is a plain word (`det-logo`) is not found inside another word (`det-logos`), and nothing
is expanded twice.

A base model may hold learned words itself, such as `<word>`, `<word>_1`, … in a saved pipeline's tokenizer. They are
read as ppdiffusers and diffusers read them: `<word>` stands for all its vectors.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from typing import Any

import numpy as np

from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import composed, token_names
from textual_inversion.models.placeholder_words import whole_words
from textual_inversion.models.prompt_chunks import Chunk, TokenIds, check_weights, laid_out, packed
from textual_inversion.models.prompt_weights import holds_marks, weighted_pieces, without_marks
from textual_inversion.models.tokenizers import added_words
from textual_inversion.system.errors import SettingsError

LONGEST_TEXT = 10_000  # letters; text encoders read 77 to 512 tokens, and a word without end takes a minute to split


@dataclass(frozen=True)
class Reading:
    """How the placeholders of one prompt are read.

    Attributes:
        vectors: placeholder -> which of its vectors, counted from 0, stand in the prompt, in this order; a placeholder
            that is not named stands for all its vectors.
        trained: the placeholder whose vectors get a gradient from the prompt; the vectors of all others are detached.
            None: all vectors get one.
        initial: read the initial values of all vectors, which get no gradient, whatever `trained` says.
    """

    vectors: Mapping[str, Sequence[int]] = field(default_factory=dict)
    trained: str | None = None
    initial: bool = False


_PLAIN = Reading()
_KEPT_TEXTS = 1 << 14

_IN_BRACKETS = re.compile(r"<[^<>\s]+>")


class PromptEncoder:
    """Prompts with placeholders -> token ids of one text encoder.

    Args:
        tokenizer: the base model's tokenizer, which stays as it is.
        num_vectors: placeholder -> number of its vectors, in the order of the vectors.
        first_id: token id of the first vector (V, the number of rows in the frozen table). The ids of all N vectors
            are followed by N more that read the same vectors detached, and by N that read their initial values; see
            `Reading` and `concept_embedding.ConceptEmbedding`.
        num_chunks: in how many chunks a prompt without weights is read; longer ones are cut.

    Attributes:
        max_length: tokens per chunk (L), start and end tokens included.
        room: tokens per chunk without start and end tokens.
        num_chunks: as above.
        num_vectors: as given.
    """

    def __init__(
        self, tokenizer: Any, num_vectors: dict[str, int] | None = None, first_id: int = 0, *, num_chunks: int = 1
    ):
        self._tokenizer, self.num_chunks = tokenizer, num_chunks
        self.max_length = int(min(tokenizer.model_max_length, 512))
        self.room = self.max_length - tokenizer.num_special_tokens_to_add(pair=False)
        self._words = words = added_words(tokenizer)
        self._added = {word: tokenizer.convert_tokens_to_ids(names) for word, names in words.items()}
        # Prompts are in the composed form, and the tokens of a vocabulary may be in another.
        self._other_forms = {composed(word): word for word in words if composed(word) != word}
        self._ids: dict[str, list[int]] = {}
        self.num_vectors = dict(num_vectors or {})
        self._count = sum(self.num_vectors.values())
        for placeholder, count in self.num_vectors.items():
            ids = list(range(first_id, first_id + count))
            for name, i in zip(token_names(placeholder, count), ids, strict=True):
                self._ids.setdefault(name, [i])  # another concept may have this name
            self._ids[placeholder] = ids
            first_id += count
        self._pattern = whole_words(self._ids)
        # Words in which brackets and colons are no marks.
        self._unmarked_words = whole_words([*self._ids, *(composed(word) for word in words)])
        # Prompts of hundreds of concepts, and of every step, are made of the same few texts around the placeholders.
        self._units_of_text = lru_cache(maxsize=_KEPT_TEXTS)(self._own_units)

    @property
    def placeholders(self) -> list[str]:
        """All tokens that stand for embedding vectors, those that stand for one vector of several included."""
        return list(self._ids)

    def holds_placeholder(self, prompt: str) -> bool:
        """Whether the prompt holds a placeholder."""
        return bool(self._pattern and self._pattern.search(composed(prompt)))

    def holds_learned_word(self, prompt: str) -> bool:
        """Whether the prompt holds a placeholder, or a word that was added to the base model's own vocabulary."""
        return any(self._is_word(word) for word, _ in self._units(prompt))

    def unknown_placeholders(self, prompt: str) -> list[str]:
        """What the prompt writes like a placeholder, `<word>`, and neither a concept nor the base model has."""
        found = _IN_BRACKETS.findall(composed(prompt))
        return [token for token in found if token not in self._ids and not self._is_added(token)]

    def _is_added(self, word: str) -> bool:
        tokens = self._tokenizer.tokenize(self._as_added(word))
        return len(tokens) == 1 and tokens[0] in self._added

    def token_ids(self, text: str, reading: Reading = _PLAIN) -> list[int]:
        """Ids of a text of any length, without start, end and padding tokens."""
        return [i for _, ids in self._units(text, reading) for i in ids]

    def _units(self, text: str, reading: Reading = _PLAIN) -> Iterator[tuple[str, list[int]]]:
        """The tokens of a text with their ids, of which a word of several vectors has several."""
        text = self._bounded(text)
        pieces = self._pattern.split(text) if self._pattern else [text]
        for position, piece in enumerate(pieces):
            # re.split with one group alternates text and matched placeholder.
            if position % 2:
                yield piece, self._vector_ids(piece, reading)
            elif piece.strip():
                yield from self._units_of_text(piece)

    def _bounded(self, text: str) -> str:
        """A text in composed form; raises SettingsError where it is longer than `LONGEST_TEXT`."""
        text = composed(text)
        if len(text) > LONGEST_TEXT:
            raise SettingsError(
                f"a text of {len(text)} letters, {printable(text, 40)!r}, is more than a text encoder can be given; "
                f"it reads {self.max_length} tokens, so keep below {LONGEST_TEXT} letters"
            )
        return text

    def _own_units(self, text: str) -> tuple[tuple[str, list[int]], ...]:
        """The tokens of a text without placeholders with their ids."""
        tokens = self._tokenizer.tokenize(self._as_added(text))
        units, position = [], 0
        while position < len(tokens):
            token = tokens[position]
            units.append((token, self._added.get(token) or [self._tokenizer.convert_tokens_to_ids(token)]))
            names = self._words.get(token, [token])
            # A prompt may list all vectors, as saved pipelines of latent diffusion want it; that is the word too.
            position += len(names) if tokens[position : position + len(names)] == names else 1
        return tuple(units)

    def _as_added(self, text: str) -> str:
        """A text with the base model's added words in the form that its vocabulary has."""
        for form, word in self._other_forms.items():
            text = text.replace(form, word)
        return text

    def _vector_ids(self, placeholder: str, reading: Reading) -> list[int]:
        ids = self._ids[placeholder]
        if reading.initial:
            shift = 2 * self._count
        elif reading.trained is not None and ids[0] not in self._ids[reading.trained]:
            shift = self._count
        else:
            shift = 0
        chosen = reading.vectors.get(placeholder, range(len(ids)))
        return [ids[i] + shift for i in chosen]

    def replaced(self, prompt: str, words: Mapping[str, str]) -> str:
        """The prompt with other words in place of the placeholders that `words` names."""
        if not self._pattern:
            return prompt
        return self._pattern.sub(lambda found: words.get(found[0], found[0]), composed(prompt))

    def dropped(self, prompt: str) -> str:
        """The end of a prompt, which the model does not read; "" where it reads all."""
        words, begin = [], 0
        for word, ids in self._units(prompt):
            begin += self._left_free(begin, len(ids))
            end = begin + len(ids)
            if begin >= self.room * self.num_chunks:
                words.append(f" {word} " if self._is_word(word) else _readable(word))
            elif end > self.room * self.num_chunks:
                words.append(f"the last {end - self.room * self.num_chunks} of the {len(ids)} vectors of {word} ")
            begin = end
        return " ".join("".join(words).split())

    def places(self, prompt: str, *, reads_marks: bool = False) -> list[tuple[str, list[int]]]:
        """The words that the model reads of a prompt, with the positions of their tokens in its hidden states.

        A placeholder is one word, however many vectors it has, and so is a word of the text that is several tokens.

        Args:
            reads_marks: marks such as `(word:1.3)` are weights, and the prompt may be of any length.
        """
        units, chunked = list(self._units(prompt)), reads_marks or self.num_chunks > 1
        if reads_marks:
            pieces = weighted_pieces(self._bounded(prompt), self._unmarked_words)
            units = [unit for text, _ in pieces for unit in self._units(text)]
        found, chunk, used = [], 0, 0
        for word, ids in units:
            if chunked and used + len(ids) > self.room:
                chunk, used = chunk + 1, 0
            begin = chunk * self.max_length + 1 + used  # behind the start token
            used += len(ids)
            fits = len(ids) if chunked else max(0, len(ids) - max(0, used - self.room))
            if fits and (reads_marks or chunk < self.num_chunks):
                found.append((word, list(range(begin, begin + fits))))
        return self._joined(found)

    def _joined(self, units: Sequence[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
        """Tokens of one word of the text put together: CLIP marks a word's end, XLM-RoBERTa its beginning."""
        marks_ends = any(word.endswith("</w>") for word, _ in units)
        marks_begins = any(word.startswith("▁") for word, _ in units)
        joined: list[tuple[str, list[int]]] = []
        goes_on = False
        for word, positions in units:
            own = self._is_word(word)
            continues = not own and (word.startswith("##") or goes_on or marks_begins and not word.startswith("▁"))
            text = word if own else _readable(word).strip()
            if continues and joined and not self._is_word(joined[-1][0]):
                joined[-1] = joined[-1][0] + text, joined[-1][1] + positions
            else:
                joined.append((text, positions))
            goes_on = marks_ends and not own and not word.endswith("</w>")
        return [one for one in joined if one[0]]

    def _left_free(self, begin: int, size: int) -> int:
        """How many tokens of a chunk stay free before a word of `size` vectors, which no two chunks share."""
        free = self.room - begin % self.room
        return free if self.num_chunks > 1 and size > free else 0

    def read_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt that the model reads, without start, end and padding tokens; the rest is cut."""
        if self.num_chunks == 1:
            return self.token_ids(prompt)[: self.room]
        return [i for chunk in self._plain_chunks(prompt, _PLAIN) for i in chunk.ids]

    def too_large(self, prompt: str) -> dict[str, int]:
        """The words of a prompt that have more vectors than a prompt has room for -> number of their vectors."""
        return {word: len(ids) for word, ids in self._units(prompt) if len(ids) > self.room}

    def _is_word(self, token: str) -> bool:
        return token in self._ids or token in self._added

    def __call__(self, prompts: Sequence[str], readings: Sequence[Reading] | None = None) -> np.ndarray:
        """Token ids of prompts: int64 [B, L], cut and padded to the model's length.

        Args:
            readings: how the placeholders of each prompt are read; None: all vectors, in order, with a gradient.
        """
        batch = np.full((len(prompts), self.max_length), self._tokenizer.pad_token_id, dtype=np.int64)
        for row, ids in zip(batch, self._framed(prompts, readings), strict=True):
            row[: len(ids)] = ids
        return batch

    def _plain_chunks(self, prompt: str, reading: Reading) -> list[Chunk]:
        """A prompt without weights in at most `num_chunks` chunks; raises SettingsError for a word larger than one."""
        return packed(((word, ids, 1.0) for word, ids in self._units(prompt, reading)), self.room)[: self.num_chunks]

    def in_plain_chunks(self, prompts: Sequence[str], readings: Sequence[Reading] | None) -> TokenIds:
        """Prompts without weights, each in `num_chunks` chunks, of which the last may be empty; longer ones are cut."""
        each = [self._plain_chunks(*one) for one in zip(prompts, readings or repeat(_PLAIN, len(prompts)), strict=True)]
        return self._laid_out(each, self.num_chunks)

    def _laid_out(self, prompts: Sequence[Sequence[Chunk]], count: int) -> TokenIds:
        frame = self._tokenizer.build_inputs_with_special_tokens
        return laid_out(prompts, count, self.max_length, frame, self._tokenizer.pad_token_id)

    def chunks(self, prompt: str, reading: Reading = _PLAIN) -> list[Chunk]:
        """A prompt of any length in chunks, its marks of weights read (see `prompt_weights`).

        A weight on a placeholder is that of all its vectors, and no chunk ends within them.

        Raises:
            SettingsError: a word is larger than a chunk, a weight is out of bounds, or the prompt is too long.
        """
        pieces = weighted_pieces(self._bounded(prompt), self._unmarked_words)
        check_weights(pieces)
        units = ((word, ids, weight) for text, weight in pieces for word, ids in self._units(text, reading))
        return packed(units, self.room)

    def in_chunks(self, prompts: Sequence[str], readings: Sequence[Reading] | None, count: int) -> TokenIds:
        """Prompts with marks of weights, each in `count` chunks, of which the last may be empty."""
        each = [self.chunks(*one) for one in zip(prompts, readings or repeat(_PLAIN, len(prompts)), strict=True)]
        return self._laid_out(each, count)

    def holds_marks(self, prompt: str) -> bool:
        """Whether a prompt means something else where marks of weights are read."""
        return holds_marks(composed(prompt), self._unmarked_words)

    def without_marks(self, prompt: str) -> str:
        """A prompt without its marks of weights."""
        return without_marks(composed(prompt), self._unmarked_words)

    def ends(self, prompts: Sequence[str], readings: Sequence[Reading] | None = None) -> np.ndarray:
        """Position of the end token of each prompt: int64 [B] in [0, L)."""
        return np.array([len(ids) - 1 for ids in self._framed(prompts, readings)], dtype=np.int64)

    def _framed(self, prompts: Sequence[str], readings: Sequence[Reading] | None) -> Iterator[list[int]]:
        """The ids of each prompt, cut to the model's length, between start and end token."""
        for prompt, reading in zip(prompts, readings or repeat(_PLAIN, len(prompts)), strict=True):
            yield self._tokenizer.build_inputs_with_special_tokens(self.token_ids(prompt, reading)[: self.room])


def _readable(token: str) -> str:
    """A token as text: CLIP marks the end of a word, XLM-RoBERTa its beginning, BERT the continuation of one."""
    if token.endswith("</w>"):
        return token.removesuffix("</w>") + " "
    return token.removeprefix("##").replace("▁", " ")
