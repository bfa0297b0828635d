"""Attacks of every kind on the three commands, each in a process of its own: none goes through.

`python tests/helpers/attacks/running.py` runs all of them, which takes an hour; here are as many of every rule.
"""

import json
import subprocess
import sys
from collections import defaultdict

import pytest

from helpers.attacks.running import MOST_BYTES, MOST_SECONDS, RULES
from helpers.paths import ROOT

PROGRAM = ROOT / "tests" / "helpers" / "attacks" / "running.py"
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
    assert max(one["peak"] for one in attacks) <= MOST_BYTES
    assert {one["status"] for one in attacks} == {0, 2}
