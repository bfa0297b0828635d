"""Ray: what is refused before it starts, and what is left of a search whose command and machines are killed."""

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.fake_cluster import LocalPool, measured, search_of, state_after
from helpers.paths import ROOT
from helpers.ray_machines import Machines
from helpers.search_driver import RUNGS
from textual_inversion.cluster import pool
from textual_inversion.system.errors import SettingsError

KILLS = 10


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_without_ray_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(pool, "find_spec", lambda name: None)

    with pytest.raises(SettingsError, match="ray and optuna, which are not installed: pip install -r requirements-cl"):
        pool.check_installed()


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:6379"])
def test_a_cluster_without_a_token_is_refused(no_token, address):
    with pytest.raises(SettingsError, match="there is no token; start the cluster with RAY_AUTH_MODE=token"):
        pool.check_address(address)


def test_a_token_may_be_in_the_environment_or_in_a_file(no_token, monkeypatch, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t")
    pool.check_address("auto")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="no token"):
        pool.check_address("auto")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
    pool.check_address("auto")


@pytest.mark.parametrize("address", ["here", "host:", ":1", "host:99999", "host:port", "ray://host:10001"])
def test_an_address_that_is_none_is_refused(monkeypatch, address):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t")

    with pytest.raises(SettingsError, match="neither auto nor HOST:PORT"):
        pool.check_address(address)


def test_a_cluster_that_does_not_answer_is_named_at_once(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SettingsError, match=f"127.0.0.1:{port}: no cluster answers there .Connection refused"):
        pool.check_address(f"127.0.0.1:{port}")


def test_a_machine_does_as_many_tasks_as_its_cores_and_cards_allow():
    assert pool._times({"CPU": 8.0}, 3, 0) == 2
    assert pool._times({"CPU": 8.0, "GPU": 2.0}, 1, 1) == 2
    assert pool._times({"CPU": 8.0, "GPU": 2.0}, 1, 4) == 0


# --------------------------------------------------------------------------------------------------- with real Ray


@pytest.fixture(scope="module")
def cluster():
    for name in ("ray", "optuna"):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}")
    machines = Machines()
    yield machines
    machines.close()


def driver(folder: Path, cluster, method: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "helpers.search_driver", str(folder), cluster.address, method]
    with open(folder / "driver.log", "a") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT / "tests", env=cluster.environment)


def has_begun(folder: Path, times: int) -> bool:
    return (folder / "driver.log").read_text().count("begun\n") >= times


def until(is_so, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_searches_whose_command_and_machines_are_killed_find_the_same_and_do_nothing_twice(tmp_path, cluster):
    whole = search_of(tmp_path / "whole", rungs=RUNGS, method="tpe")
    whole.run(LocalPool(task=_at_once))
    draw, kills = random.Random(1), []
    while len(kills) < KILLS:  # a quick machine ends a search before so many have happened: then there is another
        folder, before = tmp_path / f"killed-{len(kills)}", len(kills)
        kills += killed_search(folder, cluster, draw, KILLS - len(kills))

        assert (folder / "best").read_text() == str(whole.ladder().best()), (folder / "driver.log").read_text()
        done = [Counter(log.read_text().split()) for log in folder.glob("trials/*/steps.log")]
        twice = sum(count - 1 for steps in done for count in steps.values())
        assert twice <= 2 * (len(kills) - before), "of each kill, only what two tasks had in hand is done twice"
        assert len(kills) > before, "nothing was killed"
    assert {"command", "machine"} == set(kills)


def killed_search(folder: Path, cluster, draw: random.Random, most: int) -> list[str]:
    """What was killed of a search, until it ended or so many times; then it is brought to its end."""
    starts, kills = 0, []
    folder.mkdir()
    (folder / "driver.log").touch()
    while len(kills) < most and not (folder / "best").exists():
        process, starts = driver(folder, cluster, "tpe"), starts + 1
        until(lambda: has_begun(folder, starts) or process.poll() is not None)  # noqa: B023
        assert not process.poll(), (folder / "driver.log").read_text()  # it would fail for ever
        while process.poll() is None and len(kills) < most:
            time.sleep(draw.uniform(0.2, 0.9))
            if process.poll() is not None:
                break
            kills.append(draw.choice(["command", "machine"]))
            if kills[-1] == "command":
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            cluster.replace()
    if process.poll() is not None and not (folder / "best").exists():
        process = driver(folder, cluster, "tpe")
    process.wait(timeout=120)
    return kills


def _at_once(part):
    """What `trained_slowly` gives in the end."""
    steps = part.until or 99
    outcome = measured(part)
    outcome.figures["fixed_set_loss"] = state_after("".join(part.arguments), 0, steps)[1]
    return outcome


OPEN = """
from textual_inversion.cluster import pool
from textual_inversion.system.errors import run_command
import os, sys
def main():
    with pool.opened(sys.argv[1] or None, pool.Room(1)) as tasks:
        print(os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"]))
        for name in ("/", "/none"):
            tasks.submit(name, os.path.isdir, name)
        print(sorted(tasks.next_done() for _ in range(2)))
run_command(main)
"""


def opened(address: str, environment) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", OPEN, address]
    return subprocess.run(words, capture_output=True, text=True, timeout=180, env=environment, cwd=ROOT)


@pytest.mark.slow
def test_who_has_another_token_is_refused_in_one_line(cluster):
    done = opened(cluster.address, cluster.environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})

    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr
    assert f"--address {cluster.address}" in errors[0] and "token" in errors[0] and done.stdout == ""


@pytest.mark.slow
def test_an_own_cluster_wants_a_token_that_nobody_else_has(cluster):
    done = opened("", os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "known"})

    assert done.stdout == "token 64\n[('/', True), ('/none', False)]\n", done.stderr
