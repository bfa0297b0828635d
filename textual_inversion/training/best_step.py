"""The best step of a run so far, kept in files of its own while training continues (`--keep_best`).

A concept that is trained for too long loses the rest of the prompt, and the last step is rarely the best. What is
judged is how much the validation images look like the training images: the mean CLIP cosine (arXiv 2208.01618,
section 5), where there is a CLIP model and validation images show the concept; else the loss on the fixed set.
"""

from collections.abc import Callable, Sequence

import numpy as np

from textual_inversion.data.dataset import TrainingSet
from textual_inversion.embeddings.file_names import BEST, BEST_NAME
from textual_inversion.evaluation.clip import ClipScorer, check_clip, find_clip
from textual_inversion.evaluation.scoring import mean_cosine
from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.train_run import ValidationSettings
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.system.errors import SettingsError
from textual_inversion.training.artifacts import as_learned, file_facts, save_as
from textual_inversion.training.resume import best_vectors
from textual_inversion.training.state import ConceptVectors, Record, RunContext

BY_IMAGES = "image similarity of the validation images with the training images"
BY_LOSS = "loss on the fixed set"
# How checkpoints of earlier versions name what they judged by.
_EARLIER_NAMES = {"image similarity of the sample pictures with the training pictures": BY_IMAGES}

Likeness = Callable[[Sequence[str], Sequence], float]


class BestStep:
    """Keeps the vectors of the best step so far, and in `record.figures["best"]` what is known about it.

    Step 0 is measured to compare with, but never kept: nothing is learned there.

    Args:
        record: the run's; a resumed run takes over its best step.
        likeness: from `make_likeness`; None: the loss decides.
        seed: for the file's facts.

    Attributes:
        by: `BY_IMAGES` or `BY_LOSS`.
        vectors: text encoder -> vectors [N, D] of the best step so far, or None.
    """

    def __init__(
        self,
        vectors: ConceptVectors,
        record: Record,
        context: RunContext,
        model: BaseModel,
        likeness: Likeness | None,
        *,
        seed: int,
    ):
        self._current, self._record, self._context, self._model = vectors, record, context, model
        self._likeness, self._seed = likeness, seed
        self.by = BY_IMAGES if likeness else BY_LOSS
        self.vectors: dict[str, np.ndarray] | None = None
        self._resume()

    def _resume(self) -> None:
        """Take over the best step of a resumed run, its file too: a step after the checkpoint may lie there."""
        known, vectors = self._record.figures.get("best", {}), best_vectors(self._record.resumed)
        judged_by = _EARLIER_NAMES.get(known.get("by"), known.get("by"))
        if judged_by != self.by or ("step" in known and not vectors):
            known = {"by": self.by, "scores": {}}  # it was judged otherwise
        self._record.figures["best"] = known
        if "step" in known:
            self._keep(known["step"], vectors)

    def _keep(self, step: int, vectors: dict[str, np.ndarray]) -> None:
        facts = file_facts(self._model, self._seed, step)
        learned = as_learned(self._current.concepts, vectors, facts)
        save_as(self._context.folder, BEST, learned)
        self.vectors = vectors

    def see_images(self, step: int, prompts: Sequence[str], images: Sequence) -> str | None:
        """Judge validation images, one prompt an image; returns a line about it, None where the loss decides."""
        if self._likeness is None:
            return None
        return self._judge(step, self._likeness(prompts, images), larger_is_better=True)

    def see_loss(self, step: int, value: float) -> str | None:
        """Judge the loss on the fixed set; returns a line about it, None where images decide."""
        return self._judge(step, value, larger_is_better=False) if self._likeness is None else None

    def _judge(self, step: int, score: float, *, larger_is_better: bool) -> str | None:
        best = self._record.figures["best"]
        best["scores"][str(step)] = score
        line = f"step {step}: {self.by} {score:.4f}"
        if step == 0 or not np.isfinite(score):
            return line if larger_is_better else None
        if "score" in best and (score <= best["score"] if larger_is_better else score >= best["score"]):
            return f"{line}, the best is still step {best['step']}" if larger_is_better else None
        self._keep(step, self._current.values())
        best |= {"step": step, "score": score, "file": BEST_NAME}  # the file is there: it could not fail now
        return f"{line}, the best so far" if larger_is_better else f"step {step} is the best so far"


