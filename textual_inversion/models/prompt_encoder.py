"""Concepts: new words, the rows behind them, and how prompts that hold them become token ids.

A prompt is expanded in one place, `PromptEncoder`: it cuts a prompt at the placeholders, lets the base model's own
tokenizer have the pieces between, and puts the new token ids in their places. The tokenizer itself is never changed,
so a placeholder that is a bare word (`det-logo`) cannot fire inside another word (`det-logos`), and nothing is expanded
twice.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from textwrap import shorten

import numpy as np

from textual_inversion.formats.errors import TokenTaken
from textual_inversion.formats.learned_embedding import check_token, from_source, token_names
from textual_inversion.system.errors import ConceptError

# Placeholder -> which of its vectors, counted from 0, stand in one prompt, and in which order.
Vectors = Mapping[str, Sequence[int]]
# Stand before a word, of no script (private use): its rows are to be read in this prompt and not to learn from it, or
# what they started from is to be read instead.
_STILL, _STARTED = "\ue000", "\ue001"
# How many times N further on the ids of a word with such a mark lie.
_SHIFTS = {_STILL: 1, _STARTED: 2}
_MARKS = "".join(_SHIFTS)
# Characters of scripts that put no blank between words: there the edge of a word cannot be seen.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED += "\U00020000-\U0003ffff"
_WITHIN_WORD = rf"(?:(?![{_UNSPACED}])\w|-)"


@dataclass(frozen=True)
class Concept:
    """One new word.

    Attributes:
        placeholder_token: the word as it stands in prompts, e.g. `<cat-toy>`.
        num_vectors: rows it has (N); None: as many as its initializer has tokens (`initialization.settle`).
        initializer_token: a word or phrase of the base model's vocabulary that the rows start from; None: at random.
        learnable_property: what of the pictures is learned, one of `choices.PROPERTIES`.
        image_folder: where its training pictures are.
        one_vector_per_token: each row starts from one token of the initializer.
    """

    placeholder_token: str
    num_vectors: int | None = 1
    initializer_token: str | None = "toy"
    learnable_property: str = "object"
    image_folder: str = ""
    one_vector_per_token: bool = False

    @property
    def tokens(self) -> list[str]:
        """One token per row: `<cat-toy>`, `<cat-toy>_1`, …: the names that ppdiffusers' pipelines expand."""
        return token_names(self.placeholder_token, self.num_vectors)


class PromptEncoder:
    """Prompts with placeholders -> token ids of one text encoder.

    Args:
        tokenizer: the base model's tokenizer, which stays as it is.
        num_vectors: placeholder -> number of its rows, in the order of the rows.
        first_id: token id of the first row (V, the number of rows in the frozen table). The ids of all N rows are
            followed by N more for the same rows held still, see `held_still`, and N for their start, see `as_started`.

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
        self._rows = sum((num_vectors or {}).values())
        for placeholder, count in (num_vectors or {}).items():
            ids = list(range(first_id, first_id + count))
            self._names.update(zip(ids, token_names(placeholder, count), strict=True))
            self._ids.update({self._names[i]: [i] for i in ids})
            self._ids[placeholder] = ids
            first_id += count
        self._pattern = whole_words(self._ids, prefix=f"[{_MARKS}]")

    @property
    def placeholders(self) -> list[str]:
        """All words that stand for rows."""
        return list(self._ids)

    def held_still(self, prompt: str, word: str) -> str:
        """A prompt from which `word` alone learns: the rows of other new words are read and get no gradient."""
        own = self._ids[word]
        return self._replace(prompt, lambda found: found if self._ids[found][0] in own else _STILL + found)

    def as_started(self, prompt: str) -> str:
        """A prompt that reads, in place of every new word's rows, what these started from."""
        return self._replace(prompt, lambda found: _STARTED + found)

    def holds_placeholder(self, prompt: str) -> bool:
        """Whether any learned word stands in the prompt."""
        return bool(self._pattern and self._pattern.search(prompt))

    def token_ids(self, text: str, vectors: Vectors | None = None) -> list[int]:
        """Ids of a text without start, end and padding tokens, however long; `vectors` as in `__call__`."""
        ids: list[int] = []
        pieces = self._pattern.split(text) if self._pattern else [text]
        for position, piece in enumerate(pieces):
            # re.split with one group alternates text and matched placeholder.
            if position % 2:
                ids.extend(self._rows_of(piece, vectors or {}))
            elif piece.strip():
                ids.extend(self._tokenizer.convert_tokens_to_ids(self._tokenizer.tokenize(piece)))
        return ids

    def _rows_of(self, found: str, vectors: Vectors) -> list[int]:
        placeholder = found.lstrip(_MARKS)
        ids = self._ids[placeholder]
        ids = [ids[i] for i in vectors[placeholder]] if placeholder in vectors else ids
        shift = self._rows * _SHIFTS.get(found[0], 0)
        return [i + shift for i in ids]

    def replaced(self, prompt: str, words: Mapping[str, str]) -> str:
        """A prompt in which the placeholders named in `words` give way to other words."""
        return self._replace(prompt, lambda found: words.get(found, found))

    def _replace(self, prompt: str, change: Callable[[str], str]) -> str:
        """A prompt with every placeholder in it changed, whether it had a mark or not."""
        return self._pattern.sub(lambda found: change(found[0].lstrip(_MARKS)), prompt) if self._pattern else prompt

    def dropped(self, prompt: str) -> str:
        """The end of a prompt that the model does not read because it is past `max_length`; "" when all is read."""
        ids = self.token_ids(prompt)[self.room :]
        words = [self._names[i] if i in self._names else self._tokenizer.convert_ids_to_tokens(i) for i in ids]
        return " ".join("".join(map(_readable, words)).split())

    def __call__(self, prompts: Sequence[str], vectors: Sequence[Vectors] | None = None) -> np.ndarray:
        """Token ids of prompts: int64 [B, L], cut and padded to the model's length.

        Args:
            vectors: for each prompt, which of a placeholder's vectors stand in it, and in which order; all of them,
                in order, where nothing is said.
        """
        batch = np.full((len(prompts), self.max_length), self._tokenizer.pad_token_id, dtype=np.int64)
        for row, ids in zip(batch, self._framed(prompts, vectors), strict=True):
            row[: len(ids)] = ids
        return batch

    def ends(self, prompts: Sequence[str], vectors: Sequence[Vectors] | None = None) -> np.ndarray:
        """Where the end token of each prompt stands: int64 [B] in [0, L)."""
        return np.array([len(ids) - 1 for ids in self._framed(prompts, vectors)], dtype=np.int64)

    def _framed(self, prompts, vectors) -> Iterator[list[int]]:
        """The ids of each prompt, cut to the model's length, between start and end token."""
        for prompt, chosen in zip(prompts, vectors or repeat(None, len(prompts)), strict=True):
            yield self._tokenizer.build_inputs_with_special_tokens(self.token_ids(prompt, chosen)[: self.room])


