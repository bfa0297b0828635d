"""Settings of the commands, in a form that is short to check."""

from types import SimpleNamespace

from textual_inversion.cli.train import parse
from textual_inversion.settings.flag import changed, values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.training.step_plan import plan_steps


def flat(config: TrainConfig) -> SimpleNamespace:
    """Every flag by its name, beside what else a configuration knows; `whole` is the configuration itself."""
    own = {name: getattr(config, name) for name in ("concepts", "given", "demo", "demo_defaults")}
    return SimpleNamespace(**values_of(config), **own, whole=config)


def parsed(argv: list[str]) -> SimpleNamespace:
    """The settings that a command line of the training command stands for, by the names of the flags."""
    return flat(parse(argv))


def planned(argv: list[str], num_images: int = 4, world_size: int = 1) -> SimpleNamespace:
    """The same once the number of images and of processes is known; `plan` is the step plan."""
    asked = parse(argv)
    config, plan = plan_steps(asked, num_images * asked.concept.repeats, world_size)
    return SimpleNamespace(**(vars(flat(config)) | {"plan": plan}))  # --plan itself is in `whole`


def config_of(**values) -> TrainConfig:
    """The default settings of real models, with some flags changed."""
    return changed(TrainConfig(), **values)
