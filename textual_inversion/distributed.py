"""Several processes, one embedding: each works on its share of the global batch, and they exchange one small buffer.

A step's gradient is N·D floats per text encoder; it is averaged with one all-reduce. There is no wrapper around the
model and nothing to synchronise in it, because nothing in it changes.
"""

import os
import time
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.distributed as dist

_POLL_SECONDS = 0.02


@dataclass
class Ranks:
    """This process among its peers: `rank` in [0, world_size)."""

    rank: int = 0
    world_size: int = 1
    _meetings: int = 0

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
        self.wait()
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Return when every rank has come here, however long one of them takes.

        gloo gives up after 30 seconds, less than rank 0 may need for pictures or a save. So the ranks meet in the
        launcher's key-value store, which has no such limit, before they go on to anything collective.
        """
        if self.world_size == 1:
            return
        from paddle.base.core import create_or_get_global_tcp_store

        store = create_or_get_global_tcp_store()
        self._meetings += 1
        name = f"textual_inversion/meeting/{self._meetings}"
        store.add(name, 1)
        while store.add(name, 0) < self.world_size:
            time.sleep(_POLL_SECONDS)
        # The store is rank 0's: nobody leaves while another still asks it.
        dist.barrier()


def start() -> Ranks:
    """Join the other processes of `python -m paddle.distributed.launch`; alone without it."""
    world_size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1") or 1)
    if world_size == 1:
        return Ranks()
    dist.init_parallel_env()
    return Ranks(dist.get_rank(), dist.get_world_size())
