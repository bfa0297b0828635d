"""Make images of learned concepts: embedding files + prompts -> PNG files, contact sheets, a page, a manifest."""

import importlib
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual_inversion.cli.addresses import check_launched, check_shared
from textual_inversion.cli.generation import infer_parser as build_parser
from textual_inversion.cli.generation import parse_infer, plan_of, prompt_lines, with_defaults, with_recorded_source
from textual_inversion.settings.generation import InferConfig, InferOutput
from textual_inversion.settings.ranges import values_in
from textual_inversion.settings.shared import parts_of, source_of
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import OutputError, run_command
from textual_inversion.system.paths import is_demo, portable
from textual_inversion.system.process_share import ProcessShare, share_of_process
from textual_inversion.system.progress import duration, print_line, print_note
from textual_inversion.system.signals import Signals

__all__ = ["build_parser", "main"]

_MOST_SHOWN = 24  # prompts, where the user names none
_ALONE = ProcessShare()
# Gives a base model: (what tells it from others, what loads it) -> the model.
Keep = Callable[[Any, Callable[[], Any]], Any]


def _loaded_anew(_key: Any, load: Callable[[], Any]) -> Any:
    return load()


def main(argv: list[str] | None = None, keep: Keep = _loaded_anew) -> None:
    """Run the command; `argv` without the program's name.

    Args:
        keep: may give the base model of an earlier call of the same process, where the key is the same.
    """
    config = parse_infer(argv)
    with Signals() as stop:
        stop.advice = "before the first image was made"
        if config.output.merge:
            stop.advice = "while folders were merged; the same command goes on"
            merge(config.output)
        elif config.cluster.address is not None:
            stop.advice = "while images were drawn; the same command goes on"
            spread(config, sys.argv[1:] if argv is None else argv, stop)
        else:
            run(config, stop, keep)


def run(config: InferConfig, stop: Signals, keep: Keep = _loaded_anew) -> None:
    """Make the images that the settings ask for."""
    from textual_inversion.embeddings.columns import read_columns
    from textual_inversion.embeddings.learned_on import base_model_notes, base_model_of, doubted_records
    from textual_inversion.formats.lora_file import read_lora

    share = share_of_process()
    check_launched(Path(config.output.output_dir))
    common, columns = read_columns(config.images.embeds, config.images.compare or (), config.images.rename)
    files, named = [*common, *columns.values()], config.base_model.pretrained_model_name_or_path
    loras = [read_lora(lora) for lora in config.images.lora or ()]
    base_model, records = base_model_of(files, named), doubted_records(files, config.base_model)
    config = with_recorded_source(config, [file.run for file in files])
    counted = {} if config.images.random_samples else {"num_images": 4}  # the seeds of samples count up by themselves
    config = with_defaults(config, is_demo=is_demo(base_model), **counted)
    plan_with = _planner(config, common, columns, share)
    plan = plan_with(config.images.seed or (0,))
    gallery = _open_gallery(config.output.output_dir, common, columns, base_model)  # before the slow part: may refuse

    with stop.held_back():
        prepare_environment(config.machine.num_threads, allow_tf32=config.machine.allow_tf32)
        importlib.import_module("ppdiffusers")
    from textual_inversion.evaluation.column_scores import column_scorer
    from textual_inversion.generation.plan_notes import plan_notes
    from textual_inversion.models.attach import attach_files
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.lora import merge_loras
    from textual_inversion.models.precision import check_device, lower

    check_device(config.machine.mixed_precision, select_device(config.machine.device))
    parts, source = parts_of(config.base_model), source_of(config.base_model, config.base_model.hub_token)
    _say(base_model_notes(files, base_model, named), share)  # before a download, or what fails because of the model

    def load():
        model = load_base_model(base_model, **parts, **source, **records)
        merge_loras(model, loras)
        return model

    machine = (config.machine.mixed_precision, config.machine.device, config.machine.allow_tf32)
    model = keep((base_model, parts, source, records, [(one.sha256, one.scale) for one in loras], machine), load)
    for attached in plan.columns.values() or [common]:  # a column that does not fit is refused before any is drawn
        attach_files(model, attached)
    scorer = column_scorer(config.scoring.clip_model, columns, model, lambda note: _say([note], share))
    lower(model, config.machine.mixed_precision)
    _say(plan_notes(model, files, plan), share)
    _make_images(config, model, plan, plan_with, gallery, loras, scorer, share, stop)


