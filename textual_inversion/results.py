"""What a run writes about itself at its start, and all that it writes at its end."""

from pathlib import Path

from textual_inversion import before_after, configuration, model_card, outputs, pipelines
from textual_inversion.arguments import build_parser
from textual_inversion.errors import OutputError
from textual_inversion.row_report import row_figures
from textual_inversion.saving import Saves, save_rows


def write_records(args, run) -> Path:
    """Write `run.json`, with the figures so far, and `config.yaml`, with which the run can be repeated.

    Args:
        args: settled settings.
        run: the command's `Run`.

    Returns:
        The configuration, which is not `config.yaml` where that is the user's own.

    Raises:
        OutputError: one of them cannot be written.
    """
    outputs.write_run_record(run.folder, args, run.model, run.concepts, run.figures, run.history)
    return configuration.write(run.folder, args, build_parser(), run.ranks.world_size)


def write_results(args, run, before: dict) -> list[OutputError]:
    """Write the rows, then the saved pipeline, the overview and the records, and say what was made.

    Args:
        args: settled settings.
        run: the command's `Run`; its folder changes where the output folder cannot take the rows.
        before: pictures and scores from before training, by the names "pictures" and "scores" where there are any.

    Returns:
        Why some of it could not be written; [] where all of it was.

    Raises:
        OutputError: the rows could not be written anywhere.
    """
    with run.phases("saving"):
        learned = outputs.as_learned(
            run.concepts, run.rows(), outputs.file_facts(args, run.model, args.max_train_steps)
        )
        failure = save_rows(run, learned)
        saves = Saves(run.folder)  # perhaps another one by now
        if failure is not None:
            saves.failures.append(failure)
        elif not args.only_save_embeds:
            saves.attempt(pipelines.save_pipeline, run.model, learned, run.folder)
    with run.phases("pictures and scores"):
        _look_again(args, run, before, saves)
    table_norms = {name: embedding.table.norm(axis=1).numpy() for name, embedding in run.embeddings.items()}
    run.figures["rows"] = row_figures(run.concepts, run.start, run.rows(), table_norms)
    run.figures["seconds"] = {name: round(seconds, 1) for name, seconds in run.phases.seconds.items()}
    saves.attempt(write_records, args, run)
    saves.attempt(_write_card, args, run)
    for line in outputs.closing_lines(args, run):
        run.say(line)
    return saves.failures


def _look_again(args, run, before: dict, saves: Saves) -> None:
    """Draw and score the words now that they are trained, where that was done before."""
    if "pictures" in before:
        pictures = (run.pixels, before["pictures"], before_after.draw_overview(run.model, args))
        if saves.attempt(before_after.save_overview, run.folder / "overview.png", args, *pictures):
            run.figures["overview"] = "overview.png"
    if "scores" in before:
        run.figures["scores"] = {word: score.report() for word, score in before["scores"].items()}


def _write_card(args, run) -> None:
    if not model_card.write(run.folder, args, run):
        run.say(f"note: {run.folder / model_card.FILE_NAME} is not of this program and stays as it is")
