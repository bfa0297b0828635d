"""Which files a word is learned from again when an image is left out."""

from PIL import Image

from textual_inversion.evaluation.leave_one_out_measuring import copy_of_all_but


def test_an_image_leaves_with_its_caption_and_all_else_stays(tmp_path):
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(images / f"{name}.png")
        (images / f"{name}.txt").write_text(name)

    folder = copy_of_all_but(images / "a.png", tmp_path / "left")

    assert sorted(path.name for path in folder.iterdir()) == ["b.png", "b.txt"]
    assert (folder / "b.png").read_bytes() == (images / "b.png").read_bytes()
