"""What a list of concepts leaves behind: an embedding file for each, one table, and contact sheets."""

from collections.abc import Sequence
from pathlib import Path

from textual_inversion.cluster.lesson_run import IMAGES
from textual_inversion.cluster.lessons import Group, Lesson, run_folder
from textual_inversion.cluster.tables import aligned, as_csv, figure
from textual_inversion.cluster.teaching import TAUGHT, Known, Teaching
from textual_inversion.data.image_folder import find_images
from textual_inversion.data.images import load_image
from textual_inversion.embeddings import file_names
from textual_inversion.formats.embedding_file import read_embeddings, write_pdparams, write_safetensors
from textual_inversion.generation.image_grid import contact_sheet
from textual_inversion.generation.png_files import UNREADABLE, opened_png, save_png
from textual_inversion.system import atomic
from textual_inversion.system.addresses import path_of
from textual_inversion.system.errors import TextualInversionError

TABLE, EMBEDS = "concepts.csv", "embeds"
_ON_SHEET, _COLUMNS, _CELL = 200, 10, 128  # concepts on a sheet, concepts in a row, pixels
_SHOWN = 30  # concepts of the table that is printed


def write(teaching: Teaching, left_out: Sequence[tuple[str, str]], *, has_images: bool) -> list[str]:
    """Write the embeddings, the table and the contact sheets.

    Args:
        left_out: (placeholder token, reason) of concepts that could not be tried.
        has_images: whether runs drew an image of each concept.

    Returns:
        What is to be said, in lines.

    Raises:
        OutputError: something cannot be written.
    """
    output, concepts = teaching.output, teaching.by_concept()
    taught = [(group, one) for (group, one), known in concepts if known is not None and known.status == TAUGHT]
    folder = atomic.make_folder(output / EMBEDS)
    for group in dict.fromkeys(group.name for group, _ in taught):
        _copy(next(run for run, _ in taught if run.name == group), output, folder)
    rows = _rows(concepts, left_out, output)
    atomic.write_text(output / TABLE, as_csv(rows))
    sheets = _sheets(taught, output) if has_images and taught else []
    lines = aligned(rows[: 1 + _SHOWN], without="run")
    if len(rows) > 1 + _SHOWN:
        lines.append(f"… and {len(rows) - 1 - _SHOWN} more")
    failed = [row for row in rows[1:] if row[-2] != TAUGHT]
    lines += [f"{row[0]} is not learned: {row[-2]}" for row in failed]
    lines.append(f"{len(taught)} of {len(rows) - 1} concepts are learned; table: {output / TABLE}")
    if sheets:
        lines.append(f"images: {', '.join(str(sheet) for sheet in sheets)}")
    return [*lines, f"embeddings: {folder}"]


def _copy(group: Group, output: Path, folder: Path) -> None:
    """Write the files of each concept of a run, as if it had been learned alone."""
    learned = {one.placeholder_token: one for one in read_embeddings(run_folder(output, group) / file_names.FINAL_NAME)}
    for lesson in group.lessons:
        write_pdparams(folder / f"{lesson.name}.pdparams", [learned[lesson.token]])
        write_safetensors(folder / f"{lesson.name}.safetensors", learned[lesson.token])


def _rows(
    concepts: Sequence[tuple[tuple[Group, Lesson], Known | None]], left_out: Sequence[tuple[str, str]], output: Path
) -> list[list[str]]:
    """The table: its head, then a row for each concept. The last columns are the status and the run."""
    rows = [["word", "images", "together", "loss before", "loss after", "seconds", "status", "run"]]
    for (group, one), known in concepts:
        figures = (known.figures if known is not None else None) or {}
        size, seconds = len(group.lessons), figures.get("seconds")
        status = "not begun" if known is None else known.status + (f": {known.error}" if known.error else "")
        losses = [figure(figures.get("loss_before")), figure(figures.get("loss_after"))]
        each = figure(None if seconds is None else seconds / size)
        folder = run_folder(output, group).relative_to(output).as_posix()
        rows.append([one.token, _count(one.images), str(size), *losses, each, status, folder])
    return rows + [[token, "", "", "", "", "", f"left out: {reason}", ""] for token, reason in left_out]


def _count(images: str) -> str:
    try:
        return str(len(find_images(path_of(images))))
    except TextualInversionError:
        return ""


def _sheets(taught: Sequence[tuple[Group, Lesson]], output: Path) -> list[Path]:
    """Write contact sheets: the first training image of each concept, and beside it its image."""
    written = []
    for number, first in enumerate(range(0, len(taught), _ON_SHEET)):
        images, labels = [], []
        for group, one in taught[first : first + _ON_SHEET]:
            pair = _pair(group, one, output)
            if pair is not None:
                images += pair
                labels += [one.token, "learned"]
        if images:
            path = output / ("sheet.png" if number == 0 else f"sheet-{number + 1}.png")
            columns = min(2 * _COLUMNS, len(images))
            title = "Training image | learned"
            save_png(contact_sheet(images, columns=columns, labels=labels, title=title, cell=_CELL), path)
            written.append(path)
    return written


def _pair(group: Group, one: Lesson, output: Path) -> list | None:
    """A training image and the image of a concept; None where one of them is gone."""
    drawn = sorted((run_folder(output, group) / IMAGES).glob("*-seed*.png"))
    place = group.lessons.index(one)
    try:
        with opened_png(drawn[place]) as image:
            shown = image.convert("RGB")
        return [load_image(find_images(path_of(one.images))[0]), shown]
    except (IndexError, TextualInversionError, *UNREADABLE):
        return None
