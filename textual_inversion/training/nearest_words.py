"""The words of the base model's vocabulary that are nearest to the training images, for `--initializer_token auto`.

Nearness is the cosine, in CLIP's space (arXiv 2103.00020), between a prompt with the word and the mean feature of the
images. Words are whole tokens: the new vector starts from one row of the table.
"""

from collections.abc import Callable, Sequence

import numpy as np

from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.vocabulary import whole_words
from textual_inversion.settings.choices import AUTO, NEGATIVE
from textual_inversion.system.errors import SettingsError

_PROMPTS = {"style": "a painting in the style of {}", NEGATIVE: "a {} picture"}
_PROMPT = "a photo of a {}"

# (images, learnable property) -> (word, cosine), the nearest first.
Nearest = Callable[[Sequence, str], list[tuple[str, float]]]


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


def word_finder(clip_model: str | None, model: BaseModel, say: Callable[[str], None]) -> Nearest:
    """A function of (RGB PIL images, learnable property) that ranks the words of the vocabulary as `nearest` does.

    Args:
        clip_model: folder or repository id of the CLIP model; None: the base model's own.
        say: told what the user should know of the CLIP model.

    Raises:
        SettingsError: there is no CLIP model to look with, or the vocabulary holds no such words.
    """
    scorer, words = _open_clip(clip_model, model), whole_words(model.text_encoders[0].tokenizer)
    for note in scorer.notes:
        say(f"note: {note}")
    if not words:
        raise SettingsError(f"--initializer_token {AUTO}: the vocabulary of {model.name} has no plain words; name one")
    return lambda images, learnable_property: nearest(scorer, images, words, learnable_property)


def _open_clip(clip_model: str | None, model: BaseModel) -> ClipScorer:
    if clip_model is None and not (model.folder / "clip" / "config.json").is_file():
        raise SettingsError(
            f"--initializer_token {AUTO} looks at the images with a CLIP model, and {model.name} comes without one; "
            "name one, such as --clip_model openai/clip-vit-large-patch14, or name the word yourself"
        )
    return ClipScorer(find_clip(model.folder, clip_model))
