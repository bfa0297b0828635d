"""When things are due while a run trains: figures, the fixed set, validation images, saves, checkpoints."""

from dataclasses import dataclass

from textual_inversion.settings.train_run import SavingSettings, ValidationSettings
from textual_inversion.training.step_plan import StepPlan

# Steps between two looks at the loss: reading a number back makes the processor wait for the device.
_LOG_EVERY = 10


def images_due(settings: ValidationSettings, plan: StepPlan, step: int) -> bool:
    """Whether validation images are due after optimizer step `step`, counted from 1: every so often and at the end."""
    if step == plan.steps:
        return True
    if settings.validation_steps:
        return step % settings.validation_steps == 0
    samples = settings.validation_epochs * plan.epoch_samples
    return step * plan.global_batch // samples > (step - 1) * plan.global_batch // samples


@dataclass(frozen=True)
class Intervals:
    """When things are due, in optimizer steps counted from 1; at the last step everything is."""

    validation: ValidationSettings
    saving: SavingSettings
    has_prompts: bool
    plan: StepPlan

    def is_last(self, step: int) -> bool:
        """Whether a step is the run's last."""
        return step == self.plan.steps

    def logs(self, step: int) -> bool:
        """Whether the training loss is read and logged."""
        return step % _LOG_EVERY == 0 or step == 1 or self.is_last(step)

    def evaluates(self, step: int) -> bool:
        """Whether the loss on the fixed set is measured."""
        every = self.validation.eval_steps
        return bool(every) and (step % every == 0 or self.is_last(step))

    def draws(self, step: int) -> bool:
        """Whether validation images are drawn."""
        return self.has_prompts and images_due(self.validation, self.plan, step)

    def saves(self, step: int) -> bool:
        """Whether the embeddings are saved."""
        return step % self.saving.save_steps == 0

    def checkpoints(self, step: int) -> bool:
        """Whether a checkpoint is written."""
        return step % self.saving.checkpointing_steps == 0 or self.is_last(step)
