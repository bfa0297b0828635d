"""The training command with every way to frame pictures and every objective, on tiny random models."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from PIL import Image

import train_textual_inversion
from textual_inversion import latents, optimizer, watching
from textual_inversion.errors import ImageError, SettingsError
from textual_inversion.formats import read_embeddings
from textual_inversion.framing import cut
from tiny_models import FAMILIES
from training_runs import draw_pictures, launch, short_run

BARE = ("--only_save_embeds", "--eval_steps", "1")


class Stopped(Exception):
    """Raised in place of training, once a run is set up."""


def set_up(monkeypatch, argv):
    """The run that a command line makes, before its training."""
    runs = []

    def keep(args, run):
        runs.append(run)
        raise Stopped

    monkeypatch.setattr(train_textual_inversion, "train", keep)
    with pytest.raises(Stopped):
        train_textual_inversion.main(argv)
    return runs[0]


def rows_after(argv):
    """Word -> its rows after a run."""
    train_textual_inversion.main(argv)
    return rows_in(argv, "learned_embeds.pdparams")


def rows_in(argv, name):
    """Word -> its rows in one of a run's files."""
    out = argv[argv.index("--output_dir") + 1]
    return {e.placeholder_token: e.vectors["text_encoder"] for e in read_embeddings(f"{out}/{name}")}


