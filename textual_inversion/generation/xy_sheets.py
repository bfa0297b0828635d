"""Contact sheets of a run, read from its PNG files: X/Y plots by axis, or images in rows with captions.

Two axes make a plot with labels on both sides, further axes further sheets. The first is `contact_sheet.png`, the
others name what they show, such as `contact_sheet-seed-3.png`; a plot that is too large for one sheet goes on in
`contact_sheet-seed-3-page-2.png`. The columns of `--compare` lie side by side, prompts below one another, and of the
other axes the one with most values is taken first.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from textual_inversion.generation import png_files
from textual_inversion.generation.labels import caption, scores_of, setting_text, value_of, value_text
from textual_inversion.generation.plan import Axis
from textual_inversion.generation.plot_pages import Cell, Head, Table, fitting_columns, pages
from textual_inversion.generation.png_files import UNREADABLE, opened_png
from textual_inversion.system import atomic
from textual_inversion.system.progress import print_note

SHEET = "contact_sheet.png"
MOST_SHEETS = 50
_FURTHER = "contact_sheet-*.png"
_MARK = "contact_sheet"  # a text chunk by which sheets of earlier runs are known
_LONGEST_SLUG = 40  # letters of a value in a file's name
_ONE_ROW = 12  # values of a single axis that are still drawn side by side
_NOT_SETTINGS = ("file", "key", "bytes", "score", "safety_checker")
_EMPTIEST = 4  # times as many places as images: then a plot shows nothing but gaps

Entry = Mapping[str, Any]


def write_sheets(
    folder: Path, axes: Sequence[Axis], entries: Sequence[Entry], num_cols: int | None = None
) -> list[Path]:
    """Write the contact sheets of a run, and remove further ones of an earlier run.

    The images are read from their files one by one. At most `MOST_SHEETS` are written; a note says what is left out.

    Args:
        folder: where the images are.
        axes: what has several values, outermost first; none: the images in rows, with captions.
        entries: the images as in the manifest: `file`, `prompt`, `seed` and the other facts. The place of an image that
            is not among them, or whose file is missing, stays empty.
        num_cols: columns; if given, there are captions in place of a plot.

    Returns:
        The sheets, the first one being `contact_sheet.png`; [] without images, and earlier sheets then stay.

    Raises:
        OutputError: a file cannot be written.
    """
    if not entries:
        return []
    written: list[Path] = []
    drawings = _drawings(folder, axes, entries, num_cols)
    for stem, draw in itertools.islice(drawings, MOST_SHEETS):
        written.append(folder / (f"{stem}.png" if written else SHEET))
        png_files.save_png(draw(), written[-1], text={_MARK: "yes"})
    _remove_others(folder, written)
    if next(drawings, None) is not None:
        print_note(
            f"{len(written)} contact sheets were written, with only a part of the {len(entries)} images; index.html "
            "shows all of them"
        )
    return written


def _drawings(
    folder: Path, axes: Sequence[Axis], entries: Sequence[Entry], num_cols: int | None
) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    """(name without its ending, function that draws it) of each sheet; the first one's name is not used."""
    several = [axis for axis in axes if len(axis.values) > 1]
    plots = _plots(folder, several, entries) if several and num_cols is None else None
    for stem, table in plots or [("", _in_rows(folder, several, entries, num_cols))]:
        for number, draw in enumerate(pages(table), 1):
            parts = ["contact_sheet", stem, f"page-{number}" if number > 1 else ""]
            yield "-".join(filter(None, parts)), draw


def _remove_others(folder: Path, written: Sequence[Path]) -> None:
    """Remove the further sheets of an earlier run, which would pass for sheets of this one."""
    for path in sorted(set(folder.glob(_FURTHER)) - set(written)):
        with contextlib.suppress(*UNREADABLE):
            with opened_png(path) as image:
                is_own = _MARK in image.info
            if is_own:
                atomic.remove_file(path)


# ------------------------------------------------------------------------------------------------------------- plots


def _plots(folder: Path, axes: Sequence[Axis], entries: Sequence[Entry]) -> Iterator[tuple[str, Table]] | None:
    """(stem, table) of each X/Y plot; None where plots would hide images or show mostly gaps."""
    across, down, others = _arranged(axes)
    if across is None:
        return None
    places: dict[tuple, Entry] = {}
    for entry in entries:
        places.setdefault(tuple(value_of(entry, axis.name) for axis in (across, down, *others) if axis), entry)
    order = [{value: number for number, value in enumerate(axis.values)} for axis in others]
    drawn = {tuple(value_of(entry, axis.name) for axis in others) for entry in entries}
    hides_some = len(places) < len(entries)  # several in one place: something else than the axes differs
    size = len(across.values) * (len(down.values) if down else 1) * len(drawn)
    if hides_some or size > _EMPTIEST * len(entries):
        return None
    shown = sorted(drawn, key=lambda one: [known.get(value, -1) for known, value in zip(order, one, strict=True)])
    settings = ([*zip(others, chosen, strict=True)] for chosen in shown)
    return ((_stem(one), _plot(folder, across, down, one, places, entries)) for one in settings)


