"""The command line of a search: its plan, what is refused before anything starts, and what goes on."""

import json

import pytest

from textual_inversion.cli import sweep
from textual_inversion.cluster.trial import DONE, Outcome
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("learning_rate: {log_range: [0.001, 0.1]}\n")
    (tmp_path / "grid.yaml").write_text("learning_rate: [0.1, 0.2]\nlr_power: [1, 2, 3]\n")

    def of(*words):
        return sweep.prepared(sweep.parse(list(words)))

    return of


def test_without_arguments_a_dozen_trials_of_the_demo_are_scored(prepared, tmp_path):
    made = prepared()

    assert made.plan.num_trials == 12 and made.plan.method == "grid" and made.plan.metrics == ("score",)
    assert [axis.name for axis in made.plan.space] == ["learning_rate", "adam_weight_decay", "max_train_steps"]
    assert made.output == tmp_path / "sweep" and made.plan.tokens == ("<cat-toy>",)
    assert made.plan.scoring == ("--num_images", "32") and "--overview=false" in made.plan.fixed


def test_a_space_with_a_range_is_searched_by_tpe_and_fixed_flags_are_those_of_all_trials(prepared, tmp_path):
    made = prepared("--space", "s.yaml", "--max_train_steps", "30", "--num_trials", "5", "--metric", "fixed_set_loss",
                    "steps", "--cpus_per_run", "3", "--processes_per_run", "2", "--parallel", "4")  # fmt: skip

    assert (made.plan.method, made.plan.num_trials, made.plan.lag) == ("tpe", 5, 4)
    assert made.plan.fixed[-2:] == ("--max_train_steps", "30")
    assert (made.child.threads, made.child.processes, made.child.folder) == (3, 2, str(tmp_path))
    assert prepared("--space", "grid.yaml", "--num_trials", "4").plan.num_trials == 4
    assert prepared("--space", "grid.yaml", "--method", "random").plan.num_trials == 12


def test_asha_saves_and_measures_at_its_rungs(prepared):
    made = prepared("--space", "s.yaml", "--asha", "--max_train_steps", "100")

    assert made.plan.rungs == (11, 33, 100) and made.plan.labels == [11, 33, None]
    assert made.plan.fixed[-3:] == ("--save_steps=11", "--checkpointing_steps=11", "--eval_steps=11")
    own = prepared(
        "--space", "s.yaml", "--asha", "--max_train_steps", "40", "--min_steps", "10", "--reduction_factor", "2"
    )
    assert own.plan.rungs == (10, 20, 40)


