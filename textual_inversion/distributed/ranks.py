"""Several processes, one embedding: each works on its share of the global batch, and they exchange one small buffer.

A step's gradient is N·D floats per text encoder. It is averaged over the ranks with one all-reduce. The model needs no
wrapper and no synchronisation, because nothing in it changes.
"""

import os
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist

from textual_inversion.distributed import consistency, peers
from textual_inversion.distributed.meeting import MeetingPoint
from textual_inversion.distributed.peers import Peers
from textual_inversion.system.signals import Signals

# Seconds that rank 0 gets to open its key-value store. A process that connects too early sleeps for 3 seconds, and
# neither signals nor its other threads run in that time.
_HEAD_START = 0.2


@dataclass
class Ranks:
    """This process among the processes of the run.

    Attributes:
        rank: of this process, in [0, world_size).
        world_size: processes of the run.
        peers: the watch for lost processes.
        meeting_point: where the processes meet; None for a process that is alone.
    """

    rank: int = 0
    world_size: int = 1
    peers: Peers = field(default_factory=Peers)
    meeting_point: MeetingPoint | None = None
    _stopping_before: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes the files and the messages."""
        return self.rank == 0

    def mean_gradients(
        self, parameters: list[paddle.Tensor], stop: Signals | None = None, parts: int | None = None
    ) -> None:
        """Replace each parameter's gradient by its mean over the ranks: one all-reduce for all of them.

        A parameter that the loss did not depend on has no gradient on any rank, and none afterwards.

        The buffer carries one more number: how many ranks are stopping. The result is the same everywhere, so all
        ranks end after the same step, at no cost. With the key-value store every step would have to ask rank 0, and
        two ranks could ask before and after the answer changed.

        Args:
            parameters: float32 parameters.
            stop: its `agreed` is set: whether any rank has received a signal to stop.
            parts: what the sum over the ranks is divided by; None: the number of ranks.
        """
        parts = parts or self.world_size
        is_stopping = stop is not None and stop.received is not None
        if self.world_size == 1:
            if stop is not None:
                stop.agreed = is_stopping
            if parts > 1:
                for parameter in (p for p in parameters if p.grad is not None):
                    parameter.grad = parameter.grad / parts
            return
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        flat = paddle.concat([*(p.grad.reshape([-1]) for p in parameters), paddle.full([1], float(is_stopping))])
        dist.all_reduce(flat)
        if stop is not None:
            stop.agreed = self._is_any_stopping(flat[-1])
        flat = flat / parts
        start = 0
        for parameter in parameters:
            size = int(np.prod(parameter.shape))
            parameter.grad.set_value(flat[start : start + size].reshape(parameter.shape))
            start += size

    def _is_any_stopping(self, count: paddle.Tensor) -> bool:
        """Whether any rank is stopping; on a GPU the answer of the step before, which takes no waiting."""
        if not count.place.is_cpu_place():
            count, self._stopping_before = self._stopping_before, count
        return count is not None and float(count) > 0

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank; for start-up, outside the training step."""
        if self.world_size == 1:
            return value
        self.wait()
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Return when every rank has called this, however long one of them takes.

        gloo gives up after 30 seconds, and rank 0 may need longer for images or a save. So the ranks first meet without
        a time limit, and then proceed to the collective operation.
        """
        if self.world_size == 1:
            return
        self.meeting_point.wait()
        dist.barrier()  # the store is rank 0's: no rank leaves while another still asks it

    def meet(self, stop: Signals) -> None:
        """Return when every rank has called this and will proceed to a collective operation, however long one takes.

        Unlike `wait`, this is for times at which a signal ends a run at once, such as while images are made: a rank
        that leaves at such a time leaves no other behind in native code. Call it inside `stop.noted()`, together with
        the collective operation.

        Raises:
            Stopped: a rank is stopping; all of them raise it, and none proceeds.
        """
        if self.world_size == 1:
            return
        with stop.noted():
            if not self.meeting_point.go_together(lambda: stop.received is not None):
                raise stop.stopped()

    def leave(self) -> None:
        """End this process, successfully, where it is one of several; see `peers.leave`. Does nothing if it is alone.

        Everything must be written by now.
        """
        if self.world_size > 1:
            peers.leave(0)


def start(watch: Peers, facts: dict[str, dict[str, Any]]) -> Ranks:
    """Join the other processes of `python -m paddle.distributed.launch`; without the launcher, this process is alone.

    Args:
        watch: the other processes, all of which have started.
        facts: from `consistency.of_program`, which must be the same on all ranks.

    Raises:
        SettingsError: facts differ between the ranks; raised on every rank.
    """
    world_size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1") or 1)
    if world_size == 1:
        return Ranks()
    rank = int(os.environ["PADDLE_TRAINER_ID"])
    if rank:
        time.sleep(_HEAD_START)
    meeting_point = MeetingPoint.of_launcher(rank, world_size)
    watch.learn(meeting_point.hand_out(watch.secret))
    consistency.agree(meeting_point, facts)  # before anything that has to be the same everywhere
    dist.init_parallel_env()
    return Ranks(rank, world_size, watch, meeting_point)
