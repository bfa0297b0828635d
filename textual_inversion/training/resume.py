"""Going on where a run stood: from its parts to a checkpoint, and back.

A checkpoint holds the state after an optimizer step, before anything is measured or drawn there. The resumed run looks
at that step first, again or for the first time, so that whatever an uninterrupted run shows is there once. Its samples
need no state: they are a function of seed and step.
"""

import copy
import shlex
from pathlib import Path

import numpy as np

from textual_inversion.distributed import consistency
from textual_inversion.system.errors import CheckpointError, SettingsError
from textual_inversion.training import checkpoints, optimizer, run_settings
from textual_inversion.training.checkpoints import Checkpoint

_ROWS, _OPTIMIZER, _BEST, _KEPT = "rows/", "optimizer/", "best/", "kept/"


def find(args, run) -> None:
    """Find the checkpoint that the run is to go on from, if any, on all processes: `run.resumed`.

    Figures and, unless it was given, the seed come from it at once; the rest waits for `restore`.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    run.ranks.peers.advice = how_to_go_on(run.folder)
    if not args.resume_from_checkpoint:
        if run.ranks.is_main and (run.folder / "run.json").exists():
            run.say(f"note: the files of an earlier run in {run.folder} are replaced as this one writes its own")
        return
    found = None
    if run.ranks.is_main:
        found = checkpoints.find(args.resume_from_checkpoint, run.folder, run.say)
    run.resumed = run.ranks.broadcast(found)
    if run.resumed is None:
        run.say(f"there is no checkpoint in {run.folder} yet: beginning at step 0")
        return
    if run.ranks.is_main:
        run.stop.advice = "before another step was done; no checkpoint was written, go on with the same command"
    facts = run.resumed.facts
    run.figures.update(facts["figures"])
    run.history = [*facts["resumed"], {"step": run.resumed.step, "changed": []}]
    if args.seed is None:
        args.seed = facts["settings"]["--seed"]


def compare(args, run, settings: dict) -> None:
    """Hold settings of this run against those of the checkpoint, and remember them for checkpoints to come.

    Args:
        settings: from `run_settings`, all of them or a part.

    Raises:
        SettingsError: the course of the run would change, and --allow_changed_settings is not given; or the ranks
            differ in them.
    """
    consistency.agree_on_data(run.ranks.meeting_point, settings)  # first: from then on all ranks find the same changes
    run.settings |= settings
    if run.resumed is None:
        return
    changed = run_settings.changes(run.resumed.facts["settings"], settings)
    if changed and not args.allow_changed_settings:
        raise SettingsError(
            f"{run.resumed.folder} is of a run with other settings: {'; '.join(changed)}; give the same ones, or add "
            "--allow_changed_settings to go on with the new ones"
        )
    run.history[-1]["changed"] += changed
    for change in changed:
        run.say(f"changed at step {run.resumed.step}: {change}")


def compare_data(args, run, pictures: list, masks: list) -> None:
    """Compare what is known before the base model is loaded: flags, pictures, sentences, masks.

    Raises:
        SettingsError: something changed, or the run is to end before the checkpoint's step.
    """
    compare(args, run, run_settings.of_arguments(args) | run_settings.of_data(run.images, pictures, masks))
    if run.resumed is not None and run.resumed.step > args.max_train_steps:
        raise SettingsError(
            f"{run.resumed.folder} has {run.resumed.step} steps behind it and --max_train_steps is "
            f"{args.max_train_steps}; raise it, or choose an earlier checkpoint"
        )


def compare_model(args, run) -> None:
    """Compare the rest: the base model, the pictures' size, embeddings that the rows start from.

    Raises:
        SettingsError: something changed.
    """
    sentences = sorted({prompt for image in run.images for prompt in image.prompts})
    compare(args, run, run_settings.of_model(run.model, run.learned, args.height, args.width, sentences))
    run.settings["--seed"] = args.seed


def restore(run, optimizer_, schedule) -> int:
    """Give rows, optimizer, schedule and `run.kept` the checkpoint's state; returns its step, 0 for a run that begins.

    Raises:
        CheckpointError: it holds rows of another number or width.
    """
    if run.resumed is None:
        return 0
    parameters, tensors = named_parameters(run), run.resumed.tensors
    rows = _under(tensors, _ROWS)
    shapes = {name: array.shape for name, array in rows.items()}
    if shapes != {name: tuple(parameter.shape) for name, parameter in parameters.items()}:
        raise CheckpointError(
            f"{run.resumed.folder} holds rows of other words, vectors or text encoders than this run has; give the "
            "same words, numbers of vectors and base model"
        )
    for name, parameter in parameters.items():
        parameter.set_value(np.ascontiguousarray(rows[name]))
    optimizer.restore_optimizer(optimizer_, parameters, _under(tensors, _OPTIMIZER))
    for name, keeper in run.kept.items():
        state = _under(tensors, f"{_KEPT}{name}/")
        if state:
            keeper.restore(state)
    schedule.step(run.resumed.step)
    run.say(f"going on from {run.resumed.folder}, after step {run.resumed.step}")
    return run.resumed.step


def capture(run, optimizer_, step: int, loss: float, learning_rate: float, best_rows: dict | None) -> Checkpoint:
    """The state after optimizer step `step`, on the main process; what happens later does not change it.

    Args:
        loss, learning_rate: of this step, for its record.
        best_rows: text encoder -> rows [N, D] of the best step so far.
    """
    parameters = named_parameters(run)
    tensors = {_ROWS + name: parameter.numpy() for name, parameter in parameters.items()}
    state = optimizer.optimizer_state(optimizer_, parameters)
    tensors |= {_OPTIMIZER + name: array for name, array in state.items()}
    tensors |= {_BEST + name: array for name, array in (best_rows or {}).items()}
    for name, keeper in run.kept.items():
        tensors |= {f"{_KEPT}{name}/{key}": value.numpy().astype("float32") for key, value in keeper.state().items()}
    facts = {
        "loss": loss,
        "learning_rate": learning_rate,
        "processes": run.ranks.world_size,
        "settings": run.settings,
        "figures": copy.deepcopy(run.figures),
        "resumed": run.history,
    }
    return Checkpoint(step, tensors, facts)


def best_rows(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Text encoder -> rows [N, D] of the best step so far; {} where none was kept."""
    return _under(checkpoint.tensors, _BEST)


def how_to_go_on(folder: Path) -> str:
    """The flags with which the same command goes on."""
    place = shlex.quote(str(folder))
    return f"go on with the same command and --resume_from_checkpoint latest --output_dir {place}"


def named_parameters(run) -> dict:
    """The rows of each concept and text encoder by a name that holds in any process."""
    return {
        f"{encoder}/{place}": part
        for encoder, embedding in run.embeddings.items()
        for place, part in enumerate(embedding.parts)
    }


def _under(tensors: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
