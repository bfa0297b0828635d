"""The training command with every way to frame and mask images, on tiny random models."""

import numpy as np
import paddle
import pytest
from PIL import Image

import train_textual_inversion
from helpers.tiny_models import FAMILIES
from helpers.training_runs import draw_images, launch, masks_of, rows_after, rows_in, set_up, short_run
from textual_inversion.data import latents
from textual_inversion.data.images import to_array
from textual_inversion.data.resizing import cut
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.settings.choices import RESIZE_MODES

BARE = ("--only_save_embeds", "--eval_steps", "1")


def mixed_images(folder, mode="RGB"):
    """Images of three shapes: wide, square, high; with `mode` RGBA their right halves are transparent."""
    folder.mkdir(parents=True, exist_ok=True)
    g = np.random.default_rng(1)
    for number, (width, height) in enumerate([(60, 20), (32, 32), (20, 60), (33, 31)]):
        blocks = g.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        drawn = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).convert(mode)
        if mode == "RGBA":
            drawn.paste((0, 0, 0, 0), (width // 2, 0, width, height))
        drawn.save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("masked", [False, True])
def test_every_way_of_framing_trains(tmp_path, capsys, mode, masked):
    image_folder = mixed_images(tmp_path / "mixed")
    more = ["--mask_dir", str(masks_of(image_folder, tmp_path / "masks"))] if masked else []

    rows = rows_after(short_run(tmp_path, *BARE, "--train_data_dir", str(image_folder), "--resize_mode", mode, *more,
                                "--overview"))  # fmt: skip

    assert np.isfinite(rows["<cat-toy>"]).all()
    said = capsys.readouterr().out
    assert ("the samples of every step" in said) == (mode == "random_crop")
    assert ("images by bucket (width x height): 32x8: 1, 16x16: 2, 8x32: 1" in said) == (mode == "bucket")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["bucket", "random_crop"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "sd1"])
def test_other_families_are_framed_and_masked_alike(tmp_path, family, mode):
    image_folder = mixed_images(tmp_path / "mixed")
    masks = str(masks_of(image_folder, tmp_path / "masks"))
    argv = short_run(tmp_path, *BARE, "--train_data_dir", str(image_folder), "--resize_mode", mode, "--mask_dir", masks,
                     "--snr_gamma", "5", "--loss_type", "huber", family=family)  # fmt: skip

    train_textual_inversion.main(argv)

    (learned,) = read_embeddings(tmp_path / "out" / "learned_embeds.pdparams")
    assert all(np.isfinite(rows).all() for rows in learned.vectors.values())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["random_crop", "focal_crop", "bucket", "tiles"])
def test_variants_are_framed_and_masked_like_their_images(tmp_path, monkeypatch, mode):
    image_folder = mixed_images(tmp_path / "mixed")
    masks = masks_of(image_folder, tmp_path / "masks")
    asked = ["--resize_mode", mode, "--rotation", "30", "--augmented_variants", "5", "--mask_dir", str(masks)]
    run = set_up(monkeypatch, short_run(tmp_path, "--only_save_embeds", "--train_data_dir", str(image_folder), *asked,
                                        "--unmasked_weight", "0.01", "--eval_steps", "0"))  # fmt: skip
    seen = []
    monkeypatch.setattr(run.model.vae, "encode", None, raising=False)  # nothing is encoded any more

    for step in range(12):
        batch = run.samples.batch(step, range(2))
        seen += batch.variants.tolist()
        assert run.data.latents.sample(batch).shape[0] == run.data.mask(batch).shape[0] == 2
    assert set(seen) == set(range(5))
    assert run.data.latents.num_images == len(run.data.images) == len(run.data.previews)


def test_large_images_become_several_of_the_models_shape(tmp_path, monkeypatch, capsys):
    image_folder = mixed_images(tmp_path / "mixed")

    asked = ["--resize_mode", "tiles", "--tile_rows", "1"]
    run = set_up(monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(image_folder), *asked))

    # 60x20 and 20x60 are three squares long, with overlaps four; 32x32 and 33x31 are one each
    assert "4 image(s) are cut into 10 parts, each learned as an image of its own" in capsys.readouterr().out
    assert len(run.data.images) == len(run.data.previews) == 10 and run.plan.epoch_samples == 400
    whole = np.asarray(Image.open(image_folder / "0.png"))
    first, last = (np.asarray(run.data.previews[index]) for index in (0, 3))
    for part, box in ((first, (0, 0, 20, 20)), (last, (40, 0, 60, 20))):
        expected = Image.fromarray(whole).crop(box).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(part, np.asarray(expected))


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "encoded"), [("center_crop", []), ("bucket", []), ("random_crop", [2])])
def test_only_random_crops_are_encoded_while_training(tmp_path, monkeypatch, mode, encoded):
    run = set_up(monkeypatch, short_run(tmp_path, *BARE, "--resize_mode", mode))
    seen, posterior = [], latents._posterior
    monkeypatch.setattr(
        latents, "_posterior", lambda vae, pixels: (seen.append(len(pixels)), posterior(vae, pixels))[1]
    )

    run.data.latents.sample(run.samples.batch(0, range(2)))

    assert seen == encoded


