"""`infer.py` on a cluster: processes that draw one grid, each its share, as those of a launcher do.

Each process is told which it is by the launcher's variables. It draws what is missing of its share, so one whose
machine was lost is simply started again.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.cluster import child as children
from textual_inversion.cluster.child import Child, Ended
from textual_inversion.cluster.pool import Lost, Pool
from textual_inversion.system import user_files
from textual_inversion.system.errors import OutputError, SettingsError

_OF_SPREADING = ("--address", "--processes")
_FAILURES = 3  # times that a process which died is started again
_LOG = 64 << 20


@dataclass(frozen=True)
class Share:
    """A process of a grid.

    Attributes:
        arguments: of `infer.py`.
        rank: of the process.
        world_size: processes of the grid.
        start: equal in all processes of a start: they agree on a seed by it.
        log: what it prints is added to this file.
        child: how it is started.
    """

    arguments: tuple[str, ...]
    rank: int
    world_size: int
    start: str
    log: str
    child: Child


def do(share: Share) -> Ended:
    """Draw a share of a grid."""
    variables = {
        "PADDLE_TRAINER_ID": str(share.rank),
        "PADDLE_TRAINERS_NUM": str(share.world_size),
        "PADDLE_TRAINER_ENDPOINTS": share.start,
    }
    return children.run("infer", share.arguments, share.child, Path(share.log), extra=variables)


def without_spreading(arguments: Sequence[str]) -> list[str]:
    """A command line of `infer.py` without what spreads it over a cluster."""
    kept, skip = [], False
    for word in arguments:
        if skip or word.partition("=")[0] in _OF_SPREADING:
            skip = word in _OF_SPREADING
            continue
        kept.append(word)
    return kept


def draw(pool: Pool, arguments: Sequence[str], output: Path, processes: int | None, threads: int) -> Iterator[str]:
    """Let the processes draw; yields what is to be said, in lines.

    Raises:
        SettingsError: a process refused the settings.
        OutputError: a process died again and again.
    """
    count, start = processes or pool.size, f"cluster-{secrets.token_hex(8)}"
    words, child, failures = tuple(without_spreading(arguments)), Child(os.getcwd(), threads), {}
    logs = {rank: output / f"process-{rank}.log" for rank in range(count)}
    begins = {rank: _size(log) for rank, log in logs.items()}
    shares = {rank: Share(words, rank, count, start, str(logs[rank]), child) for rank in range(count)}
    yield f"{count} processes draw in {output}"
    for rank, share in shares.items():
        pool.submit(rank, do, share)
    left = count
    while left:
        rank, ended = pool.next_done()
        error = ended.reason if isinstance(ended, Lost) else ended.error
        if isinstance(ended, Ended) and ended.status == 0:
            left -= 1
            yield from _said(logs[rank], begins[rank])
            continue
        if isinstance(ended, Ended) and ended.status == children.REFUSED:
            raise SettingsError(str(error))
        failures[rank] = failures.get(rank, 0) + 1
        if failures[rank] > _FAILURES:
            raise OutputError(f"process {rank} died again and again ({error}); see {logs[rank]}")
        yield f"process {rank} died and is started again: {error}"
        pool.submit(rank, do, shares[rank])


def _size(log: Path) -> int:
    return log.stat().st_size if log.is_file() else 0


def _said(log: Path, begin: int) -> list[str]:
    """The last line that a process printed, where it has something to say."""
    try:
        lines = user_files.read_bytes(log, _LOG)[begin:].decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if " images" in line and not line.startswith(("note:", "image "))][-1:]
