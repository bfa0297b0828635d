"""CLIP similarities of the images of a comparison: which of several embeddings is the best, column by column.

For each image the cosine with the text of its own prompt, the placeholder left out, and the mean cosine with the
images that the concept was learned from. A column's score is the mean over its images. All columns have the same
prompts and seeds, so their scores can be compared with each other; `scoring` has the paper's protocol, with a baseline
and a ceiling.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.data.image_folder import find_images
from textual_inversion.data.images import load_image
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.evaluation.scoring import mean_cosine
from textual_inversion.evaluation.training_images import as_trained, recorded_images
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.placeholder_words import whole_words
from textual_inversion.system.errors import ImageError, SettingsError
from textual_inversion.system.terminal_text import one_line

TEXT, IMAGE = "text_similarity", "image_similarity"


class ColumnScorer:
    """Scores the images of a comparison one by one.

    Args:
        scorer: a CLIP model.
        columns: label -> file of each column, all with the same placeholder tokens.
        model: the base model, whose sizes the training images are brought to where no other size is recorded.
        note: told of a column whose training images are not at hand.
    """

    def __init__(
        self, scorer: ClipScorer, columns: Mapping[str, ConceptFile], model: BaseModel, note: Callable[[str], None]
    ):
        self._scorer = scorer
        tokens = next(iter(columns.values())).placeholder_tokens
        self._tokens = {token: whole_words([token]) for token in tokens}
        self._pattern = whole_words(tokens)
        self._texts: dict[str, np.ndarray] = {}
        known: dict[tuple, np.ndarray] = {}
        self._training = {
            (label, token): self._training_features(file, token, model, known, note)
            for label, file in columns.items()
            for token in tokens
        }

    def score(self, image: Image.Image, prompt: str, label: str) -> dict[str, float]:
        """The similarities of an image in a column; without those that have nothing to be measured with.

        Args:
            image: RGB.
            prompt: what it was made from.
            label: of its column.
        """
        features, found = self._scorer.image_features([image]), {}
        held = [token for token, pattern in self._tokens.items() if pattern.search(prompt)]
        training = [self._training[label, token] for token in held if self._training[label, token] is not None]
        if training:
            found[IMAGE] = round(float(np.mean([mean_cosine(features, one) for one in training])), 4)
        text = " ".join(self._pattern.sub(" ", prompt).split())
        if text:
            if text not in self._texts:
                self._texts[text] = self._scorer.text_features([text])
            found[TEXT] = round(mean_cosine(features, self._texts[text]), 4)
        return found

    def _training_features(
        self, file: ConceptFile, token: str, model: BaseModel, known: dict[tuple, np.ndarray], note: Callable
    ) -> np.ndarray | None:
        """CLIP features of the images that a concept was learned from: float32 [n, P]; None where there are none."""
        resizer = as_trained(file.run, model.resolution, model.side_factor)
        try:
            folder = recorded_images(file, token)
            key = (folder, resizer)
            if key not in known:
                known[key] = self._scorer.image_features(_images(folder, resizer))
        except (SettingsError, ImageError) as error:
            note(f"{error}; its column is scored by its prompts alone")
            return None
        return known[key]


def column_scorer(
    clip_model: str | None, columns: Mapping[str, ConceptFile], model: BaseModel, note: Callable[[str], None]
) -> ColumnScorer | None:
    """What scores the images of a comparison; None where nothing is compared, or with no CLIP model at hand.

    Args:
        clip_model: folder or repository id; None: the base model's own, if it has one.

    Raises:
        SettingsError: the CLIP model that was named cannot be used.
    """
    if not columns:
        return None
    try:
        folder = find_clip(model.folder, clip_model)
    except SettingsError as error:
        if clip_model is not None:
            raise
        note(f"the columns are not scored: {error}")
        return None
    scorer = ClipScorer(folder, name=clip_model)
    for line in scorer.notes:
        note(line)
    return ColumnScorer(scorer, columns, model, note)


def column_scores(facts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Label -> mean similarities of each column, in the order in which they first occur.

    Args:
        facts: of the images, with their "embeds" and their "score".
    """
    found: dict[str, dict[str, list[float]]] = {}
    for one in facts:
        column = found.setdefault(one["embeds"], {})
        for name, value in one.get("score", {}).items():
            column.setdefault(name, []).append(value)
    return {label: {name: float(np.mean(values)) for name, values in own.items()} for label, own in found.items()}


def table(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The rows of a table of `column_scores`; the best of each kind has a star."""
    best = {name: max((own[name] for own in scores.values() if name in own), default=None) for name in (IMAGE, TEXT)}
    width = max(len("column"), *(len(one_line(label)) for label in scores))
    rows = [f"{'column':<{width}}  {'image similarity':>17}  {'text similarity':>16}"]
    for label, own in scores.items():
        shown = [_shown(own.get(name), best[name]) for name in (IMAGE, TEXT)]
        rows.append(f"{one_line(label):<{width}}  {shown[0]:>17}  {shown[1]:>16}")
    return rows


def _shown(value: float | None, best: float | None) -> str:
    return "- " if value is None else f"{value:.3f}{'*' if value == best else ' '}"


def _images(folder: Path, resizer: Any) -> Any:
    paths = find_images(str(folder))
    return resizer.resize_all(paths, [load_image(path).size for path in paths], load_image)
