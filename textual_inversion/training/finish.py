"""What a run writes about itself at its start, and all that it writes and says at its end."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from textual_inversion.embeddings.file_names import BEST_NAME, FINAL_NAME
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.models import export
from textual_inversion.models.identity import public_name
from textual_inversion.reporting import report
from textual_inversion.reporting.findings import GOOD, Finding
from textual_inversion.settings import config_yaml
from textual_inversion.settings.train import TrainConfig
from textual_inversion.sharing import model_card
from textual_inversion.sharing.model_card import ExportedFile
from textual_inversion.sharing.public_records import EXPORTS
from textual_inversion.system.errors import EmbeddingFileError, OutputError, SettingsError
from textual_inversion.system.paths import how_to_call, in_shell
from textual_inversion.system.written_files import PIPELINE, of_kind
from textual_inversion.training import overview, resume
from textual_inversion.training.artifacts import Saves, as_learned, file_facts, save_somewhere, write_run_record
from textual_inversion.training.diagnostics import vector_figures, vector_lines
from textual_inversion.training.exports import Export, plan_exports, write_exports
from textual_inversion.training.image_losses import note_unlearned
from textual_inversion.training.mask_sheet import save_mask_sheet
from textual_inversion.training.overview import FreshImages
from textual_inversion.training.state import Record, Run
from textual_inversion.training.validation import Painter

_PROGRAM = "train_textual_inversion.py"


def begin(config: TrainConfig, run: Run) -> None:
    """Write the records as far as they are known when training begins, on the first rank.

    Raises:
        OutputError: they cannot be written.
        SettingsError: a format of `--export` cannot hold the concepts.
    """
    if not run.context.ranks.is_main:
        return
    _plan_exports(config, run, _learned(config, run))
    written, folder = write_records(config, run), run.context.folder
    if written.name != config_yaml.FILE_NAME:
        run.context.say(f"{folder / config_yaml.FILE_NAME} is yours and stays as it is; {written} repeats this run")
    if run.data.masks is not None:
        run.context.say(f"what the masks leave to be learned: {save_mask_sheet(folder, run.data)}")


def write_records(config: TrainConfig, run: Run) -> Path:
    """Write `run.json`, with the figures so far, and `config.yaml`, with which the run can be repeated.

    Returns:
        The configuration, which is not `config.yaml` where that is the user's own.

    Raises:
        OutputError: one of them cannot be written.
    """
    folder = run.context.folder
    write_run_record(folder, config, run.plan, run.model, run.vectors.concepts, run.record)
    return config_yaml.write(folder, config, _PROGRAM, run.context.ranks.world_size)


def write_results(
    config: TrainConfig, run: Run, painter: Painter, fresh_images: FreshImages | None
) -> list[OutputError]:
    """Write the embeddings, the saved pipeline, the overview and the records, and say what was made.

    All ranks draw; the first one writes. The embeddings are saved before anything is drawn.

    Args:
        run: its folder changes where the output folder cannot take the embeddings.
        fresh_images: for the ceiling of the demo's scores; None: nothing is scored.

    Returns:
        Why some of it could not be written; [] where all of it was.

    Raises:
        OutputError: the embeddings could not be written anywhere.
        Stopped: a rank was told to end while images were drawn.
    """
    context, main = run.context, run.context.ranks.is_main
    saves = _keep_vectors(config, run) if main else Saves(context.folder)
    if config.validation.overview:
        if main:
            _record(config, run, Saves(context.folder))  # if this fails, the one at the end may not
            known = where_embeddings_are(run.vectors.tokens, context.folder)
            rest = resume.how_to_resume(Path(config.saving.output_dir))
            context.stop.advice = (
                f"after the last step, while before and after were drawn; {known}; for the rest {rest}"
            )
        _show(config, run, painter, fresh_images, saves)
    if main:
        note_unlearned(run.record, [image.concept for image in run.data.images], run.data.names)
        _record(config, run, saves)
        saves.attempt(_write_card, config, run)
        found = report_on(run, saves)
        known = where_embeddings_are(run.vectors.tokens, context.folder)
        context.stop.advice = f"after everything was written; {known}"
        phases = context.phases.summary()
        for line in closing_lines(run.record, run.vectors.tokens, context.folder, run.plan.steps, phases, found):
            context.say(line)
    context.ranks.meet(context.stop)  # a signal may still come, while the others have nothing to do
    return saves.failures


def report_on(run: Run, saves: Saves) -> list[Finding]:
    """Write the page that shows the run, and return what its figures mean; [] where it could not be written."""
    found: list[Finding] = []
    # Without a run.json in the folder, whose failure to be written is told already, there is nothing to show.
    with contextlib.suppress(SettingsError, EmbeddingFileError):
        saves.attempt(lambda: found.extend(report.write_report(run.context.folder, run.data.previews)))
    return found


def _keep_vectors(config: TrainConfig, run: Run) -> Saves:
    """Write the embeddings, and then the saved pipeline where it is wanted."""
    context = run.context
    with context.phases("saving"):
        learned = _learned(config, run)
        context.folder, failure = save_somewhere(context.folder, learned)
        saves = Saves(context.folder)  # perhaps another one by now
        if failure is not None:
            saves.failures.append(failure)
        elif not config.saving.only_save_embeds:
            with of_kind(PIPELINE):
                saves.attempt(export.save_pipeline, run.model, learned, context.folder)
        _export(config, run, learned, saves)
    return saves


def _learned(config: TrainConfig, run: Run) -> list[LearnedEmbedding]:
    step = run.record.figures.get("result_step", run.plan.steps)
    facts = file_facts(run.model, config.training.seed, step)
    return as_learned(run.vectors.concepts, run.vectors.values(), facts)


def _plan_exports(config: TrainConfig, run: Run, learned: Sequence[LearnedEmbedding]) -> list[Export]:
    base_model = public_name(run.model.name, run.model.folder)
    return plan_exports(config.saving.export, learned, base_model, run.context.folder)


def _export(config: TrainConfig, run: Run, learned: Sequence[LearnedEmbedding], saves: Saves) -> None:
    """Write the embeddings for other programs, and say what those cannot hold."""
    try:
        planned = _plan_exports(config, run, learned)
    except SettingsError as error:  # of these values; of the concepts it would have been said at the beginning
        saves.failures.append(OutputError(str(error)))
        return
    if planned and saves.attempt(write_exports, planned):
        run.record.exports = planned
        for note in [note for one in planned for note in one.notes]:
            run.context.say(f"note: {note}")


def _record(config: TrainConfig, run: Run, saves: Saves) -> None:
    """Write the records with what is known by now."""
    vectors, figures = run.vectors, run.record.figures
    table_norms = {name: embedding.table.norm(axis=1).numpy() for name, embedding in vectors.embeddings.items()}
    figures["rows"] = vector_figures(vectors.concepts, vectors.initial, vectors.values(), table_norms)
    figures["seconds"] = {name: round(seconds, 1) for name, seconds in run.context.phases.seconds.items()}
    saves.attempt(write_records, config, run)


def _show(config: TrainConfig, run: Run, painter: Painter, fresh_images: FreshImages | None, saves: Saves) -> None:
    """Draw before and after, on all ranks; write the overview, and score what is scored, on the first."""
    context, figures, concepts = run.context, run.record.figures, run.vectors.concepts
    encode_ids = run.model.text_encoders[0].encode_ids
    plan = overview.plan_drawings(config.validation, config.validation_prompts, concepts,
                                  config.base_model.language, encode_ids, scores=fresh_images is not None)  # fmt: skip
    with context.phases("pictures"):
        context.say(f"drawing {plan.distinct} images of before and after")
        if plan.left_out:
            context.say(f"note: they leave out {' and '.join(plan.left_out)}")
        size = (config.images.height, config.images.width)
        drawings = overview.draw_all(plan, painter, size, run.model.resolution)
        if drawings is None:
            return
        if saves.attempt(
            overview.save_overview, context.folder / "overview.png", plan, run.data.shown_previews, drawings
        ):
            figures["overview"] = "overview.png"
    if drawings.scored:
        with context.phases("scores"):
            figures["scores"] = overview.score_all(
                drawings, config.validation, concepts, run.model, run.data, fresh_images, context.say
            )


def _write_card(config: TrainConfig, run: Run) -> None:
    folder = run.context.folder
    facts = model_card.CardFacts(
        base_model=public_name(run.model.name, run.model.folder),
        is_xl=len(run.model.text_encoders) > 1,
        concepts=tuple(run.vectors.concepts),
        language=config.base_model.language,
        figures=run.record.figures,
        has_validation_images=bool(config.validation_prompts),
        training=config.training,
        presets=config.file.preset or (),
        clip_skip=run.model.clip_skip,
        max_token_length=run.model.max_token_length,
        vae=run.model.vae_name and public_name(run.model.vae_name, run.model.vae_folder),
        exported=tuple(
            ExportedFile(one.format, file.path.relative_to(folder).as_posix(), file.prompts)
            for one in run.record.exports
            for file in one.files
        ),
    )
    if not model_card.write(folder, facts):
        run.context.say(f"note: {folder / model_card.FILE_NAME} is not of this program and stays as it is")


# ------------------------------------------------------------------------------------------------------- last lines


def closing_lines(
    record: Record,
    tokens: Sequence[str],
    folder: Path,
    steps: int,
    phases: str,
    found: Sequence[Finding] = (),
) -> list[str]:
    """What was made, how long each phase took, and for the demo the score before and after.

    Args:
        tokens: the placeholder tokens.
        folder: where the files are.
        phases: the line that says how long each phase took.
        found: what the figures of the run mean.
    """
    figures, lines = record.figures, []
    losses = list(figures.get("fixed_set_loss", {}).values())
    if losses:
        lines.append(f"loss on the fixed set: {losses[0]:.4f} before, {losses[-1]:.4f} after")
    for token, score in figures.get("scores", {}).items():
        of = f"{token}: " if len(tokens) > 1 else ""
        lines.append(of + _score_line(score, "image", "with the training images"))
        lines.append(of + _score_line(score, "text", "of edit prompts"))
    lines += vector_lines(figures.get("rows", {}))
    skipped = figures.get("skipped_steps", 0)
    lines.append(f"skipped steps: {skipped} of {steps}" if skipped else "skipped steps: none")
    best = figures.get("best", {})
    if "result_step" in figures:
        last = max(map(int, figures["fixed_set_loss"]))
        lines.append(f"ended after step {last} of {steps}; the vectors are those of the best step, {best['step']}")
    if "step" in best:
        lines.append(f"best step: {best['step']} by the {best['by']}, {best['score']:.4f}: {folder / BEST_NAME}")
    lines.append(phases)
    if record.exports:
        lines.append(f"for other programs ({', '.join(one.format for one in record.exports)}): {folder / EXPORTS}")
    if "overview" in figures:
        lines.append(f"before and after, side by side: {folder / 'overview.png'}")
    lines += [f"note: {one.text()}" for one in found if one.level != GOOD]
    if found:
        lines.append(f"all of it on one page: {folder / report.PAGE}")
    lines.append(f"{where_embeddings_are(tokens, folder)}; draw with {'it' if len(tokens) == 1 else 'them'}:")
    lines.append(f"    {how_to_call('infer.py')} --embeds {in_shell(folder / FINAL_NAME)}")
    return lines


def where_embeddings_are(tokens: Sequence[str], folder: Path) -> str:
    """The learned concepts and their file, as the beginning of a sentence."""
    return f"{', '.join(tokens)} {'is' if len(tokens) == 1 else 'are'} in {folder / FINAL_NAME}"


def _score_line(score: dict, kind: str, what: str) -> str:
    key = f"{kind}_similarity"
    before, after = score["baseline"][key], score["concept"][key]
    line = f"{kind} similarity {what}: {before:.3f} before, {after:.3f} after"
    if kind == "text":
        return line if score["text_ratio"] is None else f"{line}: {score['text_ratio']:.0%} kept"
    if score["share_of_the_way"] is None:
        return line
    return f"{line}: {score['share_of_the_way']:.0%} of the way to the best possible, {score['ceiling'][key]:.3f}"
