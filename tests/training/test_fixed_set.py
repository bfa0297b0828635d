"""The fixed set is of the held-out images where there are some, and never of changed ones."""

import numpy as np
import paddle
import pytest
from PIL import Image

from helpers.training_runs import draw_images, masks_of, rows_after, set_up, short_run
from textual_inversion.training.fixed_set import BANDS, FixedSet, bands_of, measured_on

AUGMENTED = ("--rotation", "20", "--brightness_jitter", "0.3", "--hue_jitter", "0.1", "--augmented_variants", "3")


def fixed_set_loss(run, size):
    data, samples = measured_on(run)
    batches, span = samples.evaluation_batches(size), (0, samples.num_train_timesteps)
    return float(FixedSet(run.model, data, batches, 2, span).losses().mean())


def held_out_images(folder):
    folder.mkdir()
    for number in range(2):
        blocks = np.random.default_rng(9 + number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((32, 32), Image.Resampling.NEAREST).save(folder / f"h{number}.png")
        (folder / f"h{number}.txt").write_text(f"held out number {number}")
    return folder


def test_the_loss_is_that_of_a_run_whose_training_images_they_are(tmp_path, monkeypatch):
    held_out = held_out_images(tmp_path / "held")
    with_both = set_up(monkeypatch, short_run(tmp_path, "--only_save_embeds", "--validation_data_dir", str(held_out),
                                              "--eval_samples", "4"))  # fmt: skip
    alone = set_up(monkeypatch, short_run(tmp_path, "--only_save_embeds", "--train_data_dir", str(held_out),
                                          "--eval_samples", "4", "--output_dir", str(tmp_path / "alone")))  # fmt: skip

    found = fixed_set_loss(with_both, 4)

    assert found == pytest.approx(fixed_set_loss(alone, 4), rel=1e-6)
    own = with_both.samples.evaluation_batches(4)
    assert all("held out" not in prompt for batch in own for prompt in batch.prompts)
    with_both.held_out = None
    assert fixed_set_loss(with_both, 4) != pytest.approx(found, rel=1e-5)


def test_held_out_images_decide_nothing_of_what_is_learned_and_duplicates_are_said(tmp_path, capsys):
    short_run(tmp_path)
    held_out = draw_images(tmp_path / "held", count=1)  # the first of the training images once more
    plain = rows_after(short_run(tmp_path, "--only_save_embeds", "--eval_steps", "1"))
    capsys.readouterr()

    other = rows_after(short_run(tmp_path, "--only_save_embeds", "--eval_steps", "1", "--validation_data_dir",
                                 str(held_out), "--output_dir", str(tmp_path / "other")))  # fmt: skip

    np.testing.assert_array_equal(plain["<cat-toy>"], other["<cat-toy>"])
    said = capsys.readouterr().out
    assert "note: 1 held-out image(s) are training images as well: 0.png" in said
    assert "1 held-out image(s) of <cat-toy>" in said


def test_masks_of_held_out_images_count_in_their_loss(tmp_path, monkeypatch):
    held_out, masks = held_out_images(tmp_path / "held"), []
    for folder in (draw_images(tmp_path / "pictures"), held_out):
        masks.append(str(masks_of(folder, tmp_path / f"masks-{folder.name}")))
    argv = short_run(tmp_path, "--only_save_embeds", "--validation_data_dir", str(held_out), "--mask_dir", masks[0],
                     "--validation_mask_dir", masks[1])  # fmt: skip

    run = set_up(monkeypatch, argv)

    weights = run.held_out.masks.whole(0)
    assert weights[:, 0].min() == 1 and weights[:, -1].max() == 0


def test_changed_images_are_drawn_for_training_alone_and_a_resumed_run_has_the_same(tmp_path, monkeypatch):
    argv = short_run(tmp_path, "--only_save_embeds", "--max_train_steps", "4", "--checkpointing_steps", "2", *AUGMENTED)
    plain = set_up(monkeypatch, short_run(tmp_path, "--only_save_embeds", "--output_dir", str(tmp_path / "plain")))
    run = set_up(monkeypatch, argv)

    assert fixed_set_loss(run, 2) == pytest.approx(fixed_set_loss(plain, 2), rel=1e-6)
    batch = next(batch for step in range(9) if (batch := run.samples.batch(step, range(2))).variants.any())
    changed = run.data.latents.sample(batch)
    batch.variants[:] = 0
    assert float(paddle.abs(changed - run.data.latents.sample(batch)).max()) > 1e-3


def test_a_resumed_run_with_variants_is_the_same_bit_for_bit(tmp_path):
    base = ["--only_save_embeds", "--max_train_steps", "4", "--checkpointing_steps", "2", *AUGMENTED]
    whole = rows_after(short_run(tmp_path, *base))

    resumed = rows_after(short_run(tmp_path, *base, "--resume_from_checkpoint", str(tmp_path / "out/checkpoint-2"),
                                   "--output_dir", str(tmp_path / "again")))  # fmt: skip

    np.testing.assert_array_equal(whole["<cat-toy>"], resumed["<cat-toy>"])


def test_the_parts_of_the_schedule_are_its_thirds():
    assert bands_of(np.array([0, 333, 334, 666, 667, 999]), 0, 1000).tolist() == [0, 0, 1, 1, 2, 2]
    assert bands_of(np.array([200, 399, 400, 599, 600, 799]), 200, 800).tolist() == [0, 0, 1, 1, 2, 2]


def test_losses_by_part_of_the_schedule_are_means_of_its_samples_and_what_has_none_is_left_out(tmp_path, monkeypatch):
    run = set_up(monkeypatch, short_run(tmp_path, "--only_save_embeds"))
    batches, span = run.samples.evaluation_batches(6), (0, run.samples.num_train_timesteps)
    fixed_set = FixedSet(run.model, run.data, batches, 2, span)
    losses = fixed_set.losses()

    found = fixed_set.by_band(losses)

    timesteps = np.concatenate([batch.timesteps for batch in batches])
    for number, name in enumerate(BANDS):
        own = losses[timesteps * 3 // run.samples.num_train_timesteps == number]
        assert found[name] == pytest.approx(own.mean()) and len(own) == 2  # spread evenly over the schedule
    fixed_set.bands[fixed_set.bands == 2] = 1
    assert set(fixed_set.by_band(losses)) == set(BANDS[:2])
