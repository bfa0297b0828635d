"""This process among the processes of one start, and its share of work that needs no exchange between them.

The launcher's variables say which process this is: `PADDLE_TRAINER_ID` of `PADDLE_TRAINERS_NUM`. They may also be set
by hand, in a batch system or a shell.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from textual_inversion.system.errors import SettingsError

_RANK, _WORLD_SIZE = "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"
# What the launcher gives to all processes of one start, on all machines: addresses with ports that it found free.
_ENDPOINTS = "PADDLE_TRAINER_ENDPOINTS"
_OF_LAUNCH = ("PADDLE_MASTER", _ENDPOINTS)
_MOST_PROCESSES = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessShare:
    """This process among the processes of one start.

    Attributes:
        rank: of this process, in [0, world_size).
        world_size: processes of the start.
        launch: equal in all of these processes, and different in another start; "" where nothing tells.
    """

    rank: int = 0
    world_size: int = 1
    launch: str = ""

    @property
    def is_main(self) -> bool:
        """Whether this process reports what is the same in all."""
        return self.rank == 0

    def of(self, items: Sequence[T]) -> list[T]:
        """Every `world_size`-th item, from the `rank`-th on: each item is in one process's share."""
        return list(items[self.rank :: self.world_size])

    def common_seed(self) -> int:
        """A seed below 2**32 that all processes of the start agree on without a word.

        Raises:
            SettingsError: they share nothing that it could come from.
        """
        if not self.launch:
            raise SettingsError("processes that no launcher starts cannot agree on a seed by themselves; give --seed")
        return int(self.launch[:8], 16)


def share_of_process(environment: Mapping[str, str] = os.environ) -> ProcessShare:
    """The share of this process; without the variables it is alone.

    Raises:
        SettingsError: the variables contradict one another.
    """
    world_size = _number(environment, _WORLD_SIZE, 1)
    rank = _number(environment, _RANK, 0 if world_size == 1 else None)
    if world_size < 1 or not 0 <= rank < world_size:
        raise SettingsError(
            f"{_RANK}={rank} is none of {_WORLD_SIZE}={world_size} processes, which are counted from 0; "
            "set both, or neither"
        )
    if world_size == 1:
        return ProcessShare()
    names = "\n".join(environment.get(name, "") for name in _OF_LAUNCH)
    launch = hashlib.sha256(f"{names}\n{world_size}".encode("utf-8", "surrogateescape")).hexdigest()
    return ProcessShare(rank, world_size, launch[:16] if names.strip() else "")


def machines_of_start(environment: Mapping[str, str] = os.environ) -> int:
    """How many machines the processes of this start are on, by the launcher's list of them; at least one."""
    endpoints = environment.get(_ENDPOINTS, "").split(",")
    return len({endpoint.rpartition(":")[0] for endpoint in endpoints})


def _number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    text = environment.get(name, "").strip()
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdigit() and int(text[:8]) <= _MOST_PROCESSES):
        raise SettingsError(f"{name} should be a whole number of processes, not {text[:40]!r}; unset it or correct it")
    return int(text)
