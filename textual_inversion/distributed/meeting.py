"""How the ranks of a run make sure, before a collective operation, that every one of them will take part in it.

A rank that was told to end leaves, and it must not leave others behind that wait for it in native code: no signal
reaches them there, and a checkpoint that one of them should write is lost. So a rank that is at work, or waits here,
may leave; but once the first rank has seen all the others here and has closed the meeting, they all go on together.

The ranks meet in counters of the launcher's key-value store, whose `add` is atomic and gives the new sum:

    NAME            + 1 by each rank but the first that comes
                    + LEFT by one that was told to end and leaves, if the meeting is not closed yet
                    + CLOSED by the first rank, when all have come, one has left, or it was told to end itself
    NAME/verdict    GO or OFF, by the first rank, after that
"""

from collections.abc import Callable

_LEFT, _CLOSED = 1 << 20, 1 << 40
_GO, _OFF = 1, 2


def hold(
    add: Callable[[str, int], int],
    name: str,
    rank: int,
    world_size: int,
    is_told: Callable[[], bool],
    pause: Callable[[], object],
) -> bool:
    """Wait for all ranks, and say whether all of them go on together; else nobody does.

    Args:
        add: the store's atomic `add(name, number)`, which gives the new sum.
        name: of this meeting; the same on all ranks, and used once.
        rank, world_size: who this is among how many; fewer than 2 ** 20.
        is_told: whether this rank was told to end; being told must not raise anything in here.
        pause: called between two looks.
    """
    if rank == 0:
        while add(name, 0) < world_size - 1 and not is_told():
            pause()
        goes_on = add(name, _CLOSED) == _CLOSED + world_size - 1 and not is_told()
        add(_verdict(name), _GO if goes_on else _OFF)
        return goes_on
    add(name, 1)
    wants_to_leave = False
    while not (verdict := add(_verdict(name), 0)):
        if is_told() and not wants_to_leave:
            wants_to_leave = True
            if add(name, _LEFT) < _CLOSED:
                return False
        pause()  # closed already: the verdict is about to come
    return verdict == _GO


def _verdict(name: str) -> str:
    return f"{name}/verdict"
