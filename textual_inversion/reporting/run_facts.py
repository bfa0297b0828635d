"""What a run's folder says about the run: its record, its figures and its images, read without trusting them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import TypedDict

from textual_inversion.embeddings.run_record import FILE_NAME, read_record
from textual_inversion.formats.errors import file_name
from textual_inversion.generation.image_grid import frames_of
from textual_inversion.generation.png_files import text_in
from textual_inversion.reporting.figures import Curve, read_curves
from textual_inversion.system.checked_json import UnusableJson, checked
from textual_inversion.system.errors import EmbeddingFileError, SettingsError

SAMPLES, OVERVIEW = "samples/over-time.png", "overview.png"
BEFORE, AFTER = 0, 1  # the rows of an overview
_ALL = 10**12
_MOST_IMAGES = 500  # of one word's score
Frames = list[tuple[int, list[Image.Image]]]


class Measured(TypedDict, total=False):
    """One line of a score: that of the baseline or of the concept."""

    word: str
    image_similarity: float | None
    text_similarity: float | None
    image_standard_error: float | None
    text_standard_error: float | None
    images: list[float]
    texts: list[float]


class Ceiling(TypedDict, total=False):
    """The best score that is possible."""

    image_similarity: float | None


class Copies(TypedDict, total=False):
    """How near what was drawn is to the training images."""

    share: float
    repeats: bool


class Leak(TypedDict, total=False):
    """How much of a word's attention lies beside the thing."""

    concept: float
    baseline: float
    outside: float


class Score(TypedDict, total=False):
    """The score of a concept, as `evaluation.scoring.report` makes it."""

    baseline: Measured
    concept: Measured
    ceiling: Ceiling
    share_of_the_way: float | None
    text_ratio: float | None
    copies: Copies | None
    background_leak: Leak | None


class _Norms(TypedDict, total=False):
    norm: list[float | None]
    cosine_distance: list[float | None]
    table_mean: float | None
    table_largest: float | None


class _Figures(TypedDict, total=False):
    fixed_set_loss: dict[str, float | None]
    skipped_steps: int
    scores: dict[str, Score]
    rows: dict[str, dict[str, _Norms]]
    seconds: dict[str, float]
    unlearned_images: dict[str, list[float]]
    unlearned_names: dict[str, str]
    image_findings: dict[str, int]


@dataclass(frozen=True)
class RunFacts:
    """A run as its folder describes it.

    Attributes:
        folder: as it was named.
        record: the run.json.
        figures: those of the record, with the types that a run writes.
        curves: name -> (step, value).
        samples: (step, an image of each prompt), as validation images were drawn; [] where none were.
        overview: the images of the overview before and after training, one of each prompt; [] where there is none.
        overview_prompts: of its images.
    """

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    samples: Frames = field(default_factory=list)
    overview: Frames = field(default_factory=list)
    overview_prompts: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        return self.record.get("settings", {})

    @property
    def tokens(self) -> list[str]:
        """The placeholder tokens."""
        found = self.record.get("placeholder_token")
        return [str(one) for one in (found if isinstance(found, list) else [found])]

    @property
    def scores(self) -> dict[str, Score]:
        """Placeholder token -> score; {} where nothing was scored."""
        return self.figures.get("scores", {})

    @property
    def prompts(self) -> list[str]:
        """The validation prompts as the images show them, in the order of `samples`."""
        listed = self.settings.get("sample_prompts")
        found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        return [str(one.get("text", "")) for one in found]

    @property
    def steps(self) -> int | None:
        """How many steps the run was to take."""
        steps = self.settings.get("max_train_steps")
        return steps if type(steps) is int and steps > 0 else None


def read_run(folder: Path) -> RunFacts:
    """What the folder of a run says.

    Raises:
        SettingsError: it is no folder of a run.
        EmbeddingFileError: its record cannot be used.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; give the --output_dir of a run")
    record = read_record(folder)
    if not record:
        raise SettingsError(f"{folder} holds no {FILE_NAME}; give the --output_dir of a run")
    try:
        figures = checked(record.get("figures") or {}, _Figures)
    except UnusableJson as error:
        name = file_name(folder / FILE_NAME)
        raise EmbeddingFileError(f"the record {name} {error}; repair it, or train the run again") from error
    curves = read_curves(folder) or _of_record(figures)
    overview = frames_of(folder / OVERVIEW, 2)
    prompts = (text_in(folder / OVERVIEW, "prompts") or "").splitlines()
    return RunFacts(folder, record, figures, curves, frames_of(folder / SAMPLES, _ALL), overview, prompts)


def _of_record(figures: dict[str, Any]) -> dict[str, Curve]:
    """The curve that a run without a file of figures has left in its record."""
    losses = figures.get("fixed_set_loss") or {}
    points = [(int(step), value) for step, value in losses.items() if step.isdecimal() and value is not None]
    return {"eval/fixed_set_loss": sorted(points)} if points else {}
