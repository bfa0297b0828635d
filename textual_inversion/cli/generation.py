"""The command lines of `infer.py` and `score.py`, and the values of flags that were left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from textual_inversion.cli.output_checks import check_parents
from textual_inversion.cli.parser import OneLineParser, demo_defaults, parser_of
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.generation.grid import product_plan, random_plan, refuse_too_many
from textual_inversion.generation.plan import Plan
from textual_inversion.generation.prompt_file import PromptLine, read_grid_prompts
from textual_inversion.generation.start_image import StartImage
from textual_inversion.settings import shared
from textual_inversion.settings.flag import Flag, changed, filled, flags_of, values_of
from textual_inversion.settings.generation import ImagesToMake, InferConfig, InferOutput, InferSampling, ScoreConfig
from textual_inversion.settings.train import REUSED
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import has_demo, located
from textual_inversion.system.reporters import wanted

Config = TypeVar("Config", InferConfig, ScoreConfig)

# Sampling settings that neither the command line nor the demo's defaults give.
_DEFAULTS = {"guidance_scale": shared.GUIDANCE_SCALE, "num_inference_steps": shared.NUM_INFERENCE_STEPS}


def infer_parser() -> OneLineParser:
    """The parser of `infer.py`."""
    description = "Make images of learned concepts. Without arguments: the concept that comes with the demo."
    return parser_of(InferConfig, prog="infer.py", description=description)


def score_parser() -> OneLineParser:
    """The parser of `score.py`."""
    description = "Measure how well a concept was learned. Without arguments: the concept that comes with the demo."
    return parser_of(ScoreConfig, prog="score.py", description=description)


def parse_infer(argv: list[str] | None = None) -> InferConfig:
    """The settings of `infer.py`; raises SettingsError."""
    parser = infer_parser()
    values = _values(parser, argv)
    if values["compare"] and "embeds" not in parser.explicit(argv):
        values["embeds"] = ()  # the concept that comes with the demo is for those who name none
    config = filled(InferConfig, values)
    _check_grid(config)
    _check_logs(config.output)
    _check_cluster(config)
    return config


def _check_cluster(config: InferConfig) -> None:
    """Refuse flags of a cluster that have no effect; raises SettingsError."""
    if config.cluster.processes is not None and config.cluster.address is None:
        raise SettingsError("--processes has no effect without --address; add it, or leave --processes out")
    if config.cluster.address is not None and config.output.merge:
        raise SettingsError("--merge draws nothing, so --address has no effect; leave it out")
    if config.cluster.address is not None and config.base_model.hub_token is not None:
        raise SettingsError(
            "--hub_token would be seen in the list of processes of every machine; log in there, or set HF_TOKEN"
        )


def _check_grid(config: InferConfig) -> None:
    """Refuse flags of a grid that contradict each other; raises SettingsError."""
    images = config.images
    if images.size and (images.height or images.width):
        raise SettingsError("--size and --height or --width both set the size of the images; keep one of them")
    if config.scoring.clip_model is not None and not images.compare:
        raise SettingsError("--clip_model has no effect without --compare; add files to compare, or leave it out")


def _check_logs(output: InferOutput) -> None:
    """Refuse logs that could not be written in the end; raises SettingsError."""
    if wanted(output.report_to):
        logs = Path(output.output_dir, output.logging_dir).resolve()
        check_parents(logs, f"--logging_dir {output.logging_dir}")


def parse_score(argv: list[str] | None = None) -> ScoreConfig:
    """The settings of `score.py`; raises SettingsError."""
    config = filled(ScoreConfig, _values(score_parser(), argv))
    measuring = config.measuring
    chosen = [name for name in ("curve", "leave_one_out", "pairs") if getattr(measuring, name)]
    if len(chosen) > 1:
        raise SettingsError(f"--{chosen[0]} and --{chosen[1]} measure different things; give one of them")
    if chosen and measuring.mask_dir is not None:
        raise SettingsError(f"--mask_dir has no effect with --{chosen[0]}; leave it out")
    if measuring.pairs and (config.concept.placeholder_token or config.concept.train_data_dir):
        raise SettingsError("--pairs takes the words and images of all --embeds; leave out --placeholder_token and "
                            "--train_data_dir")  # fmt: skip
    if (measuring.pairs or measuring.leave_one_out) and measuring.num_images < 2:
        raise SettingsError(f"--num_images {measuring.num_images}: one image has no standard error; draw two or more")
    return config


def prompt_lines(images: ImagesToMake, shown: Callable[[], Sequence[str]]) -> list[PromptLine]:
    """The prompts of --prompt, then those of --prompts_file.

    Args:
        shown: gives the prompts for those who name none.

    Raises:
        SettingsError: the file cannot be read, or one of its lines is not a valid prompt.
    """
    lines = [PromptLine(text) for text in images.prompt or ()]
    lines += read_grid_prompts(images.prompts_file) if images.prompts_file else []
    return lines or [PromptLine(text, is_literal=True) for text in shown()]


def plan_of(
    images: ImagesToMake,
    sampling: InferSampling,
    lines: Sequence[PromptLine],
    columns: Mapping[str, Sequence[ConceptFile]] | None = None,
    starts: Sequence[StartImage | None] = (None,),
) -> Plan:
    """The images that settings without unset numbers ask for; raises SettingsError.

    Args:
        lines: see `prompt_lines`.
        columns: see `Plan`.
        starts: what each of them is made from.
    """
    axes = {name: getattr(images, name) for name in ("negative_prompt", "seed", "height", "width", "size")}
    axes |= {name: getattr(sampling, name) for name in ("scheduler", "guidance_scale", "num_inference_steps", "eta")}
    own = dict(columns=columns, allows_many=images.yes)
    if images.random_samples is not None:
        plan = random_plan(lines, axes, images.random_samples, images.num_images, **own)
    else:
        plan = product_plan(lines, axes, images.num_images or 1, **own)
    refuse_too_many(len(plan.requests) * len(starts), images.yes, "start from fewer images")
    if images.prompt_weights:
        plan = replace(plan, requests=[replace(request, prompt_weights=True) for request in plan.requests])
    return plan if list(starts) == [None] else plan.from_images(starts)


def _values(parser: OneLineParser, argv: list[str] | None) -> dict[str, Any]:
    values = vars(parser.parse_args(argv))
    if not has_demo() and not {"embeds", "compare", "merge"} & set(parser.explicit(argv)):
        raise SettingsError("this installation comes without the demo; name an embedding file with --embeds")
    return values


def with_recorded_source(config: Config, records: Iterable[Mapping[str, Any]]) -> Config:
    """If no base model is named, fill in its source as recorded by the run that made the embedding.

    Args:
        records: contents of the run.json files beside the embeddings.
    """
    if config.base_model.pretrained_model_name_or_path is not None:
        return config
    recorded = next((one["settings"] for one in records if isinstance(one.get("settings"), dict)), {})
    flags = flags_of(config.base_model)
    unset = [name for name in flags if name in REUSED and getattr(config.base_model, name) is None]
    names = [name for name in unset if name not in shared.READING]  # each file is read as it was learned
    return changed(config, **{name: _found(REUSED[name], recorded.get(name)) for name in names})


def _found(flag: Flag, value: Any) -> Any:
    """A recorded value; a path that is relative to this project as it is found from here."""
    place = located(value) if flag.recorded_portably and isinstance(value, str) else None
    return value if place is None else str(place)


def with_defaults(config: Config, *, is_demo: bool, **defaults: Any) -> Config:
    """Fill in the sampling settings that are None. With the demo's model, its own defaults come first.

    Args:
        defaults: further settings, with their values for other models.
    """
    chosen, values = _DEFAULTS | defaults, values_of(config)
    if is_demo:
        chosen |= {name: value for name, value in demo_defaults().items() if name in chosen}
    missing = {name: value for name, value in chosen.items() if values[name] is None}
    if isinstance(config, InferConfig):  # whose guidance and steps may have several values each
        missing |= {name: (missing[name],) for name in _DEFAULTS if name in missing}
    return changed(config, **missing)
