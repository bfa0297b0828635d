"""Whatever strangers send to the port between processes: the run goes on, the watch too, and nobody's words count."""

import json
import os
import subprocess
import sys
import time

import pytest

from helpers.attacks.port import RANK, SEEDS, connected, environment, greeting, hostile
from helpers.node_runs import free_port
from helpers.paths import ROOT
from textual_inversion.distributed import messages
from textual_inversion.distributed.peers import LOST_STATUS, Peers
from textual_inversion.system.errors import SettingsError


def start(port, *, secret="s" * 20, later="pass"):
    """Two ranks.

    Args:
        secret: in their environment; None: none is.
        later: what they do once they have met.
    """
    ranks = []
    more = {} if secret is None else {"TEXTUAL_INVERSION_SECRET": secret}
    for rank in range(2):
        command = [sys.executable, "-c", RANK.format(root=str(ROOT), later=later)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        ranks.append(subprocess.Popen(command, env=os.environ | environment(port, rank, **more), text=True, **pipes))
    return ranks


def send_all(port):
    """Send everything, a connection each, half of them left open; returns those."""
    held = []
    for seed in range(SEEDS):
        stranger = connected(port)
        try:
            stranger.settimeout(0.2)
            stranger.sendall(hostile(port, seed))
        except OSError:  # sent away in the middle
            pass
        held.append(stranger) if seed % 2 else stranger.close()
    return held


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("moment", ["before the second rank", "after it"])
def test_nothing_that_strangers_send_ends_a_run_its_watch_or_a_ranks_place_in_it(moment):
    port = free_port()
    first = start(port)
    if moment == "after it":
        for rank in first:
            assert rank.stdout.readline() == "together\n", rank.communicate()
    held = send_all(port)
    if moment != "after it":
        for rank in first:
            line = rank.stdout.readline()
            # A stranger that said to be a ready rank makes rank 0 wait less long; that is all that it can do.
            if line.startswith("note: rank 1 has no connection to rank 0"):
                line = rank.stdout.readline()
            assert line == "together\n", rank.communicate()
    time.sleep(1)
    assert [rank.poll() for rank in first] == [None, None]
    for stranger in held:
        stranger.close()

    first[1].kill()
    first[0].wait(timeout=30)  # with its input still open
    _, said = first[0].communicate()
    first[1].communicate()

    assert first[0].returncode == LOST_STATUS and said.startswith("error: rank 1 (") and said.count("\n") == 1
    assert "my own words" not in said and "warning" not in said


@pytest.mark.slow
@pytest.mark.multiprocess
def test_who_greets_as_a_rank_before_the_secret_is_known_is_not_believed_and_keeps_nobody_out():
    """As with the launcher's store, which exists only after a while."""
    port = free_port()
    learn = "peers._rank or print(peers.secret, flush=True); peers.learn(peers.secret or sys.stdin.readline().strip())"
    ranks = start(port, secret=None, later=learn)
    lie = {"status": 2, "rank": 1, "host": "h", "log": "", "reason": "my own words"}
    strangers = []
    for number in range(5):
        strangers.append(connected(port))
        lines = [greeting(port), {"ready": True}] + [lie] * (number % 2)
        strangers[-1].sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    secret = ranks[0].stdout.readline()
    assert len(secret) == 65 and [rank.poll() for rank in ranks] == [None, None]
    ranks[1].stdin.write(secret)
    ranks[1].stdin.flush()
    for rank in ranks:
        assert rank.stdout.readline() == "together\n", rank.communicate()
    for stranger in strangers:
        stranger.close()
    time.sleep(0.3)
    assert [rank.poll() for rank in ranks] == [None, None]

    ranks[1].kill()
    ranks[0].wait(timeout=30)  # with its input still open
    _, said = ranks[0].communicate()
    ranks[1].communicate()

    assert ranks[0].returncode == LOST_STATUS and said.startswith("error: rank 1 (") and "my own words" not in said


def test_a_secret_that_is_too_short_is_refused():
    with pytest.raises(SettingsError, match="fewer than 16 characters"):
        Peers(environment(1, 0, TEXTUAL_INVERSION_SECRET="short"))


def test_without_one_in_the_environment_the_first_rank_draws_another_one_each_time():
    drawn = {Peers(environment(1, 0)).secret for _ in range(5)}
    assert len(drawn) == 5 and all(len(secret) == 64 for secret in drawn)
    assert Peers(environment(1, 1)).secret is None


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_is_read_is_a_message_or_refused(seed):
    for line in hostile(4000, seed).split(b"\n"):
        try:
            message = messages.read(line)
        except ValueError:
            continue
        assert all(messages._ENTRIES[key](value) for key, value in message.items())
