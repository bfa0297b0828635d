"""Sums of gradients that have the same bits however a global batch is divided.

The last bit of a sum of float32 numbers depends on their order, and training amplifies the difference: after 50 steps
at a high learning rate, one last bit of one number has grown to 1e-5 (benchmarks/EXPERIMENTS.md). So the same
micro-batches on one process and on several would lead to different embedding vectors. Here the gradient of every
micro-batch is first rounded to a grid that all processes know. Then all sums are exact, in any order, as long as they
stay below 2^24 steps of the grid. (Rounding to a common grid is the first step of reproducible summation: Demmel and
Nguyen, ARITH 2013.)

With four micro-batches, the grid step of each number is about 2^-13 of its gradient's recent size. With more
micro-batches it grows in proportion, and the mean of their rounding errors shrinks. A sum that is larger than expected
is rounded like any other sum of floats.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import paddle

from textual_inversion.system.signals import Signals

if TYPE_CHECKING:
    from textual_inversion.distributed.ranks import Ranks

_DECAY = 0.99  # of the assumed size of a gradient, per step
_ROOM = 6  # powers of two by which a micro-batch's gradient may exceed that size times the number of micro-batches
_FLOOR = 0.25  # smallest assumed size of a number, as a fraction of its vector's mean
_EXPONENT = 0x7F800000  # the exponent bits of a float32


class GradientSum:
    """Adds up the gradients of a step's micro-batches on this process, ready for the sum over all of them.

    Args:
        parameters: the trained vectors, float32 [N, D] each.
        ranks: the processes of the run.
        accumulation: micro-batches of a step on each process. If a step has only one, nothing is done.
    """

    def __init__(self, parameters: list, ranks: "Ranks", accumulation: int):
        self._parameters, self._ranks, self._parts = parameters, ranks, accumulation * ranks.world_size
        self._found: list[list] = [[] for _ in parameters]
        self._sizes: list = [None] * len(parameters)

    @paddle.no_grad()
    def begin(self, backward: Callable[[], object]) -> None:
        """Get from rank 0 how large gradients are before the first step, unless that is known already.

        Args:
            backward: computes the gradients of one micro-batch.
        """
        if self._parts == 1 or any(size is not None for size in self._sizes):
            return
        sizes = None
        if self._ranks.is_main:
            with paddle.enable_grad():
                backward()
            sizes = [
                _finite(paddle.zeros_like(p) if p.grad is None else p.grad.abs()).numpy() for p in self._parameters
            ]
            for parameter in self._parameters:
                parameter.clear_gradient(False)
        self._sizes = [paddle.to_tensor(size) for size in self._ranks.broadcast(sizes)]

    def collect(self) -> None:
        """Move the gradients of a micro-batch from the parameters into the sum."""
        if self._parts == 1:
            return
        for parameter, found in zip(self._parameters, self._found, strict=True):
            if parameter.grad is not None:
                found.append(parameter.grad.clone())
                parameter.clear_gradient(False)

    @paddle.no_grad()
    def add_up(self) -> None:
        """Set the parameters' gradients to the sums of what was collected, on their grids."""
        usual = _usual(self._sizes)
        for parameter, size, found in zip(self._parameters, self._sizes, self._found, strict=True):
            if found:
                grid = _grid(size, usual[size.shape[-1]], self._parts)
                parameter.grad = sum(on_grid(gradient, grid) for gradient in found)
                found.clear()

    @paddle.no_grad()
    def exchange(self, stop: Signals | None = None) -> None:
        """Replace the sums by the means over all micro-batches of the global batch, and remember their sizes.

        Args:
            stop: gets `agreed` set, see `Ranks.mean_gradients`.
        """
        self._ranks.mean_gradients(self._parameters, stop, self._parts)
        for number, parameter in enumerate(self._parameters):
            size = self._sizes[number]
            if size is not None and parameter.grad is not None:
                now = _finite(parameter.grad.abs())
                is_shown = now.max(axis=-1, keepdim=True) > 0  # a vector that waits for its turn keeps its size
                self._sizes[number] = paddle.where(is_shown, paddle.maximum(now, size * _DECAY), size)

    def state(self) -> dict[str, paddle.Tensor]:
        """What a resumed run must restore: by name, a float32 tensor [N, D] per parameter."""
        return {f"size_{number}": size for number, size in enumerate(self._sizes) if size is not None}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Continue from what `state` returned, as tensors or arrays."""
        for name, size in (state or {}).items():
            self._sizes[int(name.removeprefix("size_"))] = paddle.to_tensor(size, dtype="float32")


def on_grid(gradient: paddle.Tensor, grid: paddle.Tensor) -> paddle.Tensor:
    """Round float32 numbers to multiples of the last bit of `grid`: float32, each 1.5 times a power of two."""
    return (gradient + grid) - grid  # digits below the grid's last bit are rounded off


def _usual(sizes: list) -> dict[int, paddle.Tensor]:
    """Width D -> the mean size of the vectors of that width that have had a gradient already, a float32 scalar."""
    vectors: dict[int, list] = {}
    for size in sizes:
        if size is not None:
            vectors.setdefault(size.shape[-1], []).append(size.mean(axis=-1))
    means = {width: paddle.concat(found) for width, found in vectors.items()}
    return {width: mean.sum() / (mean > 0).sum().clip(min=1).astype("float32") for width, mean in means.items()}


def _grid(size: paddle.Tensor, usual: paddle.Tensor, parts: int) -> paddle.Tensor:
    """The grid for sums of `parts` numbers up to `size`: float32, 1.5 times a power of two, or 0 if all sizes are 0."""
    # A number that was small by chance may be as large as its neighbours the next time, and a vector that has had no
    # gradient yet as large as the others.
    mean = size.mean(axis=-1, keepdim=True)
    size = paddle.maximum(size, paddle.where(mean > 0, _FLOOR * mean, usual))
    bits = size.view("int32")
    power = (bits & paddle.full_like(bits, _EXPONENT)).view("float32")  # the largest power of two up to it
    return power * (1.5 * 2.0 ** (1 + _ROOM + parts.bit_length()))


def _finite(size: paddle.Tensor) -> paddle.Tensor:
    """The sizes, with 0 in place of NaN and infinity."""
    return paddle.where(paddle.isfinite(size), size, paddle.zeros_like(size))
