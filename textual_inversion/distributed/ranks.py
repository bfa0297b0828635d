"""Several processes, one embedding: each works on its share of the global batch, and they exchange one small buffer.

A step's gradient is N·D floats per text encoder; it is averaged with one all-reduce. There is no wrapper around the
model and nothing to synchronise in it, because nothing in it changes.
"""

import os
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import paddle
import paddle.distributed as dist
from paddle.base.core import create_or_get_global_tcp_store

from textual_inversion.distributed import consistency, meeting
from textual_inversion.distributed.liveness import Peers
from textual_inversion.system.signals import blocked

_POLL_SECONDS = 0.02
# Whoever asks before rank 0's key-value store listens sleeps for 3 seconds, deaf to signals and to other threads.
_HEAD_START = 0.2


@dataclass
class Ranks:
    """This process among its peers: `rank` in [0, world_size)."""

    rank: int = 0
    world_size: int = 1
    peers: Peers = field(default_factory=Peers)
    _meetings: int = 0
    _asked: object = None

    @property
    def is_main(self) -> bool:
        """Rank 0 writes files and talks."""
        return self.rank == 0

    def mean_gradients(self, parameters: list, stop=None, parts: int | None = None) -> None:
        """Replace each parameter's gradient by its mean over the ranks: one all-reduce for all of them.

        A parameter that nothing led to has no gradient on any rank, and none afterwards.

        One more number rides in it: how many ranks were told to end. What comes out is the same everywhere, so all of
        them end after the same step, at no cost; through the key-value store every step would have to ask rank 0, and
        two ranks could ask on different sides of the answer.

        Args:
            stop: a `signals.Signals`, whose `agreed` is set.
            parts: what the sum over the ranks is divided by; None: the ranks.
        """
        parts = parts or self.world_size
        wanted = stop is not None and stop.received is not None
        if self.world_size == 1:
            if stop is not None:
                stop.agreed = wanted
            if parts > 1:
                for parameter in (p for p in parameters if p.grad is not None):
                    parameter.grad = parameter.grad / parts
            return
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        flat = paddle.concat([*(p.grad.reshape([-1]) for p in parameters), paddle.full([1], float(wanted))])
        dist.all_reduce(flat)
        if stop is not None:
            stop.agreed = self._is_asked(flat[-1])
        flat = flat / parts
        start = 0
        for parameter in parameters:
            size = int(np.prod(parameter.shape))
            parameter.grad.set_value(flat[start : start + size].reshape(parameter.shape))
            start += size

    def _is_asked(self, count) -> bool:
        """Whether any rank was told to end; on a GPU the answer of the step before, for which nobody has to wait."""
        if not count.place.is_cpu_place():
            count, self._asked = self._asked, count
        return count is not None and float(count) > 0

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
        self._meetings += 1
        consistency.meet(
            create_or_get_global_tcp_store(), f"textual_inversion/meeting/{self._meetings}", self.world_size
        )
        # The store is rank 0's: nobody leaves while another still asks it.
        dist.barrier()

    def meet(self, stop) -> None:
        """Return when every rank has come here and will go on to a collective operation, however long one takes.

        Unlike `wait`, for times at which a signal ends a run at once, such as while pictures are drawn: a rank that
        leaves then leaves nobody behind in native code. Call it inside `stop.noted()`, with the collective operation.

        Args:
            stop: a `signals.Signals`.

        Raises:
            Stopped: a rank was told to end; all of them raise it, and none goes on.
        """
        if self.world_size == 1:
            return
        self._meetings += 1
        name, store = f"textual_inversion/gathering/{self._meetings}", create_or_get_global_tcp_store()

        def add(key: str, number: int) -> int:
            with blocked():
                return store.add(key, number)

        with stop.noted():
            told, pause = (lambda: stop.received is not None), (lambda: time.sleep(_POLL_SECONDS))
            if not meeting.hold(add, name, self.rank, self.world_size, told, pause):
                raise stop.stopped()

    def leave(self) -> None:
        """End this process, successful, where it is one of several; does nothing where it is alone.

        The native threads of gloo and of the key-value store are torn down in an order that no rank controls. A rank
        that lost its peer in that moment was seen to abort with all its work done, and the launcher then calls the
        whole run failed. Everything is written by now, so the process goes without that teardown.
        """
        if self.world_size == 1:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def start(peers: Peers | None = None, facts: dict | None = None) -> Ranks:
    """Join the other processes of `python -m paddle.distributed.launch`; alone without it.

    Args:
        peers: the other processes, all of which have come.
        facts: from `agreement.of_program`; None: nothing is compared.

    Raises:
        SettingsError: on every rank, where facts differ.
    """
    world_size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1") or 1)
    if world_size == 1:
        return Ranks()
    rank = int(os.environ["PADDLE_TRAINER_ID"])
    if rank:
        time.sleep(_HEAD_START)
    if facts is not None:  # before anything that has to be the same everywhere
        consistency.agree(create_or_get_global_tcp_store(), rank, world_size, facts)
    dist.init_parallel_env()
    return Ranks(dist.get_rank(), dist.get_world_size(), peers=peers or Peers())
