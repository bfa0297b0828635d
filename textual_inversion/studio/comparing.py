"""What differs between the settings of runs, and what of one run is not the default."""

from collections.abc import Mapping, Sequence
from typing import Any

from textual_inversion.settings.flag import all_flags, values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.studio.forms import shown
from textual_inversion.studio.runs import Run

_OF_THE_RUN = {"output_dir", "resume_from_checkpoint", "config"}


def settings_of(run: Run) -> dict[str, str]:
    """Flag -> value of a run's settings as texts, in the order of the flags."""
    recorded = run.settings
    return {name: shown(recorded[name]) for name in all_flags(TrainConfig) if name in recorded}


def unusual(run: Run) -> dict[str, str]:
    """Those settings of a run that are not the command's defaults."""
    defaults = {name: shown(value) for name, value in values_of(TrainConfig()).items()}
    return {name: value for name, value in settings_of(run).items() if value != defaults.get(name)}


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Flag -> its value in each run, for the flags in which they differ."""
    own = [settings_of(run) for run in runs]
    names = [name for name in all_flags(TrainConfig) if name not in _OF_THE_RUN and any(name in one for one in own)]
    rows = {name: [one.get(name, "") for one in own] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], longest: int = 60) -> list[str]:
    """Rows as lines of text with aligned columns."""
    cut = [[cell if len(cell) <= longest else f"{cell[: longest - 1]}…" for cell in row] for row in [head, *rows]]
    widths = [max(_width(row[i]) for row in cut) for i in range(len(head))]
    return ["  ".join(cell + " " * (widths[i] - _width(cell)) for i, cell in enumerate(row)).rstrip() for row in cut]


def _width(text: str) -> int:
    """The columns that a text takes in a font of one width; Chinese letters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def scores_of(run: Run) -> dict[str, Mapping[str, Any]]:
    """Placeholder token -> its scores, of a run that was scored."""
    found = run.figures.get("scores")
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
