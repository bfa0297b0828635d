"""Checkpoints of a run while it trains: captured after a step, and written where that step is kept."""

from textual_inversion.system.tracking import Tracker
from textual_inversion.training import checkpoints, resume
from textual_inversion.training.artifacts import Saves
from textual_inversion.training.best_step import BestStep
from textual_inversion.training.checkpoints import Checkpoint
from textual_inversion.training.resume import TrainingState
from textual_inversion.training.state import Record, RunContext


class Checkpointer:
    """Writes checkpoints, on the main process.

    Args:
        state: what the next step depends on.
        tracker: flushed first, so that no figure from before a checkpoint can be missing.
        keep: newest checkpoints to keep; None: all.
        steps: of the run, for the line that a signal ends it with.
    """

    def __init__(
        self,
        state: TrainingState,
        record: Record,
        context: RunContext,
        tracker: Tracker,
        saves: Saves,
        *,
        keep: int | None,
        steps: int,
    ):
        self._state, self._record, self._context = state, record, context
        self._tracker, self._saves, self._keep, self._steps = tracker, saves, keep, steps

    def capture(self, step: int, loss: float, learning_rate: float, best: BestStep | None) -> Checkpoint:
        """The checkpoint of a step; what happens later does not change it."""
        return resume.capture(
            self._state,
            self._record,
            step,
            loss=loss,
            learning_rate=learning_rate,
            processes=self._context.ranks.world_size,
            best=best.vectors if best else None,
        )

    def save(self, checkpoint: Checkpoint | None) -> None:
        """Write it; None, as on all ranks but the first, is nothing to write."""
        if checkpoint is None:
            return
        self._tracker.flush()
        folder = self._context.folder
        is_saved = self._saves.attempt(checkpoints.save, folder, checkpoint, self._keep)
        what = f"checkpoint-{checkpoint.step} is saved" if is_saved else "no checkpoint of it could be saved"
        last = f"after step {checkpoint.step} of {self._steps}; {what}"
        self._context.stop.advice = f"{last}, {resume.how_to_resume(folder)}"
