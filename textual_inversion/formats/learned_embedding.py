"""A learned embedding as it comes from a file, and whether a base model can use it."""

import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from textual_inversion.formats.errors import UnusableToken, WrongWidth, file_name, printable, quoted

LONGEST_TOKEN = 200  # bytes in UTF-8: a placeholder token is part of file names, of which systems allow 255
MOST_MARKS = 30  # on one letter, of Unicode's stream-safe text (UAX 15, section 13)
_SHORT = 1000  # letters that are sorted in no time, whatever they are
_LONGEST_SHOWN = 60  # letters of a token that a way out repeats
_BASE_MODELS = {
    (768,): "Stable Diffusion 1.x",
    (1024,): "Stable Diffusion 2.x",
    (768, 1280): "Stable Diffusion XL",
    (1280,): "the second text encoder of Stable Diffusion XL",
}


@dataclass(frozen=True, eq=False)
class LearnedEmbedding:
    """The learned embedding vectors of one concept.

    Attributes:
        placeholder_token: what stands for the concept in a prompt, "<cat-toy>"; in the composed form.
        vectors: float32 [N, D] by text encoder: "text_encoder", and for Stable Diffusion XL "text_encoder_2".
        metadata: base_model, steps, seed, …, as far as the file holds them.
        source: the file that the vectors were read from; "" if they were made in memory.
    """

    placeholder_token: str
    vectors: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "placeholder_token", composed(self.placeholder_token))

    @property
    def num_vectors(self) -> int:
        """N, the same for every text encoder."""
        return len(next(iter(self.vectors.values())))

    @property
    def widths(self) -> dict[str, int]:
        """D by text encoder."""
        return {name: array.shape[1] for name, array in self.vectors.items()}


def composed(text: str) -> str:
    """Text in Unicode's composed form (NFC), in which placeholder tokens, prompts and captions are compared.

    "é" is one character or "e" and an accent, which look the same; macOS writes file names in the second form.
    Text with more marks on one letter than any script has stays as it is: sorting them takes quadratic time.
    """
    return text if len(text) > _SHORT and _has_heaps_of_marks(text) else unicodedata.normalize("NFC", text)


def _has_heaps_of_marks(text: str) -> bool:
    """Whether a letter has more than MOST_MARKS marks."""
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MOST_MARKS:
            return True
    return False


def check_width(embedding: LearnedEmbedding, widths: Mapping[str, int], base_model_name: str) -> None:
    """Raise WrongWidth unless the vectors fit the base model's text encoders.

    Args:
        widths: D by the names of the base model's text encoders.
    """
    if embedding.widths != dict(widths):
        raise WrongWidth(
            f"{from_source(embedding.source)}holds vectors of {_described(embedding.widths)}, and "
            f"{printable(base_model_name)} needs {_described(widths)}; {WrongWidth.way_out}"
        )


def check_token(token: str, *, source: str = "") -> None:
    """Raise UnusableToken unless `token` can stand for a concept in prompts and in file names.

    `models.placeholder_words.check_placeholder` finds out whether a base model already has such a token.

    Args:
        source: the file that the token comes from, for the message; "" for a flag.
    """
    fault = None
    if not token:
        fault = "is empty"
    elif any(character.isspace() or not character.isprintable() for character in token):
        fault = "holds blanks or control characters"
    elif len(token.encode()) > LONGEST_TOKEN:
        fault = f"has {len(token.encode())} bytes, more than {LONGEST_TOKEN}"
    if fault:
        shown = f" {quoted(token)}" if token else ""
        raise UnusableToken(f"{from_source(source)}the placeholder token{shown} {fault}; {other_name(token, source)}")


def other_name(token: str, source: str) -> str:
    """The way out for a placeholder token that cannot be used: another one, for a token from a file by --rename.

    Args:
        source: the file that the token comes from; "" for a flag.
    """
    if not source:
        return UnusableToken.way_out
    path = Path(source)
    kept = re.sub(r"[^\w.-]+", "-", path.stem).strip("-._")[:60]
    is_shown = token.isprintable() and 0 < len(token) <= _LONGEST_SHOWN
    renaming = f"{token if is_shown else printable(path.name)}=<{kept or 'concept'}>"
    return f"choose another with --rename {shlex.quote(renaming)}"


def embedding_notes(embedding: LearnedEmbedding) -> list[str]:
    """What a user of an embedding should know: vectors that are zero, and parts of the file that are not used."""
    found, begin = [], f"{from_source(embedding.source)}{embedding.placeholder_token}"
    zeros = {
        int(index) for array in embedding.vectors.values() for index in np.flatnonzero(~np.asarray(array).any(axis=1))
    }
    if zeros:
        listed = ", ".join(str(index + 1) for index in sorted(zeros))
        found.append(f"{begin}: vector {listed} of {embedding.num_vectors} is zero and says nothing to the model")
    if "left_out" in embedding.metadata:
        left_out = printable(embedding.metadata["left_out"], 60)
        found.append(f"{begin}: {left_out} act after the text encoder and are not used")
    return found


def token_names(placeholder_token: str, num_vectors: int) -> list[str]:
    """The names of a concept's N vectors: the placeholder token itself, then `token_1` to `token_(N-1)`."""
    return [placeholder_token] + [f"{placeholder_token}_{i}" for i in range(1, num_vectors)]


def from_source(source: str) -> str:
    """The beginning of a message about the contents of a file; "" if they come from no file."""
    return f"{file_name(source)}: " if source else ""


def made_for(widths: Mapping[str, int]) -> str:
    """The base models that have text encoders of these widths, D by the name of the encoder."""
    sizes = tuple(widths[name] for name in sorted(widths))
    return _BASE_MODELS.get(sizes, f"a base model of width {' + '.join(map(str, sizes))}")


def _described(widths: Mapping[str, int]) -> str:
    """Widths with the base models that have them, such as "768 values (Stable Diffusion 1.x)"."""
    sizes = tuple(widths[name] for name in sorted(widths))
    values = f"{' + '.join(map(str, sizes))} values"
    return f"{values} ({_BASE_MODELS[sizes]})" if sizes in _BASE_MODELS else values
