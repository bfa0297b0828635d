"""Resuming a run: from its parts to a checkpoint, and back.

A checkpoint holds the state after an optimizer step, before anything is measured or drawn there. The resumed run looks
at that step first, again or for the first time, so that whatever an uninterrupted run shows is there once. Its samples
need no state: they are a function of seed and step.
"""

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np

from textual_inversion.distributed import consistency
from textual_inversion.embeddings.run_record import is_name
from textual_inversion.settings.choices import AUTO
from textual_inversion.settings.train_run import SavingSettings
from textual_inversion.system.errors import CheckpointError, SettingsError
from textual_inversion.system.written_files import WrittenFiles
from textual_inversion.training import checkpoints, optimizer
from textual_inversion.training.checkpoints import Checkpoint, how_to_resume
from textual_inversion.training.fingerprint import changes
from textual_inversion.training.state import ConceptVectors, Record, RunContext

# Prefixes of tensor names in a checkpoint.
_VECTORS, _OPTIMIZER, _BEST, _KEPT = "rows/", "optimizer/", "best/", "kept/"
# Figures that go on from a checkpoint; all others are measured at the end of a run.
_CONTINUED = ("skipped_steps", "fixed_set_loss", "fixed_set_samples", "fixed_set_bands", "image_losses", "best")
CHOSEN_WORDS = "the initializers"  # name in the settings of a checkpoint: the words that `auto` stands for
# What Paddle and NumPy raise for a state of other shapes.
_MISFIT = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def find(saving: SavingSettings, context: RunContext) -> Record:
    """Find the checkpoint that the run is to resume, if any, on all processes.

    Returns:
        The run's record: with the figures and the history of the checkpoint, or empty.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    context.ranks.peers.advice = how_to_resume(context.folder)
    if not saving.resume_from_checkpoint:
        if context.ranks.is_main and (context.folder / "run.json").exists():
            context.say(
                f"note: the files of an earlier run in {context.folder} are replaced as this one writes its own"
            )
        return Record()
    found = None
    if context.ranks.is_main:
        found = checkpoints.find(saving.resume_from_checkpoint, context.folder, context.say)
    found = context.ranks.broadcast(found)
    if found is None:
        context.say(f"there is no checkpoint in {context.folder} yet: beginning at step 0")
        return Record()
    if context.ranks.is_main:
        context.stop.advice = "before another step was done; no checkpoint was written, resume with the same command"
    history = [*found.facts["resumed"], {"step": found.step, "changed": []}]
    figures = {name: found.facts["figures"][name] for name in _CONTINUED if name in found.facts["figures"]}
    return Record(figures, history=history, resumed=found)


def keep_list(record: Record, context: RunContext, held: ExitStack) -> None:
    """Keep the list of the files that the run writes, on the main process: a new one, or that of its earlier part.

    Args:
        held: ends it with the run.

    Raises:
        OutputError: the list cannot be written, or its name is taken.
    """
    if not context.ranks.is_main:
        return
    files = WrittenFiles(context.folder)
    resumed = record.resumed.folder.absolute() if record.resumed else None
    if resumed is not None and not files.continue_from(resumed) and files.folder in resumed.parents:
        context.say(
            f"note: {record.resumed.folder} is not in the list of files of {context.folder}; the files that lie there "
            "count as another run's, and an upload leaves them out"
        )
    context.files = held.enter_context(files)


def recorded_seed(record: Record) -> int | None:
    """The seed of the checkpoint that is resumed; None where there is none."""
    return None if record.resumed is None else record.resumed.facts["settings"]["--seed"]


def recorded_words(record: Record, count: int) -> list[str | None] | None:
    """The initializer of each of `count` concepts in the checkpoint that is resumed; None where it does not say."""
    words = None if record.resumed is None else record.resumed.facts["settings"].get(CHOSEN_WORDS)
    is_fit = isinstance(words, list) and len(words) == count and all(word is None or is_name(word) for word in words)
    return words if is_fit and AUTO not in words else None


def compare(record: Record, fingerprint: dict[str, Any], context: RunContext, *, allow_changes: bool) -> None:
    """Compare what decides this run with the other processes and with the checkpoint, and keep it for new checkpoints.

    Args:
        fingerprint: all of it or a part.

    Raises:
        SettingsError: the result of the run would change and may not; or the processes differ.
    """
    consistency.agree_on_data(
        context.ranks.meeting_point, fingerprint
    )  # first: from then on all ranks find the same changes
    record.fingerprint |= fingerprint
    if record.resumed is None:
        return
    changed = changes(record.resumed.facts["settings"], fingerprint)
    if changed and not allow_changes:
        raise SettingsError(
            f"{record.resumed.folder} is of a run with other settings: {'; '.join(changed)}; give the same ones, or "
            "add --allow_changed_settings to resume with the new ones"
        )
    record.history[-1]["changed"] += changed
    for change in changed:
        context.say(f"changed at step {record.resumed.step}: {change}")


def check_length(record: Record, steps: int) -> None:
    """Refuse a run that is to end before its checkpoint's step; raises SettingsError."""
    if record.resumed is not None and record.resumed.step > steps:
        raise SettingsError(
            f"{record.resumed.folder} has done {record.resumed.step} steps and --max_train_steps is {steps}; raise it, "
            "or choose an earlier checkpoint"
        )


