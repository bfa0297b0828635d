"""The settings of `teach.py`, in groups of flags. All flags of the training command may stand beside them."""

from dataclasses import dataclass

from textual_inversion.settings import cluster
from textual_inversion.settings.bounds import count
from textual_inversion.settings.cluster import ClusterSettings
from textual_inversion.settings.flag import LIST, WRITTEN, flag, group
from textual_inversion.settings.shared import CONTENTS_COMPARED
from textual_inversion.system.paths import from_root

# Concepts in one run where nothing else is said: see `benchmarks/teach.py`.
TOGETHER = 8

# One or two lines per flag.
# fmt: off


@group("concepts")
class TaughtConcepts:
    """Which concepts are learned, and how many of them in one run."""

    concepts: str = flag(
        from_root("demo/concepts.csv"),
        "a folder with a folder of images for each concept, or a CSV file with a line for each", metavar="FILE",
        at_address=LIST, **CONTENTS_COMPARED)
    together: int = flag(
        TOGETHER, "most concepts that are learned in one run, with equal shares; only those with the same other flags",
        type=count(1, 512), metavar="N")
    alone: bool = flag(False, "a run for each concept, whose bytes then depend on nothing else in the list")
    skip_broken: bool = flag(False, "leave out concepts that cannot be learned, instead of refusing the list")


@group("output")
class TeachOutput:
    """Where embeddings and results are written."""

    output_dir: str = flag(
        "taught", "runs, embeddings, table and contact sheet", metavar="DIR", at_address=WRITTEN, **CONTENTS_COMPARED)
    resume: str | None = cluster.resume_flag("the list")
    no_sheet: bool = flag(False, "draw no image of each concept, and no contact sheet of all")


@dataclass(frozen=True)
class TeachConfig:
    """All settings of `teach.py` itself."""

    concepts: TaughtConcepts = TaughtConcepts()
    cluster: ClusterSettings = ClusterSettings()
    output: TeachOutput = TeachOutput()


# fmt: on
