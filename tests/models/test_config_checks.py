"""Configurations that no model has."""

from pathlib import Path

import pytest

from textual_inversion.models.config_checks import check_blocks, check_sizes, explained
from textual_inversion.system.errors import BaseModelError, SettingsError

UNET = {"block_out_channels": [32, 64], "norm_num_groups": 8, "layers_per_block": 1, "act_fn": "silu"}


def test_a_models_own_configuration_passes():
    check_blocks(UNET, Path("unet"))
    check_blocks(UNET | {"norm_num_groups": None, "scaling_factor": 0.18}, Path("vae"))
    check_sizes(
        {"num_hidden_layers": 32, "vocab_size": 250_002, "layer_norm_eps": 1e-5, "model_max_length": 77}, Path("t")
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers_per_block": 10**6}, "layers_per_block 1000000, which no model has"),
        ({"layers_per_block": [1, 5000]}, "layers_per_block 5000"),
        ({"sample_size": 10**12}, "sample_size"),
        ({"sample_size": float("nan")}, "sample_size nan"),
        ({"block_out_channels": []}, "how many channels"),
        ({"block_out_channels": [True, 0]}, "how many channels"),
        ({"norm_num_groups": 0}, "how many channels"),
        ({"norm_num_groups": 7}, "into 7 groups, which is not possible"),
        ({"scaling_factor": "x"}, "scaling_factor 'x'"),
        ({"scaling_factor": 0}, "scaling_factor 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_file(changes, words):
    with pytest.raises(BaseModelError, match=r"unet[/\\]config.json .*" + words):
        check_blocks(UNET | changes, Path("unet"))


def test_what_a_library_raises_becomes_one_line():
    with pytest.raises(BaseModelError, match=r"no model can be built from base \(bad word\); one of its config"):
        with explained(Path("base")):
            raise ValueError("bad\n word")
    with pytest.raises(BaseModelError, match=r"\(AttributeError\)"):  # Python's words are for programmers
        with explained(Path("base")):
            None.x  # noqa: B018
    with pytest.raises(BaseModelError, match="…") as caught:
        with explained(Path("base")):
            raise ValueError("x" * 1000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("error", [SettingsError("a user's"), MemoryError()])
def test_what_says_it_better_passes(error):
    with pytest.raises(type(error)), explained(Path("base")):
        raise error
