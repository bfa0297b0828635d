"""AdamW on the rows, with a learning rate scheduled over optimizer steps."""


def make_optimizer(args, parameters: list):
    """AdamW (arXiv 1711.05101) and the schedule of its learning rate.

    Weight decay acts on the new rows, which are all the parameters there are: it pulls them towards zero and touches
    nothing else.

    Args:
        args: settled settings; `args.peak_learning_rate` is the schedule's highest value.
        parameters: the rows.

    Returns:
        (optimizer, schedule); `schedule.step()` is called once per optimizer step.
    """
    import paddle
    from ppdiffusers.optimization import get_scheduler

    schedule = get_scheduler(
        args.lr_scheduler,
        learning_rate=args.peak_learning_rate,
        num_warmup_steps=args.lr_warmup_steps,
        num_training_steps=args.max_train_steps,
        num_cycles=args.lr_num_cycles,
        power=args.lr_power,
    )
    clip = paddle.nn.ClipGradByGlobalNorm(args.max_grad_norm) if args.max_grad_norm > 0 else None
    optimizer = paddle.optimizer.AdamW(
        learning_rate=schedule,
        parameters=parameters,
        beta1=args.adam_beta1,
        beta2=args.adam_beta2,
        epsilon=args.adam_epsilon,
        weight_decay=args.adam_weight_decay,
        grad_clip=clip,
    )
    return optimizer, schedule
