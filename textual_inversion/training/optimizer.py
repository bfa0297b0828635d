"""The optimizer of the rows, with a learning rate scheduled over optimizer steps."""

from collections.abc import Mapping


def make_optimizer(args, parameters: list):
    """The optimizer and the schedule of its learning rate.

    AdamW (arXiv 1711.05101), Adam (arXiv 1412.6980), or SGD with momentum. Weight decay acts on the new rows, which are
    all the parameters there are: it pulls them towards zero and touches nothing else. AdamW's shrinks them beside the
    gradient's step, by learning rate x decay; Adam's and SGD's is decay x rows, added to the gradient.

    Args:
        args: settled settings; `args.peak_learning_rate` is the schedule's highest value.
        parameters: the rows.

    Returns:
        (optimizer, schedule); `schedule.step()` is called once per optimizer step.
    """
    import paddle

    schedule = make_schedule(args)
    common = dict(
        learning_rate=schedule,
        parameters=parameters,
        weight_decay=args.adam_weight_decay,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(args.max_grad_norm) if args.max_grad_norm > 0 else None,
    )
    if args.optimizer == "sgd":
        return paddle.optimizer.Momentum(momentum=args.sgd_momentum, **common), schedule
    make = {"adamw": paddle.optimizer.AdamW, "adam": paddle.optimizer.Adam}[args.optimizer]
    return make(beta1=args.adam_beta1, beta2=args.adam_beta2, epsilon=args.adam_epsilon, **common), schedule


def make_schedule(args):
    """The learning rate over optimizer steps; at step s of S, with W of warm-up, it is the peak times

    constant               1
    others, s < W          s / W
    constant_with_warmup   1
    linear                 1 - p, with p = (s - W) / (S - W)
    cosine                 (1 + cos(pi p)) / 2
    cosine_with_restarts   (1 + cos(pi (n p mod 1))) / 2, with n cycles
    polynomial             (1 - e)(1 - p)^power + e, where it ends at e times the peak
    """
    from ppdiffusers.optimization import get_scheduler

    return get_scheduler(
        args.lr_scheduler,
        learning_rate=args.peak_learning_rate,
        num_warmup_steps=args.lr_warmup_steps,
        num_training_steps=args.max_train_steps,
        num_cycles=args.lr_num_cycles,
        power=args.lr_power,
    )


def step_optimizer(optimizer, parameters: list, active: list) -> None:
    """One step, after which no gradient is left.

    A parameter that is not active (the rows of a word that no sample of the step showed) stays exactly as it is: no
    decay, no drift along old moments, and its moments and its count of steps stay too. Paddle's optimizers, and the
    clipping by their common norm, pass over a parameter without a gradient; a gradient of zeros is a gradient to them.

    Args:
        optimizer: from `make_optimizer`.
        parameters: all the rows.
        active: those of them that take part.
    """
    taking_part = {id(parameter) for parameter in active}
    for parameter in parameters:
        if id(parameter) not in taking_part:
            parameter.clear_gradient(False)  # Paddle ignores the argument under its name, set_to_zero
    optimizer.step()
    optimizer.clear_grad(set_to_zero=False)


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
                tensor.copy_(paddle.to_tensor(value, place=tensor.place), True)  # the betas stay on the CPU
