"""Small trainable parameters, and the optimizer of their tests."""

import numpy as np
import paddle

from helpers.configs import config_of
from textual_inversion.training.optimizer import make_optimizer, make_schedule

STEPS, PEAK_LEARNING_RATE = 10, 0.1
# Optimizer -> tensors that it remembers of each parameter: moments, powers of beta, velocity and so on.
KEPT_TENSORS = {"adamw": 4, "adam": 4, "sgd": 1, "lion": 1, "adafactor": 3, "prodigy": 6, "dadapt_adam": 5}


def optimizer_of(parameters: list, *, peak_learning_rate: float = PEAK_LEARNING_RATE, **flags) -> tuple:
    """(optimizer, schedule) of ten steps: no warm-up and no weight decay unless a flag asks for it."""
    config = config_of(**dict(lr_warmup_steps=0, adam_weight_decay=0.0) | flags)
    schedule = make_schedule(config.training, STEPS, peak_learning_rate)
    return make_optimizer(config.optimizer, schedule, parameters), schedule


def parameter(values):
    return paddle.create_parameter(
        [len(values)], "float32", default_initializer=paddle.nn.initializer.Assign(np.array(values, dtype="float32"))
    )


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
