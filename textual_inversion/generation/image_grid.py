"""Sheets of images: contact sheets, the overview of a run, validation images over time.

A sheet is composed of blocks (RGB images on the colour of paper), side by side and one below another. Small images are
enlarged by a whole factor, so that an image of 64 pixels can be judged by eye.
"""

import json
import os
from collections.abc import Sequence

from PIL import Image, ImageDraw
from typing_extensions import TypedDict

from textual_inversion.generation import lettering
from textual_inversion.generation.png_files import UNREADABLE, opened_png
from textual_inversion.system.checked_json import checked, parse_json, whole_number

PAPER = (250, 249, 246)
INK = (38, 38, 42)
FAINT_INK = (112, 112, 118)
HAIRLINE = (218, 216, 210)
MIN_CELL = 160  # pixels: smaller images are enlarged to at least this size
MAX_CELL = 512  # pixels: larger ones are reduced on a contact sheet
MAX_SMALL_CELL = 256  # the same where many are side by side
_MOST_PIXELS = 128_000_000  # of a strip that is read again: 384 MB

Images = Sequence[Image.Image]


class _Layout(TypedDict):
    """Where a strip has its images: their size, and for each step the corner of each."""

    size: list[whole_number(1, MAX_CELL)]
    places: dict[str, list[list[whole_number(0, 10**6)]]]


# --------------------------------------------------------------------------------------------------------- sheets


def contact_sheet(
    images: Images,
    *,
    columns: int,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    cell: int | None = None,
) -> Image.Image:
    """All images in rows of `columns`.

    Args:
        labels: one text per image, written under it.
        title: written above all images.
        cell: longest side of an image on the sheet in pixels; None: their own, within `MIN_CELL` and `MAX_CELL`.

    Raises:
        ValueError: no images, or not one label per image.
    """
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    box = _cell_box(images, cell, MAX_CELL)
    texts = labels if labels is not None else [""] * len(images)
    tiles = [_labelled(image, text, box) for image, text in zip(images, texts, strict=True)]
    gap = gap_of(box)
    return _page(_grid(tiles, columns, gap, 2 * gap if labels else gap), box, title)


