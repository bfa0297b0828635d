"""The sheet of masks shows what is learned as it is, and covers the rest."""

import numpy as np
from PIL import Image

from helpers.training_runs import draw_images, masks_of, set_up, short_run
from textual_inversion.training.mask_sheet import covered


def test_what_has_no_weight_is_covered_and_the_rest_is_as_it_is():
    weights = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32).repeat(8, 0).repeat(8, 1)

    shown = np.asarray(covered(Image.new("RGB", (16, 16), (10, 200, 30)), weights)).astype(int)

    assert (shown[:, :8] == (10, 200, 30)).all()
    assert np.abs(shown[:, 8:] - (0.8 * np.array((225, 40, 150)) + 0.2 * np.array((10, 200, 30)))).max() <= 1


def test_a_run_with_masks_writes_it_before_the_first_step_and_one_without_does_not(tmp_path, monkeypatch, capsys):
    images = draw_images(tmp_path / "images")
    masks = masks_of(images, tmp_path / "masks")
    argv = short_run(tmp_path, "--only_save_embeds", "--train_data_dir", str(images), "--mask_dir", str(masks))

    set_up(monkeypatch, argv)

    sheet = Image.open(tmp_path / "out" / "masks.png")
    assert sheet.width > 6 * 100  # three images, each beside itself
    assert f"what the masks leave to be learned: {tmp_path / 'out' / 'masks.png'}" in capsys.readouterr().out
    set_up(monkeypatch, short_run(tmp_path, "--only_save_embeds", "--output_dir", str(tmp_path / "plain")))
    assert not (tmp_path / "plain" / "masks.png").exists()
