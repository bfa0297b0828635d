"""What is left of a measured curve: its two files, and how a user gets the vectors that it recommends."""

from pathlib import Path
from typing import Any

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.embeddings.sources import step_files, step_of
from textual_inversion.evaluation.curve import STEP, Curve, Point, as_json
from textual_inversion.reporting.curve_plot import curve_plot
from textual_inversion.system import atomic
from textual_inversion.system.paths import how_to_call, in_shell

PICTURE = "curve.svg"


def write_curve(curve: Curve, folder: Path) -> dict[str, Any]:
    """Write `curve.json` and `curve.svg` into a folder; returns what the first holds. Raises OutputError."""
    result = as_json(curve)
    atomic.write_json(folder / "curve.json", result)
    atomic.write_text(folder / PICTURE, curve_plot(curve))
    return result


def how_to_take(point: Point, file: ConceptFile, word: str, base_model: str) -> str:
    """How a user gets the vectors of the recommended point.

    Args:
        file: of the learned word, with the files of its steps beside it.
        base_model: its name, as the user gave it.
    """
    if point.kind == STEP:
        path = next(path for path in step_files(file.path.parent) if step_of(path) == point.at)
        return f"best bargain: {point.label}: {in_shell(path)}"
    if point.at == 1:
        return f"best bargain: the word as it was learned: {in_shell(file.path)}"
    name = f"--name {in_shell(word)} --output mixed.safetensors"
    call = f"{how_to_call('convert.py mix')} {in_shell(file.path)} --from_start {point.at:g} {name}"
    return f"best bargain: {point.label}: {call} --pretrained_model_name_or_path {in_shell(base_model)}"