def _arranged(axes: Sequence[Axis]) -> tuple[Axis | None, Axis | None, list[Axis]]:
    """The axis from left to right, the one from top to bottom, and the others; the first is None for no plot."""
    by_name = {axis.name: axis for axis in axes}
    by_length = sorted(axes, key=lambda axis: -len(axis.values))  # of equal ones the outermost first
    across = by_name.get("embeds")
    down = by_name.get("prompt")
    if across is None:
        across = next((axis for axis in by_length if axis is not down), None)
    if down is None:
        down = next((axis for axis in by_length if axis is not across), None)
    if across is None or (down is None and across.name != "embeds" and len(across.values) > _ONE_ROW):
        return None, None, []
    return across, down, [axis for axis in axes if axis is not across and axis is not down]


def _plot(
    folder: Path,
    across: Axis,
    down: Axis | None,
    settings: Sequence[tuple[Axis, Any]],
    places: Mapping[tuple, Entry],
    entries: Sequence[Entry],
) -> Table:
    """The table of one X/Y plot.

    Args:
        settings: the further axes, and the value that each has in this plot.
    """
    fixed = [value for _, value in settings]
    rows = [
        [_cell(folder, places.get(tuple([x, *([y] if down else []), *fixed]))) for x in across.values]
        for y in (down.values if down else (None,))
    ]
    return Table(
        rows,
        _size(folder, entries),
        heads=[Head(setting_text(across.name, x), _score(across, x, entries)) for x in across.values],
        labels=[setting_text(down.name, y) for y in down.values] if down else (),
        title=", ".join(setting_text(axis.name, value) for axis, value in settings),
    )


def _score(axis: Axis, value: Any, entries: Sequence[Entry]) -> str:
    """What the images of a column of a comparison scored in the mean, or ""."""
    if axis.name != "embeds":
        return ""
    scores = scores_of(entry for entry in entries if entry.get("embeds") == value)
    return ", ".join(f"{name} {score:.3f}" for name, score in scores.items())


def _stem(settings: Sequence[tuple[Axis, Any]]) -> str:
    """What a file's name says of the further axes: seed-3-scheduler-euler-a; a value that is no name by its number."""
    parts = []
    for axis, value in settings:
        text = value_text(axis.name, value)
        slugs = [re.sub(r"[^A-Za-z0-9.+]+", "-", value_text(axis.name, one)).strip("-.") for one in axis.values]
        slug = slugs[axis.values.index(value)]
        is_name = 0 < len(slug) <= _LONGEST_SLUG and slugs.count(slug) == 1 and len(text) < 2 * _LONGEST_SLUG
        parts.append(f"{axis.name}-{slug if is_name else axis.values.index(value) + 1}")
    return "-".join(parts)


# -------------------------------------------------------------------------------------------------------------- rows


def _in_rows(folder: Path, axes: Sequence[Axis], entries: Sequence[Entry], num_cols: int | None) -> Table:
    """All images in rows, each with a caption."""
    size = _size(folder, entries)
    columns = fitting_columns(size, min(num_cols or _columns(entries), len(entries)))
    varying = [axis.name for axis in axes] or _varying(entries)
    cells = [_cell(folder, entry, caption(entry, varying)) for entry in entries]
    return Table([cells[first : first + columns] for first in range(0, len(cells), columns)], size)


def _columns(entries: Sequence[Entry]) -> int:
    """A row for each prompt and setting; where each has one image only, a rectangle."""
    keys = _varying(entries)
    groups = {tuple(value_of(entry, key) for key in keys if key != "seed") for entry in entries}
    each = len(entries) // len(groups)
    return each if each > 1 and each * len(groups) == len(entries) else max(1, round(len(entries) ** 0.5 + 0.5))


def _varying(entries: Sequence[Entry]) -> list[str]:
    """The facts that differ between the images, other than what names each."""
    names = dict.fromkeys(name for entry in entries for name in entry if name not in _NOT_SETTINGS)
    return [name for name in names if len({value_of(entry, name) for entry in entries}) > 1]


def _cell(folder: Path, entry: Entry | None, text: str = "") -> Cell:
    name = entry.get("file") if entry is not None else None
    is_name = isinstance(name, str) and PurePath(name).name == name  # a manifest must not lead out of its folder
    return Cell(folder / name if is_name else None, text)


def _size(folder: Path, entries: Sequence[Entry]) -> tuple[int, int]:
    """Width and height of the largest image, as recorded, else of the first one that can be read."""
    sizes = [(entry.get("width"), entry.get("height")) for entry in entries]
    known = [size for size in sizes if all(isinstance(side, int) and side > 0 for side in size)]
    for entry in entries if not known else ():
        path = _cell(folder, entry).path
        with contextlib.suppress(*UNREADABLE):
            if path is not None:
                with opened_png(path) as image:
                    return image.size
    return (max(width for width, _ in known), max(height for _, height in known)) if known else (512, 512)
