"""Which share of the work a process has, and what it has in common with the others."""

import pytest

from textual_inversion.system.errors import SettingsError
from textual_inversion.system.process_share import ProcessShare, share_of_process

LAUNCHER = {"PADDLE_MASTER": "127.0.0.1:4321", "PADDLE_TRAINER_ENDPOINTS": "127.0.0.1:1,127.0.0.1:2"}


def of(rank, world_size, **more):
    return share_of_process({"PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": str(world_size), **more})


def test_a_process_without_a_launcher_is_alone():
    assert share_of_process({}) == of(0, 1) == share_of_process({"PADDLE_TRAINERS_NUM": ""}) == ProcessShare()
    assert ProcessShare().of([1, 2, 3]) == [1, 2, 3] and ProcessShare().is_main


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 20])
def test_the_shares_are_a_partition_and_differ_by_one_item_at_most(world_size):
    shares = [ProcessShare(rank, world_size).of(range(16)) for rank in range(world_size)]

    assert sorted(item for share in shares for item in share) == list(range(16))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_processes_of_one_start_agree_on_a_seed_and_other_starts_on_another():
    ranks = [of(rank, 2, **LAUNCHER) for rank in (0, 1)]
    other = of(0, 2, **LAUNCHER | {"PADDLE_MASTER": "127.0.0.1:4322"})

    assert ranks[0].common_seed() == ranks[1].common_seed() != other.common_seed()
    assert ranks[0].launch == ranks[1].launch and 0 <= ranks[0].common_seed() < 2**32
    with pytest.raises(SettingsError, match="give --seed"):
        of(0, 2).common_seed()


@pytest.mark.parametrize(
    ("rank", "world_size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("", "2"), ("0", "x"), ("0", "0"), ("0", "9" * 50)]
)
def test_variables_that_contradict_one_another_are_refused(rank, world_size):
    with pytest.raises(SettingsError, match="PADDLE_TRAINER"):
        of(rank, world_size)
