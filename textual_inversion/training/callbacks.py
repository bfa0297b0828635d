"""What happens around the training steps: figures, the loss on a fixed set, validation images, saves, checkpoints."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from textual_inversion.embeddings.file_names import BEST_NAME
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.identity import public_name
from textual_inversion.settings.train import TrainConfig
from textual_inversion.sharing.public_records import public_settings
from textual_inversion.system.errors import Stopped
from textual_inversion.system.progress import Progress
from textual_inversion.system.tracking import Tracker, open_tracker
from textual_inversion.training import best_step, resume
from textual_inversion.training.artifacts import (
    Saves,
    as_learned,
    file_facts,
    recorded_settings,
    save_embeddings,
)
from textual_inversion.training.assembly import make_losses, make_painter
from textual_inversion.training.best_step import BestStep
from textual_inversion.training.checkpointer import Checkpointer
from textual_inversion.training.diagnostics import MovementCheck
from textual_inversion.training.divergence import give_up
from textual_inversion.training.figures_file import FiguresFile
from textual_inversion.training.image_losses import ImageLosses
from textual_inversion.training.intervals import Intervals
from textual_inversion.training.loss_watch import LossWatch
from textual_inversion.training.moving_average import MovingAverage
from textual_inversion.training.resume import TrainingState
from textual_inversion.training.state import ConceptVectors, Record, Run, RunContext
from textual_inversion.training.step_guard import StepGuard
from textual_inversion.training.validation import ValidationImages


class Callbacks:
    """Everything that happens around the training steps: one call per step. Made by `make_callbacks`.

    Args:
        tracker, progress, saves: where it is shown and written.
        checkpointer: writes checkpoints.
        movement: warns of vectors that do not learn.
        save_vectors: saves the embeddings of a step.
        give_up: ends a run that diverged, given the step and the number of steps skipped in a row.
        losses: on the main process, where the loss on the fixed set is measured.
        image_losses: on the main process, where the loss of each image is measured before and after training.
        ends_when_settled: whether the run ends once it has settled, with the vectors of the best step.
        validation: where validation images are drawn.
        best: on the main process, where the best step is kept.
        shown: a context in which the vectors are those that are shown, saved and judged.
        estimate: what the optimizer estimates of the size of its steps, or None.
    """

    def __init__(
        self,
        context: RunContext,
        record: Record,
        vectors: ConceptVectors,
        intervals: Intervals,
        guard: StepGuard,
        *,
        tracker: Tracker,
        progress: Progress,
        saves: Saves,
        checkpointer: Checkpointer,
        movement: MovementCheck,
        save_vectors: Callable[[int], None],
        give_up: Callable[[int, int], NoReturn],
        losses: LossWatch | None,
        image_losses: ImageLosses | None,
        ends_when_settled: bool,
        validation: ValidationImages | None,
        best: BestStep | None,
        shown: Callable[[], AbstractContextManager] = nullcontext,
        estimate: Callable[[], float | None] = lambda: None,
    ):
        self._shown, self._estimate = shown, estimate
        self._context, self._record, self._intervals, self._guard = context, record, intervals, guard
        self._vectors = vectors
        self._tracker, self._progress, self._saves = tracker, progress, saves
        self._checkpointer, self._movement = checkpointer, movement
        self._save_vectors, self._give_up = save_vectors, give_up
        self._losses, self._validation, self._best = losses, validation, best
        self._image_losses = image_losses
        self._ends_when_settled, self.has_settled = ends_when_settled, False
        self._skipped_earlier, self._told = record.figures.get("skipped_steps", 0), 0
        self._latest: dict[str, float] = {}

    def __enter__(self) -> "Callbacks":
        context, resumed = self._context, self._record.resumed
        try:
            if resumed is None:
                self._evaluate(0)
                self._draw(0)
                context.ranks.meet(context.stop)
            else:  # its checkpoint was written before anybody looked
                with self._shown():
                    self._look(resumed.step, resumed.facts["loss"], resumed.facts["learning_rate"])
        except BaseException as error:
            self.__exit__(type(error))  # which Python calls only for what was entered
            raise
        context.stop.wait_for_the_step()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._progress.close()
        self._tracker.close()
        context = self._context
        if kind is None:
            if context.ranks.is_main:
                how = resume.how_to_resume(context.folder)
                context.stop.advice = f"after the last step, before all results were written; {how}"
            context.stop.wait_no_longer()

    def after_step(self, step: int, training_loss: Any, learning_rate: float) -> None:
        """Log, evaluate, draw and save as far as each is due after optimizer step `step`, counted from 1.

        Args:
            training_loss: scalar tensor; it is read only when a figure is due, so that no step waits for it.
            learning_rate: of this step.

        Raises:
            DivergenceError: too many steps in a row were not finite; on every rank, the vectors saved.
            Stopped: a signal asked for the end; there is a checkpoint of this step.
        """
        context, intervals = self._context, self._intervals
        slow = intervals.evaluates(step) or intervals.draws(step)
        saves = intervals.checkpoints(step) or context.stop.agreed
        state = None
        if context.ranks.is_main and (saves or slow):
            self._count_skipped()
            state = self._checkpointer.capture(step, float(training_loss), learning_rate, self._best)
        if saves:
            self._checkpointer.save(state)
        if context.stop.agreed:
            context.ranks.wait()  # one process that leaves makes the launcher end the others, which may still be saving
            raise context.stop.stopped()
        try:
            with self._shown(), context.stop.at_once() if slow else nullcontext():
                self._look(step, training_loss, learning_rate)
        except Stopped:
            if not saves:
                self._checkpointer.save(state)
            raise context.stop.stopped() from None
        if self.has_settled and not saves:
            self._checkpointer.save(state)  # as after the last step: the run can be taken up again from here

    def _look(self, step: int, training_loss: Any, learning_rate: float) -> None:
        """What is shown of a step; it can be done again and changes nothing that training depends on."""
        ranks, intervals = self._context.ranks, self._intervals
        evaluates, draws = intervals.evaluates(step), intervals.draws(step)
        if ranks.is_main:
            if intervals.logs(step):
                self._log(step, float(training_loss), learning_rate)
            if evaluates:
                self._evaluate(step)
            self._progress.update(step, **self._latest)
            if intervals.saves(step):
                self._saves.attempt(self._save_vectors, step)
        if evaluates and self._ends_when_settled:
            self._agree_on_the_end(step)
        if draws or (self.has_settled and intervals.has_prompts):
            self._draw(step)
        if skipped_in_a_row := self._reason_to_give_up(step):
            self._tell_skipped(step)
            self._give_up(step, skipped_in_a_row)
        if evaluates or draws:
            ranks.meet(self._context.stop)

    def _reason_to_give_up(self, step: int) -> int:
        """How many steps in a row were skipped, up to this one, if the run has failed by that; else 0."""
        is_last, guard = self._intervals.is_last(step) or self.has_settled, self._guard
        if guard.gives_up(is_last=is_last):
            return guard.in_a_row
        # A run of which no step was taken does not succeed by being resumed after its last one.
        return step if is_last and self._skipped_earlier + guard.skipped == step else 0

    def _log(self, step: int, training_loss: float, learning_rate: float) -> None:
        self._latest = {"loss": training_loss, "lr": learning_rate}
        self._tracker.scalar("train/loss", training_loss, step)
        self._tracker.scalar("train/learning_rate", learning_rate, step)
        if (estimate := self._estimate()) is not None:
            self._latest["d"] = estimate
            self._tracker.scalar("train/estimated_distance", estimate, step)
        self._tell_skipped(step)
        self._movement.look(step, learning_rate, self._guard, is_last=self._intervals.is_last(step))

    def _tell_skipped(self, step: int) -> None:
        """Say that steps were skipped, when there are more of them than were reported before."""
        skipped = self._count_skipped()
        if skipped:
            self._latest["skipped"] = skipped
        if skipped > self._told:
            self._progress.write(
                f"warning: step {step}: {skipped - self._told} step(s) were skipped since this was last looked at, "
                "because loss or gradient were not finite"
            )
        self._told = skipped

    def _count_skipped(self) -> int:
        """Count the steps that were skipped since the run was started; the figures count those before it too."""
        self._guard.look()
        self._record.figures["skipped_steps"] = self._skipped_earlier + self._guard.skipped
        return self._guard.skipped

    def _agree_on_the_end(self, step: int) -> None:
        """Let all processes know whether the first has found that the loss has settled, and say so."""
        context = self._context
        with context.stop.noted():
            context.ranks.meet(context.stop)
            self.has_settled = context.ranks.broadcast(self.has_settled)
        if self.has_settled and not self._intervals.is_last(step):
            self._progress.write(f"step {step}: the loss on the fixed set has stopped falling; the run ends here")

    def _evaluate(self, step: int) -> None:
        """Measure the loss on the fixed set, and let it be judged; step 0 is before any training."""
        if self._losses is None:
            return
        value = self._losses.look(step)
        if self._best is not None:
            self._judge(self._best.see_loss, step, value)
        self.has_settled = self._losses.has_settled
        if self._image_losses is not None and (step == 0 or self._intervals.is_last(step) or self.has_settled):
            self._image_losses.look(step)

    def _draw(self, step: int) -> None:
        """Draw and log the validation images, and let them be judged; step 0 is before any training.

        All ranks draw, and the first one has the images.
        """
        drawn = self._validation.draw(step) if self._validation else None
        if drawn is None:
            return
        if drawn.path is not None:
            self._progress.write(f"step {step}: validation images in {drawn.path}")
        if self._best is not None:
            self._judge(self._best.see_images, step, drawn.prompts, drawn.images)
            scores = self._record.figures["best"]["scores"]
            if self._best.by == best_step.BY_IMAGES and str(step) in scores:
                self._tracker.scalar("samples/image_similarity", scores[str(step)], step)

    def take_best(self) -> None:
        """Let the vectors be those of the best step, on all processes, where the run ends with these."""
        if not self._ends_when_settled:
            return
        best, figures = self._best, self._record.figures
        values = self._context.ranks.broadcast(best.vectors if best else None)
        if values is not None:
            self._vectors.set_values(values)
        if values is not None and self._context.ranks.is_main:
            figures["result_step"] = figures["best"]["step"]

    def _judge(self, see: Callable[..., str | None], *seen: Any) -> None:
        """Let the best step so far be found, which it keeps in a file."""
        lines: list[str | None] = []
        self._saves.attempt(lambda: lines.append(see(*seen)))
        for line in filter(None, lines):
            self._progress.write(line)


def make_callbacks(
    config: TrainConfig, run: Run, state: TrainingState, guard: StepGuard, ema: MovingAverage
) -> Callbacks:
    """The callbacks that the settings ask for."""
    context, record, validation = run.context, run.record, config.validation
    main, resumed = context.ranks.is_main, record.resumed
    begun = resumed.step if resumed else None
    progress = Progress(run.plan.steps, start=begun or 0, enabled=main)
    saves = Saves(context.folder, progress.write)
    tracker = _open_logs(config, run, begun, FiguresFile(context.folder, saves.attempt, begun)) if main else Tracker()
    checkpointer = Checkpointer(state, record, context, tracker, saves,
                                keep=config.saving.checkpoints_total_limit, steps=run.plan.steps)  # fmt: skip
    losses = image_losses = images = best = None
    if main and validation.eval_steps:
        losses, image_losses = make_losses(config, run, tracker, progress.write)
    if config.validation_prompts:
        images = ValidationImages(
            validation, config.validation_prompts, context.folder,
            painter=make_painter(config, run), tracker=tracker, saves=saves, resumed=resumed if main else None,
        )  # fmt: skip
    if main and (validation.keep_best or config.training.stop_when_settled):
        likeness = best_step.make_likeness(
            validation, config.validation_prompts, run.model, run.vectors, run.data, context.say
        ) if validation.keep_best else None  # fmt: skip
        best = BestStep(run.vectors, record, context, run.model, likeness, seed=config.training.seed)
        context.say(f"the best step so far is kept as {BEST_NAME}, judged by the {best.by}")
    return Callbacks(
        context, record, run.vectors,
        Intervals(validation, config.saving, bool(config.validation_prompts), run.plan), guard,
        tracker=tracker, progress=progress, saves=saves, checkpointer=checkpointer,
        movement=MovementCheck(run.vectors, config.training.warmup_steps, progress.write),
        save_vectors=_saver(run.vectors, context, run.model, config.training.seed),
        give_up=lambda step, in_a_row: give_up(config, run, step, in_a_row),
        losses=losses, image_losses=image_losses, ends_when_settled=config.training.stop_when_settled,
        validation=images, best=best, shown=ema.in_place, estimate=state.estimated_distance,
    )  # fmt: skip


def _open_logs(config: TrainConfig, run: Run, begun: int | None, figures: FiguresFile) -> Tracker:
    """The logs of `--report_to`, with the settings that others may see: a tracker may be a public place."""
    validation, model = config.validation, run.model
    shown = public_settings(recorded_settings(config, run.plan), public_name(model.name, model.folder))
    where = run.context.folder / validation.logging_dir
    return open_tracker(validation.report_to, where, begun, settings=shown, figures=figures)


def _saver(vectors: ConceptVectors, context: RunContext, model: BaseModel, seed: int) -> Callable[[int], None]:
    def save(step: int) -> None:
        learned = as_learned(vectors.concepts, vectors.values(), file_facts(model, seed, step))
        save_embeddings(context.folder, learned, step)

    return save
