"""A word for what is not wanted, trained away from good images."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from PIL import Image

import train_textual_inversion
from helpers.tiny_clip import build_clip
from helpers.training_runs import draw_images, launch, masks_of, rows_after, rows_in, set_up, set_up_all, short_run
from textual_inversion.data.sampler import SampleStream
from textual_inversion.data.training_image import TrainingImage
from textual_inversion.models.prompt_encoder import Reading
from textual_inversion.models.unet_forward import make_predictor
from textual_inversion.system.errors import SettingsError
from textual_inversion.training.contrast import Contrast, make_contrast
from textual_inversion.training.loss import add_noise, training_target

PAIR = ("--learnable_property", "negative", "--placeholder_token", "<bad>", "--only_save_embeds", "--eval_steps", "1")


def pair_run(tmp_path, *more):
    """Arguments of a run with three bad and two good images."""
    draw_images(tmp_path / "good", 2)
    for number, path in enumerate(sorted((tmp_path / "good").iterdir())):
        Image.new("RGB", (40, 32), (250, 40 * number, 20)).save(path)
    return short_run(tmp_path, *PAIR, "--contrast_data_dir", str(tmp_path / "good"), *more)


def sampled(run, *, size=8):
    """A micro-batch that holds both kinds, with its noisy latents and its target."""
    run = replace(run, samples=replace(run.samples, global_batch=size))
    batch = next(iter(run.samples.micro_batches(0)))
    alphas = run.model.noise_scheduler.alphas_cumprod
    latents, noise, timesteps = run.data.latents.sample(batch), batch.noise, paddle.to_tensor(batch.timesteps)
    noisy = add_noise(latents, paddle.to_tensor(noise), alphas, timesteps)
    target = training_target(run.model.prediction_type, latents, paddle.to_tensor(noise), alphas, timesteps)
    return batch, noisy, target


@pytest.fixture
def run(tmp_path, monkeypatch):
    return set_up(monkeypatch, pair_run(tmp_path))


def contrast_of(run, weight=1.0):
    return make_contrast(run.model, run.data, run.vectors.tokens, weight)


def test_the_target_of_good_images_is_mirrored_at_the_prediction_without_the_word(run):
    batch, noisy, target = sampled(run)

    mirrored = contrast_of(run).mirrored(target, noisy, batch).numpy()

    good = [run.data.images[i].is_contrast for i in batch.images]
    assert True in good and False in good
    plain = [Reading({"<bad>": ()})] * len(batch.prompts)
    prompts = run.model.encode_prompts(batch.prompts, plain, run.data.shapes[0])
    with paddle.no_grad():
        p = make_predictor(run.model)(noisy, paddle.to_tensor(batch.timesteps), prompts).numpy()
    e = target.numpy()
    for row, is_good in enumerate(good):
        np.testing.assert_allclose(mirrored[row], 2 * p[row] - e[row] if is_good else e[row], atol=2e-5)


def test_guidance_of_scale_two_then_predicts_the_noise_of_a_good_image(run):
    """The reason for the mirrored target w: w + 2 (p - w) is the image's own target."""
    batch, noisy, target = sampled(run)
    w = contrast_of(run).mirrored(target, noisy, batch).numpy()

    good = run.data.contrasts(batch)
    prompts = run.model.encode_prompts(batch.prompts, [Reading({"<bad>": ()})] * 8, run.data.shapes[0])
    with paddle.no_grad():
        p = make_predictor(run.model)(noisy, paddle.to_tensor(batch.timesteps), prompts).numpy()

    np.testing.assert_allclose((w + 2 * (p - w))[good], target.numpy()[good], atol=5e-5)


def test_a_batch_in_parts_has_the_same_targets(run):
    contrast = contrast_of(run)
    batch, noisy, target = sampled(run)
    whole = contrast.mirrored(target, noisy, batch).numpy()

    parts = []
    for part in (range(0, 4), range(4, 8)):
        own = replace(run.samples, global_batch=8).batch(0, part)
        at = paddle.to_tensor(np.array(part))
        parts.append(contrast.mirrored(paddle.gather(target, at), paddle.gather(noisy, at), own).numpy())

    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-5)


def test_good_images_weigh_as_asked_beside_other_weights(run):
    batch, _, _ = sampled(run)
    good = run.data.contrasts(batch)
    expected = np.ones(8, np.float32)
    expected[good] = 3.0

    assert contrast_of(run).weights(batch, None) is None
    np.testing.assert_array_equal(contrast_of(run, 3.0).weights(batch, None).numpy(), expected)
    others = paddle.arange(8, dtype="float32")
    np.testing.assert_array_equal(contrast_of(run, 3.0).weights(batch, others).numpy(), expected * np.arange(8))


def test_without_good_images_there_is_nothing_to_do(tmp_path, monkeypatch):
    run = set_up(monkeypatch, short_run(tmp_path, *PAIR))

    assert make_contrast(run.model, run.data, run.vectors.tokens, 1.0) is None


def test_other_words_of_the_prompt_are_read_as_in_training():
    images = (TrainingImage(0, ("a <bad>",), is_contrast=True),)
    contrast = Contrast(None, SimpleNamespace(images=images), ["<bad>"], 1.0, None)

    reading = contrast._without_word(Reading({"<cat>": (1, 0), "<bad>": (0,)}, "<bad>"), 0)

    assert reading == Reading({"<cat>": (1, 0), "<bad>": ()}, "<bad>")


