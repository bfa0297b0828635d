"""What `benchmarks/sweep.py` makes of searches that are killed: a stand-in for the command behaves, or does not."""

import random
import sys
from types import SimpleNamespace

import pytest

from benchmarks import sweep
from benchmarks.runs import BenchmarkError

# Does three trials, half a second each, and goes on where it was; the environment says how it misbehaves.
COMMAND = """
import json, os, pathlib, sys, time
words, fault = sys.argv[1:], os.environ["FAULT"]
is_again = "--resume" in words
folder = pathlib.Path(words[words.index("--resume" if is_again else "--output_dir") + 1])
if fault == "refuses" or fault == "breaks" and is_again:
    sys.exit("error: refused")
(folder / "trials").mkdir(parents=True, exist_ok=True)
(folder / "sweep.json").write_text("{}")
table = folder / "trials.json"
print("3 trials by tpe in", folder, flush=True)
known = json.loads(table.read_text()) if table.is_file() else []
for number in range(0 if fault == "twice" and is_again else len(known), 3):
    with open(folder / "trials" / f"{number:03d}.log", "a") as log:
        log.write("4 training image(s) of <a>\\n")
    time.sleep(0.5)
    known = [one for one in known if one["number"] != number]
    known.append({"number": number, "parameters": {}, "results": {"end": {"fixed_set_loss": number}}})
    new = folder / "new.json"
    new.write_text(json.dumps(known))
    new.replace(table)
(folder / "best").mkdir(exist_ok=True)
(folder / "best" / "learned_embeds.pdparams").write_bytes(os.urandom(8) if fault == "other" else b"learned")
"""


class Cluster:
    """Counts the machines that are killed."""

    address, replaced = "127.0.0.1:1", 0

    def __init__(self, fault):
        self.environment = {"FAULT": fault}

    def replace(self):
        self.replaced += 1

    def close(self):
        """There is nothing to close."""


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """Kill searches of the stand-in three times."""
    (tmp_path / "sweep.py").write_text(COMMAND)
    monkeypatch.setattr(sweep, "ROOT", tmp_path)
    monkeypatch.setattr(sweep, "_PAUSES", (0.7, 1.2))
    args = SimpleNamespace(kills=3, trials=3, steps=1, seed=0)

    def do(fault, choice=random.Random.choice):
        monkeypatch.setattr(random.Random, "choice", choice)
        cluster = Cluster(fault)
        monkeypatch.setitem(sys.modules, "helpers.ray_machines", SimpleNamespace(Machines=lambda: cluster))
        return sweep.all_killed(tmp_path, args), cluster

    return do


def only_commands(dice, kinds):
    return "command"


def test_kills_of_the_command_cost_what_was_in_hand(killed):
    found, cluster = killed("", only_commands)

    assert found.kills == {"command": 3} and cluster.replaced == 0
    assert found.searches == found.equal and found.touched == 0
    assert 1 <= found.again <= 3  # a kill may fall between two trials


def test_kills_of_a_machine_are_counted_too(killed):
    found, cluster = killed("", lambda dice, kinds: "machine")

    assert found.kills == {"machine": 3} and cluster.replaced == 3 and found.equal == found.searches
    assert found.again == found.touched == 0


def test_a_search_that_does_finished_trials_again_is_found_out(killed):
    found, _ = killed("twice", only_commands)

    assert found.touched > 0


def test_a_search_that_finds_something_else_is_found_out(killed):
    found, _ = killed("other")

    assert found.searches > 0 and found.equal == 0


def test_a_search_that_fails_after_a_kill_is_no_success(killed):
    with pytest.raises(BenchmarkError, match="(?s)a killed search ended with status 1: .*error: refused"):
        killed("breaks", only_commands)


def test_a_search_that_fails_is_told_with_its_last_words(killed):
    with pytest.raises(BenchmarkError, match="(?s)status 1: .*error: refused"):
        killed("refuses")
