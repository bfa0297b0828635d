"""Posteriors on disk: what is read was written for the same pixels and VAE, or it is not used, and that is said."""

import os

import numpy as np
import paddle
import pytest

from helpers.tiny_models import build_model
from textual_inversion.data.latent_files import LatentFiles, encoder_digest, make_folder
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.models.base_model import load_base_model
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

G = np.random.default_rng(0)
PIXELS = G.uniform(-1, 1, (3, 16, 16)).astype("float32")
MEAN, STD = G.standard_normal((4, 8, 8)).astype("float32"), G.uniform(0, 1, (4, 8, 8)).astype("float32")


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base") / "base")).vae


@pytest.fixture
def files(tmp_path, vae):
    said = []
    made = LatentFiles(tmp_path, vae, 2, said.append)
    made.said = said
    return made


def written(files):
    key = files.key(PIXELS, 1)
    files.write(key, MEAN, STD)
    (path,) = files._folder.iterdir()
    return key, path


def test_what_is_written_is_read_bit_by_bit(files, tmp_path, vae):
    key, path = written(files)

    for reader in (files, LatentFiles(tmp_path, vae, 2, print)):
        mean, std = reader.read(key, (16, 16))
        np.testing.assert_array_equal(mean, MEAN)
        np.testing.assert_array_equal(std, STD)
    assert path.name == f"{key}.safetensors" and path.stat().st_size < 2 * 4 * 4 * 8 * 8 + 600
    assert files.read(files.key(PIXELS, 2), (16, 16)) is None
    files.tell(3)
    assert files.said == [f"1 of 3 latents are from {tmp_path}, 2 are encoded"]


def test_the_key_depends_on_pixels_and_batch_size(files):
    nearly = PIXELS.copy()
    nearly[2, 15, 15] = np.nextafter(nearly[2, 15, 15], 2)

    keys = [files.key(*it) for it in ((PIXELS, 1), (nearly, 1), (PIXELS[:, :, ::-1], 1), (PIXELS, 2),
                                      (PIXELS.reshape(3, 8, 32), 1))]  # fmt: skip

    assert len(set(keys)) == 5 and files.key(PIXELS.copy(), 1) == keys[0]


def test_the_key_depends_on_encoder_configuration_and_arithmetic(tmp_path, monkeypatch, vae):
    ours = encoder_digest(vae)
    assert encoder_digest(load_base_model(build_model(tmp_path / "again")).vae) == ours
    assert encoder_digest(load_base_model(build_model(tmp_path / "hf", layout="diffusers")).vae) == ours
    assert encoder_digest(load_base_model(build_model(tmp_path / "other", seed=1)).vae) != ours

    changed = load_base_model(tmp_path / "again").vae
    with paddle.no_grad():
        weight = changed.decoder.conv_in.weight
        weight.set_value(weight + 1)
        assert encoder_digest(changed) == ours  # the decoder does not encode
        weight = changed.encoder.conv_in.weight
        weight.set_value(paddle.nextafter(weight, weight + 1))
    assert encoder_digest(changed) != ours
    for prepare in (lambda it: it.enable_tiling(), lambda it: it.to(dtype="bfloat16")):
        changed = load_base_model(tmp_path / "again").vae
        prepare(changed)
        assert encoder_digest(changed) != ours
    monkeypatch.setenv("OMP_NUM_THREADS", "17")
    assert encoder_digest(vae) != ours


def good(files, **changes):
    """The bytes of a file for `PIXELS` with something changed, checksum included."""
    from textual_inversion.data.latent_files import _FORMAT, _checksum

    mean, std = changes.get("mean", MEAN), changes.get("std", STD)
    metadata = {"format": _FORMAT, "key": files.key(PIXELS, 1), "checksum": _checksum(mean, std)}
    return safetensors_bytes({"mean": mean, "std": std}, metadata | changes.get("metadata", {}))


NOT_FINITE = MEAN.copy()
NOT_FINITE[0, 0, 0] = np.nan
DAMAGED = {
    "empty": lambda whole, files: b"",
    "cut": lambda whole, files: whole[:-1],
    "longer": lambda whole, files: whole + b"\0",
    "one bit": lambda whole, files: whole[:-1] + bytes([whole[-1] ^ 1]),
    "a page": lambda whole, files: b"<html>",
    "of another image": lambda whole, files: good(files, metadata={"key": "0" * 64}),
    "of another format": lambda whole, files: good(files, metadata={"format": "x"}),
    "of more": lambda whole, files: good(files, metadata={"more": "x"}),
    "of another shape": lambda whole, files: good(files, mean=MEAN[:, :4], std=STD[:, :4]),
    "not finite": lambda whole, files: good(files, mean=NOT_FINITE),
    "negative": lambda whole, files: good(files, std=-STD),
    "an embedding": lambda whole, files: safetensors_bytes({"<cat-toy>": MEAN[0]}, {}),
    "huge": lambda whole, files: whole + bytes(1_000_000),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_damaged_or_holds_something_else_is_told_and_not_used(files, tmp_path, damage):
    key, path = written(files)
    path.write_bytes(DAMAGED[damage](path.read_bytes(), files))

    assert files.read(key, (16, 16)) is None
    files.write(key, MEAN, STD)
    np.testing.assert_array_equal(files.read(key, (16, 16))[0], MEAN)
    files.tell(2)
    assert files.said == [
        f"note: {tmp_path}: 1 file(s) are damaged or hold something else, and their images are encoded again: "
        f"{path.name[:59]}…",
        f"1 of 2 latents are from {tmp_path}, 1 are encoded",
    ]


def test_the_helper_for_damage_makes_a_good_file_where_nothing_is_changed(files):
    key, path = written(files)
    path.write_bytes(good(files))

    assert files.read(key, (16, 16)) is not None


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_is_not_read(files, make):
    make(files._path(files.key(PIXELS, 1)))

    assert files.read(files.key(PIXELS, 1), (16, 16)) is None and files.found == 0


def test_a_folder_that_cannot_be_written_costs_a_line(files, monkeypatch):
    def full(path, data):
        raise OutputError("the disk is full")

    monkeypatch.setattr(atomic, "write_bytes", full)
    for batch_size in (1, 2, 3):
        files.write(files.key(PIXELS, batch_size), MEAN, STD)

    assert files.said == ["note: latents are no longer kept in --cache_latents_dir: the disk is full"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(OutputError, match="--cache_latents_dir .*file/c cannot be made .*; name another folder"):
        make_folder(tmp_path / "file" / "c")
    with pytest.raises(OutputError, match="cannot be made"):
        make_folder(tmp_path / "file")
