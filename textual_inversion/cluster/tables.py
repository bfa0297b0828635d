"""Tables of many runs: rows of texts as a CSV file, and as lines for a terminal."""

import csv
import io
from collections.abc import Sequence

from textual_inversion.system.terminal_text import visible

_LONGEST = 60  # letters of a cell on a terminal

Rows = Sequence[Sequence[str]]


def as_csv(rows: Rows) -> str:
    """The rows as CSV. No cell is a formula for a spreadsheet, whatever a folder or a word is called."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_no_formula(visible(cell)) for cell in row] for row in rows])
    return text.getvalue()


def _no_formula(cell: str) -> str:
    if cell[:1] not in ("=", "+", "-", "@"):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def aligned(rows: Rows, *, without: str) -> list[str]:
    """The rows as lines of a table, without the column of one name."""
    left_out = rows[0].index(without)
    kept = [[visible(cell)[:_LONGEST] for place, cell in enumerate(row) if place != left_out] for row in rows]
    widths = [max(len(row[column]) for row in kept) for column in range(len(kept[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in kept]


def figure(value: float | None) -> str:
    """A figure as a cell."""
    return "" if value is None else f"{value:.6g}"
