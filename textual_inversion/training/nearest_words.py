"""`--initializer_token auto`: the word of the base model's vocabulary that is nearest to the training images.

Nearness is the cosine, in CLIP's space (arXiv 2103.00020), between a prompt with the word and the mean feature of the
images. Words are whole tokens: the new vector starts from one row of the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.vocabulary import whole_words
from textual_inversion.settings.choices import AUTO, NEGATIVE
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import SettingsError

_PROMPTS = {"style": "a painting in the style of {}", NEGATIVE: "a {} picture"}
_PROMPT = "a photo of a {}"
_SHOWN = 5


def nearest(scorer, images: Sequence, words: Sequence[str], learnable_property: str) -> list[tuple[str, float]]:
    """All words with their cosines, the nearest first.

    Args:
        scorer: a `clip.ClipScorer`.
        images: RGB PIL images.
        learnable_property: one of `choices.PROPERTIES`.
    """
    prompt = _PROMPTS.get(learnable_property, _PROMPT)
    mean = scorer.image_features(images).mean(axis=0)  # (P,)
    texts = scorer.text_features([prompt.replace("{}", word) for word in words], trimmed=True)  # (n, P)
    cosines = texts @ (mean / np.linalg.norm(mean))
    return [(words[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]


def with_nearest_words(
    concepts: Sequence[Concept],
    images: Sequence[Sequence],
    model: BaseModel,
    clip_model: str | None,
    say: Callable[[str], None],
) -> list[Concept]:
    """Concepts in which a word takes the place of every initializer `auto`.

    Args:
        images: RGB PIL images, by concept.
        clip_model: folder or repository id of the CLIP model; None: the base model's own.
        say: told the nearest words.

    Raises:
        SettingsError: there is no CLIP model to look with, or the vocabulary holds no such words.
    """
    if not any(concept.initializer_token == AUTO for concept in concepts):
        return list(concepts)
    scorer, words = _open_clip(clip_model, model), whole_words(model.text_encoders[0].tokenizer)
    for note in scorer.notes:
        say(f"note: {note}")
    if not words:
        raise SettingsError(f"--initializer_token {AUTO}: the vocabulary of {model.name} has no plain words; name one")
    settled = []
    for concept, own in zip(concepts, images, strict=True):
        if concept.initializer_token == AUTO:
            ranked = nearest(scorer, own, words, concept.learnable_property)
            best = ", ".join(f"{word} {cosine:.3f}" for word, cosine in ranked[:_SHOWN])
            say(f"{concept.placeholder_token}: nearest of {len(words)} words to its images: {best}")
            concept = replace(concept, initializer_token=ranked[0][0])
        settled.append(concept)
    return settled


def _open_clip(clip_model: str | None, model: BaseModel) -> ClipScorer:
    if clip_model is None and not (model.folder / "clip" / "config.json").is_file():
        raise SettingsError(
            f"--initializer_token {AUTO} looks at the images with a CLIP model, and {model.name} comes without one; "
            "name one, such as --clip_model openai/clip-vit-large-patch14, or name the word yourself"
        )
    return ClipScorer(find_clip(model.folder, clip_model))
