"""What shows the images of a run when they are there: contact sheets, a page, and a log."""

from collections.abc import Sequence
from pathlib import Path

from textual_inversion.generation.gallery import RunState
from textual_inversion.generation.image_log import log_images
from textual_inversion.generation.page import write_page
from textual_inversion.generation.plan import Axis
from textual_inversion.generation.xy_sheets import write_sheets


def show_run(
    folder: Path,
    state: RunState,
    axes: Sequence[Axis],
    *,
    num_cols: int | None,
    report_to: Sequence[str],
    logging_dir: str,
) -> Path:
    """Write sheets, page and log of the complete images of a run, and return the first sheet.

    Args:
        folder: where the images are.
        state: has images.
        axes: what has several values, the slowest first.
        num_cols: columns of the sheet; None: a plot by the run's axes.
        report_to: some of `choices.TRACKERS`.
        logging_dir: inside `folder`.

    Raises:
        SettingsError, OutputError: as `write_sheets`, `write_page` and `log_images`.
    """
    sheets = write_sheets(folder, axes, state.images, num_cols)
    write_page(folder, {**state.run, "images": state.images})
    log_images(folder, state.images, report_to, folder / logging_dir)
    return sheets[0]
