"""Sheets of images: nothing is lost, cut off or moved."""

import numpy as np
import pytest
from PIL import Image

from textual_inversion.generation import image_grid, png_files

COLORS = [(220, 20, 20), (20, 160, 20), (20, 20, 220), (200, 180, 0), (180, 0, 180), (0, 170, 170)]


def plain_images(count, size=(200, 200)):
    return [Image.new("RGB", size, COLORS[number % len(COLORS)]) for number in range(count)]


def boxes(sheet):
    """Where each colour stands on the sheet: color -> (left, top, right, bottom), absent ones left out."""
    pixels = np.asarray(sheet)
    found = {}
    for color in COLORS:
        rows, columns = np.nonzero((pixels == color).all(-1))
        if len(rows):
            found[color] = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return found


def sizes(sheet):
    return {(right - left, bottom - top) for left, top, right, bottom in boxes(sheet).values()}


def ink(sheet, box):
    """Number of dark pixels in a region: text."""
    return int((np.asarray(sheet.crop(box)).max(-1) < 150).sum())


# --------------------------------------------------------------------------------------------------- contact sheet


def test_a_contact_sheet_shows_every_image_whole_in_reading_order():
    found = boxes(image_grid.contact_sheet(plain_images(5), columns=3))
    assert sizes(image_grid.contact_sheet(plain_images(5), columns=3)) == {(200, 200)}
    corners = [found[color][:2] for color in COLORS[:5]]
    assert corners == sorted(corners, key=lambda corner: (corner[1], corner[0]))
    assert len({top for _, top in corners}) == 2 and corners[3][0] == corners[0][0]


@pytest.mark.parametrize(
    "size, shown",
    [((64, 64), (192, 192)), ((160, 160), (160, 160)), ((128, 64), (256, 128)), ((512, 768), (341, 512))],
)
def test_small_images_grow_by_a_whole_factor_and_large_ones_shrink(size, shown):
    assert sizes(image_grid.contact_sheet(plain_images(2, size), columns=2)) == {shown}


def test_an_image_in_its_own_size_is_not_touched():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    sheet = np.asarray(image_grid.contact_sheet([noise], columns=1))
    inside = (sheet.shape[0] - 200) // 2
    assert np.array_equal(sheet[inside : inside + 200, inside : inside + 200], np.asarray(noise))


def test_the_cell_size_can_be_given():
    assert sizes(image_grid.contact_sheet(plain_images(4), columns=2, cell=80)) == {(80, 80)}


def test_images_of_unlike_shape_keep_theirs_and_stand_centred():
    sheet = image_grid.contact_sheet([plain_images(1, (200, 100))[0], plain_images(2, (100, 200))[1]], columns=2)
    wide, high = boxes(sheet)[COLORS[0]], boxes(sheet)[COLORS[1]]
    assert (wide[2] - wide[0], wide[3] - wide[1]) == (200, 100)
    assert (high[2] - high[0], high[3] - high[1]) == (100, 200)
    assert wide[1] + wide[3] == high[1] + high[3]


def test_labels_stand_under_their_images_and_a_title_above():
    sheet = image_grid.contact_sheet(plain_images(2), columns=2, labels=["", "a photo of a <cat-toy>"], title="Title")
    found = boxes(sheet)
    (left, _, right, bottom), second = found[COLORS[0]], found[COLORS[1]]
    assert ink(sheet, (left, bottom + 2, right, sheet.height)) == 0
    assert ink(sheet, (second[0], bottom + 2, second[2], sheet.height)) > 50
    assert ink(sheet, (0, 0, sheet.width, second[1] - 2)) > 50


def test_a_long_label_is_wrapped_and_stays_under_its_image():
    sheet = image_grid.contact_sheet(plain_images(2), columns=2, labels=["many words " * 40, "x" * 400])
    (_, _, first_right, bottom), (second_left, _, second_right, _) = (boxes(sheet)[color] for color in COLORS[:2])
    assert ink(sheet, (first_right + 2, bottom + 2, second_left - 2, sheet.height)) == 0
    assert ink(sheet, (second_right + 2, 0, sheet.width, sheet.height)) == 0


def test_a_sheet_needs_images_and_a_label_for_each():
    with pytest.raises(ValueError, match="no images"):
        image_grid.contact_sheet([], columns=3)
    with pytest.raises(ValueError, match="2 images but 1 labels"):
        image_grid.contact_sheet(plain_images(2), columns=3, labels=["one"])


# ------------------------------------------------------------------------------------------------ overview and strip


def test_an_overview_stands_in_three_blocks_with_a_row_per_prompt():
    training, before, after = plain_images(6)[4:], plain_images(2), plain_images(4)[2:]
    sheet = image_grid.overview(training, before, after, ["a <cat-toy> on the beach", "a <cat-toy> at night"])
    found = boxes(sheet)
    assert max(found[color][2] for color in COLORS[4:]) < min(found[color][0] for color in COLORS[:2])
    assert max(found[color][2] for color in COLORS[:2]) < min(found[color][0] for color in COLORS[2:4])
    assert found[COLORS[0]][1] == found[COLORS[2]][1] < found[COLORS[1]][1] == found[COLORS[3]][1]
    for color in COLORS[:2]:  # the prompt stands between the training images and its own row
        left, top, _, bottom = found[color]
        assert ink(sheet, (found[COLORS[4]][2] + 40, top, left - 2, bottom)) > 50


def test_an_overview_with_several_images_per_prompt():
    sheet = image_grid.overview([], plain_images(4), plain_images(4), ["one", "two"])
    found = boxes(sheet)
    assert found[COLORS[0]][1] == found[COLORS[1]][1] < found[COLORS[2]][1] == found[COLORS[3]][1]


def test_an_overview_of_many_training_images_keeps_its_height():
    few = image_grid.overview(plain_images(4), plain_images(3), plain_images(3), ["one", "two", "three"])
    many = image_grid.overview(plain_images(300), plain_images(3), plain_images(3), ["one", "two", "three"])
    assert many.height == few.height and many.width < 2 * few.width


@pytest.mark.parametrize("before, after, prompts", [(3, 2, 2), (2, 3, 2), (0, 2, 2), (2, 2, 0)])
def test_an_overview_that_does_not_add_up_is_refused(before, after, prompts):
    with pytest.raises(ValueError, match=f"{before} and {after} images for {prompts} prompts"):
        image_grid.overview(plain_images(1), plain_images(before), plain_images(after), ["prompt"] * prompts)


def test_a_strip_has_a_row_per_step_with_its_number():
    frames = [(0, plain_images(2)), (1500, plain_images(4)[2:])]
    sheet = image_grid.strip(frames, prompts=["a <cat-toy>", "a <cat-toy> in the snow"])
    found = boxes(sheet)
    assert found[COLORS[0]][1] == found[COLORS[1]][1] < found[COLORS[2]][1] == found[COLORS[3]][1]
    assert found[COLORS[0]][0] == found[COLORS[2]][0] and found[COLORS[1]][0] == found[COLORS[3]][0]
    numbers = np.asarray(sheet.crop((0, found[COLORS[2]][1], found[COLORS[2]][0] - 2, found[COLORS[2]][3])))
    assert (numbers.max(-1) < 180).sum() > 20
    for color in COLORS[:2]:
        assert ink(sheet, (found[color][0], 0, found[color][2], found[color][1] - 2)) > 20


def test_prompts_of_a_strip_begin_where_their_columns_do():
    sheet = image_grid.strip([(0, plain_images(6))], prompts=["HHH"] * 6)
    found = boxes(sheet)
    for left, right in zip(COLORS, COLORS[1:], strict=False):
        between = (found[left][2] + 1, 0, found[right][0] - 1, found[right][1] - 2)
        assert ink(sheet, between) == 0


def test_rows_of_a_strip_may_be_of_unlike_length():
    assert len(boxes(image_grid.strip([(0, plain_images(1)), (10, plain_images(3))]))) == 3


def test_a_strip_with_more_prompts_than_columns_is_refused():
    with pytest.raises(ValueError, match="2 prompts"):
        image_grid.strip([(0, plain_images(1))], prompts=["one", "two"])


# ---------------------------------------------------------------------------------------------------- a strip goes on


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (256, 256), (300, 400), (512, 512)])
@pytest.mark.parametrize("prompts", [None, ["a toy", "a very long prompt that runs over several lines " * 3]])
def test_a_saved_strip_goes_on_as_if_it_had_never_been_put_away(tmp_path, size, prompts):
    g = np.random.default_rng(0)
    frames = [
        (step, [Image.fromarray(g.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(2)])
        for step in (0, 90, 1000)
    ]
    first = image_grid.strip(frames[:2], prompts=prompts)
    png_files.save_png(first, tmp_path / "strip.png", text={"frames": first.info["frames"]})

    earlier = image_grid.frames_of(tmp_path / "strip.png", before=1000)
    again = image_grid.strip([*earlier, frames[2]], prompts=prompts)

    assert [step for step, _ in earlier] == [0, 90]
    assert [step for step, _ in image_grid.frames_of(tmp_path / "strip.png", before=90)] == [0]
    assert np.array_equal(np.asarray(again), np.asarray(image_grid.strip(frames, prompts=prompts)))


def test_what_is_no_strip_has_no_frames(tmp_path):
    png_files.save_png(plain_images(1)[0], tmp_path / "plain.png")
    png_files.save_png(plain_images(1)[0], tmp_path / "odd.png", text={"frames": '{"size": 3}'})
    (tmp_path / "cut.png").write_bytes((tmp_path / "plain.png").read_bytes()[:100])
    for name in ("plain.png", "odd.png", "cut.png", "missing.png"):
        assert image_grid.frames_of(tmp_path / name, before=9) == []