def test_good_images_are_read_for_training_and_are_not_what_is_shown_or_measured(tmp_path, monkeypatch, capsys):
    run = set_up(monkeypatch, pair_run(tmp_path, "--eval_samples", "16"))

    said = capsys.readouterr().out
    assert "3 training image(s) of <bad>" in said and "2 image(s) to train away from <bad>" in said
    assert [image.is_contrast for image in run.data.images] == [False] * 3 + [True] * 2
    assert len(run.data.previews_of(0)) == len(run.data.shown_previews) == 3 and len(run.data.previews) == 5
    shown = [i for batch in run.samples.evaluation_batches(16) for i in batch.images]
    assert sorted(set(shown)) == [0, 1, 2]
    drawn = {int(i) for step in range(4) for batch in run.samples.micro_batches(step) for i in batch.images}
    assert drawn & {3, 4} and drawn & {0, 1, 2}


def test_masks_are_for_bad_images_alone(tmp_path, monkeypatch):
    argv = pair_run(tmp_path)
    masks = masks_of(tmp_path / "pictures", tmp_path / "masks")

    run = set_up(monkeypatch, [*argv, "--mask_dir", str(masks)])

    for step in range(3):
        batch = replace(run.samples, global_batch=8).batch(step, range(8))
        whole = run.data.mask(batch).numpy().reshape(8, -1).min(axis=1) == 1.0
        assert list(np.flatnonzero(whole)) == list(run.data.contrasts(batch))


def test_the_samples_of_a_fixed_set_without_good_images_are_the_same_as_ever():
    images = tuple(TrainingImage(0, (f"{n} <bad>",)) for n in range(3))
    made = dict(seed=1, latent_shapes=((4, 2, 2),), global_batch=2)
    plain = SampleStream(images=images, **made).evaluation_batches(7)
    both = SampleStream(images=(*images, replace(images[0], is_contrast=True)), **made).evaluation_batches(7)

    assert plain[0].prompts == both[0].prompts and list(plain[0].images) == list(both[0].images)
    np.testing.assert_array_equal(plain[0].noise, both[0].noise)


@pytest.mark.slow
def test_good_images_change_what_is_learned_and_a_resumed_run_learns_the_same(tmp_path):
    whole = rows_after([*pair_run(tmp_path, "--save_steps", "1", "--max_train_steps", "4")])
    alone = rows_after(short_run(tmp_path, *PAIR, "--max_train_steps", "4", "--output_dir", str(tmp_path / "alone")))
    assert np.abs(whole["<bad>"] - alone["<bad>"]).max() > 1e-4

    again = pair_run(tmp_path, "--save_steps", "1", "--max_train_steps", "4", "--output_dir", str(tmp_path / "again"))
    resumed = rows_after([*again, "--resume_from_checkpoint", str(tmp_path / "out/checkpoint-2")])
    np.testing.assert_array_equal(resumed["<bad>"], whole["<bad>"])


@pytest.mark.slow
def test_a_run_does_not_resume_with_bad_and_good_exchanged(tmp_path):
    train_textual_inversion.main(pair_run(tmp_path, "--save_steps", "1"))
    for path in (tmp_path / "good").iterdir():
        path.rename(tmp_path / "pictures" / f"9{path.name}")
    argv = short_run(tmp_path, *PAIR, "--save_steps", "1")

    with pytest.raises(SettingsError, match="the training images"):
        train_textual_inversion.main([*argv, "--resume_from_checkpoint", "latest"])


def test_each_concept_has_its_own_good_images(tmp_path, monkeypatch):
    argv = pair_run(tmp_path)
    draw_images(tmp_path / "others", 2)
    first = argv.index("--train_data_dir")
    argv[first + 1 : first + 2] = [str(tmp_path / "pictures"), str(tmp_path / "others")]
    word = argv.index("--placeholder_token")
    argv[word + 1 : word + 2] = ["<bad>", "<worse>"]
    draw_images(tmp_path / "better", 1)
    good = argv.index("--contrast_data_dir")
    argv[good + 1 : good + 2] = [str(tmp_path / "good"), str(tmp_path / "better")]

    config, run = set_up_all(monkeypatch, argv)

    found = [(image.concept, image.is_contrast) for image in run.data.images]
    assert found == [(0, False)] * 3 + [(0, True)] * 2 + [(1, False)] * 2 + [(1, True)]
    assert [one.contrast_folder for one in config.concepts] == [str(tmp_path / "good"), str(tmp_path / "better")]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_choose_one_word_and_learn_the_pair_as_one_process_does(tmp_path):
    more = ("--initializer_token", "auto", "--train_batch_size", "2", "--max_train_steps", "3")
    argv = pair_run(tmp_path, *more, "--gradient_accumulation_steps", "2")
    build_clip(tmp_path / "base/clip")
    alone = rows_after(argv)

    two = pair_run(tmp_path, *more, "--output_dir", str(tmp_path / "two"))
    launch(two, processes=2, cwd=tmp_path)

    words = [json.loads((tmp_path / name / "run.json").read_text())["initializer_token"] for name in ("out", "two")]
    assert words[0] == words[1] != "auto"
    np.testing.assert_allclose(rows_in(two, "learned_embeds.pdparams")["<bad>"], alone["<bad>"], atol=1e-5)
