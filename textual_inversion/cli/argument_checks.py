"""What the settings of `train_textual_inversion.py` must hold beyond each flag's own range, before anything slow."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from textual_inversion.settings.choices import LATEST
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL
from textual_inversion.training.nearest_words import asks_for_it


def check_together(args) -> None:
    """Refuse settings that are wrong by themselves, go badly together, or would have no effect.

    Raises:
        SettingsError: which, and the way out.
    """
    _check_output_folder(args)
    if args.report_to == "tensorboard" and find_spec("tensorboardX") is None:
        raise SettingsError("--report_to tensorboard needs a package; install it with pip install tensorboardX")
    if args.push_to_hub:
        _check_hub_name(args)
    if args.hub_model_id and not args.push_to_hub:
        raise SettingsError("--hub_model_id has no effect without --push_to_hub; add it, or leave --hub_model_id out")
    if args.hidden_reg_weight and args.initializer_token is None:
        raise SettingsError("--hidden_reg_weight pulls towards --initializer_token; give one, or leave the weight out")
    if args.hub_whole_pipeline and (args.only_save_embeds or not args.push_to_hub):
        raise SettingsError("--hub_whole_pipeline needs --push_to_hub, and a pipeline: leave --only_save_embeds out")
    for flag in ("validation_epochs", "validation_steps"):
        if flag in args.explicit and not args.sample_prompts:
            raise SettingsError(f"--{flag} has no effect without --validation_prompt; say what to draw")
    _check_keep_best(args)
    _check_resume(args)


def _check_resume(args) -> None:
    if args.allow_changed_settings and not args.resume_from_checkpoint:
        raise SettingsError("--allow_changed_settings has no effect without --resume_from_checkpoint; add it, or leave "
                            "--allow_changed_settings out")  # fmt: skip
    if args.resume_from_checkpoint == LATEST and args.config and "output_dir" not in args.explicit:
        raise SettingsError(
            "--resume_from_checkpoint latest looks into --output_dir, and --config chooses a new folder without it; "
            "name the folder of the run that is to go on"
        )


def _check_keep_best(args) -> None:
    if args.keep_best and not args.eval_steps and not args.sample_prompts:
        raise SettingsError("--keep_best has nothing to judge by; add --validation_prompt, or leave out --eval_steps 0")
    if args.clip_model and not (args.keep_best or asks_for_it(args)):
        raise SettingsError(
            "--clip_model has no effect without --keep_best or --initializer_token auto; add one of them, or leave "
            "--clip_model out"
        )
    if args.clip_model and args.keep_best and not args.sample_prompts:
        raise SettingsError("--clip_model judges sample pictures; say with --validation_prompt what to draw")


def _check_output_folder(args) -> None:
    base, output = Path(args.pretrained_model_name_or_path).resolve(), Path(args.output_dir).resolve()
    for model in (base, DEMO_MODEL.resolve()):
        if model.is_dir() and (output == model or model in output.parents):
            raise SettingsError(
                f"--output_dir {args.output_dir} is inside the base model {model}, which stays as it is; choose another"
            )
    if (output / "model_index.json").exists() and not (output / "run.json").exists():
        raise SettingsError(f"--output_dir {args.output_dir} holds another model; choose a folder of its own")
    _check_way(output, f"--output_dir {args.output_dir}")
    if args.report_to != "none":
        _check_way(output / args.logging_dir, f"--logging_dir {args.logging_dir}")
    if output in [Path(folder).resolve() for folder in args.train_data_dir]:
        raise SettingsError("--output_dir and --train_data_dir are the same folder; choose another for the results")


def _check_way(folder: Path, said: str) -> None:
    """Refuse a folder to be made where a file stands on the way to it."""
    found = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    if os.path.lexists(found) and not found.is_dir():
        raise SettingsError(f"{said} cannot be made: {found} is no folder; choose another")


def _check_hub_name(args) -> None:
    """Refuse a repository's name that the hub will not take, before hours of work and not after them."""
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    if not re.fullmatch(r"([\w.-]{1,96}/)?[\w.-]{1,96}", name, re.ASCII) or "--" in name or ".." in name:
        raise SettingsError(
            f"{name!r} is no name for the hub; give one with --hub_model_id: letters, digits, - _ and . only, such as "
            "my-cat or me/my-cat"
        )
