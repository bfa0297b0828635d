"""A learned concept as it comes from a file, and whether a base model can take it."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import numpy as np

from textual_inversion.formats.errors import TokenTaken, UnusableToken, WrongWidth, file_name, printable

LONGEST_TOKEN = 200  # bytes in UTF-8: a concept's name is part of file names, of which systems take 255
_MADE_FOR = {
    (768,): "Stable Diffusion 1.x",
    (1024,): "Stable Diffusion 2.x",
    (768, 1280): "Stable Diffusion XL",
    (1280,): "the second text encoder of Stable Diffusion XL",
}


@dataclass(frozen=True, eq=False)
class LearnedEmbedding:
    """One concept.

    Attributes:
        placeholder_token: the word that stands for it in a prompt, "<cat-toy>".
        vectors: float32 [N, D] by text encoder: "text_encoder", and for Stable Diffusion XL "text_encoder_2".
        metadata: base_model, steps, seed, … where the file holds them.
        source: the file that it was read from, "" for one made in memory.
    """

    placeholder_token: str
    vectors: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def num_vectors(self) -> int:
        """N, the same for every text encoder."""
        return len(next(iter(self.vectors.values())))

    @property
    def widths(self) -> dict[str, int]:
        """D by text encoder."""
        return {name: array.shape[1] for name, array in self.vectors.items()}


def check_width(embedding: LearnedEmbedding, width: int | Mapping[str, int], base_model_name: str) -> None:
    """Raise WrongWidth unless the vectors fit the base model's text encoders.

    Args:
        width: D of the base model's `text_encoder`, or D by the names of its text encoders.
    """
    wanted = {"text_encoder": width} if isinstance(width, int) else dict(width)
    if embedding.widths != wanted:
        raise WrongWidth(
            f"{_place(embedding.source)}{_described(embedding.widths, 'made for')}; "
            f"{printable(base_model_name)} wants {_described(wanted, 'which is')}; {WrongWidth.way_out}"
        )


def check_token(token: str, known: Container[str] = (), *, source: str = "") -> None:
    """Raise UnusableToken or TokenTaken unless `token` can become a new word of a tokenizer whose words are `known`."""
    if not token:
        raise UnusableToken(f"{_place(source)}the placeholder token is empty; {UnusableToken.way_out}")
    if any(character.isspace() or not character.isprintable() for character in token):
        raise UnusableToken(
            f"{_place(source)}the placeholder token {printable(repr(token))} holds blanks or control characters; "
            + UnusableToken.way_out
        )
    if len(token.encode()) > LONGEST_TOKEN:
        raise UnusableToken(
            f"{_place(source)}the placeholder token {printable(token, 40)} has {len(token.encode())} bytes, and "
            f"{LONGEST_TOKEN} are the most; {UnusableToken.way_out}"
        )
    if token in known:
        raise TokenTaken(
            f"{_place(source)}the placeholder token {printable(repr(token))} is already a word of the tokenizer; "
            + TokenTaken.way_out
        )


def _described(widths: Mapping[str, int], verb: str) -> str:
    """ "768 values: made for Stable Diffusion 1.x" """
    sizes = tuple(widths[name] for name in sorted(widths))
    values = f"{' + '.join(map(str, sizes))} values"
    return f"{values}: {verb} {_MADE_FOR[sizes]}" if sizes in _MADE_FOR else values


def _place(source: str) -> str:
    return f"{file_name(source)}: " if source else ""


def token_names(placeholder_token: str, num_vectors: int) -> list[str]:
    """The names of a concept's N rows: the placeholder itself, then `placeholder_1` to `placeholder_(N-1)`."""
    return [placeholder_token] + [f"{placeholder_token}_{i}" for i in range(1, num_vectors)]
