"""The noise of images: each image has a generator of its own, and all of its noise comes from there."""

import copy
import inspect
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle

# The second word of the Philox key: keeps the noise of images apart from the noise of training samples.
_IMAGES = 1
# The global name through which ppdiffusers' schedulers draw noise.
_DRAW = "randn_tensor"


def noise_generator(seed: int) -> np.random.Generator:
    """The source of all noise of one image.

    Args:
        seed: 0 to 2**64 - 1.
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed, _IMAGES], dtype=np.uint64)))


def draw(generators: Sequence[np.random.Generator], shape: tuple[int, ...]) -> paddle.Tensor:
    """Standard normal noise float32 [B, *shape], image b's from generator b."""
    return paddle.to_tensor(np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators]))


def drawing_from(scheduler: Any, generators: Sequence[np.random.Generator]) -> Any:
    """A copy of a scheduler that draws the noise of a batch's image b from generator b.

    The `generator` argument of ppdiffusers' schedulers cannot do this: on a CPU they ignore it. Their methods draw
    through a global name of their module. The copy has the same methods with a namespace of their own, in which this
    name stands for the generators; scheduler, class and module stay as they are. So any number of copies can draw at
    once, each on its own thread.

    Args:
        scheduler: a scheduler of ppdiffusers; what it keeps between its steps is not shared with the copy.
        generators: one for each image of the batch.
    """
    own = copy.deepcopy(scheduler)

    def randn_tensor(shape: Sequence[int], generator: Any = None, dtype: Any = None) -> paddle.Tensor:
        return draw(generators, tuple(shape[1:])).astype(dtype or "float32")

    for name, method in inspect.getmembers(type(scheduler), inspect.isfunction):
        if _DRAW in method.__code__.co_names:
            setattr(own, name, types.MethodType(_with_global(method, _DRAW, randn_tensor), own))
    return own


def _with_global(function: types.FunctionType, name: str, value: Any) -> types.FunctionType:
    """The same function in a namespace in which one global name has another value."""
    namespace = {**function.__globals__, name: value}
    copied = types.FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied
