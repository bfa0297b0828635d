"""Where a focal crop lies, and which parts cover an image."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from textual_inversion.data.cropping import focal_box, focus_of, tile_boxes


def scene(size, box, thing="red", ground=(120, 140, 120)):
    image = Image.new("RGB", size, ground)
    ImageDraw.Draw(image).ellipse(box, fill=thing)
    return image


@pytest.mark.parametrize("thing", ["red", (122, 200, 118), "white", "black"])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((300, 100), (220, 20, 280, 80)), ((300, 100), (5, 20, 65, 80)), ((300, 100), (120, 10, 180, 70)),
        ((100, 300), (20, 210, 80, 270)), ((100, 300), (20, 5, 80, 65)),
    ],
)  # fmt: skip
def test_a_crop_holds_the_whole_of_what_stands_out_about_its_middle(size, box, thing):
    found = focal_box(size, 1.0, focus_of(scene(size, box, thing)))

    assert (found[2] - found[0], found[3] - found[1]) == (100, 100)
    assert found[0] >= 0 and found[1] >= 0 and found[2] <= size[0] and found[3] <= size[1]
    assert found[0] <= box[0] and found[1] <= box[1] and found[2] >= box[2] and found[3] >= box[3]
    axis = 0 if size[0] > size[1] else 1
    middle, wanted = (found[axis] + found[axis + 2]) / 2, (box[axis] + box[axis + 2]) / 2
    assert abs(middle - np.clip(wanted, 50, 250)) < 12


def test_fine_texture_wins_over_a_flat_ground_and_a_plain_image_is_cut_in_the_middle():
    image = Image.new("RGB", (300, 100), (128, 128, 128))
    noise = np.random.default_rng(0).integers(0, 255, (100, 60, 1), dtype=np.uint8).repeat(3, axis=2)
    image.paste(Image.fromarray(noise), (10, 0))

    assert focal_box((300, 100), 1.0, focus_of(image))[0] <= 10
    assert focal_box((300, 100), 1.0, focus_of(Image.new("RGB", (300, 100), "white"))) == (100, 0, 200, 100)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "size", [(1024, 768), (768, 1024), (4000, 700), (640, 640), (1000, 640), (130, 128), (64, 900)]
)
@pytest.mark.parametrize("shape", [(128, 128), (192, 128), (128, 256)])
def test_parts_cover_all_of_an_image_in_the_shape_of_the_target(size, shape, rows):
    boxes = tile_boxes(size, shape, rows)

    seen = np.zeros((size[1], size[0]), dtype=int)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0], rel=0.05)
        seen[top:bottom, left:right] += 1
    assert len({(right - left, bottom - top) for left, top, right, bottom in boxes}) == 1
    covered = (seen > 0).mean()
    assert covered == 1.0 or (len(boxes) == 1 and covered > 1 / 1.22)
    assert len(set(boxes)) == len(boxes)


def test_parts_overlap_by_a_quarter_at_least_and_rows_are_as_many_as_the_pixels_allow():
    boxes = tile_boxes((700, 700), (128, 128), 2)
    assert boxes == [(0, 0, 400, 400), (300, 0, 700, 400), (0, 300, 400, 700), (300, 300, 700, 700)]
    assert len(tile_boxes((700, 700), (400, 400), 3)) == 4  # three rows would be of 280 pixels each
    assert tile_boxes((700, 700), (512, 512), 2) == [(0, 0, 700, 700)]
    wide = tile_boxes((1000, 400), (400, 400), 1)
    assert all(after[0] - before[0] <= 300 for before, after in zip(wide, wide[1:], strict=False))
    assert (wide[0][0], wide[-1][2], len(wide)) == (0, 1000, 3)
