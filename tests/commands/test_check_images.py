"""--check_images in a run: lines and images.png, nothing found, and a run that ends."""

import json
import shutil

import pytest
from PIL import Image

import train_textual_inversion
from helpers.training_runs import short_run
from textual_inversion.system.errors import ImageError


def checked(tmp_path, *more):
    return short_run(tmp_path, "--max_train_steps", "1", "--only_save_embeds", "--eval_steps", "0", *more)


def test_a_duplicate_is_said_and_shown_or_refused(tmp_path, capsys):
    argv = checked(tmp_path, "--check_images")
    shutil.copy(tmp_path / "pictures" / "1.png", tmp_path / "pictures" / "copy.png")

    train_textual_inversion.main(argv)

    out = capsys.readouterr().out
    assert "look at the images: copy.png is nearly the same as 1.png; leave one out" in out
    assert Image.open(tmp_path / "out" / "images.png").width > 300
    assert json.loads((tmp_path / "out" / "run.json").read_text())["figures"]["image_findings"]["duplicate"] == 1
    with pytest.raises(ImageError, match="--check_images refuse takes none"):
        train_textual_inversion.main([*argv, "refuse", "--output_dir", str(tmp_path / "refused")])
    assert not (tmp_path / "refused" / "learned_embeds.pdparams").exists()
    assert (tmp_path / "refused" / "images.png").exists()


def test_without_the_flag_nothing_is_looked_at(tmp_path, capsys):
    train_textual_inversion.main(checked(tmp_path))

    assert "look at the images" not in capsys.readouterr().out and not (tmp_path / "out" / "images.png").exists()