def merge(output: InferOutput) -> None:
    """Copy what the processes of a grid drew into folders of their own into one folder."""
    from textual_inversion.generation.merge import merge_folders
    from textual_inversion.generation.plan import axes_in

    target = Path(output.output_dir)
    copied, state = merge_folders([Path(folder) for folder in output.merge], target)
    if not state.images:
        raise OutputError(f"the folders of --merge hold no complete image yet; nothing is shown in {target}")
    sheet = _show(target, state, axes_in(state.images), output)
    missing = state.total - len(state.images)
    rest = f"; {missing} are still to be drawn" if missing else ""
    print_line(f"{copied} images copied; {len(state.images)} of {state.total} are in {target}{rest}: {sheet}")


def spread(config: InferConfig, arguments: Sequence[str], stop: Signals) -> None:
    """Let processes of a cluster draw, each its share, as those of a launcher do."""
    from textual_inversion.cluster import pool
    from textual_inversion.cluster.drawing import draw
    from textual_inversion.system.output_folder import make_output_folder

    pool.check_installed()
    pool.check_address(config.cluster.address)
    check_shared(Path(config.output.output_dir), config.cluster.address)
    output, threads = make_output_folder(config.output.output_dir).absolute(), config.machine.num_threads or 1
    with pool.opened(config.cluster.address, pool.Room(threads), output) as tasks:
        stop.install()  # Ray sets handlers of its own
        for line in draw(tasks, arguments, output, config.cluster.processes, threads):
            print_line(line)


def _say(notes: Sequence[str], share: ProcessShare) -> None:
    """Print notes that all processes have; one of them says them."""
    for note in notes if share.is_main else ():
        print_note(note)


def _planner(config: InferConfig, common, columns, share: ProcessShare) -> Callable[[Sequence[Any]], Any]:
    """A function that gives the plan of the images, with seeds where the user gave none."""
    from textual_inversion.generation.start_image import start_images

    start = config.start
    own_lines = prompt_lines(config.images, lambda: _showcase([*common, *columns.values()], share))
    starts = start_images(start.image, start.strength, start.mask_image, lambda note: _say([note], share))
    files = {label: [*common, file] for label, file in columns.items()}
    return lambda seeds: plan_of(replace(config.images, seed=tuple(seeds)), config.sampling, own_lines, files, starts)


def _showcase(files, share: ProcessShare = _ALONE) -> list[str]:
    """Prompts that show the concepts, at most `_MOST_SHOWN`: a file may hold hundreds."""
    from textual_inversion.data.templates import plain_template
    from textual_inversion.generation.eval_prompts import showcase
    from textual_inversion.settings.choices import PROPERTIES

    kinds = {token: file.learnable_property(token) for file in files for token in file.placeholder_tokens}
    language = files[0].language
    plain = {kind: plain_template(kind, language) for kind in PROPERTIES}
    everything, shown = (showcase(kinds, plain, language, most=most) for most in (None, _MOST_SHOWN))
    if len(shown) < len(everything):
        note = f"{len(shown)} of the {len(everything)} prompts that show {len(kinds)} concepts are drawn; "
        _say([note + "name others with --prompt"], share)
    return shown


def _open_gallery(output_dir: str, files, columns, base_model: str):
    from textual_inversion.generation.gallery import Gallery
    from textual_inversion.system.output_folder import make_output_folder
    from textual_inversion.system.provenance import git_revision, versions

    embeds = [file.described for file in files]
    embeds += [{**file.described, "column": label} for label, file in columns.items()]
    settings = {
        "base_model": portable(base_model),
        "embeds": embeds,
        "versions": versions(),
        "git_revision": git_revision(),
    }
    return Gallery(make_output_folder(output_dir), settings)


def _planned(config: InferConfig, model, plan, plan_with, pipeline, gallery, loras, share: ProcessShare):
    """The plan, with a seed in place of 0 where the user gave none, and what the gallery has to know of it."""
    from textual_inversion.generation.gallery import PlannedImages
    from textual_inversion.generation.generate import image_size
    from textual_inversion.generation.image_key import plan_keys
    from textual_inversion.generation.manifest import plan_key

    images, scheduler = config.images, type(pipeline.scheduler).__name__
    common = {
        "variant": config.base_model.variant,
        "mixed_precision": config.machine.mixed_precision,
        "allow_tf32": config.machine.allow_tf32,
        "safety_checker": images.safety_checker,
        "lora": [(lora.sha256, lora.scale) for lora in loras],
    } | {name: value for name, value in model.asked_reading.items() if value is not None}

    def settled(plan):
        plan = plan.settled(lambda request: image_size(model, request), scheduler)
        return plan, plan_keys(plan, model, gallery.embeds, scheduler, common)

    (plan, keys), settings, drawn = settled(plan), "", None
    if images.seed is None:
        settings = plan_key(keys)
        drawn = gallery.drawn_seed(settings, share)
        if drawn is None:
            drawn = secrets.randbelow(2**32) if share.world_size == 1 else share.common_seed()
        plan, keys = settled(plan_with([drawn]))
    is_grid = share.world_size > 1 or bool(images.compare or images.random_samples or images.prompts_file)
    is_grid = is_grid or any(axis.name not in ("prompt", "seed") for axis in plan.axes)
    is_grid = is_grid or len(values_in(images.seed or ())) > 1
    return plan, PlannedImages(keys, [request.seed for request in plan.requests], is_grid, settings, drawn)


