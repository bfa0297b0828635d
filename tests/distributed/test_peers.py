"""How the processes of a run learn of one another's end: real processes, without paddle."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.node_runs import free_port
from helpers.paths import ROOT
from textual_inversion.distributed.peers import LOST_STATUS, Peers

# A rank whose work is a line of Python, done when all have come.
RANK = """
import os, sys, time
sys.path.insert(0, {root!r})
from textual_inversion.distributed import connections, sockets
from textual_inversion.distributed import peers as module
from textual_inversion.system.errors import SettingsError, Stopped, run_command
module._GRACE = 0.8
exec(os.environ.get("BEFORE", ""))
def main():
    with module.Peers() as peers:
        exec(os.environ.get("EARLY", ""))
        peers.wait_for_all()
        print("together", flush=True)
        exec(sys.argv[1])
run_command(main)
"""
WAIT = "time.sleep(60)"
FAILS_AFTER_IT = "while not peers._ending: time.sleep(0.02)\nraise ValueError('an exchange failed')"


def start(tmp_path, *works, port=None, early=(), **environment):
    """One process for each work; `early`: for each what it does before all have come."""
    script = tmp_path / "rank.py"
    script.write_text(RANK.format(root=str(ROOT)))
    endpoints = f"127.0.0.1:{port or free_port()}" + ",127.0.0.1:9" * (len(works) - 1)
    ranks = []
    for rank, work in enumerate(works):
        (tmp_path / f"workerlog.{rank}").touch()
        own = {"PADDLE_TRAINERS_NUM": str(len(works)), "PADDLE_TRAINER_ID": str(rank), "PADDLE_MASTER": "127.0.0.1:1",
               "PADDLE_TRAINER_ENDPOINTS": endpoints, "PADDLE_LOCAL_RANK": str(rank), "PADDLE_LOG_DIR": str(tmp_path),
               "EARLY": early[rank] if early else "", "TEXTUAL_INVERSION_SECRET": "s" * 20}  # fmt: skip
        command = [sys.executable, str(script), work]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        ranks.append(subprocess.Popen(command, env={**os.environ, **own, **environment}, **pipes))
    return ranks


def together(ranks):
    for rank in ranks:
        assert rank.stdout.readline() == "together\n", rank.communicate()


def ends(ranks):
    """(status, stderr) of each."""
    said = [rank.communicate(timeout=50)[1] for rank in ranks]
    return [(rank.returncode, text) for rank, text in zip(ranks, said, strict=True)]


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize(("level", "waits"), [("1", True), ("0", False), ("-1", False), ("", False)])
@pytest.mark.parametrize("work", [WAIT, FAILS_AFTER_IT])
@pytest.mark.parametrize(("end", "status"), [(f"os.kill(os.getpid(), {signal.SIGKILL})", LOST_STATUS), ("1 / 0", 1)])
def test_a_launcher_that_starts_lost_processes_again_is_given_time_to_end_the_others(
    tmp_path, work, end, status, level, waits
):
    quick = "module._RESTART_SECONDS, module._CAUSE_SECONDS = 4, 0.5"
    ranks = start(tmp_path, work, "time.sleep(0.5); " + end, PADDLE_ELASTIC_LEVEL=level, BEFORE=quick)
    together(ranks)
    ranks[1].wait(20)
    since = time.monotonic()

    assert ends(ranks)[0][0] == status
    assert (time.monotonic() - since > 3) == waits


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("--nnodes 2:3 --elastic_level 1 train.py", True), ("--elastic_level=2 train.py", True), ("train.py", False),
     ("--elastic_level 0 train.py", False), ("train.py --elastic_level", False)],
)  # fmt: skip
def test_the_flag_of_the_launcher_tells_whether_it_starts_lost_processes_again(flags, expected):
    asked = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from textual_inversion.distributed import peers; "
    asked = [sys.executable, "-c", asked + "print(peers._is_restarted({}))"]
    launcher = f"import subprocess; subprocess.run({asked!r}, check=True)"

    said = subprocess.run([sys.executable, "-c", launcher, *flags.split()], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == str(expected)


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_killed_rank_ends_the_others_which_name_it_on_one_line(tmp_path, lost):
    ranks = start(tmp_path, *["peers.advice = 'go on so'; " + WAIT] * 3)
    together(ranks)
    time.sleep(0.2)  # until they have their advice
    ranks[lost].kill()

    others = [end for rank, end in enumerate(ends(ranks)) if rank != lost]

    line = f"error: rank {lost} ({os.uname().nodename}) was lost: "
    for status, said in others:
        assert status == LOST_STATUS == 75
        assert said.startswith(line) and said.endswith("; go on so\n") and said.count("\n") == 1
        assert f"in {tmp_path / f'workerlog.{lost}'} there" in said


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("erring", [0, 2])
def test_an_error_of_one_rank_ends_the_others_with_its_status_and_words(tmp_path, erring):
    works = [WAIT] * 3
    works[erring] = "raise SettingsError('no such image')"

    found = ends(start(tmp_path, *works))

    assert found.pop(erring) == (2, "error: no such image\n")
    for status, said in found:
        assert status == 2 and said.count("\n") == 1
        assert f"rank {erring} " in said and "ended with status 2 (no such image)" in said and "fix that" in said


def test_what_all_ranks_end_with_each_says_itself(tmp_path):
    """Also where one of them takes a little longer, and where an agreed end is told by one only."""
    errors = ends(start(tmp_path, *["time.sleep(0.3 * peers._rank); raise SettingsError('all the same')"] * 2))
    stopped = ends(start(tmp_path, "raise Stopped(15, 'stopped after step 3')", "time.sleep(0.3); raise Stopped(15)"))

    assert errors == [(2, "error: all the same\n")] * 2
    assert stopped == [(143, "stopped after step 3\n"), (143, "")]


def test_a_rank_whose_launcher_stops_it_after_anothers_error_tells_of_that_error(tmp_path):
    works = ["raise SettingsError('no such image')", "time.sleep(0.3); raise Stopped(15, 'stopped by SIGTERM')"]

    _, (status, said) = ends(start(tmp_path, *works))

    assert status == 2 and "no such image" in said and "SIGTERM" not in said


@pytest.mark.slow
@pytest.mark.multiprocess
def test_an_exchange_that_fails_for_a_lost_rank_gives_no_traceback_and_a_fault_of_the_program_gives_one(tmp_path):
    """gloo sees the end of a connection in the same moment."""
    ranks = start(tmp_path, "time.sleep(0.5); raise RuntimeError('connection closed by peer')", WAIT)
    together(ranks)
    ranks[1].kill()
    (status, said), _ = ends(ranks)
    assert status == LOST_STATUS and "rank 1" in said and "Traceback" not in said

    (first, own), (second, other) = ends(start(tmp_path, "module._CAUSE_SECONDS = 0.5; {}['x']", WAIT))
    assert (first, second) == (1, 1)
    assert "Traceback" in own and "a fault of the program, KeyError" in other


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("order", [("", "time.sleep(0.3)"), ("time.sleep(0.3)", "")])
def test_ranks_that_are_done_leave_the_others_alone(tmp_path, order):
    ranks = start(tmp_path, *order, "time.sleep(0.6)")

    assert ends(ranks) == [(0, "")] * 3


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("erring", [0, 1])
def test_a_rank_that_fails_before_the_others_have_come_still_ends_them(tmp_path, erring):
    early = ["", ""]
    early[erring] = "raise SettingsError('--x is no flag')"
    early[1 - erring] = "time.sleep(0.5)"

    found = ends(start(tmp_path, WAIT, WAIT, early=early))

    assert found.pop(erring) == (2, "error: --x is no flag\n")
    assert found[0][0] == 2 and "--x is no flag" in found[0][1]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_all_wait_for_one_that_takes_long_and_go_on_together(tmp_path):
    begin = time.monotonic()
    ranks = start(tmp_path, "", "", "", early=["", "", "time.sleep(1)"])
    together(ranks)

    assert time.monotonic() - begin > 1
    assert ends(ranks) == [(0, "")] * 3


def test_a_port_that_is_taken_is_said_once_and_the_run_goes_on(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        short = "module._START_SECONDS = sockets._PORT_SECONDS = 0.5"
        port = taken.getsockname()[1]
        ranks = start(tmp_path, "print('on')", "print('on')", port=port, early=[short] * 2, BEFORE=short)
        outputs = [rank.communicate(timeout=50) for rank in ranks]

    note = outputs[0][0].splitlines()[0]
    assert note.startswith(f"note: port {port} cannot be opened (") and "others may wait for it for a long time" in note
    assert [out.splitlines()[-2:] for out, _ in outputs] == [["together", "on"]] * 2
    assert outputs[1][0].count("\n") == 2 and [err for _, err in outputs] == ["", ""]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_rank_that_begins_too_late_is_named_and_finds_its_way_in(tmp_path):
    late = "seconds = 30 if int(os.environ['PADDLE_TRAINER_ID']) else 0.5; module._START_SECONDS = seconds; "
    late += "time.sleep(seconds / 20)"
    ranks = start(tmp_path, WAIT, WAIT, BEFORE=late)
    note = ranks[0].stdout.readline()
    together(ranks)
    ranks[1].kill()

    assert note.startswith("note: rank 1 has no connection to rank 0")
    assert ends(ranks)[0][0] == LOST_STATUS


def test_strangers_at_the_port_change_nothing(tmp_path):
    port = free_port()
    ranks = start(tmp_path, WAIT, WAIT, port=port)
    together(ranks)
    strange = [
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"run": "other", "rank": 1}\n',
        b"[]\n",
        b"\xff" * 40_000,
        b'{"status": 2}\n',
    ]
    for greeting in strange:
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(greeting)
            stranger.settimeout(5)
            try:
                assert stranger.recv(100) == b""  # sent away
            except ConnectionResetError:
                pass
    assert [rank.poll() for rank in ranks] == [None, None]

    ranks[0].kill()
    assert ends(ranks)[1][0] == LOST_STATUS


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_rank_that_rests_is_not_taken_for_lost(tmp_path):
    """SIGSTOP, as a debugger or a frozen container has it, for longer than a silent machine would be given."""
    ranks = start(tmp_path, *["time.sleep(2.5)"] * 2, BEFORE="sockets.SILENCE = 1")
    together(ranks)
    ranks[1].send_signal(signal.SIGSTOP)
    time.sleep(2)
    state = Path(f"/proc/{ranks[1].pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert (ranks[0].poll(), state) == (None, "T")

    ranks[1].send_signal(signal.SIGCONT)
    assert ends(ranks) == [(0, "")] * 2


SILENT = """
import fcntl, os, socket, struct, subprocess, sys, time
sys.path[:0] = [{tests!r}, {here!r}]
from pathlib import Path
import test_peers

