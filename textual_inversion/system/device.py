"""Copies of arrays to the device that the processor doesn't wait for.

A copy from ordinary memory to a GPU makes the processor wait until the GPU has worked off its queue. A copy from pinned
memory is only put into the queue. The pinned memory must then stay unchanged until the GPU has read it, so it is kept
until an event that follows the copy in the queue has completed.
"""

from collections import deque

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


def _pin(array):
    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())


def _send(pinned):
    return pinned._copy_to(paddle.framework._current_expected_place(), False)


def _mark():
    event = paddle.device.cuda.Event()
    event.record()
    return event
