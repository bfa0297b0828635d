"""The end of a run that diverged: too many steps in a row gave no finite loss and gradient."""

from typing import NoReturn

from textual_inversion.embeddings.file_names import FINAL_NAME
from textual_inversion.reporting.report import write_report
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import DivergenceError
from textual_inversion.training.artifacts import Saves, as_learned, file_facts, save_somewhere, write_run_record
from textual_inversion.training.diagnostics import way_out
from textual_inversion.training.state import Run


def give_up(config: TrainConfig, run: Run, step: int, skipped_in_a_row: int) -> NoReturn:
    """End a run that diverged, on every rank: save the vectors, which are those of the last good step, and `run.json`.

    Args:
        step: the step after which it ends, counted from 1.
        skipped_in_a_row: how many steps before it, itself included, were skipped.

    Raises:
        DivergenceError: always.
        OutputError: the vectors could not be kept anywhere.
    """
    last_good, context, vectors = step - skipped_in_a_row, run.context, run.vectors
    if context.ranks.is_main:
        facts = file_facts(run.model, config.training.seed, last_good)
        learned = as_learned(vectors.concepts, vectors.values(), facts)
        context.folder, _ = save_somewhere(context.folder, learned)
        record = (context.folder, config, run.plan, run.model, vectors.concepts, run.record)
        saves = Saves(context.folder)
        if saves.attempt(write_run_record, *record):
            saves.attempt(write_report, context.folder, run.data.previews)
    # All wait for the first: the launcher ends every process as soon as one of them has failed.
    folder = context.ranks.broadcast(context.folder)
    way = way_out(last_good, run.plan.peak_learning_rate, config.optimizer.max_grad_norm, config.base_model.variant)
    raise DivergenceError(
        f"steps {last_good + 1} to {step} gave no finite loss and gradient; the vectors of step {last_good} are in "
        f"{folder / FINAL_NAME}; {way}"
    )