def _make_images(
    config: InferConfig, model, plan, plan_with, gallery, loras, scorer, share: ProcessShare, stop: Signals
) -> None:
    """Draw this process's share of the images that are not there yet; whoever finds all there shows them."""
    from textual_inversion.generation.draw_plan import plan_batches
    from textual_inversion.generation.from_image import start_notes
    from textual_inversion.generation.generate import blank_count_notes
    from textual_inversion.generation.heat_sheets import HeatSheets
    from textual_inversion.generation.run_plan import run_plan

    pipeline = model.pipeline(with_safety_checker=config.images.safety_checker)
    if config.images.safety_checker and getattr(pipeline, "safety_checker", None) is None:
        _say(["this base model comes without a safety checker; nothing is checked"], share)
    plan, planned = _planned(config, model, plan, plan_with, pipeline, gallery, loras, share)
    _say(start_notes(model, plan.requests), share)
    begun, saved, blank, done = time.monotonic(), 0, 0, gallery.begin(planned, share)
    if done and len(done) < len(plan.requests):
        seed = "" if planned.drawn_seed is None else f", with their seed {planned.drawn_seed}"
        _say([f"{len(done)} of {len(plan.requests)} images are there already; the others are drawn{seed}"], share)
    batches = share.of(plan_batches(plan, config.sampling.batch_size))
    heat = HeatSheets(gallery.folder, gallery.name_of, model) if config.output.heat_maps else None
    shown = done if heat is None else {position for position in done if heat.is_there(position)}
    missing = [batch for batch in batches if not shown.issuperset(batch)]
    common = {"lora": [lora.facts for lora in loras]} if loras else {}
    try:
        how = dict(pipeline=pipeline, common=common, score=scorer and scorer.score, shows_progress=share.is_main)
        how["heat"] = heat
        saved, blank = run_plan(model, plan, missing, gallery, done, stop, **how)
    finally:
        with stop.noted():
            state, sheet = _finish(gallery, plan, config.output, share)
    for note in blank_count_notes(blank, saved):
        print_note(note)
    if heat is not None and share.is_main:
        print_line(f"where each word acts: {heat.folder}")
    _report(state, sheet, saved, time.monotonic() - begun, planned, share)


def _finish(gallery, plan, output: InferOutput, share: ProcessShare):
    """Bring the record up to date, and show the images: those of a lone process, also when it was interrupted."""
    state, sheet = gallery.finish(), None
    if state.images and (state.is_complete or share.world_size == 1):
        sheet = _show(gallery.folder, state, plan.axes, output)
    gallery.close()
    return state, sheet


def _show(folder: Path, state, axes, output: InferOutput) -> Path:
    """Write contact sheets, page and log, and return the first sheet."""
    from textual_inversion.generation.show_run import show_run

    how = dict(num_cols=output.num_cols, report_to=output.report_to, logging_dir=output.logging_dir)
    return show_run(folder, state, axes, **how)


def _report(state, sheet: Path | None, saved: int, seconds: float, planned, share: ProcessShare) -> None:
    """The last lines of a run: the scores of a comparison, and where the images are."""
    from textual_inversion.evaluation.column_scores import column_scores, table

    if sheet is not None and any("score" in entry for entry in state.images):
        for row in table(column_scores(state.images)):
            print_line(row, is_aligned=True)
    if not saved and state.is_complete:
        line = f"all {state.total} images are there already: {sheet}"
    elif sheet is None:
        line = f"{saved} images in {duration(seconds)} min; {len(state.images)} of {state.total} are there, and the "
        line += "process that draws the last one shows them all"
    else:
        all_of_them = f" ({len(state.images)} with the rest)" if saved < len(state.images) else ""
        line = f"{saved} images{all_of_them} in {duration(seconds)} min, seeds from {planned.seeds[0]}: {sheet}"
    if share.is_main or sheet is not None:
        print_line(line)


if __name__ == "__main__":
    run_command(main)