def overview(
    training_images: Images,
    before: Images,
    after: Images,
    prompts: Sequence[str],
    *,
    title: str | None = None,
) -> Image.Image:
    """The overview of a run: training images | prompts, images before training | images after it.

    Its `info["frames"]` holds the positions of the images, as that of a `strip`: row 0 is before, row 1 is after.

    Args:
        training_images: as many are shown as fit beside the rows.
        before, after: generated images, those of the first prompt first; the same number for each prompt.
        prompts: one row each.

    Raises:
        ValueError: nothing to show, or a number of images that the number of prompts does not divide.
    """
    if not prompts or not before or not after or len(before) % len(prompts) or len(after) % len(prompts):
        raise ValueError(f"{len(before)} and {len(after)} images for {len(prompts)} prompts")
    box = _cell_box([*before, *after], None, MAX_SMALL_CELL)
    gap = gap_of(box)
    texts = [_text(prompt, label_size(box), round(0.9 * box[0])) for prompt in prompts]
    columns = [
        _headed("Prompt", _cells(texts, (max(text.width for text in texts), box[1])), 1, box),
        _headed("Before", [tile(image, box) for image in before], len(before) // len(prompts), box),
        _headed("After", [tile(image, box) for image in after], len(after) // len(prompts), box),
    ]
    table = _beside(columns, 2 * gap)
    training = _training_block(training_images, len(prompts), box)
    if training is not None:
        line = Image.new("RGB", (1, max(table.height, training.height)), HAIRLINE)
        table = _beside([training, line, table], 3 * gap)
    page = _page(table, box, title)
    if not title:
        left = 2 * gap + (0 if training is None else training.width + 1 + 6 * gap)
        pairs = zip((before, after), columns[1:], (columns[0].width, columns[1].width), strict=True)
        places = {}
        for row, (images, column, width) in enumerate(pairs):
            left += width + 2 * gap
            places[row] = _corners(len(images), len(images) // len(prompts), (left, 2 * gap), column.height, box)
        page.info["frames"] = json.dumps({"size": box, "places": places})
    return page


def _corners(count: int, columns: int, corner: tuple[int, int], height: int, box: tuple[int, int]) -> list:
    """Where the images of a headed grid are, whose upper left corner and height are given."""
    pitch = box[0] + 2 + gap_of(box), box[1] + 2 + gap_of(box)
    rows = -(-count // columns)
    top = corner[1] + height - rows * pitch[1] + gap_of(box)  # the heading is above
    return [(corner[0] + i % columns * pitch[0] + 1, top + i // columns * pitch[1] + 1) for i in range(count)]


def _training_block(images: Images, rows: int, box: tuple[int, int]) -> Image.Image | None:
    if not images:
        return None
    box = _cell_box(images, max(box), MAX_SMALL_CELL)  # photos may be of another shape than what the model makes
    columns = min(3, -(-len(images) // rows))
    shown = images[: columns * max(rows, 2)]
    heading = "Training images" + (f" ({len(shown)} of {len(images)})" if len(shown) < len(images) else "")
    return _headed(heading, [tile(image, box) for image in shown], columns, box)


def strip(frames: Sequence[tuple[int, Images]], *, prompts: Sequence[str] | None = None) -> Image.Image:
    """Validation images over time: one row per step, with the step number on the left.

    Its `info["frames"]` holds the positions of the images. Saved with the strip, it lets `frames_of` cut them out.

    Args:
        frames: (step, images) in the order of the rows.
        prompts: one text per column, written above it.

    Raises:
        ValueError: no images, or more prompts than columns.
    """
    box = _cell_box([image for _, images in frames for image in images], None, MAX_SMALL_CELL)
    gap = gap_of(box)
    if prompts is not None and len(prompts) > max(len(images) for _, images in frames):
        raise ValueError(f"{len(prompts)} prompts above fewer columns")
    steps = [_text(f"step {step}", label_size(box), box[0], FAINT_INK) for step, _ in frames]
    margin = (max(step.width for step in steps), box[1])
    rows = []
    if prompts:
        heads = [_text(prompt, label_size(box), box[0]) for prompt in prompts]
        height = max(head.height for head in heads)
        bottom = [_placed(head, (box[0] + 2, height), 0.0, 1.0) for head in heads]
        rows.append(_beside([Image.new("RGB", (margin[0], height), PAPER), *bottom], gap))
    corners, top = {}, 2 * gap + sum(row.height + gap for row in rows)
    for cell, (step, images) in zip(_cells(steps, margin), frames, strict=True):
        tiles = [tile(image, box) for image in images]
        first, pitch = 2 * gap + cell.width + gap, box[0] + 2 + gap
        corners[step] = [(first + i * pitch + 1, top + 1) for i in range(len(tiles))]
        rows.append(_beside([cell, *tiles], gap))
        top += rows[-1].height + gap
    page = _page(_below(rows, gap), box, None)
    page.info["frames"] = json.dumps({"size": box, "places": corners})
    return page


def frames_of(path: str | os.PathLike[str], before: int) -> list[tuple[int, list[Image.Image]]]:
    """The images of a saved strip.

    A strip of these and of later images of the original size equals the strip of all images.

    Args:
        path: a PNG that `strip` made and that was saved with its `info["frames"]` as text.
        before: only rows of earlier steps than this are read.

    Returns:
        (step, images) of each row; [] where the file is missing or is no such strip.
    """
    try:
        with opened_png(path) as sheet:
            layout = checked(parse_json(sheet.text["frames"]), _Layout)
            (width, height), places = layout["size"], layout["places"].items()
            corners = {int(step): of_row for step, of_row in places if int(step) < before}
            pixels = sheet.width * sheet.height
            if pixels > _MOST_PIXELS or sum(map(len, corners.values())) * width * height > pixels:
                return []
            sheet.load()
        return [
            (step, [sheet.crop((left, top, left + width, top + height)) for left, top in of_row])
            for step, of_row in corners.items()
        ]
    except (AttributeError, KeyError, TypeError, *UNREADABLE):
        return []


# ---------------------------------------------------------------------------------------------------------- blocks


def _cell_box(images: Images, cell: int | None, most: int) -> tuple[int, int]:
    """Width and height of a box for every image; the largest image fills one side of it."""
    if not images:
        raise ValueError("no images for a sheet")
    return box_of(max(image.width for image in images), max(image.height for image in images), cell, most)


def box_of(width: int, height: int, cell: int | None = None, most: int = MAX_CELL) -> tuple[int, int]:
    """Width and height of a box for images of at most this size.

    Args:
        cell: longest side of the box; None: that of the images, if need be enlarged by a whole factor to `MIN_CELL`, or
            reduced to `most`.
    """
    longest = max(width, height)
    if cell is None:
        cell = longest * -(-MIN_CELL // longest) if longest < MIN_CELL else min(longest, most)
    return max(1, round(width * cell / longest)), max(1, round(height * cell / longest))


def tile(image: Image.Image, box: tuple[int, int]) -> Image.Image:
    """The image, scaled to fit into the box and centred, with a thin frame."""
    factor = min(box[0] / image.width, box[1] / image.height)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    scaled = image.convert("RGB")
    if size != image.size:
        scaled = scaled.resize(size, Image.Resampling.LANCZOS)
    field = Image.new("RGB", (box[0] + 2, box[1] + 2), PAPER)
    left, top = (field.width - size[0]) // 2, (field.height - size[1]) // 2
    frame = (left - 1, top - 1, left + size[0], top + size[1])
    ImageDraw.Draw(field).rectangle(frame, outline=HAIRLINE)
    field.paste(scaled, (left, top))
    return field


def _labelled(image: Image.Image, label: str, box: tuple[int, int]) -> Image.Image:
    shown = tile(image, box)
    return _below([shown, _text(label, label_size(box), shown.width)], gap_of(box) // 2) if label else shown


def _headed(heading: str, blocks: Images, columns: int, box: tuple[int, int]) -> Image.Image:
    """A grid of blocks under its heading."""
    grid = _grid(blocks, columns, gap_of(box), gap_of(box))
    return _below([_text(heading, _heading_size(box), max(grid.width, box[0])), grid], gap_of(box))


def _page(content: Image.Image, box: tuple[int, int], title: str | None) -> Image.Image:
    """The content with a title above it and a margin around it."""
    gap = gap_of(box)
    if title:
        content = _below([_text(title, _title_size(box), max(content.width, 2 * box[0])), content], 2 * gap)
    page = Image.new("RGB", (content.width + 4 * gap, content.height + 4 * gap), PAPER)
    page.paste(content, (2 * gap, 2 * gap))
    return page


def _cells(blocks: Images, size: tuple[int, int]) -> list[Image.Image]:
    """Each block in a field as high as a tile, centred vertically."""
    return [_placed(block, (size[0], size[1] + 2), 0.0, 0.5) for block in blocks]


def _placed(block: Image.Image, size: tuple[int, int], across: float, down: float) -> Image.Image:
    """A field of at least `size`; `across` and `down` (0 to 1) share out the free space before and after the block."""
    field = Image.new("RGB", (max(size[0], block.width), max(size[1], block.height)), PAPER)
    field.paste(block, (round(across * (field.width - block.width)), round(down * (field.height - block.height))))
    return field


def _grid(blocks: Images, columns: int, gap_across: int, gap_down: int) -> Image.Image:
    rows = [blocks[first : first + columns] for first in range(0, len(blocks), columns)]
    return _below([_beside(row, gap_across) for row in rows], gap_down)


def _beside(blocks: Images, gap: int) -> Image.Image:
    width = sum(block.width for block in blocks) + gap * (len(blocks) - 1)
    sheet = Image.new("RGB", (width, max(block.height for block in blocks)), PAPER)
    left = 0
    for block in blocks:
        sheet.paste(block, (left, 0))
        left += block.width + gap
    return sheet


def _below(blocks: Images, gap: int) -> Image.Image:
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    sheet = Image.new("RGB", (max(block.width for block in blocks), height), PAPER)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height + gap
    return sheet


# ------------------------------------------------------------------------------------------------- sizes and colours


def _text(text: str, size: int, width: int, color: lettering.Color = INK) -> Image.Image:
    return lettering.block(text, size, width, color=color, background=PAPER)


def gap_of(box: tuple[int, int]) -> int:
    """Pixels between images of this size."""
    return max(10, max(box) // 18)


def label_size(box: tuple[int, int]) -> int:
    """Size in pixels of the font beside images of this size."""
    return max(14, round(max(box) / 17))


def _heading_size(box: tuple[int, int]) -> int:
    return round(1.3 * label_size(box))


def _title_size(box: tuple[int, int]) -> int:
    return round(1.6 * label_size(box))