def mixed_pictures(folder, mode="RGB"):
    """Pictures of three shapes: wide, square, high; with `mode` RGBA their right halves are transparent."""
    folder.mkdir(parents=True, exist_ok=True)
    g = np.random.default_rng(1)
    for number, (width, height) in enumerate([(60, 20), (32, 32), (20, 60), (33, 31)]):
        blocks = g.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).convert(mode)
        if mode == "RGBA":
            picture.paste((0, 0, 0, 0), (width // 2, 0, width, height))
        picture.save(folder / f"{number}.png")
    return folder


def masks_of(pictures, folder):
    """White left halves."""
    folder.mkdir(exist_ok=True)
    for path in pictures.glob("*.png"):
        mask = Image.new("L", Image.open(path).size, 0)
        mask.paste(255, (0, 0, mask.width // 2, mask.height))
        mask.save(folder / path.name)
    return folder


# -------------------------------------------------------------------------------------------------- framing and masks


@pytest.mark.parametrize("mode", ["squash", "center_crop", "random_crop", "bucket"])
@pytest.mark.parametrize("masked", [False, True])
def test_every_way_of_framing_trains(tmp_path, capsys, mode, masked):
    pictures = mixed_pictures(tmp_path / "mixed")
    more = ["--mask_dir", str(masks_of(pictures, tmp_path / "masks"))] if masked else []

    rows = rows_after(short_run(tmp_path, *BARE, "--train_data_dir", str(pictures), "--resize_mode", mode, *more,
                                "--overview"))  # fmt: skip

    assert np.isfinite(rows["<cat-toy>"]).all()
    said = capsys.readouterr().out
    assert ("every sample anew" in said) == (mode == "random_crop")
    assert ("pictures by bucket (width x height): 32x8: 1, 16x16: 2, 8x32: 1" in said) == (mode == "bucket")


@pytest.mark.parametrize("mode", ["bucket", "random_crop"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "sd1"])
def test_other_families_are_framed_and_masked_alike(tmp_path, family, mode):
    pictures = mixed_pictures(tmp_path / "mixed")
    masks = str(masks_of(pictures, tmp_path / "masks"))
    argv = short_run(tmp_path, *BARE, "--train_data_dir", str(pictures), "--resize_mode", mode, "--mask_dir", masks,
                     "--snr_gamma", "5", "--loss_type", "huber", family=family)  # fmt: skip

    train_textual_inversion.main(argv)

    (learned,) = read_embeddings(tmp_path / "out" / "learned_embeds.pdparams")
    assert all(np.isfinite(rows).all() for rows in learned.vectors.values())


@pytest.mark.parametrize(("mode", "encoded"), [("center_crop", []), ("bucket", []), ("random_crop", [2])])
def test_only_random_crops_are_encoded_while_training(tmp_path, monkeypatch, mode, encoded):
    run = set_up(monkeypatch, short_run(tmp_path, *BARE, "--resize_mode", mode))
    seen, posterior = [], latents._posterior
    monkeypatch.setattr(
        latents, "_posterior", lambda vae, pixels: (seen.append(len(pixels)), posterior(vae, pixels))[1]
    )

    run.cache.sample(run.samples.batch(0, range(2)))

    assert seen == encoded


def test_random_crops_are_the_vaes_view_of_the_pictures_parts(tmp_path, monkeypatch):
    pictures = mixed_pictures(tmp_path / "mixed")
    run = set_up(
        monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(pictures), "--resize_mode", "random_crop")
    )
    batch = run.samples.batch(1, range(2))
    noise = paddle.to_tensor(batch.posterior_noise)

    crops = []
    for image, share, flip in zip(batch.images, batch.crops, batch.flips, strict=True):
        picture = Image.open(pictures / f"{image}.png")
        scale = 16 / min(picture.size)
        size = [max(16, round(side * scale)) for side in picture.size]
        array = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1) / 127.5 - 1
        crops.append(cut(array, share, (16, 16), flipped=bool(flip)))
    posterior = run.model.vae.encode(paddle.to_tensor(np.stack(crops))).latent_dist
    expected = (posterior.mean + posterior.std * noise) * run.model.vae.config.scaling_factor

    np.testing.assert_allclose(run.cache.sample(batch).numpy(), expected.numpy(), atol=1e-5)


def test_transparency_counts_for_nothing_in_the_loss_and_pictures_lie_on_white(tmp_path, monkeypatch):
    pictures = mixed_pictures(tmp_path / "cut-out", mode="RGBA")

    run = set_up(monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(pictures), "--alpha_mask",
                                        "--unmasked_weight", "0.25", "--flip_p", "0"))  # fmt: skip

    weights = run.mask(run.samples.batch(0, range(2))).numpy()
    assert weights.shape == (2, 1, 8, 8)
    assert (weights[..., :3] == 1).all() and (weights[..., 5:] == 0.25).all()
    assert all((pixels[:, :, 10:] > 0.99).all() for pixels in run.pixels)


def test_the_model_is_told_the_size_of_each_buckets_pictures(tmp_path, monkeypatch):
    from textual_inversion.models import BaseModel

    told, seen, encode = [], [], BaseModel.encode_prompts
    monkeypatch.setattr(BaseModel, "encode_prompts", lambda self, *what: (told.append(what[2]), encode(self, *what))[1])
    monkeypatch.setattr(
        latents.LatentCache, "sample", lambda self, batch, sample=latents.LatentCache.sample: seen.append(
            tuple(2 * side for side in batch.noise.shape[2:])) or sample(self, batch)
    )  # fmt: skip
    pictures = mixed_pictures(tmp_path / "mixed")

    argv = short_run(tmp_path, "--only_save_embeds", "--train_data_dir", str(pictures), "--resize_mode", "bucket",
                     "--max_train_steps", "6", "--eval_steps", "0")  # fmt: skip
    train_textual_inversion.main(argv)

    assert told == seen and set(told) == {(8, 32), (16, 16), (32, 8)}


def test_a_mask_that_is_missing_stops_the_run_before_a_model_is_loaded(tmp_path):
    draw_pictures(tmp_path / "some", count=2)
    argv = short_run(tmp_path, *BARE, "--mask_dir", str(tmp_path / "some"))
    argv[argv.index("--pretrained_model_name_or_path") + 1] = str(tmp_path / "no-model")

    with pytest.raises(ImageError, match="2.png"):
        train_textual_inversion.main(argv)


@pytest.mark.parametrize("mode", ["squash", "random_crop", "bucket"])
def test_how_a_global_batch_is_cut_changes_no_sample(tmp_path, monkeypatch, mode):
    folders = [mixed_pictures(tmp_path / "first"), draw_pictures(tmp_path / "second", count=3)]
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
            drawn = np.concatenate([run.cache.sample(part).numpy() for part in parts])
            np.testing.assert_allclose(drawn, run.cache.sample(whole).numpy(), atol=1e-5)
            np.testing.assert_array_equal(np.concatenate([run.mask(p).numpy() for p in parts]), run.mask(whole).numpy())
            for name in ("images", "flips", "crops", "noise", "perturbation", "offset_noise", "timesteps"):
                np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


def test_two_processes_learn_two_words_in_buckets_as_one_does(tmp_path):
    folders = [mixed_pictures(tmp_path / "first"), draw_pictures(tmp_path / "second", count=2)]
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


# --------------------------------------------------------------------------------------------------------- objective


@pytest.mark.parametrize(
    "flags",
    [
        ["--loss_type", "huber", "--huber_c", "0.2"],
        ["--loss_type", "smooth_l1"],
        ["--snr_gamma", "5"],
        ["--debiased_estimation_loss"],
        ["--input_perturbation", "0.1", "--noise_offset", "0.1"],
        ["--min_timestep", "100", "--max_timestep", "900"],
        ["--optimizer", "adam"],
        ["--optimizer", "sgd", "--sgd_momentum", "0.5"],
    ],
    ids=lambda flags: " ".join(flags),
)
def test_every_objective_and_optimizer_trains_in_its_own_way(tmp_path, flags):
    plain = rows_after(short_run(tmp_path, *BARE))["<cat-toy>"]

    rows = rows_after(short_run(tmp_path, *BARE, *flags, "--output_dir", str(tmp_path / "other")))["<cat-toy>"]

    assert np.isfinite(rows).all()
    assert np.abs(rows - plain).max() > 1e-7


class Still:
    """An optimizer that leaves the rows as they are."""

    def step(self):
        pass

    def clear_grad(self, set_to_zero=True):
        pass

    def get_lr(self):
        return 0.0


@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize(
    ("loss_type", "weighting"),
    [("l2", ["--snr_gamma", "2"]), ("huber", ["--debiased_estimation_loss"]), ("smooth_l1", ["--snr_gamma", "1"])],
)
def test_the_loss_of_a_step_is_its_formula(tmp_path, monkeypatch, family, loss_type, weighting):
    """Everything at once: weights, Huber, masks, both additional noises, a range of timesteps."""
    losses, runs = [], []
    monkeypatch.setattr(optimizer, "make_optimizer", lambda args, rows: (Still(), SimpleNamespace(step=lambda: None)))
    monkeypatch.setattr(
        watching.Watch,
        "after_step",
        lambda self, step, loss, rate: (losses.append(float(loss)), runs.append(self._run)),
    )
    pictures = draw_pictures(tmp_path / "own")
    train_textual_inversion.main(
        short_run(tmp_path, *BARE, "--max_train_steps", "1", "--train_data_dir", str(pictures), *weighting,
                  "--loss_type", loss_type, "--mask_dir", str(masks_of(pictures, tmp_path / "masks")),
                  "--unmasked_weight", "0.1", "--noise_offset", "0.2", "--input_perturbation", "0.3",
                  "--min_timestep", "200", "--max_timestep", "800", family=family)
    )  # fmt: skip

    run = runs[0]
    batch = run.samples.batch(0, range(2))
    assert 200 <= batch.timesteps.min() and batch.timesteps.max() < 800
    a = run.model.noise_scheduler.alphas_cumprod.numpy()[batch.timesteps].astype("float64")[:, None, None, None]
    x = run.cache.sample(batch).numpy()
    e = batch.noise + 0.2 * batch.offset_noise
    noisy = np.sqrt(a) * x + np.sqrt(1 - a) * (e + 0.3 * batch.perturbation)
    target = e if family == "sd1" else np.sqrt(a) * e - np.sqrt(1 - a) * x
    hidden = run.model.encode_prompts(batch.prompts).hidden_states
    timesteps = paddle.to_tensor(batch.timesteps)
    d = run.model.unet(paddle.to_tensor(noisy.astype("float32")), timesteps, hidden).sample.numpy() - target
    root = 2 * (np.sqrt(d**2 + 0.1**2) - 0.1)
    each = {"l2": d**2, "huber": 0.1 * root, "smooth_l1": root}[loss_type].mean(axis=1)
    mask = run.masks.weights(batch)[:, 0]
    snr = (a / (1 - a)).flatten()
    weights = np.minimum(snr, float(weighting[1])) / snr if "--snr_gamma" in weighting else 1 / np.sqrt(snr)
    if family == "sd2":
        weights = weights * snr / (snr + 1)
    expected = ((each * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2)) * weights).mean()
    assert losses[0] == pytest.approx(expected, rel=1e-4)


