"""How the samples of a run become optimizer steps, epochs and a peak learning rate."""

import math
from collections.abc import Container
from dataclasses import dataclass

from textual_inversion.settings import rates
from textual_inversion.settings.choices import HALF_OF_THE_RUN, POLYNOMIAL_END
from textual_inversion.settings.flag import changed
from textual_inversion.settings.rates import Stage
from textual_inversion.settings.train import TrainConfig
from textual_inversion.settings.train_method import ObjectiveSettings, TrainingSettings
from textual_inversion.system.errors import SettingsError


@dataclass(frozen=True)
class StepPlan:
    """What follows from the number of images and of processes.

    Attributes:
        steps: optimizer steps of the run.
        global_batch: samples per optimizer step, over all processes and micro-batches.
        epoch_samples: samples in an epoch: the sum of the repeats of all images.
        peak_learning_rate: the highest learning rate.
        rates: where there are several, one after the other; (): one, with its schedule.
    """

    steps: int
    global_batch: int
    epoch_samples: int
    peak_learning_rate: float
    rates: tuple[Stage, ...] = ()


def plan_steps(config: TrainConfig, epoch_samples: int, world_size: int) -> tuple[TrainConfig, StepPlan]:
    """Settle steps and epochs.

    Epochs become steps by counting samples, so none is lost to rounding per process. The steps decide, unless only
    `--num_train_epochs` was given.

    Args:
        epoch_samples: samples in an epoch.

    Returns:
        The settings with their steps, epochs and progressive steps filled in, and the plan.

    Raises:
        SettingsError: the learning rate would still be warming up at the end, or the last rate ends before the run,
            more last steps are averaged than there are, or a flag about the global batch has no effect.
    """
    training = config.training
    global_batch = training.train_batch_size * training.gradient_accumulation_steps * world_size
    check_global_batch(config.objective, global_batch, config.given)
    steps = training.max_train_steps
    if "num_train_epochs" in config.given and "max_train_steps" not in config.given:
        steps = math.ceil(training.num_train_epochs * epoch_samples / global_batch)
    if config.optimizer.average_last_steps > steps:
        raise SettingsError(
            f"--average_last_steps {config.optimizer.average_last_steps} is more than the {steps} training steps"
        )
    found = _rates(training, steps, global_batch)
    peak = max(stage.rate for stage in found)
    _check_schedule(training, steps, peak)
    progressive = config.prompts.progressive_vectors
    config = changed(
        config,
        max_train_steps=steps,
        num_train_epochs=math.ceil(steps * global_batch / epoch_samples),
        progressive_vectors=steps // 2 if progressive == HALF_OF_THE_RUN else progressive,
    )
    return config, StepPlan(steps, global_batch, epoch_samples, peak, found if len(found) > 1 else ())


def _rates(training: TrainingSettings, steps: int, global_batch: int) -> tuple[Stage, ...]:
    try:
        return rates.settled(training.learning_rate, global_batch if training.scale_lr else 1, steps)
    except ValueError as error:
        raise SettingsError(
            f"--learning_rate {error}; write the last rate without a step, or lower --max_train_steps"
        ) from None


def check_global_batch(objective: ObjectiveSettings, global_batch: int, given: Container[str]) -> None:
    """Refuse what has no effect on one sample per optimizer step, where the user asked for it.

    The demo's own defaults are not asked for: with one sample they do nothing.

    Raises:
        SettingsError: --timestep_sampling stratified or --antithetic_noise was given for a global batch of 1.
    """
    if global_batch > 1:
        return
    for flag, is_on in (("--timestep_sampling stratified", objective.timestep_sampling == "stratified"),
                        ("--antithetic_noise", objective.antithetic_noise)):  # fmt: skip
        if is_on and flag.split()[0].removeprefix("--") in given:
            raise SettingsError(
                f"{flag} has no effect on one sample per optimizer step; raise --train_batch_size or "
                "--gradient_accumulation_steps, or leave it out"
            )


def _check_schedule(training: TrainingSettings, steps: int, peak: float) -> None:
    if training.lr_scheduler == "polynomial" and peak <= POLYNOMIAL_END:
        raise SettingsError(f"--lr_scheduler polynomial ends at {POLYNOMIAL_END}; --learning_rate must be above that")
    if training.warmup_steps and training.warmup_steps >= steps:
        raise SettingsError(
            f"--lr_warmup_steps {training.warmup_steps} leaves nothing of the {steps} training steps; make the "
            "warm-up shorter"
        )
