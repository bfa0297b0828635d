"""Measure the points of `curve`: mixes from start to learned vectors, and the steps that a run has saved."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from textual_inversion.embeddings.files import ConceptFile, read_concept_files
from textual_inversion.embeddings.sources import step_files, step_of
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.evaluation.curve import MIX, STEP, Curve, Point
from textual_inversion.evaluation.scoring import Protocol, Similarity, ceiling, measure
from textual_inversion.evaluation.standard_errors import standard_error
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import BaseModel
from textual_inversion.system.progress import Progress

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)


def measure_curve(
    model: BaseModel,
    scorer: ClipScorer,
    file: ConceptFile,
    word: str,
    start: Mapping[str, np.ndarray] | None,
    steps: Mapping[int, ConceptFile],
    *,
    initializer: str,
    training_images: Sequence[Image.Image],
    fresh_images: Sequence[Image.Image] = (),
    protocol: Protocol,
) -> Curve:
    """Likeness and editability at each point.

    Args:
        model: its concepts become those of the last point.
        word: the placeholder token that is measured.
        start: text encoder -> float32 [N, D] that training began with; None: unknown, and no mix is measured but 1.
        steps: number of the step -> file of that step.
    """
    training, found = scorer.image_features(training_images), []
    points = [(MIX, t, _mixed(file, word, start, t)) for t in (MIXES if start is not None else MIXES[-1:])]
    points += [(STEP, step, own) for step, own in sorted(steps.items())]
    with Progress(protocol.steps(1 + len(points)), description="denoising step") as progress:
        shown = _parts(progress, protocol.steps(1))
        attach_files(model, [file])
        (baseline,) = measure(model, scorer, [initializer], training, protocol, next(shown))
        for kind, at, own in points:
            attach_files(model, [own])
            (similarity,) = measure(model, scorer, [word], training, protocol, next(shown))
            found.append(_point(kind, at, similarity))
    return Curve(found, (baseline.image, baseline.text), ceiling(scorer, training, fresh_images))


def saved_steps(file: ConceptFile, word: str, renaming: Sequence[str] | None = None) -> dict[int, ConceptFile]:
    """The files of a run's steps that hold a word, by the number of their step; `renaming` as `--rename` has it."""
    files = {step_of(path): read_concept_files([path], renaming)[0] for path in step_files(file.path.parent)}
    return {step: own for step, own in files.items() if word in own.placeholder_tokens}


def _mixed(file: ConceptFile, word: str, start: Mapping[str, np.ndarray] | None, t: float) -> ConceptFile:
    """The file with the vectors of a word on the line from its start, which t = 0 is, to what was learned, 1."""
    if t == 1 or start is None:
        return file
    concepts = tuple(
        replace(one, vectors={k: (start[k] + t * (v - start[k])).astype(np.float32) for k, v in one.vectors.items()})
        if one.placeholder_token == word
        else one
        for one in file.concepts
    )
    return replace(file, concepts=concepts)


def _point(kind: str, at: float, own: Similarity) -> Point:
    errors = [standard_error(values) or 0.0 for values in (own.of_images, own.of_texts)]
    return Point(kind, at, own.image, own.text, *errors)


def _parts(progress: Progress, each: int) -> Iterator["_Part"]:
    done = 0
    while True:
        yield _Part(progress, done)
        done += each


class _Part:
    """A progress of which some steps are done already."""

    def __init__(self, progress: Progress, done: int):
        self._progress, self._done = progress, done

    def update(self, step: int, **figures: float) -> None:
        """Show that `step` more steps are done."""
        self._progress.update(self._done + step, **figures)
