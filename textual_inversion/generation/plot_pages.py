"""Tables of images with labels on their sides, drawn from PNG files onto pages of bounded size.

Only one page and one image are in memory at a time, however many images there are. A table that is wider or higher than
a page is cut between columns and rows, and the labels are repeated in each part.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from textual_inversion.generation import lettering
from textual_inversion.generation.image_grid import (
    FAINT_INK,
    HAIRLINE,
    INK,
    MAX_CELL,
    MAX_SMALL_CELL,
    PAPER,
    box_of,
    gap_of,
    label_size,
    tile,
)
from textual_inversion.generation.png_files import UNREADABLE, opened_png

MAX_WIDTH, MAX_HEIGHT = 5000, 4000  # pixels of a page: 80 MB while it is drawn
MIN_SIDE = 96  # pixels: images are reduced this far before a table is cut between its columns
_LABEL_WIDTHS = (200, 400)  # pixels of the labels on the left: at least, at most
_WIDE = 12  # columns: a plot of more is broken into bands below one another, if it has few rows
_MANY = 24  # images of a table: more are shown smaller
_MAX_SOURCE = 64_000_000  # pixels of an image that is read: 200 MB


@dataclass(frozen=True)
class Cell:
    """A place for an image.

    Attributes:
        path: of the PNG file; None: the place stays empty, as it does where the file is missing or damaged.
        caption: written under it.
    """

    path: Path | None = None
    caption: str = ""


@dataclass(frozen=True)
class Head:
    """The label of a column, with a second one in fainter ink below it."""

    text: str
    below: str = ""


@dataclass(frozen=True)
class Table:
    """Images in rows and columns.

    Attributes:
        rows: equally long, but for the last, which may be shorter.
        heads: one for each column, or none.
        labels: one for each row, or none.
        title: written above each page.
        size: width and height of the largest image.
    """

    rows: Sequence[Sequence[Cell]]
    size: tuple[int, int]
    heads: Sequence[Head] = ()
    labels: Sequence[str] = ()
    title: str = ""


@dataclass(frozen=True)
class _Measures:
    """Sizes in pixels that all pages of a table share.

    Attributes:
        box: of an image, without its frame.
        margin: of the labels on the left, with the gap after them; 0: there are none.
        columns: of a band.
    """

    box: tuple[int, int]
    margin: int
    columns: int

    @property
    def gap(self) -> int:
        return gap_of(self.box)

    @property
    def pitch(self) -> int:
        """From one column to the next."""
        return self.box[0] + 2 + self.gap


@dataclass(frozen=True)
class _Band:
    """A part of a table, as wide as a page at most: all or some of its columns, all or some of its rows.

    Attributes:
        rows: number and height of each.
        heads: the labels of its columns, above them.
        height: of all of it in pixels.
    """

    columns: range
    rows: Sequence[tuple[int, int]]
    heads: Sequence[Image.Image]
    height: int


def pages(table: Table) -> Iterator[Callable[[], Image.Image]]:
    """For each page of a table a function that draws it; from left to right, and from top to bottom."""
    measures = _measured(table)
    page: list[_Band] = []
    for band in _bands(table, measures):
        if page and sum(one.height + 2 * measures.gap for one in page) + band.height > _room(table, measures):
            yield functools.partial(_drawn, table, measures, page)
            page = []
        page.append(band)
    yield functools.partial(_drawn, table, measures, page)


def fitting_columns(size: tuple[int, int], wanted: int) -> int:
    """How many of the wanted columns of images fit on a page; no label stands on the left."""
    box = _box(size, min(wanted, _most_columns(0)), 0)
    return min(wanted, max(1, (MAX_WIDTH - 3 * gap_of(box)) // (box[0] + 2 + gap_of(box))))


# ---------------------------------------------------------------------------------------------------------- measures


def _measured(table: Table) -> _Measures:
    margin = 0
    if table.labels:
        wide = min(box_of(*table.size)[0], MAX_SMALL_CELL)
        margin = min(_LABEL_WIDTHS[1], max(_LABEL_WIDTHS[0], wide)) + gap_of((wide, wide))
    count = max(map(len, table.rows))
    bands = round((count / len(table.rows) / 2) ** 0.5) if table.heads and count > _WIDE else 1
    columns = -(-count // max(1, bands))
    columns = -(-columns // -(-columns // _most_columns(margin)))
    is_large = count * len(table.rows) > _MANY
    return _Measures(_box(table.size, columns, margin, is_large), margin, columns)


def _room(table: Table, measures: _Measures) -> int:
    """The height that a page has for bands."""
    title = _title(table.title, measures, MAX_WIDTH).height + 2 * measures.gap if table.title else 0
    return MAX_HEIGHT - 4 * measures.gap - title


def _most_columns(margin: int) -> int:
    gap = gap_of((MAX_CELL, MAX_CELL))
    return (MAX_WIDTH - margin - 3 * gap) // (MIN_SIDE + 2 + gap)


def _box(size: tuple[int, int], columns: int, margin: int, is_large: bool = False) -> tuple[int, int]:
    """The box of an image, small enough for the columns, but not under `MIN_SIDE`.

    Args:
        is_large: where so many images are together, they are not enlarged without need.
    """
    longest = max(size)
    whole = longest * -(-MIN_SIDE // longest)
    box = box_of(*size, cell=min(whole, MAX_SMALL_CELL) if is_large else None)
    gap = gap_of(box)
    room = (MAX_WIDTH - margin - 3 * gap) // columns - 2 - gap
    if box[0] > room:
        factor = max(room, MIN_SIDE) / box[0]
        box = box_of(*size, cell=max(1, int(max(box) * factor)))
    if box[1] > MAX_HEIGHT // 2:  # of a shape that no model makes
        box = max(1, box[0] * MAX_HEIGHT // 2 // box[1]), MAX_HEIGHT // 2
    return box


def _head(head: Head, measures: _Measures) -> Image.Image:
    """The label of a column as a block."""
    size, width = label_size(measures.box), measures.box[0] + 2
    blocks = [_text(head.text, size, width)]
    if head.below:
        blocks.append(_text(head.below, size, width, FAINT_INK))
    field = Image.new("RGB", (width, sum(block.height for block in blocks)), PAPER)
    top = 0
    for block in blocks:
        field.paste(block, (0, top))
        top += block.height
    return field


def _row_height(cells: Sequence[Cell], label: str, measures: _Measures) -> int:
    captions = [_caption(cell.caption, measures).height + measures.gap // 2 for cell in cells if cell.caption]
    image = measures.box[1] + 2 + max(captions, default=0)
    return max(image, _label(label, measures).height if label else 0)


def _bands(table: Table, measures: _Measures) -> Iterator[_Band]:
    """The bands of a table: as many rows as a page holds, cut into columns, then the next rows."""
    heads = [_head(head, measures) for head in table.heads]
    above = max(head.height for head in heads) + measures.gap if heads else 0
    count = max(map(len, table.rows))
    for rows, height in _cut(table, measures, _room(table, measures) - above):
        for first in range(0, count, measures.columns):
            columns = range(first, min(first + measures.columns, count))
            yield _Band(columns, rows, [heads[column] for column in columns] if heads else [], above + height)


def _cut(table: Table, measures: _Measures, room: int) -> Iterator[tuple[list[tuple[int, int]], int]]:
    """Rows that fit below one another, as (number, height), and their height together."""
    part: list[tuple[int, int]] = []
    height = -measures.gap
    for number, cells in enumerate(table.rows):
        of_row = _row_height(cells, table.labels[number] if table.labels else "", measures)
        if part and height + measures.gap + of_row > room:
            yield part, height
            part, height = [], -measures.gap
        part.append((number, of_row))
        height += measures.gap + of_row
    yield part, height


# ----------------------------------------------------------------------------------------------------------- drawing


def _drawn(table: Table, measures: _Measures, bands: Sequence[_Band]) -> Image.Image:
    """One page."""
    gap, border = measures.gap, 2 * measures.gap
    width = measures.margin + max(len(band.columns) for band in bands) * measures.pitch - gap
    title = _title(table.title, measures, max(width, 2 * measures.box[0])) if table.title else None
    above = title.height + 2 * gap if title else 0
    height = above + sum(band.height + 2 * gap for band in bands) - 2 * gap
    size = max(width, title.width if title else 0) + 2 * border, height + 2 * border
    page = Image.new("RGB", size, PAPER)
    if title:
        page.paste(title, (border, border))
    top = border + above
    for band in bands:
        _draw_band(page, table, measures, band, top)
        top += band.height + 2 * gap
    return page


def _draw_band(page: Image.Image, table: Table, measures: _Measures, band: _Band, top: int) -> None:
    border = 2 * measures.gap
    lefts = [border + measures.margin + position * measures.pitch for position in range(len(band.columns))]
    lowest = max((head.height for head in band.heads), default=0)
    for left, head in zip(lefts, band.heads, strict=False):
        page.paste(head, (left, top + lowest - head.height))
    top += lowest + measures.gap if band.heads else 0
    for number, height in band.rows:
        if table.labels:
            label = _label(table.labels[number], measures)
            page.paste(label, (border, top + max(0, (measures.box[1] + 2 - label.height) // 2)))
        for left, column in zip(lefts, band.columns, strict=True):
            if column < len(table.rows[number]):
                _put(page, table.rows[number][column], (left, top), measures)
        top += height + measures.gap


def _put(page: Image.Image, cell: Cell, corner: tuple[int, int], measures: _Measures) -> None:
    """Draw an image and its caption, or an empty frame."""
    (left, top), (width, height) = corner, measures.box
    shown = _read(cell.path, measures.box) if cell.path is not None else None
    if shown is None:
        ImageDraw.Draw(page).rectangle((left, top, left + width + 1, top + height + 1), outline=HAIRLINE)
    else:
        page.paste(shown, corner)
    if cell.caption:
        page.paste(_caption(cell.caption, measures), (left, top + height + 2 + measures.gap // 2))


def _read(path: Path, box: tuple[int, int]) -> Image.Image | None:
    """The image of a file in its frame; None where there is none that can be read."""
    try:
        with opened_png(path) as image:
            return tile(image, box) if image.width * image.height <= _MAX_SOURCE else None
    except UNREADABLE:
        return None


def _text(text: str, size: int, width: int, color: lettering.Color = INK) -> Image.Image:
    return lettering.block(text, size, width, color=color, background=PAPER)


def _caption(text: str, measures: _Measures) -> Image.Image:
    return _text(text, label_size(measures.box), measures.box[0] + 2)


def _label(text: str, measures: _Measures) -> Image.Image:
    return _text(text, label_size(measures.box), measures.margin - measures.gap)


def _title(text: str, measures: _Measures, width: int) -> Image.Image:
    return _text(text, round(1.3 * label_size(measures.box)), width)
