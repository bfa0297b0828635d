"""Small trainable parameters, and settings of their optimizer."""

from types import SimpleNamespace

import numpy as np
import paddle


def settings(**changes):
    usual = dict(
        optimizer="adamw",
        lr_scheduler="constant",
        peak_learning_rate=0.1,
        lr_warmup_steps=0,
        max_train_steps=10,
        lr_num_cycles=1,
        lr_power=1.0,
        max_grad_norm=-1.0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        adam_weight_decay=0.0,
        sgd_momentum=0.9,
    )
    return SimpleNamespace(**usual | changes)


def parameter(values):
    return paddle.create_parameter(
        [len(values)], "float32", default_initializer=paddle.nn.initializer.Assign(np.array(values, dtype="float32"))
    )


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
