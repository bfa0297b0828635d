"""How a run ends that gives no finite numbers any more: with the last good rows saved, and with advice."""

from pathlib import Path
from typing import NoReturn

from textual_inversion.embeddings.file_names import FINAL_NAME
from textual_inversion.system.errors import DivergenceError
from textual_inversion.training import outputs
from textual_inversion.training.saving import Saves, save_rows


def give_up(args, run, step: int, skipped_in_a_row: int) -> NoReturn:
    """Save the rows, which are still those of the last good step, and `run.json`; then end on every rank.

    Args:
        args: settled settings.
        run: the command's `Run`.
        step: the step after which it ends, counted from 1.
        skipped_in_a_row: how many steps before it, itself included, were skipped.

    Raises:
        DivergenceError: always.
        OutputError: the rows could not be kept anywhere.
    """
    last_good = step - skipped_in_a_row
    if run.ranks.is_main:
        facts = outputs.file_facts(args, run.model, last_good)
        save_rows(run, outputs.as_learned(run.concepts, run.rows(), facts))
        record = (run.folder, args, run.model, run.concepts, run.figures, run.history)
        Saves(run.folder).attempt(outputs.write_run_record, *record)
    # All wait for the first: the launcher ends every process as soon as one of them has failed.
    folder = run.ranks.broadcast(str(run.folder))
    raise DivergenceError(
        f"steps {last_good + 1} to {step} gave no finite loss and gradient; the rows of step {last_good} are in "
        f"{Path(folder) / FINAL_NAME}; {way_out(args, last_good)}"
    )


def way_out(args, last_good: int) -> str:
    """What to try after numbers that were not finite; `last_good` is the last good step, 0 for none."""
    if last_good == 0 and args.variant:
        return f"no step was good: try the base model's full precision, without --variant {args.variant}"
    ways = f"lower --learning_rate, now {args.peak_learning_rate:g}"
    if args.max_grad_norm <= 0:
        ways += ", or clip the gradient with --max_grad_norm 1"
    return f"{ways}; as no step was good, look at the base model and the pictures too" if last_good == 0 else ways
