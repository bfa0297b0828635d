"""PNG files say how they were made, and are written complete or not at all."""

import pytest
from PIL import Image

from textual_inversion.generation import png_files
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

RED = (220, 20, 20)


def test_a_png_tells_how_it_was_made(tmp_path):
    text = {"prompt": "一张<cat-toy>的照片", "negative_prompt": "", "seed": "7", "note": "café\nsecond line"}
    png_files.save_png(Image.new("RGB", (20, 20), RED), tmp_path / "图 1.png", text=text)

    with Image.open(tmp_path / "图 1.png") as saved:
        assert saved.text == text
        assert saved.getpixel((0, 0)) == RED


def test_half_characters_of_a_file_name_do_not_stop_a_png(tmp_path):
    png_files.save_png(
        Image.new("RGB", (20, 20), RED),
        tmp_path / "a.png",
        text={"file": b"caf\xe9".decode("utf-8", "surrogateescape")},
    )
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.text["file"].startswith("caf")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    png_files.save_png(Image.new("RGB", (20, 20), RED), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def full(step):
        if step == "write":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_step", full)
    with pytest.raises(OutputError, match="a.png: the disk is full"):
        png_files.save_png(Image.new("RGB", (20, 20)), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
