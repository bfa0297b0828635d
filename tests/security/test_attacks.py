"""Attacks of every kind on the three commands, each in a process of its own: none goes through.

`python tests/helpers/attack_commands.py` runs all of them, which takes an hour; here are as many of every rule.
"""

import json
import subprocess
import sys
from collections import defaultdict

import pytest

from helpers.attack_commands import MOST_SECONDS, RULES, listening_hub, run_attack
from helpers.attacks.attack import MOST_BYTES, Attack, Kit
from helpers.attacks.inputs import PHOTOS
from helpers.paths import ROOT
from textual_inversion.data.image_memory import PHOTO_BYTES
from textual_inversion.distributed.peers import LOST_STATUS

PROGRAM = ROOT / "tests" / "helpers" / "attack_commands.py"
AT_LEAST = 200


def outcomes(path, *arguments):
    """Rule -> what came of its attacks."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--json", str(path), *arguments],
        capture_output=True, text=True, timeout=500, cwd=path.parent,
    )  # fmt: skip
    assert path.exists(), done.stderr[-3000:]
    by_rule = defaultdict(list)
    for outcome in json.loads(path.read_text()):
        by_rule[outcome["rule"]].append(outcome)
    return by_rule


def through(attacks):
    return {one["name"]: (one["faults"], one["said"]) for one in attacks if one["faults"]}


@pytest.fixture(scope="module")
def all_outcomes(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("attacks") / "all.json", "--number", str(AT_LEAST + 20))


def test_a_few_attacks_of_each_rule_are_held_off(tmp_path):
    found = outcomes(tmp_path / "few.json", "--number", str(2 * len(RULES)))

    assert set(found) == set(RULES)
    assert {rule: through(attacks) for rule, attacks in found.items() if through(attacks)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("rule", sorted(RULES))
def test_attacks_are_held_off(all_outcomes, rule):
    assert len(all_outcomes[rule]) >= 10
    assert through(all_outcomes[rule]) == {}


@pytest.mark.slow
def test_they_are_many_and_cheap(all_outcomes):
    attacks = [outcome for found in all_outcomes.values() for outcome in found]

    assert len(attacks) >= AT_LEAST
    assert max(one["seconds"] for one in attacks) <= MOST_SECONDS
    photos = [one["peak"] for one in attacks if one["name"].partition(": ")[2] in PHOTOS]
    assert max([0, *photos]) <= PHOTO_BYTES
    assert max(one["peak"] for one in attacks if one["peak"] not in photos) <= MOST_BYTES
    assert {one["status"] for one in attacks} == {0, 2, LOST_STATUS}


# ------------------------------------------------------------------------------------- what the frame itself would see

VICTIM = """
import socket, sys, time
from textual_inversion.system.errors import OutputError, SettingsError

def main(argv):
    print("step 1", file=sys.stderr)
    exec(argv[0], globals())
"""
DEEDS = {
    "": [],
    "raise SettingsError('no')": ["ended with 2 where 0 is right"],
    "raise KeyError('x')": ["ended with 1 where 0 is right", "ended in a traceback"],
    "import os; os.kill(os.getpid(), 11)": ["ended with -11 where 0 is right"],
    "print('error: forged\\x1b[2J')": ["printed the control characters [27]"],
    "print('\\u202e')": ["printed letters that turn the line around"],
    "x = b'x' * 260_000_000; time.sleep(0.5)": ["took 260 MB"],
    "open(KIT + '/base', 'w').close()": ["changed what it was given"],
    "socket.create_connection(('127.0.0.1', PORT)).close()": ["asked a hub 1 times"],
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_goes_through_is_seen(tmp_path, monkeypatch, deed):
    (tmp_path / "victim.py").write_text(VICTIM)
    monkeypatch.syspath_prepend(tmp_path)
    kit = Kit(tmp_path / "kit")
    kit.folder.mkdir()
    (kit.folder / "base").write_text("x")

    with listening_hub(monkeypatch.setenv) as hub:
        code = deed.replace("PORT", str(hub.getsockname()[1])).replace("KIT", repr(str(kit.folder)))
        attack = Attack(3, "a deed", lambda place: ["victim", code], (0,))
        outcome = run_attack(attack, kit, tmp_path / "place", hub)

    assert [fault[:14] for fault in outcome.faults] == [fault[:14] for fault in DEEDS[deed]]


def test_an_error_without_its_line_is_seen(tmp_path, monkeypatch):
    (tmp_path / "victim.py").write_text(VICTIM)
    monkeypatch.syspath_prepend(tmp_path)
    kit = Kit(tmp_path / "kit")
    kit.folder.mkdir()
    attack = Attack(3, "a deed", lambda place: ["victim", "sys.exit(2)"])

    with listening_hub(monkeypatch.setenv) as hub:
        assert run_attack(attack, kit, tmp_path / "place", hub).faults == [
            "said 0 lines of error, or something after it"
        ]
