"""The optimizer of the embedding vectors, with a learning rate scheduled over optimizer steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textual_inversion.settings.rates import Stage
from textual_inversion.settings.train_method import OptimizerSettings, TrainingSettings


def make_optimizer(settings: OptimizerSettings, schedule: Any, parameters: Sequence) -> Any:
    """The optimizer.

    AdamW (arXiv 1711.05101), Adam (arXiv 1412.6980), SGD with momentum, or one of `published_optimizers`. Weight decay
    acts on the new vectors, which are all the parameters there are, and pulls them towards zero. Adam's and SGD's is
    decay x vectors, added to the gradient; that of all others shrinks the vectors beside the gradient's step, by
    learning rate x decay.

    Args:
        schedule: from `make_schedule`.
        parameters: the vectors.
    """
    import paddle

    clip = paddle.nn.ClipGradByGlobalNorm(settings.max_grad_norm) if settings.max_grad_norm > 0 else None
    common = dict(
        learning_rate=schedule, parameters=list(parameters), weight_decay=settings.adam_weight_decay, grad_clip=clip
    )
    betas = dict(beta1=settings.adam_beta1, beta2=settings.adam_beta2)
    adam = dict(**betas, epsilon=settings.adam_epsilon)
    match settings.optimizer:
        case "adamw":
            return paddle.optimizer.AdamW(**adam, **common)
        case "adam":
            return paddle.optimizer.Adam(**adam, **common)
        case "sgd":
            return paddle.optimizer.Momentum(momentum=settings.sgd_momentum, **common)

    from textual_inversion.training import published_optimizers as published

    common = (schedule, parameters, settings.adam_weight_decay, clip)
    match settings.optimizer:
        case "lion":
            return published.Lion(*common, **betas)
        case "adafactor":
            return published.Adafactor(*common, scale_parameter=settings.adafactor_scale_parameter)
        case "prodigy":
            return published.Prodigy(*common, **adam, d0=settings.d0, d_coef=settings.d_coef)
        case "dadapt_adam":
            return published.DAdaptAdam(*common, **adam, d0=settings.d0)
    raise ValueError(f"optimizer {settings.optimizer!r} is unknown")


def make_schedule(
    settings: TrainingSettings, steps: int, peak_learning_rate: float, rates: Sequence[Stage] = ()
) -> Any:
    """The learning rate over optimizer steps; `schedule.step()` is called once per optimizer step.

    Several `rates` follow each other, each up to its step. Otherwise at step s of S, with W of warm-up, it is the peak
    times

    constant               1
    others, s < W          s / W
    constant_with_warmup   1
    linear                 1 - p, with p = (s - W) / (S - W)
    cosine                 (1 + cos(pi p)) / 2
    cosine_with_restarts   (1 + cos(pi (n p mod 1))) / 2, with n cycles
    polynomial             (1 - e)(1 - p)^power + e, where it ends at e times the peak
    """
    if rates:
        from paddle.optimizer.lr import PiecewiseDecay

        return PiecewiseDecay([stage.until for stage in rates[:-1]], [stage.rate for stage in rates])

    from ppdiffusers.optimization import get_scheduler

    return get_scheduler(
        settings.lr_scheduler,
        learning_rate=peak_learning_rate,
        num_warmup_steps=settings.lr_warmup_steps,
        num_training_steps=steps,
        num_cycles=settings.lr_num_cycles,
        power=settings.lr_power,
    )


def step_optimizer(optimizer, parameters: list, active: list) -> None:
    """One step, after which no gradient is left.

    A parameter that is not active (a concept that no sample of the step showed) stays exactly as it is: no decay, no
    drift along old moments, and its moments and its count of steps stay too. Paddle's optimizers, and the
    clipping by their common norm, pass over a parameter without a gradient; a gradient of zeros is a gradient to them.

    Args:
        optimizer: from `make_optimizer`.
        parameters: all vectors.
        active: those of them that take part.
    """
    taking_part = {id(parameter) for parameter in active}
    for parameter in parameters:
        if id(parameter) not in taking_part:
            parameter.clear_gradient(False)  # Paddle ignores the argument under its name, set_to_zero
    optimizer.step()
    optimizer.clear_grad(set_to_zero=False)


def accumulators_of(optimizer, parameters: Sequence) -> list:
    """The tensors in which an optimizer remembers some parameters (moments, powers of the betas, velocity)."""
    kept = optimizer._accumulators.values()
    return [tensors[one.name] for tensors in kept for one in parameters if one.name in tensors]


def estimated_distance(optimizer) -> float | None:
    """The largest distance that an estimating optimizer takes its vectors to have to go; None if it estimates none.

    Reads the device.
    """
    known = optimizer._accumulators.get("distance", {}).values()
    return max((tensor.item() for tensor in known), default=None)


def optimizer_state(optimizer, parameters: Mapping[str, object]) -> dict:
    """What the optimizer remembers of each parameter (moments, powers of the betas, velocity), as it is now.

    Args:
        parameters: name -> parameter.

    Returns:
        "NAME/ACCUMULATOR" -> float32 array; nothing for a parameter that never took part in a step.
    """
    return {
        f"{name}/{accumulator}": tensors[parameter.name].numpy()
        for accumulator, tensors in optimizer._accumulators.items()
        for name, parameter in parameters.items()
        if parameter.name in tensors
    }


def restore_optimizer(optimizer, parameters: Mapping[str, object], state: Mapping) -> None:
    """Give a new optimizer what another one remembered; of an optimizer of another kind what both know.

    Paddle's own `set_state_dict` wants a state for every parameter, also for those that never took part in a step, and
    names it after parameters that are called otherwise in another process.

    Args:
        parameters, state: see `optimizer_state`.

    Raises:
        ValueError: an array has another shape than what it is for.
    """
    import paddle

    block = paddle.base.framework.default_main_program().global_block()
    for name, parameter in parameters.items():
        own = {key.rpartition("/")[2]: value for key, value in state.items() if key.rpartition("/")[0] == name}
        if own:
            optimizer._create_accumulators(block, [parameter])
        for accumulator, value in own.items():
            tensor = optimizer._accumulators.get(accumulator, {}).get(parameter.name)
            if tensor is not None:
                if list(tensor.shape) != list(np.shape(value)):
                    raise ValueError(f"{accumulator} of {name} has another shape")
                tensor.copy_(paddle.to_tensor(value, place=tensor.place), True)  # the betas stay on the CPU
