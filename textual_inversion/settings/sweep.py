"""The settings of `sweep.py`, in groups of flags. All flags of the training command may stand beside them."""

from dataclasses import dataclass

from textual_inversion.settings import cluster
from textual_inversion.settings.bounds import at_once, count, number, positive_int, seed_number
from textual_inversion.settings.choices import METRICS, SEARCH_METHODS
from textual_inversion.settings.cluster import ClusterSettings
from textual_inversion.settings.flag import TREE, WRITTEN, flag, group
from textual_inversion.settings.shared import CONTENTS_COMPARED

# One or two lines per flag.
# fmt: off


@group("search")
class SearchSettings:
    """What is searched, and by what."""

    space: str | None = flag(
        None, "a YAML file of training flags, each with choice, grid, range or log_range; unset: the demo's own",
        metavar="FILE", **CONTENTS_COMPARED)
    method: str | None = flag(
        None, "how trials are chosen; unset: grid where every flag has a list of values, else tpe",
        choices=SEARCH_METHODS)
    num_trials: int | None = flag(
        None, "trials; unset: the whole grid, or 12", type=count(1, 100_000), metavar="N")
    metric: tuple[str, ...] = flag(
        ("score",), "what makes a trial better; several: trials that no other beats in all of them", nargs="+",
        choices=tuple(METRICS))
    search_seed: int = flag(0, "decides which trials are drawn", type=seed_number, metavar="N")


@group("stopping")
class StoppingSettings:
    """Which trials are stopped before their last step."""

    asha: bool = flag(False, "stop poor trials early: only the better part of each rung goes on")
    min_steps: int | None = flag(
        None, "steps of the first rung of --asha; unset: a ninth of --max_train_steps", type=positive_int, metavar="N")
    reduction_factor: int = flag(
        3, "one of so many trials of a rung goes on to the next, which has so many times its steps",
        type=number(int, 2, 16), metavar="N")


@group("measuring")
class TrialMeasuring:
    """How trials are scored, where --metric wants images."""

    clip_model: str | None = flag(
        None, "folder or repository id of a CLIP model; unset: the base model's own clip/", metavar="MODEL",
        at_address=TREE,
        **CONTENTS_COMPARED)
    num_images: int = flag(
        32, "images of the plain prompt, and of all edit prompts together", type=at_once, metavar="N")


@group("output")
class SweepOutput:
    """Where trials and results are written."""

    output_dir: str = flag("sweep", "trials, table, plot and best embedding", metavar="DIR",
        at_address=WRITTEN, **CONTENTS_COMPARED)
    resume: str | None = cluster.resume_flag("the search")


@dataclass(frozen=True)
class SweepConfig:
    """All settings of `sweep.py` itself."""

    search: SearchSettings = SearchSettings()
    stopping: StoppingSettings = StoppingSettings()
    measuring: TrialMeasuring = TrialMeasuring()
    cluster: ClusterSettings = ClusterSettings()
    output: SweepOutput = SweepOutput()


# fmt: on
