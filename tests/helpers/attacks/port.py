"""What strangers send to the port between processes (rule 6), and whether the run still notices a loss.

The command is rank 0 of two. A stranger connects before the second rank or after it; then the second rank is killed,
and the watch must name it, in one line and with the status of a lost process.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.attacks.attack import Attack, Kit
from helpers.node_runs import free_port
from helpers.paths import ROOT
from textual_inversion.distributed import messages
from textual_inversion.distributed.peers import LOST_STATUS, SECRET, Peers

RANK = """
import sys, time
sys.path.insert(0, {root!r})
from textual_inversion.distributed import connections, peers as module
from textual_inversion.system.errors import run_command
connections._GREETING_SECONDS = 1.5
def main():
    with module.Peers() as peers:
        peers.wait_for_all()
        {later}
        print("together", flush=True)
        sys.stdin.read()
run_command(main)
"""


def environment(port, rank, **more):
    own = {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": str(rank), "PADDLE_MASTER": "127.0.0.1:1",
           "PADDLE_TRAINER_ENDPOINTS": f"127.0.0.1:{port},127.0.0.1:9", "PADDLE_LOG_DIR": "/nowhere"}  # fmt: skip
    return own | more


def run_name(port):
    from textual_inversion.distributed.peers import _about

    return _about(environment(port, 0), 0)["run"]


def greeting(port, rank=1, **more):
    return {"run": run_name(port), "rank": rank, "host": "h", "log": "", "nonce": "0" * 64} | more


def hostile(port, seed):
    """What a stranger sends; those of low numbers by hand, the others drawn."""
    hello = json.dumps(greeting(port)).encode() + b"\n"
    ended = json.dumps({"status": 2, "rank": 1, "host": "h", "log": "", "reason": "my own words"}).encode() + b"\n"
    by_hand = [
        b"[" * 16_000 + b"\n",
        b'{"run":' * 3_000 + b"\n",
        b"[" * 100_000,
        b"9" * 10_000 + b"\n",
        b'{"rank": ' + b"9" * 5_000 + b"}\n",
        b"\x00" * 16_384 + b"\n",
        b'{"run": "\\ud800"}\n',
        b"NaN\n",
        ended,
        hello + ended,
        hello + hello,
        hello + b'{"proof": "' + b"0" * 64 + b'"}\n' + ended,
        hello + b'{"proof": null}\n',
        hello + b'{"proof": "\\ud800"}\n',
        hello + b'{"ready": true}\n' * 100 + ended,
        hello + b'{"start": true}\n',
        b"".join(json.dumps(greeting(port, rank)).encode() + b"\n" for rank in (0, 1, 2, -1, 10**6)),
        *(json.dumps(greeting(port, rank)).encode() + b"\n" for rank in (0, 2, -1, True, 1.0, "1", None, [1], 10**30)),
        *(json.dumps(greeting(port, **{key: value})).encode() + b"\n"
          for key in ("run", "host", "log", "nonce") for value in (None, 7, [], {}, "x" * 9_000, True)),
        b"\n" * 10_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ]  # fmt: skip
    if seed < len(by_hand):
        return by_hand[seed]
    chance = random.Random(seed)
    values = [None, 0, 1, -1, 2**70, 1e308, True, "", "x", "\x1b[2J", "y" * 300, [], {}, [[1]], {"rank": 1}]
    lines = []
    for _ in range(chance.randint(1, 8)):
        keys = chance.choices([*messages._ENTRIES, "x", ""], k=chance.randint(0, 6))
        message = {key: chance.choice(values) for key in keys}
        message = greeting(port) | message if chance.random() < 0.5 else message
        line = json.dumps(message).encode()
        if chance.random() < 0.3:
            position = chance.randrange(len(line))
            line = line[:position] + chance.randbytes(3) + line[position:]
        lines.append(line + chance.choice([b"\n", b"\n", b"\r\n", b""]))
    return b"".join(lines)


SEEDS = 110


def connected(port):
    """A connection to rank 0, which may not listen yet."""
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Each message at two moments."""
    for seed in range(SEEDS):
        for moment in ("before", "after"):

            def build(place: Path, seed: int = seed, moment: str = moment) -> list[str]:
                return ["helpers.attacks.port", str(seed), moment]

            yield Attack(6, f"message {seed} {moment} the second rank", build, (LOST_STATUS,), look=_look)


def main(argv: list[str]) -> int:
    """Be rank 0, attacked."""
    seed, moment = int(argv[0]), argv[1]
    port, secret = free_port(), "s" * 20
    with Peers(environment(port, 0, **{SECRET: secret})) as peers:
        if moment == "before":
            send(port, seed)
        command = [sys.executable, "-c", RANK.format(root=str(ROOT), later="pass")]
        pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        own = os.environ | environment(port, 1, **{SECRET: secret})
        other = subprocess.Popen(command, env=own, text=True, **pipes)
        peers.wait_for_all()
        if other.stdout.readline() != "together\n":
            return 1
        stranger = send(port, seed) if moment == "after" else None
        time.sleep(0.3)
        if other.poll() is not None:
            return 1
        other.kill()
        time.sleep(20)  # the watch ends this process
        del stranger
    return 1


def send(port: int, seed: int) -> socket.socket:
    """Send a message; the connection stays open."""
    stranger = connected(port)
    stranger.settimeout(0.5)
    try:
        stranger.sendall(hostile(port, seed))
    except OSError:  # sent away in the middle
        pass
    return stranger


def _look(place: Path, said: str) -> Iterator[str]:
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if len(lines) != 1 or not lines[0].startswith("error: rank 1 ("):
        yield "did not name the rank that was lost"
    if "my own words" in said:
        yield "repeated a stranger's words"
