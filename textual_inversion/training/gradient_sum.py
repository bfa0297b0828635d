"""Sums of gradients that have the same bits however a global batch is divided.

Sums of float32 numbers depend on their order in the last bit, and training enlarges it: after 50 steps of a high rate
one last bit of one number has become 1e-5 (benchmarks/EXPERIMENTS.md). So micro-batches on one process and on several
would end with rows that differ. Here every micro-batch's gradient is first rounded to a grid that all processes know:
then all sums are exact, in any order, as long as they stay below 2^24 steps of the grid. (Rounding to a common grid is
the first step of reproducible summation: Demmel and Nguyen, ARITH 2013.)

Of four micro-batches, the grid of each number is 2^-13 or so of its gradient's recent size. Of more it is wider in
proportion, and the mean of their roundings smaller. A larger sum than expected is rounded like any other of floats.
"""

from collections.abc import Callable

import paddle

_DECAY = 0.99  # of what a gradient's size is taken for, a step
_ROOM = 6  # powers of two by which a micro-batch's gradient may exceed that size times the number of micro-batches
_FLOOR = 0.25  # least size of a number, as a share of its row's mean
_EXPONENT = 0x7F800000  # the bits of a float32's power of two


class GradientSum:
    """Adds up the gradients of a step's micro-batches on this process, ready for the sum over all of them.

    Args:
        parameters: the rows, float32 [N, D] each.
        ranks: the processes.
        accumulation: micro-batches of a step on each process. One in all: nothing is done.
    """

    def __init__(self, parameters: list, ranks, accumulation: int):
        self._parameters, self._ranks, self._parts = parameters, ranks, accumulation * ranks.world_size
        self._found: list[list] = [[] for _ in parameters]
        self._sizes: list = [None] * len(parameters)

    @paddle.no_grad()
    def begin(self, backward: Callable[[], object]) -> None:
        """Take over from rank 0 how large gradients are before the first step; nothing where that is known already.

        Args:
            backward: brings the gradients of a micro-batch to the parameters.
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
        """Take over the gradients of a micro-batch; none is left at the parameters."""
        if self._parts == 1:
            return
        for parameter, found in zip(self._parameters, self._found, strict=True):
            if parameter.grad is not None:
                found.append(parameter.grad.clone())
                parameter.clear_gradient(False)

    @paddle.no_grad()
    def add_up(self) -> None:
        """Give the parameters the sums of what was collected, on their grids."""
        usual = _usual(self._sizes)
        for parameter, size, found in zip(self._parameters, self._sizes, self._found, strict=True):
            if found:
                grid = _grid(size, usual[size.shape[-1]], self._parts)
                parameter.grad = sum(on_grid(gradient, grid) for gradient in found)
                found.clear()

    @paddle.no_grad()
    def exchange(self, stop=None) -> None:
        """Replace the sums by the means over the global batch's micro-batches, and remember how large they are."""
        self._ranks.mean_gradients(self._parameters, stop, self._parts)
        for number, parameter in enumerate(self._parameters):
            size = self._sizes[number]
            if size is not None and parameter.grad is not None:
                now = _finite(parameter.grad.abs())
                is_shown = now.max(axis=-1, keepdim=True) > 0  # a word waits for its turn, and does not fade
                self._sizes[number] = paddle.where(is_shown, paddle.maximum(now, size * _DECAY), size)

    def state(self) -> dict:
        """What a resumed run must take over: a float32 tensor [N, D] a parameter, by names."""
        return {f"size_{number}": size for number, size in enumerate(self._sizes) if size is not None}

    def restore(self, state: dict) -> None:
        """Go on from what `state` gave, as tensors or arrays."""
        for name, size in (state or {}).items():
            self._sizes[int(name.removeprefix("size_"))] = paddle.to_tensor(size, dtype="float32")


def on_grid(gradient, grid):
    """Round float32 numbers to multiples of the last bit of `grid`, float32, three halves of a power of two each."""
    return (gradient + grid) - grid  # what does not fit behind the grid's last bit is rounded off


def _usual(sizes: list) -> dict:
    """Width D -> the mean size of the rows of that width which had a gradient already, a float32 scalar."""
    rows: dict[int, list] = {}
    for size in sizes:
        if size is not None:
            rows.setdefault(size.shape[-1], []).append(size.mean(axis=-1))
    means = {width: paddle.concat(found) for width, found in rows.items()}
    return {width: mean.sum() / (mean > 0).sum().clip(min=1).astype("float32") for width, mean in means.items()}


def _grid(size, usual, parts: int):
    """For sums of `parts` numbers up to `size`: float32, three halves of a power of two, or 0 where all is 0."""
    # A number that was small by chance may be as large as its neighbours the next time, and a row that had no gradient
    # yet as large as the others.
    row = size.mean(axis=-1, keepdim=True)
    size = paddle.maximum(size, paddle.where(row > 0, _FLOOR * row, usual))
    bits = size.view("int32")
    power = (bits & paddle.full_like(bits, _EXPONENT)).view("float32")  # the largest power of two up to it
    return power * (1.5 * 2.0 ** (1 + _ROOM + parts.bit_length()))


def _finite(size):
    return paddle.where(paddle.isfinite(size), size, paddle.zeros_like(size))