REFUSED = [
    (("--space", "none.yaml"), "--space none.yaml cannot be read"),
    (("--space", "s.yaml", "--learning_rate", "0.1"), "--learning_rate is given and in the space too"),
    (("--space", "s.yaml", "--method", "grid"), "--method grid: learning_rate has a range"),
    (("--space", "grid.yaml", "--num_trials", "7"), "the grid has only 6 trials"),
    (("--space", "s.yaml", "--metric", "score", "score"), "--metric names a metric twice"),
    (("--space", "s.yaml", "--metric", "beauty"), "--metric: invalid choice: 'beauty'"),
    (("--space", "s.yaml", "--metric", "fixed_set_loss", "--eval_steps", "0"), "is not measured with --eval_steps 0"),
    (("--space", "seed.yaml", "--metric", "fixed_set_loss"), "seed changes what the loss is of"),
    (("--space", "s.yaml", "--metric", "steps", "--clip_model", "x"), "--clip_model has no effect"),
    (("--space", "s.yaml", "--pretrained_model_name_or_path", "owner/model"), "owner/model comes without a clip/ fold"),
    (("--pretrained_model_name_or_path", "owner/model"), "--space is missing"),
    (("--space", "s.yaml", "--min_steps", "5"), "--min_steps has no effect without --asha"),
    (("--space", "s.yaml", "--reduction_factor", "2"), "--reduction_factor has no effect without --asha"),
    (("--space", "s.yaml", "--asha", "--metric", "score", "steps"), "--asha stops trials by one metric"),
    (("--space", "s.yaml", "--asha", "--save_steps", "5"), "leave out save_steps"),
    (("--asha",), "leave out max_train_steps"),
    (("--space", "s.yaml", "--asha", "--num_train_epochs", "5"), "--asha counts steps, not epochs"),
    (("--space", "s.yaml", "--asha", "--max_train_steps", "5", "--min_steps", "5"), "--min_steps 5 must be below"),
    (("--space", "s.yaml", "--optimizer", "foo"), "invalid choice: 'foo'"),
    (("--resume", "none"), "--resume none holds nothing that could go on (sweep.json: No such file"),
    (("--resume", "none", "--space", "s.yaml"), "--space has no effect"),
    (("--resume", "none", "--learning_rate", "1"), "--learning_rate has no effect"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_cannot_be_searched_is_refused_in_one_line(prepared, tmp_path, words, said):
    (tmp_path / "seed.yaml").write_text("seed: [1, 2]\n")
    with pytest.raises(SettingsError) as caught:
        prepared(*words)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "sweep").exists()


@pytest.fixture
def begun(prepared, tmp_path):
    """The folder of a search of which two trials are known."""
    made = prepared("--space", "grid.yaml", "--metric", "fixed_set_loss", "--max_train_steps", "9", "--output_dir", "o")
    from textual_inversion.cluster.search import Search

    made.output.mkdir()
    sweep.write_record(made, 2)
    search = Search(made.plan, made.output, made.child, lambda line: None)
    for number in range(2):
        search._next_work()
        search._take(number, 0, Outcome(DONE, {"fixed_set_loss": 0.1, "steps": 9}))
    search.save()
    return tmp_path / "o"


def test_a_search_goes_on_with_its_own_settings_wherever_the_user_stands(prepared, begun, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "grid.yaml").unlink()
    monkeypatch.chdir(tmp_path / "elsewhere")

    made = prepared("--resume", "../o", "--max_failures", "7", "--parallel", "1")

    assert made.output.resolve() == begun and made.record is None and made.plan.lag == 2
    assert made.plan.max_failures == 7 and made.cluster.parallel == 1
    assert made.plan.fixed[-2:] == ("--max_train_steps", "9") and made.child.folder == str(tmp_path)
    assert [one.results for one in made.trials] == [{0: {"fixed_set_loss": 0.1, "steps": 9}}] * 2


def test_a_folder_with_a_search_is_not_begun_anew(prepared, begun):
    with pytest.raises(SettingsError, match="o holds sweep.json of an earlier start; go on with it by --resume o"):
        prepared("--space", "grid.yaml", "--output_dir", "o")


def change(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


TAMPERED = [
    ("sweep.json", lambda r: r.pop("space"), "lacks space"),
    ("sweep.json", lambda r: r.update(training=["--hub_token", "x"]), "--hub_token cannot be given"),
    ("sweep.json", lambda r: r.update(training=["--num_trials", "3"]), "is none that this command wrote"),
    ("sweep.json", lambda r: r.update(own=["--resume", "x"]), "has no effect"),
    ("sweep.json", lambda r: r.update(space="output_dir: [a]"), "output_dir cannot differ"),
    ("trials.json", lambda t: t[0].update(number=5), "trial 0 is none of this search"),
    ("trials.json", lambda t: t[1]["parameters"].update(output_dir="/x"), "trial 1 is none of this search"),
    (
        "trials.json",
        lambda t: t[1]["parameters"].update(lr_power=["2", "--output_dir", "/x"]),
        "has a flag that is not",
    ),
    ("trials.json", lambda t: t[0].update(results=3), "results"),
    ("trials.json", lambda t: t.extend(t * 9), "is none of this search"),
]


@pytest.mark.parametrize(("name", "edit", "said"), TAMPERED)
def test_records_that_were_changed_are_refused_in_one_line(prepared, begun, name, edit, said):
    change(begun / name, edit)
    with pytest.raises(SettingsError) as caught:
        prepared("--resume", "o")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_demo_can_be_scored():
    assert (DEMO_MODEL / "clip").is_dir()