def test_random_crops_are_the_vaes_view_of_the_images_parts(tmp_path, monkeypatch):
    image_folder = mixed_images(tmp_path / "mixed")
    run = set_up(
        monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(image_folder), "--resize_mode", "random_crop")
    )
    batch = run.samples.batch(1, range(2))
    noise = paddle.to_tensor(batch.posterior_noise)

    crops = []
    for image, share, flip in zip(batch.images, batch.crops, batch.flips, strict=True):
        opened = Image.open(image_folder / f"{image}.png")
        scale = 16 / min(opened.size)
        size = [max(16, round(side * scale)) for side in opened.size]
        array = np.asarray(opened.resize(size, Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1) / 127.5 - 1
        crops.append(cut(array, share, (16, 16), flipped=bool(flip)))
    posterior = run.model.vae.encode(paddle.to_tensor(np.stack(crops))).latent_dist
    expected = (posterior.mean + posterior.std * noise) * run.model.vae.config.scaling_factor

    np.testing.assert_allclose(run.data.latents.sample(batch).numpy(), expected.numpy(), atol=1e-5)


def test_transparency_counts_for_nothing_in_the_loss_and_images_lie_on_white(tmp_path, monkeypatch):
    image_folder = mixed_images(tmp_path / "cut-out", mode="RGBA")

    run = set_up(monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(image_folder), "--alpha_mask",
                                        "--unmasked_weight", "0.25", "--flip_p", "0"))  # fmt: skip

    weights = run.data.mask(run.samples.batch(0, range(2))).numpy()
    assert weights.shape == (2, 1, 8, 8)
    assert (weights[..., :3] == 1).all() and (weights[..., 5:] == 0.25).all()
    assert all((pixels[:, :, 10:] > 0.99).all() for pixels in map(to_array, run.data.previews))


@pytest.mark.slow
def test_the_model_is_told_the_size_of_each_buckets_images(tmp_path, monkeypatch):
    from textual_inversion.models.base_model import BaseModel

    told, seen, encode = [], [], BaseModel.encode_prompts
    monkeypatch.setattr(BaseModel, "encode_prompts", lambda self, *what: (told.append(what[2]), encode(self, *what))[1])
    monkeypatch.setattr(
        latents.LatentCache, "sample", lambda self, batch, sample=latents.LatentCache.sample: seen.append(
            tuple(2 * side for side in batch.noise.shape[2:])) or sample(self, batch)
    )  # fmt: skip
    image_folder = mixed_images(tmp_path / "mixed")

    argv = short_run(tmp_path, "--only_save_embeds", "--train_data_dir", str(image_folder), "--resize_mode", "bucket",
                     "--max_train_steps", "6", "--eval_steps", "0")  # fmt: skip
    train_textual_inversion.main(argv)

    assert told == seen and set(told) == {(8, 32), (16, 16), (32, 8)}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["squash", "random_crop", "bucket"])
def test_how_a_global_batch_is_cut_changes_no_sample(tmp_path, monkeypatch, mode):
    folders = [mixed_images(tmp_path / "first"), draw_images(tmp_path / "second", count=3)]
    for folder in folders:
        for path in folder.glob("[02].png"):
            path.with_suffix(".txt").write_text(f"<one> two-logo as in {folder.name} {path.stem}")
    masks = [str(masks_of(folder, tmp_path / f"masks-{folder.name}")) for folder in folders]
    run = set_up(
        monkeypatch,
        short_run(tmp_path, *BARE, "--placeholder_token", "<one>", "two-logo", "--num_vectors", "1", "3",
                  "--train_data_dir", *map(str, folders), "--mask_dir", *masks, "--resize_mode", mode,
                  "--vector_shuffle", "--token_dropout", "0.3", "--gradient_accumulation_steps", "2"),
    )  # fmt: skip
    assert run.samples.global_batch == 4

    for step in range(4):
        whole = run.samples.batch(step, range(4))
        for world_size, accumulation in ((1, 4), (2, 2), (4, 1)):
            parts = [
                batch
                for rank in range(world_size)
                for batch in run.samples.micro_batches(step, rank, world_size, accumulation)
            ]
            assert [p for part in parts for p in part.prompts] == whole.prompts
            assert [v for part in parts for v in part.vectors] == whole.vectors
            drawn = np.concatenate([run.data.latents.sample(part).numpy() for part in parts])
            np.testing.assert_allclose(drawn, run.data.latents.sample(whole).numpy(), atol=1e-5)
            np.testing.assert_array_equal(
                np.concatenate([run.data.mask(p).numpy() for p in parts]), run.data.mask(whole).numpy()
            )
            for name in ("images", "flips", "crops", "noise", "perturbation", "offset_noise", "timesteps"):
                np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_learn_two_words_in_buckets_as_one_does(tmp_path):
    folders = [mixed_images(tmp_path / "first"), draw_images(tmp_path / "second", count=2)]
    masks = [str(masks_of(folder, tmp_path / f"masks-{folder.name}")) for folder in folders]
    common = ["--only_save_embeds", "--placeholder_token", "<one>", "<two>", "--train_data_dir", *map(str, folders),
              "--mask_dir", *masks, "--resize_mode", "bucket", "--train_batch_size", "1", "--max_train_steps", "4",
              "--learning_rate", "0.003", "--snr_gamma", "5", "--num_threads", "1"]  # fmt: skip
    one = short_run(tmp_path, *common, "--gradient_accumulation_steps", "2", "--output_dir", str(tmp_path / "one"))
    two = short_run(tmp_path, *common, "--gradient_accumulation_steps", "1", "--output_dir", str(tmp_path / "two"))

    launch(one, processes=1, cwd=tmp_path)
    launch(two, processes=2, cwd=tmp_path)

    alone, together = (rows_in(argv, "learned_embeds.pdparams") for argv in (one, two))
    for word in ("<one>", "<two>"):
        np.testing.assert_array_equal(together[word], alone[word])
