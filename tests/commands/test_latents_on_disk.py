"""Training with latents on disk: whatever lies there, the vectors are those of a run that encodes everything itself."""

from pathlib import Path

import numpy as np
import pytest

import train_textual_inversion
from helpers.training_runs import launch, rows_after, rows_in, short_run
from textual_inversion.data import latents


@pytest.fixture
def encoded(monkeypatch):
    """The number of images in each batch that went through the VAE."""
    sizes, posterior = [], latents._posterior
    monkeypatch.setattr(latents, "_posterior", lambda vae, it: (sizes.append(len(it)), posterior(vae, it))[1])
    return sizes


def arguments(tmp_path, *more):
    return short_run(tmp_path, "--only_save_embeds", "--eval_steps", "0", *more)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_repeated_run_encodes_nothing_and_learns_the_same(tmp_path, capsys, encoded, batch_size):
    folder, batch = tmp_path / "latents", ["--vae_batch_size", str(batch_size)]
    plain = rows_after(arguments(tmp_path, *batch))["<cat-toy>"]
    cached = arguments(tmp_path, *batch, "--cache_latents_dir", str(folder))
    counts = []

    for _ in range(2):
        encoded.clear()
        np.testing.assert_array_equal(rows_after(cached)["<cat-toy>"], plain)
        counts.append(list(encoded))

    # Three images and their mirror images.
    assert counts == [{1: [1] * 6, 4: [4, 4]}[batch_size], []]
    said = capsys.readouterr().out
    assert f"0 of 6 latents are from {folder}, 6 are encoded" in said
    assert f"6 of 6 latents are from {folder}, 0 are encoded" in said
    assert len(list(folder.iterdir())) == 6


def test_damaged_files_are_told_and_only_their_images_are_encoded_again(tmp_path, capsys, encoded):
    folder = tmp_path / "latents"
    cached = arguments(tmp_path, "--cache_latents_dir", str(folder))
    first = rows_after(cached)["<cat-toy>"]
    paths = sorted(folder.iterdir())
    whole = [path.read_bytes() for path in paths]
    paths[0].write_bytes(whole[0][:-4] + b"\0\0\0\0")
    paths[1].write_bytes(whole[2])
    encoded.clear()

    np.testing.assert_array_equal(rows_after(cached)["<cat-toy>"], first)

    assert encoded == [1, 1]
    said = capsys.readouterr().out
    assert f"note: {folder}: 2 file(s) are damaged or hold something else, and their images are encoded again: " in said
    assert [path.read_bytes() for path in paths] == whole


def test_another_size_crop_image_or_flip_is_encoded_for_itself(tmp_path, encoded):
    folder = ["--cache_latents_dir", str(tmp_path / "latents")]
    counts = []
    for more in ([], ["--flip_p", "0"], ["--resize_mode", "center_crop"], ["--height", "32"], ["--num_vectors", "2"]):
        encoded.clear()
        train_textual_inversion.main(arguments(tmp_path, *folder, *more))
        counts.append(len(encoded))

    assert counts == [6, 0, 6, 6, 0]


def test_a_resumed_run_uses_them(tmp_path, encoded):
    more = ["--cache_latents_dir", str(tmp_path / "latents"), "--max_train_steps", "4", "--checkpointing_steps", "2"]
    plain = rows_after(arguments(tmp_path, "--max_train_steps", "4", "--output_dir", str(tmp_path / "plain")))
    train_textual_inversion.main(arguments(tmp_path, *more))
    encoded.clear()

    checkpoint = str(tmp_path / "out" / "checkpoint-2")
    resumed = rows_after(arguments(tmp_path, *more, "--resume_from_checkpoint", checkpoint))

    assert encoded == []
    np.testing.assert_array_equal(resumed["<cat-toy>"], plain["<cat-toy>"])


@pytest.mark.slow
@pytest.mark.multiprocess
def test_processes_may_share_a_folder(tmp_path):
    folder = tmp_path / "latents"
    common = ["--num_threads", "1", "--train_batch_size", "1", "--vae_batch_size", "2"]
    plain = arguments(tmp_path, *common, "--gradient_accumulation_steps", "2", "--output_dir", str(tmp_path / "plain"))
    launch(plain, processes=1, cwd=tmp_path)
    wanted = rows_in(plain, "learned_embeds.pdparams")["<cat-toy>"]

    for _ in range(2):
        shared = arguments(tmp_path, *common, "--cache_latents_dir", str(folder))
        launch(shared, processes=2, cwd=tmp_path)
        np.testing.assert_array_equal(rows_in(shared, "learned_embeds.pdparams")["<cat-toy>"], wanted)

    assert len(list(folder.iterdir())) == 6 and not any(Path(path).name.startswith(".") for path in folder.iterdir())