def check_judge(
    settings: ValidationSettings, prompts: Sequence[ValidationPrompt], model: BaseModel, vectors: ConceptVectors
) -> None:
    """Make sure, before anything is written, that the CLIP model that is named for --keep_best can judge.

    Raises:
        SettingsError, BaseModelError: it is not there, is no CLIP model, or no validation prompt holds a concept.
    """
    if settings.keep_best and settings.clip_model:
        if not _shows_a_concept(prompts, model, vectors):
            raise SettingsError("--clip_model judges validation images, but none of their prompts holds a concept")
        check_clip(find_clip(model.folder, settings.clip_model))


def make_likeness(
    settings: ValidationSettings,
    prompts: Sequence[ValidationPrompt],
    model: BaseModel,
    vectors: ConceptVectors,
    data: TrainingSet,
    say: Callable[[str], None],
) -> Likeness | None:
    """A function of (prompts, images) that gives their likeness to the training images; None: the loss decides.

    Args:
        say: told what the user should know of the CLIP model.

    Raises:
        SettingsError: the CLIP model that was named is not to be had, or there is nothing at all to judge by.
    """
    likeness = None
    if _shows_a_concept(prompts, model, vectors):
        try:
            scorer = ClipScorer(find_clip(model.folder, settings.clip_model))
            for note in scorer.notes:
                say(f"note: {note}")
            likeness = _Likeness(model, vectors, data, scorer)
        except SettingsError:
            if settings.clip_model:
                raise
    if likeness is None and not settings.eval_steps:
        raise SettingsError(
            "--keep_best finds no CLIP model or no prompt with a concept, and --eval_steps 0 measures no loss; leave "
            "--eval_steps out, or add --validation_prompt and --clip_model"
        )
    return likeness


def _shows_a_concept(prompts: Sequence[ValidationPrompt], model: BaseModel, vectors: ConceptVectors) -> bool:
    return any(_concepts_in(prompt.text, model, vectors) for prompt in prompts)


def _concepts_in(prompt: str, model: BaseModel, vectors: ConceptVectors) -> set[int]:
    """Indices of the concepts that a prompt names."""
    encode_ids = model.text_encoders[0].encode_ids
    found = set(encode_ids.token_ids(prompt))
    return {index for index, token in enumerate(vectors.tokens) if found & set(encode_ids.token_ids(token))}


class _Likeness:
    """Mean over the concepts of the mean CLIP cosine between their validation images and their training images."""

    def __init__(self, model: BaseModel, vectors: ConceptVectors, data: TrainingSet, scorer: ClipScorer):
        self._model, self._vectors, self._scorer = model, vectors, scorer
        features = scorer.image_features(data.previews)  # (n, P)
        shown = np.array([-1 if image.is_contrast else image.concept for image in data.images])
        self._training = [features[shown == index] for index in range(len(vectors.concepts))]

    def __call__(self, prompts: Sequence[str], images: Sequence) -> float:
        """Likeness in [-1, 1]; images whose prompt names no concept do not count.

        Args:
            prompts, images: one prompt an image; RGB PIL images.
        """
        features = self._scorer.image_features(images)  # (n, P)
        named = [_concepts_in(prompt, self._model, self._vectors) for prompt in prompts]
        scores = []
        for index, training in enumerate(self._training):
            own = features[[index in concepts for concepts in named]]
            if len(own) and len(training):
                scores.append(mean_cosine(own, training))
        return float(np.mean(scores))