def loopback(up):
    "The network of this name space, which is the only way from one rank to the other."
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        flags = struct.unpack("16sh14x", fcntl.ioctl(s, 0x8913, struct.pack("16sh14x", b"lo", 0)))[1]
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", flags | 1 if up else flags & ~1))

loopback(True)
ranks = test_peers.start(Path(sys.argv[1]), *[test_peers.WAIT] * 2, BEFORE="sockets.SILENCE = 2")
test_peers.together(ranks)
loopback(False)
for status, said in test_peers.ends(ranks):
    print(status, said, end="")
"""


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_machine_that_falls_silent_is_lost_too(tmp_path):
    """The network goes and no connection is closed: only TCP's probes can tell."""
    if os.name != "posix" or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody have a network of their own here")
    script = SILENT.format(tests=str(ROOT / "tests"), here=str(ROOT / "tests" / "distributed"))

    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("75 error: rank 1 ") and second.startswith("75 error: rank 0 ")


def test_a_process_that_is_alone_starts_nothing():
    import threading

    before = threading.active_count()
    with Peers({}) as peers:
        peers.wait_for_all()
        assert threading.active_count() == before and peers._link is None
    assert threading.active_count() == before


def test_the_port_of_the_key_value_store_is_left_to_it():
    """The launcher's old way, --ips, gives the store the first rank's own port."""
    environment = {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "0", "PADDLE_MASTER": "127.0.0.1:6170",
                   "PADDLE_TRAINER_ENDPOINTS": "127.0.0.1:6170,127.0.0.1:6171"}  # fmt: skip
    with Peers(environment) as peers:
        assert peers._link is None and "no port" in peers._obstacle
