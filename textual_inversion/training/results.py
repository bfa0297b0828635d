"""What a run writes about itself at its start, and all that it writes at its end."""

from pathlib import Path

from textual_inversion.cli import config_file
from textual_inversion.cli.train_arguments import build_parser
from textual_inversion.models import export
from textual_inversion.sharing import model_card
from textual_inversion.system.errors import OutputError
from textual_inversion.training import outputs, overview, resume
from textual_inversion.training.row_report import row_figures
from textual_inversion.training.saving import Saves, save_rows


def begin(args, run) -> None:
    """Write the records as far as they are known when training begins, on the first rank; raises OutputError."""
    if not run.ranks.is_main:
        return
    settings = write_records(args, run)
    if settings.name != config_file.FILE_NAME:
        run.say(f"{run.folder / config_file.FILE_NAME} is yours and stays as it is; {settings} repeats this run")


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
    return config_file.write(run.folder, args, build_parser(), run.ranks.world_size)


def write_results(args, run) -> list[OutputError]:
    """Write the rows, the saved pipeline, the overview and the records, and say what was made.

    All ranks draw; the first one writes. Whatever ends the run while pictures are drawn, the rows are saved by then.

    Args:
        args: settled settings.
        run: the command's `Run`; its folder changes where the output folder cannot take the rows.

    Returns:
        Why some of it could not be written; [] where all of it was.

    Raises:
        OutputError: the rows could not be written anywhere.
        Stopped: a rank was told to end while pictures were drawn.
    """
    main = run.ranks.is_main
    saves = _keep_rows(args, run) if main else Saves(run.folder)
    if overview.is_wanted(args):
        if main:
            _record(args, run, Saves(run.folder))  # if this fails, the one at the end may not
            known, rest = outputs.where_words_are(run), resume.how_to_go_on(Path(args.output_dir))
            run.stop.advice = f"after the last step, while before and after were drawn; {known}; for the rest {rest}"
        _show(args, run, saves)
    if main:
        _record(args, run, saves)
        saves.attempt(_write_card, args, run)
        for line in outputs.closing_lines(args, run):
            run.say(line)
    run.ranks.meet(run.stop)  # a signal may still come, while the others have nothing to do
    return saves.failures


def _keep_rows(args, run) -> Saves:
    """Write the rows, and then the saved pipeline where it is wanted."""
    with run.phases("saving"):
        facts = outputs.file_facts(args, run.model, args.max_train_steps)
        learned = outputs.as_learned(run.concepts, run.rows(), facts)
        failure = save_rows(run, learned)
        saves = Saves(run.folder)  # perhaps another one by now
        if failure is not None:
            saves.failures.append(failure)
        elif not args.only_save_embeds:
            saves.attempt(export.save_pipeline, run.model, learned, run.folder)
    return saves


def _record(args, run, saves: Saves) -> None:
    """Write the records with what is known by now."""
    table_norms = {name: embedding.table.norm(axis=1).numpy() for name, embedding in run.embeddings.items()}
    run.figures["rows"] = row_figures(run.concepts, run.start, run.rows(), table_norms)
    run.figures["seconds"] = {name: round(seconds, 1) for name, seconds in run.phases.seconds.items()}
    saves.attempt(write_records, args, run)


def _show(args, run, saves: Saves) -> None:
    """Draw before and after, on all ranks; write the overview, and score what is scored, on the first."""
    with run.phases("pictures"):
        drawn = overview.draw_all(args, run)
        if drawn is None:
            return
        shown = (run.pixels, drawn.before, drawn.after)
        if saves.attempt(overview.save_overview, run.folder / "overview.png", args, *shown):
            run.figures["overview"] = "overview.png"
    if drawn.scored:
        with run.phases("scores"):
            run.figures["scores"] = overview.score_all(args, run, drawn.scored)


def _write_card(args, run) -> None:
    if not model_card.write(run.folder, args, run):
        run.say(f"note: {run.folder / model_card.FILE_NAME} is not of this program and stays as it is")