class Stateful(Protocol):
    """What a checkpoint keeps beside vectors and optimizer."""

    def state(self) -> dict[str, Any]:
        """Name -> tensor."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""


class TrainingState:
    """All that the next optimizer step depends on.

    Args:
        vectors: what is trained.
        optimizer: whose moments belong to it.
        kept: name -> whatever else does.
    """

    def __init__(self, vectors: ConceptVectors, optimizer: Any, kept: Mapping[str, Stateful]):
        self._vectors, self._optimizer, self._kept = vectors, optimizer, kept

    def restore(self, checkpoint: Checkpoint | None, schedule: Any) -> int:
        """Take over a checkpoint's state, learning-rate schedule included.

        Returns:
            Its step; 0 for None.

        Raises:
            CheckpointError: it holds vectors of another number or width, or that are not finite, or a state of the
                optimizer that does not fit them.
        """
        if checkpoint is None:
            return 0
        parameters = self._vectors.named_parameters
        vectors = _under(checkpoint.tensors, _VECTORS)
        shapes = {name: array.shape for name, array in vectors.items()}
        if shapes != {name: tuple(parameter.shape) for name, parameter in parameters.items()}:
            raise CheckpointError(
                f"{checkpoint.folder} holds other concepts, vectors or text encoders than this run has; give the same "
                "concepts, numbers of vectors and base model"
            )
        if not all(np.isfinite(array).all() for array in vectors.values()):
            raise CheckpointError(f"{checkpoint.folder} holds vectors that are not finite; choose an earlier one")
        for name, parameter in parameters.items():
            parameter.set_value(np.ascontiguousarray(vectors[name]))
        try:
            self._restore_rest(checkpoint.tensors)
        except _MISFIT as error:
            raise CheckpointError(
                f"{checkpoint.folder} holds a state that does not fit its vectors ({type(error).__name__}); choose "
                "another one"
            ) from error
        schedule.step(checkpoint.step)
        return checkpoint.step

    def _restore_rest(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take over the optimizer's state and what else is kept; raises one of `_MISFIT`."""
        optimizer.restore_optimizer(self._optimizer, self._vectors.named_parameters, _under(tensors, _OPTIMIZER))
        for name, keeper in self._kept.items():
            state = _under(tensors, f"{_KEPT}{name}/")
            if state:
                keeper.restore(state)
        best, shapes = _under(tensors, _BEST), {name: rows.shape for name, rows in self._vectors.values().items()}
        if best and {name: rows.shape for name, rows in best.items()} != shapes:
            raise ValueError("the best vectors have other shapes")

    def estimated_distance(self) -> float | None:
        """See `optimizer.estimated_distance`."""
        return optimizer.estimated_distance(self._optimizer)

    def tensors(self) -> dict[str, np.ndarray]:
        """Name -> float32 array, as they are now."""
        parameters = self._vectors.named_parameters
        tensors = {_VECTORS + name: parameter.numpy() for name, parameter in parameters.items()}
        state = optimizer.optimizer_state(self._optimizer, parameters)
        tensors |= {_OPTIMIZER + name: array for name, array in state.items()}
        for name, keeper in self._kept.items():
            own = keeper.state().items()
            tensors |= {f"{_KEPT}{name}/{key}": value.numpy().astype("float32") for key, value in own}
        return tensors


def capture(
    state: TrainingState,
    record: Record,
    step: int,
    *,
    loss: float,
    learning_rate: float,
    processes: int,
    best: Mapping[str, np.ndarray] | None,
) -> Checkpoint:
    """The checkpoint of optimizer step `step`, on the main process; what happens later does not change it.

    Args:
        loss, learning_rate: of this step, for its record.
        best: text encoder -> vectors [N, D] of the best step so far.
    """
    tensors = state.tensors() | {_BEST + name: array for name, array in (best or {}).items()}
    facts = {
        "loss": loss,
        "learning_rate": learning_rate,
        "processes": processes,
        "settings": record.fingerprint,
        "figures": copy.deepcopy(record.figures),
        "resumed": record.history,
    }
    return Checkpoint(step, tensors, facts)


def best_vectors(checkpoint: Checkpoint | None) -> dict[str, np.ndarray]:
    """Text encoder -> vectors [N, D] of the best step so far; {} where none was kept."""
    return {} if checkpoint is None else _under(checkpoint.tensors, _BEST)


def _under(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
