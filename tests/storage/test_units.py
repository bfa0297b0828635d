"""Which files belong together, at any depth."""

import pytest

from textual_inversion.storage.units import checkpoint_of, is_seal, seal_of

SEALS = {"checkpoint-1/SHA256SUMS", "runs/a/checkpoint-1/SHA256SUMS", "model_index.json", "runs/a/model_index.json"}


@pytest.mark.parametrize(
    ("name", "seal"),
    {
        "checkpoint-1/state.safetensors": "checkpoint-1/SHA256SUMS",
        "checkpoint-1/SHA256SUMS": "checkpoint-1/SHA256SUMS",
        "runs/a/checkpoint-1/x": "runs/a/checkpoint-1/SHA256SUMS",
        "runs/a/checkpoint-2/x": "",
        "runs/a/run.json": "",
        "runs/a/logs/events": "",
        "unet/config.json": "model_index.json",
        "runs/a/vae/deep/x": "runs/a/model_index.json",
        "runs/b/vae/x": "",
        "samples/unet/x": "",
    }.items(),
)
def test_the_seal_of_a_file_is_that_of_its_checkpoint_or_pipeline(name, seal):
    assert seal_of(name, SEALS) == seal


def test_a_list_of_sums_beside_no_checkpoint_seals_nothing():
    assert [name for name in ("SHA256SUMS", "a/SHA256SUMS", "model_index.json", "a/b") if is_seal(name)] == [
        "a/SHA256SUMS",
        "model_index.json",
    ]


def test_a_checkpoint_is_known_by_its_folder():
    assert checkpoint_of("runs/a/checkpoint-12/x") == "runs/a/checkpoint-12"
    assert [checkpoint_of(name) for name in ("checkpoint-12", "checkpoint-x/y", "my-checkpoint-1/x")] == [""] * 3
