"""A part of a trial: trained to its step, measured, and not done twice."""

import json

import pytest

from helpers.checkpoint_facts import save_checkpoint
from textual_inversion.cluster import child as children
from textual_inversion.cluster import trial
from textual_inversion.cluster.child import Child, Ended
from textual_inversion.cluster.trial import DIED, DONE, REFUSED, Part
from textual_inversion.training import checkpoints

SCORE = {"share_of_the_way": 0.5, "text_ratio": 0.9, "concept": {"image_similarity": 0.8, "text_similarity": 0.3}}


@pytest.fixture
def part(tmp_path):
    def of(until=None, tokens=()):
        scoring = ("--num_images", "2")
        return Part(str(tmp_path / "run"), str(tmp_path / "a.log"), ("--lr", "1"), until, tokens, scoring, Child("."))

    return of


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The commands that were run; `does` says what each of them leaves behind."""
    ran, does, folder = [], {}, tmp_path / "run"

    def run(command, arguments, child, log, is_enough=None):
        ran.append((command, list(arguments)))
        folder.mkdir(exist_ok=True)
        ended = does.get(command, lambda arguments: Ended(0))(arguments)
        if is_enough is not None:
            assert is_enough() or ended.status == 2
        return ended

    monkeypatch.setattr(children, "run", run)
    return ran, does, folder


def write_run(folder, losses, *, is_whole=True):
    figures = {"fixed_set_loss": losses} | ({"rows": {}} if is_whole else {})
    (folder / "run.json").write_text(json.dumps({"figures": figures, "settings": {"max_train_steps": 20}}))


def test_a_trial_is_trained_to_its_end_and_its_loss_is_that_of_the_last_step(part, commands):
    ran, does, folder = commands
    does["train"] = lambda arguments: write_run(folder, {"0": 0.9, "20": 0.4}) or Ended(0)

    outcome = trial.do(part())
    again = trial.do(part())

    assert outcome == again and outcome.status == DONE
    assert outcome.figures == {"fixed_set_loss": 0.4, "steps": 20}
    assert ran == [("train", ["--lr", "1", "--output_dir", str(folder), "--resume_from_checkpoint", "latest"])]


def test_images_are_scored_for_every_concept_once(part, commands):
    ran, does, folder = commands
    does["train"] = lambda arguments: write_run(folder, {"20": 0.4}) or Ended(0)
    scored = []

    def score(arguments):
        scored.append(arguments[arguments.index("--placeholder_token") + 1])
        if scored == ["<a>", "<b>"]:
            return Ended(-9, "ended by signal 9")
        path = arguments[arguments.index("--output") + 1]
        open(path, "w").write(json.dumps(SCORE))
        return Ended(0)

    does["score"] = score
    first, second = trial.do(part(tokens=("<a>", "<b>"))), trial.do(part(tokens=("<a>", "<b>")))

    assert (first.status, first.error) == (DIED, "ended by signal 9")
    assert second.status == DONE and second.figures["score"] == 0.45
    assert scored == ["<a>", "<b>", "<b>"], "the first concept is not scored again"
    assert [command for command, _ in ran].count("train") == 1, "what is trained is not trained again"
    assert ran[1][1][-2:] == ["--num_images", "2"]


def test_a_part_is_stopped_at_its_step_and_takes_its_loss_from_the_newest_checkpoint(part, commands):
    ran, does, folder = commands

    def train(arguments):
        (folder / "learned_embeds-steps-10.pdparams").write_text("x")
        save_checkpoint(folder, 11, figures={"fixed_set_loss": {"10": 0.6}})
        return Ended(143, "stopped")

    does["train"] = train
    assert trial.do(part(until=10)).figures == {"fixed_set_loss": 0.6, "steps": 10}
    assert len(ran) == 1


def test_a_training_that_was_stopped_before_its_loss_was_recorded_is_started_again(part, commands):
    ran, does, folder = commands

    def train(arguments):
        (folder / "learned_embeds-steps-10.pdparams").write_text("x" * len(ran))
        save_checkpoint(folder, 9 + len(ran), figures={} if len(ran) == 1 else {"fixed_set_loss": {"10": 0.6}})
        return Ended(143, "stopped")

    does["train"] = train
    assert trial.do(part(until=10)).figures["fixed_set_loss"] == 0.6
    assert len(ran) == 2


@pytest.mark.parametrize(("status", "expected"), [(2, REFUSED), (1, DIED), (-9, DIED), (137, DIED)])
def test_only_what_cannot_succeed_is_refused(part, commands, status, expected):
    _, does, _ = commands
    does["train"] = lambda arguments: Ended(status, "why")

    outcome = trial.do(part())
    assert (outcome.status, outcome.error) == (expected, "why")


def test_records_that_are_none_are_not_believed(part, commands):
    ran, does, folder = commands
    folder.mkdir()
    (folder / "measured-end.json").write_text('{"fixed_set_loss": "low"}')
    (folder / "run.json").write_text(
        '{"figures": {"fixed_set_loss": [1], "rows": 1}, "settings": {"max_train_steps": "x"}}'
    )
    does["train"] = lambda arguments: write_run(folder, {"20": 0.4}) or Ended(0)

    assert trial.do(part()).figures["fixed_set_loss"] == 0.4 and len(ran) == 1
    assert checkpoints.folders(folder) == []
