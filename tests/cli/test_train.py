"""The command line: whose default counts, epochs and steps, refusals."""

import pytest

from helpers.configs import parsed, planned
from textual_inversion.cli.parser import demo_defaults
from textual_inversion.cli.train import build_parser
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import SettingsError

REAL = ["--pretrained_model_name_or_path", "some/model"]


def test_the_documented_defaults_stand_for_real_models():
    args = parsed(REAL)

    documented = {"num_train_epochs": 100, "repeats": 100, "adam_weight_decay": 0.02, "lr_scheduler": "constant"}
    example = {"max_train_steps": 5000, "train_batch_size": 16, "learning_rate": 1e-4, "lr_warmup_steps": 500}
    assert {name: getattr(args, name) for name in documented | example} == documented | example
    assert not args.demo


def test_without_arguments_it_is_the_demo_with_its_own_defaults():
    args = parsed([])

    assert args.demo
    assert {name: getattr(args, name) for name in demo_defaults() if hasattr(args, name)} == {
        name: value for name, value in demo_defaults().items() if hasattr(args, name)
    }


def test_every_demo_default_is_a_flag_of_some_command():
    import infer

    flags = set(vars(build_parser().parse_args([]))) | set(vars(infer.build_parser().parse_args([])))
    assert set(demo_defaults()) <= flags


def test_an_explicit_flag_wins_over_the_demo_even_with_the_documented_value():
    args = parsed(["--learning_rate", "1e-4", "--train_batch_size=16"])

    assert (args.learning_rate, args.train_batch_size) == (1e-4, 16)
    assert args.given == {"learning_rate", "train_batch_size"}


@pytest.mark.parametrize(
    ("argv", "world_size", "steps", "epochs"),
    [
        ([], 1, 5000, 200),
        (["--num_train_epochs", "3"], 1, 75, 3),
        (["--num_train_epochs", "3", "--repeats", "1"], 1, 1, 4),
        (["--num_train_epochs", "3", "--max_train_steps", "1000"], 1, 1000, 40),
        (["--max_train_steps", "1000", "--train_batch_size", "1", "--gradient_accumulation_steps", "4"], 4, 1000, 40),
    ],
)
def test_epochs_and_steps_are_counted_in_samples(argv, world_size, steps, epochs):
    args = planned(REAL + argv, num_images=4, world_size=world_size)

    assert (args.max_train_steps, args.num_train_epochs) == (steps, epochs)


def test_the_scaled_learning_rate_is_that_of_the_documentation():
    args = planned([*REAL, "--learning_rate=5e-4", "--scale_lr", "--train_batch_size=2",
                            "--gradient_accumulation_steps=4"], num_images=4, world_size=3)  # fmt: skip

    assert args.plan.peak_learning_rate == pytest.approx(5e-4 * 4 * 2 * 3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max_train_step", "3"], "did you mean --max_train_steps"),
        (["--qqq"], "see python train_textual_inversion.py --help"),
        (["--learning_rate", "0"], "--learning_rate: must be greater than 0"),
        (["--learning_rate", "nan"], "--learning_rate"),
        (["--learning_rate", "inf"], "--learning_rate"),
        (["--max_train_steps", "0"], "--max_train_steps: must be at least 1"),
        (["--max_train_steps", "1.5"], "not a whole number"),
        (["--flip_p", "1.5"], "between 0.0 and 1.0"),
        (["--seed", "-1"], "--seed"),
        (["--adam_beta1", "1"], "--adam_beta1"),
        (["--max_grad_norm", "0"], "--max_grad_norm"),
        (["--num_vectors", "0"], "--num_vectors"),
        (["--learnable_property", "smell"], "invalid choice"),
        (["--lr_scheduler", "step"], "invalid choice"),
        (["--device", "tpu"], "must be cpu, gpu or gpu:N"),
        (["--validation_prompts_file", "none.txt"], "none.txt cannot be read"),
    ],
)
def test_refusals_are_one_line_that_names_the_flag(argv, message):
    with pytest.raises(SettingsError) as caught:
        parsed(REAL + argv)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [["--max_train_steps", "10"], ["--num_train_epochs", "1", "--repeats", "1"]])
def test_a_warm_up_as_long_as_the_run_is_refused_for_schedules_that_have_one(steps):
    argv = [*REAL, *steps, "--lr_warmup_steps", "10"]

    planned(argv)
    with pytest.raises(SettingsError, match="make the warm-up shorter"):
        planned([*argv, "--lr_scheduler", "linear"])


TWO = [*REAL, "--placeholder_token", "<cat>", "<dog>", "--train_data_dir", "cats", "dogs"]


def test_what_is_said_once_counts_for_every_concept():
    args = parsed([*TWO, "--initializer_token", "toy cat", "dog", "--num_vectors", "auto", "2"])

    assert args.concepts == (
        Concept("<cat>", None, "toy cat", "object", "cats"),
        Concept("<dog>", 2, "dog", "object", "dogs"),
    )
    assert args.learnable_property == ("object", "object")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*TWO, "--num_vectors", "1", "2", "3"], "--num_vectors has 3 values and --placeholder_token 2"),
        ([*REAL, "--initializer_token", "toy", "cat"], "put a phrase in quotes"),
        ([*REAL, "--placeholder_token", "<a>", "<b>"], "--train_data_dir a folder for each"),
        ([*TWO[:-1], "--learnable_property", "object", "style", "face"], "--learnable_property has 3"),
        ([*REAL, "--placeholder_token", "<a>", "<a>", "--train_data_dir", "x", "y"], "<a> twice"),
        ([*REAL, "--num_vectors", "few"], "--num_vectors: must be a whole number or auto, not few"),
        (["--learnable_property", "face", "style"], "--learnable_property has 2 values"),
        ([*REAL, "--token_dropout", "1"], "--token_dropout"),
    ],
)
def test_what_does_not_fit_the_concepts_is_refused_by_name(argv, message):
    with pytest.raises(SettingsError) as caught:
        parsed(argv)

    assert message in str(caught.value)


def test_a_real_model_starts_at_random_and_the_demo_from_a_generic_word():
    assert parsed(REAL).concepts[0].initializer_token is None
    assert parsed([]).concepts[0].initializer_token == "toy"
    assert parsed(["--learnable_property", "style"]).concepts[0].initializer_token == "style"
    assert parsed(["--initializer_embeds", "x.pt"]).concepts[0].initializer_token is None


def test_progressive_vectors_without_a_number_take_half_of_the_run():
    args = planned([*REAL, "--progressive_vectors", "--max_train_steps", "50"])

    assert args.progressive_vectors == 25
