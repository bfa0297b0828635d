"""Copy arrays to the device without making the CPU wait.

A copy from ordinary memory to a GPU makes the CPU wait until the GPU has finished everything in its queue. A copy from
pinned memory is only queued. The pinned memory must stay unchanged until the GPU has read it. So it is kept until an
event that follows the copy in the queue has completed.
"""

from collections import deque
from typing import Any

import numpy as np
import paddle

_in_flight: deque = deque()  # (event, pinned tensor), oldest first


def to_device(array: np.ndarray) -> paddle.Tensor:
    """A tensor of the array's dtype and shape on the device that paddle uses; on a CPU a plain copy."""
    if not _is_on_gpu():
        return paddle.to_tensor(array)
    while _in_flight and _in_flight[0][0].query():
        _in_flight.popleft()
    pinned = _pin(array)
    tensor = _send(pinned)
    _in_flight.append((_mark(), pinned))
    return tensor


def _is_on_gpu() -> bool:
    return paddle.framework._current_expected_place().is_gpu_place()


def _pin(array: np.ndarray) -> paddle.Tensor:
    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())


def _send(pinned: paddle.Tensor) -> paddle.Tensor:
    return pinned._copy_to(paddle.framework._current_expected_place(), False)


def _mark() -> Any:
    """An event that completes when the GPU has reached this position in its queue."""
    event = paddle.device.cuda.Event()
    event.record()
    return event
