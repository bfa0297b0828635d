"""Several processes, one embedding: each works on its share of the global batch, and they exchange one small buffer.

A step's gradient is N·D floats per text encoder; it is averaged with one all-reduce. There is no wrapper around the
model and nothing to synchronise in it, because nothing in it changes.
"""

import os
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process among its peers: `rank` in [0, world_size)."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Rank 0 writes files, draws pictures and talks."""
        return self.rank == 0

    def mean_gradients(self, parameters: list) -> None:
        """Replace each parameter's gradient by its mean over the ranks: one all-reduce for all of them."""
        if self.world_size == 1:
            return
        flat = paddle.concat([p.grad.reshape([-1]) for p in parameters])
        dist.all_reduce(flat)
        flat = flat / self.world_size
        start = 0
        for parameter in parameters:
            size = int(np.prod(parameter.shape))
            parameter.grad.set_value(flat[start : start + size].reshape(parameter.shape))
            start += size

    def broadcast(self, value):
        """Rank 0's value, on every rank; for start-up agreement, outside the training step."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Return when every rank has come here."""
        if self.world_size > 1:
            dist.barrier()


def start() -> Ranks:
    """Join the other processes of `python -m paddle.distributed.launch`; alone without it."""
    world_size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1") or 1)
    if world_size == 1:
        return Ranks()
    dist.init_parallel_env()
    return Ranks(dist.get_rank(), dist.get_world_size())
