"""Mix the vectors of learned and of vocabulary words: sums with weights, and one after the other.

Everything is computed in float64, and rounded to float32 once, at the end: a word alone stays as it is to the last bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from textual_inversion.embeddings.mix_expression import Joined, Known, Learned, Node, Number, Product, Sum, written
from textual_inversion.formats.budget import MOST_NAMES
from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.settings.choices import KEEP, MEAN, REPEAT
from textual_inversion.system.errors import SettingsError

_LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 60
_MOST_NORMS = 8

Vectors = Mapping[str, np.ndarray]  # [N, D] by text encoder


@dataclass(frozen=True, eq=False)
class Mixture:
    """Vectors, and the norms of what they were mixed from.

    Attributes:
        vectors: float64 [N, D] by text encoder.
        masses: by text encoder [N], for each vector the sum of the norms of its parts times the sizes of their weights.
        weights: [N], for each vector the sum of the sizes of its weights.
    """

    vectors: dict[str, np.ndarray]
    masses: dict[str, np.ndarray]
    weights: np.ndarray

    @classmethod
    def of(cls, vectors: Vectors) -> "Mixture":
        """Vectors that are not mixed yet."""
        wide = {name: np.asarray(array, np.float64) for name, array in vectors.items()}
        count = len(next(iter(wide.values())))
        return cls(wide, {name: _norms(array) for name, array in wide.items()}, np.ones(count))

    @property
    def num_vectors(self) -> int:
        """N."""
        return len(self.weights)

    @property
    def widths(self) -> dict[str, int]:
        """D by text encoder."""
        return {name: array.shape[1] for name, array in self.vectors.items()}

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> "Mixture":
        """All arrays changed along the first axis."""
        vectors = {name: change(array) for name, array in self.vectors.items()}
        return Mixture(vectors, {name: change(array) for name, array in self.masses.items()}, change(self.weights))

    def with_other(self, other: "Mixture", change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> "Mixture":
        """All arrays changed together with another's."""
        vectors = {name: change(array, other.vectors[name]) for name, array in self.vectors.items()}
        masses = {name: change(array, other.masses[name]) for name, array in self.masses.items()}
        return Mixture(vectors, masses, change(self.weights, other.weights))

    def times(self, factor: float) -> "Mixture":
        """The vectors with a weight."""
        vectors = {name: factor * array for name, array in self.vectors.items()}
        masses = {name: abs(factor) * array for name, array in self.masses.items()}
        return Mixture(vectors, masses, abs(factor) * self.weights)


def mixed(node: Node, vectors_of: Callable[[Learned | Known], Vectors], padding: str | None = None) -> Mixture:
    """What an expression says.

    Args:
        vectors_of: finds the vectors of a word.
        padding: one of `choices.PADDINGS`, for sums of words with different numbers of vectors; None: they are refused.

    Raises:
        SettingsError: a sum of what does not go together, or a result that is a number.
    """
    with np.errstate(all="ignore"):  # what is beyond all bounds is refused in `rescaled`
        result = _Mixer(vectors_of, padding).value(node)
    if not isinstance(result, Mixture):
        raise SettingsError(f"{_shown(node)} is a number and no word; name an embedding file")
    return result


class _Mixer:
    def __init__(self, vectors_of: Callable[[Learned | Known], Vectors], padding: str | None):
        self._vectors_of, self._padding = vectors_of, padding

    def value(self, node: Node) -> Any:
        """A float or a Mixture."""
        match node:
            case Number(value):
                return value
            case Product(left, right):
                return self._product(self.value(left), self.value(right), node)
            case Sum(left, right, is_difference):
                one, other = self.value(left), self.value(right)
                return self._sum(one, self._product(-1.0 if is_difference else 1.0, other, node), node)
            case Joined(left, right):
                return _joined(self.value(left), self.value(right), node)
        return Mixture.of(self._vectors_of(node))

    def _product(self, one: Any, other: Any, node: Node) -> Any:
        if isinstance(one, Mixture) and isinstance(other, Mixture):
            raise SettingsError(f"{_shown(node)} multiplies words; multiply a word by a number, and add words with +")
        if isinstance(one, Mixture):
            return one.times(other)
        return other.times(one) if isinstance(other, Mixture) else one * other

    def _sum(self, one: Any, other: Any, node: Sum) -> Any:
        if not isinstance(one, Mixture) and not isinstance(other, Mixture):
            return one + other
        if not isinstance(one, Mixture) or not isinstance(other, Mixture):
            raise SettingsError(f"{_shown(node)} adds a number to a word; multiply a word by a number with *")
        _check_widths(one, other, node)
        if one.num_vectors != other.num_vectors:
            one, other = self._padded(one, other, node)
        return one.with_other(other, np.add)

    def _padded(self, one: Mixture, other: Mixture, node: Sum) -> tuple[Mixture, Mixture]:
        if self._padding is None:
            raise SettingsError(
                f"{_shown(node.left)} has {_count(one)} and {_shown(node.right)} {_count(other)}; fill up the smaller "
                "one with --pad zeros or --pad repeat, or put one after the other with &"
            )
        most = max(one.num_vectors, other.num_vectors)
        mode = {"mode": "edge"} if self._padding == REPEAT else {}

        def fill(array: np.ndarray) -> np.ndarray:
            return np.pad(array, [(0, most - len(array))] + [(0, 0)] * (array.ndim - 1), **mode)

        return one.each(fill), other.each(fill)


