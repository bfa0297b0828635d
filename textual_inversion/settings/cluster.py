"""The settings that `sweep.py` and `teach.py` share: where their trainings run, and what each of them gets."""

from typing import Any

from textual_inversion.settings.bounds import count, natural, positive_int, threads
from textual_inversion.settings.flag import WRITTEN, flag, group
from textual_inversion.settings.shared import ONE_MACHINE

_cards = count(0, 1024)

# One or two lines per flag.
# fmt: off


def address_flag(unset: str) -> str | None:
    """The flag --address; `unset` says what is done where it is not given."""
    text = f"a Ray cluster that runs already: auto, or HOST:PORT; unset: {unset}"
    return flag(None, text, metavar="ADDRESS", repeatable=False, **ONE_MACHINE)


def max_failures_flag(what: str) -> int:
    """The flag --max_failures."""
    text = f"times that {what} which died is tried again, from its newest checkpoint"
    return flag(3, text, type=natural, metavar="N", **ONE_MACHINE)


@group("cluster")
class ClusterSettings:
    """Where trainings run, and what each of them gets."""

    address: str | None = address_flag("one of its own, on this machine, for as long as the command runs")
    cpus_per_run: int = flag(
        1, "CPU cores of each training, which are also its threads", type=threads, metavar="N", **ONE_MACHINE)
    gpus_per_run: int | None = flag(
        None, "cards of each training; several: under the launcher, on one machine; unset: 1 where there are any",
        type=_cards, metavar="N", **ONE_MACHINE)
    processes_per_run: int | None = flag(
        None, "processes of each training, under the launcher; unset: one, or one for each card",
        type=positive_int, metavar="N", **ONE_MACHINE)
    parallel: int | None = flag(
        None, "trainings at the same time; unset: as many as the cluster has room for", type=positive_int, metavar="N",
        **ONE_MACHINE)
    max_failures: int = max_failures_flag("a training")


def resume_flag(what: str) -> Any:
    """The flag --resume."""
    text = f"go on with {what} of this folder, with its own settings; nothing that is done is done again"
    return flag(None, text, metavar="DIR", at_address=WRITTEN, repeatable=False, **ONE_MACHINE)


# fmt: on
