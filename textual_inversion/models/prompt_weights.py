"""The marks that weight parts of a prompt: `(word:1.3)`, `(word)`, `[word]`.

The marks mean what they mean in AUTOMATIC1111's web UI and in the `lpw` pipelines of ppdiffusers. `(…)` multiplies the
weight of what it encloses by 1.1 and `[…]` divides it by 1.1; `(…:1.3)` multiplies it by 1.3. Nested marks multiply.
`\\(`, `\\)`, `\\[`, `\\]` and `\\\\` are the characters themselves. Whatever is no complete mark is text, except that a
bracket which is never closed reaches to the end of the prompt, and a backslash before anything else is left out.
"""

import re
from collections.abc import Iterator

import numpy as np

# Factors of a bracket that names no number.
ROUND, SQUARE = 1.1, 1 / 1.1

# What follows a backslash, a bracket, the end of a bracket with a number, or text up to the next of these.
_LEXEME = re.compile(
    r"\\([()\[\]\\]?)|([(\[])|:\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))\s*\)|([)\]])|([^\\()\[\]:]+|:)"
)
_CLOSES = {")": "(", "]": "["}
_FACTORS = {"(": ROUND, "[": SQUARE}


def weighted_pieces(text: str, atoms: re.Pattern | None = None) -> list[tuple[str, float]]:
    """A prompt without its marks, cut where the weight changes.

    Args:
        atoms: a pattern, with one group, of words that may hold brackets or colons, which are then no marks.

    Returns:
        (text, weight) in the order of the prompt; neighbours have different weights, none of which need be finite.
    """
    texts: list[str] = []
    ranges: list[tuple[int, int, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for kind, lexeme in _lexemes(text, atoms):
        if kind == "open":
            opened[lexeme].append(len(texts))
        elif kind == "number" and opened["("]:
            ranges.append((opened["("].pop(), len(texts), float(_number_of(lexeme))))
        elif kind == "close" and opened[_CLOSES[lexeme]]:
            bracket = _CLOSES[lexeme]
            ranges.append((opened[bracket].pop(), len(texts), _FACTORS[bracket]))
        else:
            texts.append(lexeme)
    ranges += [(start, len(texts), _FACTORS[bracket]) for bracket, starts in opened.items() for start in starts]
    return _merged(texts, _weights(len(texts), ranges))


def without_marks(text: str, atoms: re.Pattern | None = None) -> str:
    """A prompt as it would be without weights."""
    return "".join(piece for piece, _ in weighted_pieces(text, atoms))


def holds_marks(text: str, atoms: re.Pattern | None = None) -> bool:
    """Whether a prompt means something else where marks are read."""
    return weighted_pieces(text, atoms) not in ([], [(text, 1.0)])


def _lexemes(text: str, atoms: re.Pattern | None) -> Iterator[tuple[str, str]]:
    """The parts of a prompt: ("open", bracket), ("close", bracket), ("number", end of a bracket), ("text", …)."""
    for position, between in enumerate(atoms.split(text) if atoms else [text]):
        # re.split with one group alternates text and matched word.
        if position % 2:
            yield "text", between
            continue
        for found in _LEXEME.finditer(between):
            escaped, opening, number, closing, _ = found.groups()
            if escaped is not None:
                yield "text", escaped
            elif opening:
                yield "open", opening
            elif number:
                yield "number", found[0]
            elif closing:
                yield "close", closing
            else:
                yield "text", found[0]


def _number_of(end: str) -> str:
    """The number in `: 1.3 )`."""
    return end[1:-1].strip()


def _weights(count: int, ranges: list[tuple[int, int, float]]) -> np.ndarray:
    """The weight of each of `count` texts, float64 [count]: the product over the ranges that it lies in."""
    weights = np.ones(count)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for start, end, factor in ranges:
            weights[start:end] *= factor
    return weights


def _merged(texts: list[str], weights: np.ndarray) -> list[tuple[str, float]]:
    """Neighbours of equal weight as one, so that a text whose weights are all 1 is split into tokens as a whole."""
    pieces: list[tuple[list[str], float]] = []
    for text, weight in zip(texts, weights.tolist(), strict=True):
        if pieces and pieces[-1][1] == weight:
            pieces[-1][0].append(text)
        else:
            pieces.append(([text], weight))
    return [("".join(run), weight) for run, weight in pieces]