def _joined(one: Any, other: Any, node: Joined) -> Mixture:
    if not isinstance(one, Mixture) or not isinstance(other, Mixture):
        raise SettingsError(f"{_shown(node)} joins a number; & puts the vectors of one word after those of another")
    _check_widths(one, other, node)
    if one.num_vectors + other.num_vectors > MOST_NAMES:
        raise SettingsError(f"{_shown(node)} has more than {MOST_NAMES} vectors; mix fewer")
    return one.with_other(other, lambda a, b: np.concatenate([a, b]))


def _check_widths(one: Mixture, other: Mixture, node: Sum | Joined) -> None:
    if one.widths != other.widths:
        sizes = [" + ".join(map(str, part.widths.values())) for part in (one, other)]
        raise SettingsError(
            f"{_shown(node.left)} has vectors of width {sizes[0]} and {_shown(node.right)} of {sizes[1]}; mix words "
            "of one base model"
        )


def _count(mixture: Mixture) -> str:
    return f"{mixture.num_vectors} vector{'' if mixture.num_vectors == 1 else 's'}"


def _shown(node: Node) -> str:
    return printable(written(node), _SHOWN)


def rescaled(mixture: Mixture, norm: str, table: Mapping[str, float] | None = None) -> dict[str, np.ndarray]:
    """The vectors of a mixture with norms as wanted, float32 [N, D] by text encoder.

    Args:
        norm: one of `choices.NORMS`. KEEP: as they are; MEAN: the mean of the norms of what each vector was mixed from,
            weighted by the sizes of the weights; TABLE: the mean norm of the rows of a base model's table.
        table: for TABLE, this mean by text encoder.

    Raises:
        SettingsError: a vector is zero and cannot be scaled, or the values are beyond float32.
    """
    found = {}
    for name, array in mixture.vectors.items():
        if norm != KEEP:
            with np.errstate(all="ignore"):
                own = _norms(array)
            if not own.all():
                zero = int(np.flatnonzero(own == 0)[0]) + 1
                raise SettingsError(
                    f"vector {zero} of the mix is zero, to which --norm {norm} can give no norm; choose --norm {KEEP} "
                    "or other weights"
                )
            with np.errstate(all="ignore"):
                wanted = mixture.masses[name] / mixture.weights if norm == MEAN else table[name]
                array = array * (wanted / own)[:, None]
        if not np.abs(array).max() <= _LARGEST:  # NaN too
            raise SettingsError("the mix has values beyond float32; choose smaller weights")
        found[name] = array.astype(np.float32)
    return found


def interpolated(start: Vectors, learned: Vectors, share: float) -> dict[str, np.ndarray]:
    """Vectors on the way from the start of a training to its end: float64 [N, D] by text encoder.

    Args:
        share: how far, from 0, the start, to 1, the end, which then is exact.
    """
    return {
        name: (1 - share) * start[name].astype(np.float64) + share * array.astype(np.float64)
        for name, array in learned.items()
    }


def described(new: LearnedEmbedding) -> str:
    """A new word for a line to the user: its token, the number of its vectors, their norms."""
    norms = "; ".join(
        " ".join(f"{norm:.3g}" for norm in _norms(array.astype(np.float64))[:_MOST_NORMS])
        for array in new.vectors.values()
    )
    more = " …" if new.num_vectors > _MOST_NORMS else ""
    count = f"{new.num_vectors} vector{'' if new.num_vectors == 1 else 's'}"
    return f"{printable(new.placeholder_token, _SHOWN)}, {count}, norm {norms}{more}"


def _norms(array: np.ndarray) -> np.ndarray:
    """The norm of each vector [N, D], also where the squares of its values are beyond float64."""
    largest = np.abs(array).max(axis=1)
    return largest * np.linalg.norm(array / np.where(largest > 0, largest, 1.0)[:, None], axis=1)
