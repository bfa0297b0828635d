"""Configurations that no model has."""

from pathlib import Path

import pytest

from textual_inversion.models.config_checks import (
    check_announced,
    check_blocks,
    check_sample_size,
    check_sizes,
    explained,
)
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


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 200}, 4 + 200 * 4),
        (
            {
                "block_out_channels": [320, 640],
                "layers_per_block": [1, 300],
                "transformer_layers_per_block": [1, [2, 500]],
            },
            806,
        ),
        ({"down_block_types": ["x"] * 20_000}, 20_000),
        ({"num_hidden_layers": 900, "hidden_size": 768}, 900),
        ({"text_config": {"num_hidden_layers": 100}, "vision_config": {"num_hidden_layers": 240}}, 340),
    ],
)
def test_more_layers_than_tensors_are_refused(config, layers):
    check_announced(config, layers, Path("unet"))
    check_announced({"num_hidden_layers": 24}, 0, Path("unet"))  # loading says what is missing
    with pytest.raises(
        BaseModelError, match=rf"config.json announces {layers} layers, and its weights have {layers - 1}"
    ):
        check_announced(config, layers - 1, Path("unet"))


@pytest.mark.parametrize("size", [20_000, [64, 20_000], 0, -8, "x", 64.5])
def test_images_that_no_model_makes_are_refused(size):
    for good in (64, 1024, [96, 128], None):
        check_sample_size({"sample_size": good}, "unet", Path("unet"))
    with pytest.raises(BaseModelError, match="config.json says sample_size .*, and no model has more than 1024"):
        check_sample_size({"sample_size": size}, "unet", Path("unet"))