def test_a_schedule_that_ends_in_pure_noise_trains_v_and_refuses_epsilon(tmp_path):
    scheduler = {"rescale_betas_zero_snr": True, "_class_name": "DDIMScheduler"}
    (tmp_path / "v").mkdir(), (tmp_path / "epsilon").mkdir()
    last = ("--min_timestep", "998")

    for weighting in (["--snr_gamma", "5"], ["--debiased_estimation_loss"], []):
        argv = short_run(tmp_path / "v", *BARE, *last, *weighting, family="sd2", scheduler=scheduler)
        assert np.isfinite(rows_after(argv)["<cat-toy>"]).all()
    argv = short_run(tmp_path / "epsilon", *BARE, scheduler=scheduler)
    with pytest.raises(SettingsError, match="--max_timestep 999"):
        train_textual_inversion.main(argv)
    assert np.isfinite(rows_after([*argv, "--max_timestep", "999"])["<cat-toy>"]).all()


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_words_rows_rest_while_only_the_other_is_shown(tmp_path, monkeypatch, name):
    words = ["--placeholder_token", "<one>", "<two>", "--initializer_token", "toy", "--train_data_dir"]
    draw_pictures(tmp_path / "others", count=1)
    argv = short_run(tmp_path, *BARE, *words, str(tmp_path / "pictures"), str(tmp_path / "others"), "--optimizer", name,
                     "--adam_weight_decay", "0.5", "--max_grad_norm", "1", "--train_batch_size", "1",
                     "--save_steps", "1", "--max_train_steps", "3")  # fmt: skip
    with monkeypatch.context() as patch:
        start = set_up(patch, argv).rows()["text_encoder"]
    train_textual_inversion.main(argv)

    first, second, third = (rows_in(argv, f"learned_embeds-steps-{step}.pdparams") for step in (1, 2, 3))

    np.testing.assert_array_equal(first["<two>"], start[1:])
    np.testing.assert_array_equal(second["<one>"], first["<one>"])
    np.testing.assert_array_equal(third["<two>"], second["<two>"])
    assert (first["<one>"] != start[:1]).any() and (second["<two>"] != start[1:]).any()
