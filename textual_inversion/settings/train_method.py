"""Settings of a training run that say how it is learned: steps, objective, optimizer, regularizers."""

from textual_inversion.settings.bounds import (
    at_once,
    count,
    natural,
    not_negative,
    number,
    positive,
    positive_int,
    seed_number,
    share,
)
from textual_inversion.settings.choices import (
    HUBER_SCHEDULES,
    LOSS_TYPES,
    OPTIMIZERS,
    SCHEDULES,
    TIMESTEP_SAMPLINGS,
)
from textual_inversion.settings.flag import flag, group
from textual_inversion.settings.rates import learning_rate as _learning_rate

_decay_rate = number(float, 0.0, 0.9999999)

# One or two lines per flag.
# fmt: off


@group("training")
class TrainingSettings:
    """Number of steps, batch size and learning rate."""

    max_train_steps: int = flag(5000, "optimizer steps", type=positive_int, metavar="N")
    num_train_epochs: int = flag(
        100, "epochs; decides the steps when --max_train_steps is not given",
        type=positive_int, metavar="N", decides_result=False, repeatable=False)
    train_batch_size: int = flag(
        16, "samples per process and micro-batch", type=at_once, metavar="N", decides_result=False)
    gradient_accumulation_steps: int = flag(
        1, "micro-batches per optimizer step", type=at_once, metavar="N", decides_result=False)
    learning_rate: float | str = flag(
        1e-4, 'peak learning rate, or several by their last optimizer step: "5e-3:100, 1e-3:1000, 5e-4"; 1 for prodigy '
        "and dadapt_adam unless given", type=_learning_rate, metavar="RATE")
    scale_lr: bool = flag(
        False, "multiply the learning rate by batch size x accumulation x processes", decides_result=False)
    lr_scheduler: str = flag("constant", "learning-rate schedule over optimizer steps", choices=SCHEDULES)
    lr_warmup_steps: int = flag(
        500, "optimizer steps of linear warm-up (all schedules but constant)", type=natural, metavar="N")
    lr_num_cycles: int = flag(1, "restarts of cosine_with_restarts", type=positive_int, metavar="N")
    lr_power: float = flag(1.0, "exponent of polynomial", type=positive, metavar="X")
    max_skipped_steps: int = flag(
        20, "skipped steps in a row after which the run stops; a step is skipped when its loss or gradient is not "
        "finite", type=positive_int, metavar="N")
    stop_when_settled: bool = flag(
        False, "end when the loss on the fixed set has stopped falling; the result is the best step's vectors")
    patience: int = flag(
        4, "evaluations (--eval_steps) whose mean --stop_when_settled compares with that of as many before them",
        type=count(1, 1000), metavar="N")
    seed: int | None = flag(None, "decides every sample; unset: one is drawn and recorded", type=seed_number,
                            metavar="N")

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps during which the learning rate rises; 0 for a constant schedule."""
        return 0 if self.lr_scheduler == "constant" else self.lr_warmup_steps


@group("objective")
class ObjectiveSettings:
    """What training minimises."""

    loss_type: str = flag("l2", "squared error, or one that outliers affect less", choices=LOSS_TYPES)
    huber_c: float = flag(
        0.1, "error from which huber and smooth_l1 turn from a square to a straight line", type=positive, metavar="X")
    huber_schedule: str = flag(
        "constant", "how that error depends on the timestep: not; from 1 down to it exponentially; or by the "
        "signal-to-noise ratio", choices=HUBER_SCHEDULES)
    huber_scale: float = flag(
        1.0, "multiplies that error, where the schedule is constant or exponential", type=positive, metavar="X")
    snr_gamma: float | None = flag(
        None, "min-SNR weighting: nearly clean timesteps count less; 5 in its paper; unset: all count alike",
        type=positive, metavar="X")
    debiased_estimation_loss: bool = flag(False, "weighting by which noisy timesteps count more")
    noise_offset: float = flag(0.0, "weight of a noise shared by a whole channel", type=share, metavar="X")
    multires_noise_iterations: int = flag(
        0, "coarser and coarser noises that are added to the noise, so that large areas are learned too; 6 to 10 where "
        "it is used; 0: none", type=number(int, 0, 64), metavar="N")
    multires_noise_discount: float = flag(
        0.3, "weight of each of them, times that of the one before", type=share, metavar="X")
    input_perturbation: float = flag(
        0.0, "weight of a noise that the U-Net sees and need not predict; 0.1 in its paper", type=share, metavar="X")
    min_timestep: int = flag(0, "first timestep that is trained on", type=natural, metavar="N")
    max_timestep: int | None = flag(
        None, "timestep before which training stops; unset: the end of the model's schedule",
        type=positive_int, metavar="N")
    timestep_sampling: str = flag(
        "uniform", "every timestep by itself, or the global batch's spread over equal parts of the schedule",
        choices=TIMESTEP_SAMPLINGS)
    antithetic_noise: bool = flag(
        False, "pairs of samples in the global batch get opposite noise, at the same timestep")


@group("optimizer")
class OptimizerSettings:
    """How the vectors follow their gradient."""

    optimizer: str = flag("adamw", "how the vectors follow their gradient", choices=OPTIMIZERS)
    adam_beta1: float = flag(
        0.9, "decay of the mean, of all but sgd and adafactor", type=_decay_rate, metavar="X")
    adam_beta2: float = flag(
        0.999, "decay of the variance, and of lion's momentum; 0.99 for lion unless given", type=_decay_rate,
        metavar="X")
    adam_weight_decay: float = flag(
        0.02, "weight decay: pulls the new vectors, and nothing else, towards zero; 0 for all but adamw unless given",
        type=number(float, 0.0, 1.0), metavar="X")
    adam_epsilon: float = flag(1e-8, "epsilon of adamw, adam, prodigy and dadapt_adam", type=positive, metavar="X")
    adafactor_scale_parameter: bool = flag(
        False, "adafactor's learning rate is relative to the root mean square of the vectors")
    d0: float = flag(
        1e-6, "first estimate of prodigy and dadapt_adam of how far the vectors have to go", type=positive, metavar="X")
    d_coef: float = flag(1.0, "multiplies what prodigy estimates", type=positive, metavar="X")
    sgd_momentum: float = flag(0.9, "momentum of sgd", type=_decay_rate, metavar="X")
    max_grad_norm: float = flag(-1.0, "largest gradient norm; -1: no clipping", type=float, metavar="X")
    average_last_steps: int = flag(
        0, "the final vectors are the mean of those after the last N steps; 0: those after the last step",
        type=natural, metavar="N")
    use_ema: bool = flag(
        False, "what is saved, measured and drawn is a moving mean of the vectors over the optimizer steps")
    ema_decay: float = flag(
        0.9999, "decay of that mean; of step s at most s / (s + 9)", type=_decay_rate, metavar="X")


@group("regularizers")
class RegularizerSettings:
    """Terms that are added to the loss."""

    contrast_weight: float = flag(
        1.0, "weight of the loss on the images of --contrast_data_dir", type=positive, metavar="X")
    norm_reg_weight: float = flag(
        0.0, "weight of the vectors' distance in norm from the mean norm of the table's rows",
        type=not_negative, metavar="X")
    initial_reg_weight: float = flag(
        0.0, "weight of the vectors' squared distance from their initial values", type=not_negative, metavar="X")
    hidden_reg_weight: float = flag(
        0.0, "weight of the text encoder's distance from its output for the initializer",
        type=not_negative, metavar="X")


# fmt: on