def _readable(token: str) -> str:
    """A token as text: CLIP marks the end of a word, XLM-RoBERTa its beginning, BERT what goes on with one."""
    if token.endswith("</w>"):
        return token.removesuffix("</w>") + " "
    return token.removeprefix("##").replace("▁", " ")


def whole_words(words, prefix: str = "") -> re.Pattern | None:
    """A pattern, with one group, that finds any of the words where it does not stand inside a longer word.

    Next to characters of scripts that are written without blanks a word is found as it stands: `一张det-logo的照片`.

    Args:
        prefix: pattern of a character that may stand before a word, and is found with it.
    """
    if not words:
        return None
    alternatives = []
    for word in sorted(words, key=len, reverse=True):
        left = rf"(?<!{_WITHIN_WORD})" if re.match(_WITHIN_WORD, word[0]) else ""
        right = rf"(?!{_WITHIN_WORD})" if re.match(_WITHIN_WORD, word[-1]) else ""
        alternatives.append(f"{left}{re.escape(word)}{right}")
    mark = f"{prefix}?" if prefix else ""
    return re.compile(f"({mark}(?:" + "|".join(alternatives) + "))")


def check_placeholder(placeholder: str, tokenizer, *, source: str = "") -> None:
    """Refuse a placeholder token that is unusable, or that the tokenizer's vocabulary holds already.

    Args:
        source: the file that it comes from, which messages then name.

    Raises:
        UnusableToken, TokenTaken: both are ConceptErrors.
    """
    check_token(placeholder, source=source)
    pieces = tokenizer.tokenize(placeholder)
    is_one = len(pieces) == 1 and tokenizer.convert_tokens_to_ids(pieces[0]) != tokenizer.unk_token_id
    if is_one or placeholder in tokenizer.get_vocab():
        raise TokenTaken(
            f"{from_source(source)}the placeholder token {placeholder!r} is a token of this base model already; "
            + TokenTaken.way_out
        )


def check_sentences(encode_ids: PromptEncoder, concepts, images, note) -> None:
    """Say how many training sentences are cut, and refuse one that does not hold the new word, or not to its end.

    Of the cut ones the first is told with what is left out of it.

    Args:
        concepts: in the order that `images` counts them by.
        images: `sampler.TrainingImage`s.
        note: told what the user should know.

    Raises:
        ConceptError: a sentence lacks the word as a whole word, or all or a part of it stands past the model's
            length: from such a sentence nothing would be learned.
    """
    cut = []
    for place, prompt in dict.fromkeys((image.concept, prompt) for image in images for prompt in image.prompts):
        ids, word = encode_ids.token_ids(prompt), concepts[place].placeholder_token
        if not set(encode_ids.token_ids(word)) <= set(ids):
            raise ConceptError(
                f"the sentence {shorten(prompt, 60)!r} does not hold {word} as a word of its own; put blanks around it"
            )
        if len(ids) <= encode_ids.room:
            continue
        cut.append(prompt)
        if not set(encode_ids.token_ids(word)) <= set(ids[: encode_ids.room]):
            raise ConceptError(
                f"the sentence {shorten(prompt, 60)!r} has {len(ids)} tokens and the model reads {encode_ids.room}, "
                f"which cuts off {word}; shorten it, or put the word in front"
            )
    if cut:
        note(
            f"{len(cut)} training sentence(s) are longer than the {encode_ids.room} tokens the model reads, and are "
            f"cut; {shorten(cut[0], 60)!r} loses {shorten(encode_ids.dropped(cut[0]), 100)!r}"
        )


def cut_notes(encode_ids: PromptEncoder, texts) -> list[str]:
    """A line for each text that is longer than the model reads, with what of it is cut."""
    most, found = encode_ids.max_length, []
    for text in dict.fromkeys(texts):
        if dropped := encode_ids.dropped(text):
            found.append(f"{shorten(text, 60)!r} is longer than the model reads ({most} tokens); cut: {dropped!r}")
    return found
