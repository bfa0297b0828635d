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
        widths: dict[int, dict[int, Any]] = {}
        for number, parameter in enumerate(parameters):
            widths.setdefault(parameter.shape[-1], {})[number] = parameter
        self._stacks = [_Stack(members, self._parts) for members in widths.values()]

    @paddle.no_grad()
    def begin(self, backward: Callable[[], object]) -> None:
        """Get from rank 0 how large gradients are before the first step, unless that is known already.

        Args:
            backward: computes the gradients of one micro-batch.
        """
        if self._parts == 1 or any(stack.size is not None for stack in self._stacks):
            return
        sizes = None
        if self._ranks.is_main:
            with paddle.enable_grad():
                backward()
            sizes = [_finite(stack.gradients().abs()).numpy() for stack in self._stacks]
            for parameter in self._parameters:
                parameter.clear_gradient(False)
        for stack, size in zip(self._stacks, self._ranks.broadcast(sizes), strict=True):
            stack.size = paddle.to_tensor(size)

    @paddle.no_grad()
    def collect(self) -> None:
        """Move the gradients of a micro-batch from the parameters into the sum."""
        if self._parts > 1:
            for stack in self._stacks:
                stack.collect()

    @paddle.no_grad()
    def add_up(self) -> None:
        """Set the parameters' gradients to the sums of what was collected, on their grids."""
        for stack in self._stacks:
            stack.add_up()

    @paddle.no_grad()
    def exchange(self, stop: Signals | None = None) -> None:
        """Replace the sums by the means over all micro-batches of the global batch, and remember their sizes.

        Args:
            stop: gets `agreed` set, see `Ranks.mean_gradients`.
        """
        self._ranks.mean_gradients(self._parameters, stop, self._parts)
        for stack in self._stacks:
            stack.remember_sizes()

    def state(self) -> dict[str, paddle.Tensor]:
        """What a resumed run must restore: by name, a float32 tensor [N, D] per parameter."""
        return {f"size_{number}": size for stack in self._stacks for number, size in stack.sizes().items()}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Continue from what `state` returned, as tensors or arrays."""
        sizes = {int(name.removeprefix("size_")): size for name, size in (state or {}).items()}
        for stack in self._stacks:
            stack.restore(sizes)


class _Stack:
    """The parameters of one width D, one below the other: float32 [M, D].

    So a run of hundreds of concepts takes as many operations as one of a single concept, and a micro-batch is added to
    the sum at once instead of being kept until the step ends.

    Args:
        members: number -> parameter, float32 [N, D].
        parts: micro-batches of a step on all processes.

    Attributes:
        size: how large gradients have been lately, float32 [M, D]; None where that is not known.
    """

    def __init__(self, members: Mapping[int, Any], parts: int):
        self._members, self._parts = members, parts
        self._rows = [parameter.shape[0] for parameter in members.values()]
        self.size = self._grid = self._sum = None
        self._shown: set[int] = set()  # numbers of the parameters that have had a gradient in this step

    def gradients(self) -> paddle.Tensor:
        """The gradients of all members, [M, D], with zeros for those that have none."""
        found = [paddle.zeros_like(p) if p.grad is None else p.grad for p in self._members.values()]
        return found[0] if len(found) == 1 else paddle.concat(found)

    def _split(self, stacked: paddle.Tensor) -> dict[int, paddle.Tensor]:
        """Number -> its part [N, D] of [M, D]."""
        parts = [stacked] if len(self._rows) == 1 else paddle.split(stacked, self._rows)
        return dict(zip(self._members, parts, strict=True))

    def collect(self) -> None:
        """Add the gradients to the sum, on their grid, and clear them."""
        shown = {number for number, parameter in self._members.items() if parameter.grad is not None}
        if not shown:
            return
        if self._grid is None:
            self._grid = _grid(self.size, self._parts)
        rounded = on_grid(self.gradients(), self._grid)
        self._sum = rounded if self._sum is None else self._sum + rounded
        self._shown |= shown
        for number in shown:
            self._members[number].clear_gradient(False)

    def add_up(self) -> None:
        """Set the gradients to the sum, and begin another one."""
        if self._sum is not None:
            for number, gradient in self._split(self._sum).items():
                if number in self._shown:
                    self._members[number].grad = gradient
        self._grid = self._sum = None
        self._shown = set()

    def remember_sizes(self) -> None:
        """Follow how large the gradients are, where that is known."""
        if self.size is None:
            return
        now = _finite(self.gradients().abs())
        is_shown = now.max(axis=-1, keepdim=True) > 0  # a vector that waits for its turn keeps its size
        self.size = paddle.where(is_shown, paddle.maximum(now, self.size * _DECAY), self.size)

    def sizes(self) -> dict[int, paddle.Tensor]:
        """Number -> size [N, D]; {} where it is not known."""
        return {} if self.size is None else self._split(self.size)

    def restore(self, sizes: Mapping[int, Any]) -> None:
        """Take over sizes by number, if all are there."""
        if all(number in sizes for number in self._members):
            own = [paddle.to_tensor(sizes[number], dtype="float32") for number in self._members]
            self.size = paddle.concat(own)


def on_grid(gradient: paddle.Tensor, grid: paddle.Tensor) -> paddle.Tensor:
    """Round float32 numbers to multiples of the last bit of `grid`: float32, each 1.5 times a power of two."""
    return (gradient + grid) - grid  # digits below the grid's last bit are rounded off


def _grid(size: paddle.Tensor, parts: int) -> paddle.Tensor:
    """The grid for sums of `parts` numbers up to `size`, float32 [M, D]: 1.5 times powers of two, 0 if all sizes are 0.

    A number that was small by chance may be as large as its neighbours the next time, and a vector that has had no
    gradient yet as large as the others.
    """
    mean = size.mean(axis=-1, keepdim=True)  # (M, 1)
    usual = mean.sum() / (mean > 0).sum().clip(min=1).astype("float32")
    size = paddle.maximum(size, paddle.where(mean > 0, _FLOOR * mean, usual))
    bits = size.view("int32")
    power = (bits & paddle.full_like(bits, _EXPONENT)).view("float32")  # the largest power of two up to it
    return power * (1.5 * 2.0 ** (1 + _ROOM + parts.bit_length()))


def _finite(size: paddle.Tensor) -> paddle.Tensor:
    """The sizes, with 0 in place of NaN and infinity."""
    return paddle.where(paddle.isfinite(size), size, paddle.zeros_like(size))
