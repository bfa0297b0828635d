"""The fixed set is of the held-out images where there are some, and never of changed ones."""

import numpy as np
import paddle
import pytest
from PIL import Image

from helpers.training_runs import draw_images, masks_of, rows_after, set_up, short_run
from textual_inversion.training.fixed_set import make_fixed_set

AUGMENTED = ("--rotation", "20", "--brightness_jitter", "0.3", "--hue_jitter", "0.1", "--augmented_variants", "3")


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

    found = make_fixed_set(with_both, 4, chunk=2).loss()

    assert found == pytest.approx(make_fixed_set(alone, 4, chunk=2).loss(), rel=1e-6)
    own = with_both.samples.evaluation_batches(4)
    assert all("held out" not in prompt for batch in own for prompt in batch.prompts)
    with_both.held_out = None
    assert make_fixed_set(with_both, 4, chunk=2).loss() != pytest.approx(found, rel=1e-5)


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

    assert make_fixed_set(run, 2, chunk=2).loss() == pytest.approx(make_fixed_set(plain, 2, chunk=2).loss(), rel=1e-6)
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
