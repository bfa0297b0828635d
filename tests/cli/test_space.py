"""A space in YAML: what it may say, and what is refused before anything starts."""

import pytest

from textual_inversion.cli.space import parse_space, read_space
from textual_inversion.cluster.space import Axis
from textual_inversion.system.errors import SettingsError


def test_each_kind_of_axis():
    space = parse_space(
        "learning_rate: {log_range: [1e-3, 0.1]}\nnum_vectors: {range: [1, 8]}\nflip_p: {range: [0, 0.5], step: 0.25}\n"
        "adam_weight_decay: {grid: [0, 1.0]}\nlr_scheduler: [constant, null]\noptimizer: {choice: [adam]}\n"
        "initializer_token: [[cat, dog], [toy, toy]]\nscale_lr: [true, false]\nsnr_gamma: {range: [1, 5]}\n",
        "s.yaml",
    )

    assert space == (
        Axis("learning_rate", low=0.001, high=0.1, is_log=True),
        Axis("num_vectors", low=1, high=8, is_whole=True),
        Axis("flip_p", low=0, high=0.5, step=0.25),
        Axis("adam_weight_decay", ("0", "1.0")),
        Axis("lr_scheduler", ("constant", None)),
        Axis("optimizer", ("adam",)),
        Axis("initializer_token", (("cat", "dog"), ("toy", "toy"))),
        Axis("scale_lr", ("true", "false")),
        Axis("snr_gamma", low=1, high=5),
    )


REFUSED = {
    "lerning_rate: [1]": "lerning_rate is not a flag of train_textual_inversion.py; did you mean learning_rate",
    "learning_rate: {range: [1, 0.1]}": "the range from 1 to 0.1 is empty",
    "learning_rate: {range: [1, 1]}": "the range from 1 to 1 is empty",
    "learning_rate: {range: [1]}": "has two ends",
    "learning_rate: {range: [a, 1]}": "'a' is not a number",
    "learning_rate: {range: [.nan, 1]}": "is not a number",
    "learning_rate: {choice: []}": "an empty list of values",
    "learning_rate: {choice: 3}": "an empty list of values",
    "learning_rate: [0.1, 0.1]": "the same value twice",
    "learning_rate: 3": "has one value, which is no space",
    "learning_rate: {foo: [1]}": "is foo, which is no space",
    "learning_rate: {}": "is empty, which is no space",
    "learning_rate: {range: [-1, 1]}": "must be greater than 0.0, not -1",
    "learning_rate: {log_range: [0, 1]}": "begins at 0 has no end",
    "learning_rate: {log_range: [1, 2], step: 0.5}": "a log_range has no step",
    "learning_rate: {range: [1, 2], step: 5}": "a step of 5 does not fit",
    "learning_rate: {choice: [1, 2], step: 1}": "a step belongs to a range",
    "learning_rate: [[1, 2], [3]]": "has a nested value",
    "flip_p: {range: [0, 2]}": "must be between 0.0 and 1.0, not 2",
    "num_vectors: {range: [0.5, 2]}": "takes whole numbers",
    "optimizer: [adam, foo]": "invalid choice: 'foo'",
    "optimizer: {range: [1, 2]}": "is not a number, so it has no range",
    "scale_lr: {range: [0, 1]}": "is not a number, so it has no range",
    "output_dir: [a, b]": "output_dir cannot differ between trials",
    "hub_token: [a, b]": "hub_token cannot differ between trials",
    "placeholder_token: [a, b]": "placeholder_token cannot differ between trials",
    "config: [a, b]": "config cannot differ between trials",
    "validation_prompt: [--x, b]": "would be read as a flag",
    "learning_rate: [0.1]\nlearning_rate: [0.2]": "line 2: learning_rate is there twice",
    "[1, 2]": "has no settings",
    "": "names no flag",
    "a: [": "this is not YAML",
    "? [a]\n: [1]": "a nested value is not a flag",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_space_is_refused_in_one_line(text):
    with pytest.raises(SettingsError) as caught:
        parse_space(text, "s.yaml")
    assert REFUSED[text] in str(caught.value) and "s.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match="--space none.yaml cannot be read .No such file"):
        read_space("none.yaml")
