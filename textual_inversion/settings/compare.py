"""The settings of `compare.py` and `verify.py`, in groups of flags."""

from dataclasses import dataclass

from textual_inversion.settings import shared
from textual_inversion.settings.flag import RUN, WRITTEN_FILE, flag, group

# One or two lines per flag.
# fmt: off


@group("runs")
class ComparedRuns:
    """Which runs are compared."""

    runs: tuple[str, ...] = flag(
        (), "the --output_dir of each run; differences are those to the first", nargs="+", metavar="DIR",
        at_address=RUN,
        is_positional=True)


@group("output")
class ComparisonOutput:
    """Where the page goes."""

    output: str = flag("comparison.html", "the page to write", metavar="FILE", at_address=WRITTEN_FILE)
    overwrite: bool = flag(False, "replace a file that is there and no page of this program")


@dataclass(frozen=True)
class CompareConfig:
    """All settings of `compare.py`."""

    runs: ComparedRuns = ComparedRuns()
    output: ComparisonOutput = ComparisonOutput()


@group("run")
class VerifiedRun:
    """Which run is trained again."""

    run: str = flag(
        "", "the --output_dir of a run, with its config.yaml, run.json and embedding", metavar="DIR", at_address=RUN,
        is_positional=True)
    show: bool = flag(False, "say what would be read, and train nothing")
    trust_record: bool = flag(
        False, "ask the hubs for the base model, tokenizer and other files that the configuration names")


@group("machine")
class VerifyingMachine:
    """The machine that trains."""

    device: str | None = shared.device_flag()
    num_threads: int | None = shared.num_threads_flag("CPU threads; unset: all cores")


@dataclass(frozen=True)
class VerifyConfig:
    """All settings of `verify.py`."""

    run: VerifiedRun = VerifiedRun()
    machine: VerifyingMachine = VerifyingMachine()


# fmt: on
