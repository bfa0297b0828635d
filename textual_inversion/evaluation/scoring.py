"""How well a concept was learned: the protocol of arXiv 2208.01618, section 5, with a baseline and a ceiling.

Image similarity: mean CLIP cosine over all pairs of a training image and an image of the plain prompt, "a photo of a
S*" (for a style "a picture in the style of S*"). Does it look like the concept?

Text similarity: mean CLIP cosine between images of edit prompts ("a photo of a S* on the beach") and the prompt's text
without the placeholder ("a photo of a on the beach"). Can the concept still be edited? As in the authors' evaluation
code this is the mean of the cosines; the cosine of the mean feature, the paper's wording, would grow with the number of
images.

Neither means much alone, since CLIP's cosines lie in a narrow range that differs between models. So the same is
measured for the initializer word with the same seeds (baseline), and for images as similar to the training images as
possible (ceiling): fresh images of the same thing where there are any, else the training images among themselves.

The paper makes 64 images of each prompt. Here the edit prompts share `num_images`, unless `images_per_edit_prompt` sets
the number for each.

A mean has a standard error, over the images that were drawn: it says how far other seeds would move it, not how far
other training images would.

Notation: n, m numbers of images or texts, P width of CLIP's common space. Features are float [n, P] of unit norm, as
`clip.ClipScorer` gives them, so a cosine is a dot product in [-1, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.data.templates import generic_word, plain_template
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.evaluation.copies import copies_among, pixel_features, sentence
from textual_inversion.evaluation.standard_errors import standard_error
from textual_inversion.generation.eval_prompts import EDITS, edits, without_placeholder
from textual_inversion.generation.generate import ImageRequest, generate, total_steps
from textual_inversion.models.base_model import BaseModel
from textual_inversion.system.progress import Progress
from textual_inversion.system.terminal_text import one_line

Images = Sequence[Image.Image]


@dataclass(frozen=True)
class Protocol:
    """What is generated for a score.

    Attributes:
        learnable_property: one of `choices.PROPERTIES`.
        num_images: images of the plain prompt, and of all edit prompts together (rounded up to equal shares).
        images_per_edit_prompt: images of each edit prompt, instead of that share; 64 in the paper.
        seed: seed of the first image of each prompt; the next ones count up from it.
        guidance_scale, num_inference_steps, scheduler, batch_size: as in `generate.generate`.
        language: of the prompts that images are made from, one of `choices.LANGUAGES`.
    """

    learnable_property: str = "object"
    num_images: int = 64
    images_per_edit_prompt: int | None = None
    seed: int = 0
    guidance_scale: float = 7.5
    num_inference_steps: int = 50
    scheduler: str | None = None
    batch_size: int = 8
    language: str = "en"

    @property
    def edits(self) -> tuple[str, ...]:
        """The edit prompt templates, with one `{}` each."""
        return edits(self.learnable_property, self.language)

    @property
    def texts(self) -> list[str]:
        """The texts to compare edited images with: always English, the language that the CLIP models read."""
        return [without_placeholder(template) for template in EDITS[self.learnable_property]]

    def requests(self, word: str) -> list[ImageRequest]:
        """The images to make of a placeholder or word: `num_images` plain ones, then as many of each edit prompt."""
        per_edit = self.images_per_edit_prompt or -(-self.num_images // len(self.edits))
        plain = plain_template(self.learnable_property, self.language)
        counts = {plain: self.num_images, **dict.fromkeys(self.edits, per_edit)}
        return [
            ImageRequest(
                template.replace("{}", word),
                self.seed + i,
                guidance_scale=self.guidance_scale,
                num_inference_steps=self.num_inference_steps,
                scheduler=self.scheduler,
            )
            for template, count in counts.items()
            for i in range(count)
        ]

    def steps(self, num_words: int = 1) -> int:
        """Denoising steps for scoring `num_words` placeholders or words: the total of a progress bar."""
        return num_words * total_steps(self.requests(""))


@dataclass(frozen=True)
class Similarity:
    """CLIP cosines of the images of one placeholder or word.

    Attributes:
        image: of plain images with the training images.
        text: of edited images with the prompts' texts.
        text_by_edit: the same for each edit prompt template.
        of_images: of each plain image with the training images.
        of_texts: of each edited image with its prompt's text, in the order of `Protocol.requests`.
        features: CLIP features of all its images, float32 [n, P], and their pixels as `copies.pixel_features`.
    """

    image: float
    text: float
    text_by_edit: dict[str, float]
    of_images: tuple[float, ...] = ()
    of_texts: tuple[float, ...] = ()
    features: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)


def score(
    model: BaseModel,
    scorer: ClipScorer,
    *,
    word: str,
    training_images: Images,
    initializer: str | None = None,
    fresh_images: Images = (),
    protocol: Protocol | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a concept against baseline and ceiling.

    Args:
        model: a base model with the concept's embedding vectors attached.
        word: the concept's placeholder token.
        training_images: RGB images.
        initializer: word or phrase of the baseline; None: a generic word for its kind, in the prompts' language.
        fresh_images: other RGB images of the same concept, for the ceiling.
        progress: its total is `protocol.steps(2)`.

    Returns:
        See `report`.
    """
    protocol = protocol or Protocol()
    initializer = initializer or generic_word(protocol.learnable_property, protocol.language)
    training = scorer.image_features(training_images)
    baseline, concept = measure(model, scorer, [initializer, word], training, protocol, progress)
    copies = copies_among(concept.features, (training, pixel_features(training_images)))
    best = ceiling(scorer, training, fresh_images)
    return report(baseline, concept, best, word=word, initializer=initializer, copies=copies)


def measure(
    model: BaseModel,
    scorer: ClipScorer,
    words: Sequence[str],
    training: np.ndarray,
    protocol: Protocol,
    progress: Progress | None = None,
) -> list[Similarity]:
    """Generate images of placeholders or words, with the same seeds for each, and measure them.

    Args:
        training: float32 [n, P], CLIP features of the training images.

    Returns:
        One `Similarity` per word, in order.
    """
    requests = [request for word in words for request in protocol.requests(word)]
    images = generate(model, requests, scheduler=protocol.scheduler, batch_size=protocol.batch_size, progress=progress)
    return compare(scorer, images, training, protocol)


def compare(scorer: ClipScorer, images: Images, training: np.ndarray, protocol: Protocol) -> list[Similarity]:
    """Measure the images of several placeholders or words.

    Args:
        images: RGB images, word by word, each in the order of `Protocol.requests`.
        training: float32 [n, P], CLIP features of the training images.

    Returns:
        One `Similarity` per word, in order.
    """
    features, texts = scorer.image_features(images), scorer.text_features(protocol.texts)
    count = len(images) // len(protocol.requests(""))
    words = zip(np.split(features, count), np.split(pixel_features(images), count), strict=True)
    return [replace(_similarity(own, training, texts, protocol), features=(own, pixels)) for own, pixels in words]


def _similarity(features: np.ndarray, training: np.ndarray, texts: np.ndarray, protocol: Protocol) -> Similarity:
    """The cosines of one word's image features [n, P], in the order of `Protocol.requests`."""
    plain, edited = features[: protocol.num_images], features[protocol.num_images :]
    edited = np.split(edited, len(texts))
    by_edit = {
        template: mean_cosine(images, text[None])
        for template, images, text in zip(protocol.edits, edited, texts, strict=True)
    }
    of_images = plain @ np.mean(training, axis=0)
    of_texts = np.concatenate([images @ text for images, text in zip(edited, texts, strict=True)])
    text = float(np.mean(list(by_edit.values())))
    each = [tuple(round(float(value), 5) for value in values) for values in (of_images, of_texts)]
    return Similarity(mean_cosine(plain, training), text, by_edit, *each)


def ceiling(scorer: ClipScorer, training: np.ndarray, fresh_images: Images = ()) -> float | None:
    """The image similarity of a perfect inversion; None where there is only one image to compare.

    Args:
        training: float32 [n, P], CLIP features of the training images.
        fresh_images: other RGB images of the same concept.
    """
    if len(fresh_images):
        return mean_cosine(scorer.image_features(fresh_images), training)
    return mean_cosine_among(training) if len(training) > 1 else None


def report(
    baseline: Similarity,
    concept: Similarity,
    ceiling: float | None,
    *,
    word: str,
    initializer: str,
    copies: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A score as a dictionary for JSON.

    Args:
        copies: from `copies.copies_among`.

    Returns:
        `baseline` and `concept`, each with `word`, `image_similarity`, `text_similarity`, `text_by_edit`, the standard
        errors of both similarities, and the cosines of each image, `images` and `texts`;
        `ceiling` with `image_similarity`; `share_of_the_way`, the concept's image similarity on the way from baseline
        (0) to ceiling (1); `text_ratio`, the concept's text similarity as a share of the baseline's; `copies`, given.
        The last three are None where they are not defined.
    """
    share = None if ceiling is None else share_of_the_way(baseline.image, concept.image, ceiling)
    return {
        "baseline": _row(initializer, baseline),
        "concept": _row(word, concept),
        "ceiling": {"image_similarity": ceiling},
        "share_of_the_way": share,
        "text_ratio": ratio(concept.text, baseline.text),
        "copies": copies,
    }


def _row(word: str, similarity: Similarity) -> dict:
    return {
        "word": word,
        "image_similarity": similarity.image,
        "text_similarity": similarity.text,
        "text_by_edit": similarity.text_by_edit,
        "image_standard_error": standard_error(similarity.of_images),
        "text_standard_error": standard_error(similarity.of_texts),
        "images": list(similarity.of_images),
        "texts": list(similarity.of_texts),
    }


def table(result: dict[str, Any]) -> list[str]:
    """The rows of a `report`, as text."""
    baseline, concept = result["baseline"], result["concept"]
    rows = [
        ("", "image similarity", "text similarity"),
        (f"baseline: {one_line(baseline['word'])}", *_cosines(baseline)),
        (f"concept: {one_line(concept['word'])}", *_cosines(concept)),
        ("ceiling", *_cosines(result["ceiling"])),
        ("concept's share", _percent(result["share_of_the_way"], "of the way"), _percent(result["text_ratio"], "kept")),
    ]
    width = max(len(row[0]) for row in rows)
    lines = [f"{name:<{width}}  {image:>16}  {text:>15}" for name, image, text in rows]
    return lines + [line for line in [sentence(result.get("copies"))] if line]


def _cosines(row: dict) -> tuple[str, str]:
    image, text = (_with_error(row, kind) for kind in ("image", "text"))
    return image, text


def _with_error(row: dict, kind: str) -> str:
    value, error = row.get(f"{kind}_similarity"), row.get(f"{kind}_standard_error")
    return "-" if value is None else f"{value:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _percent(value: float | None, what: str) -> str:
    return "-" if value is None else f"{round(100 * value)} % {what}"


# ------------------------------------------------------------------------------------------------ means of cosines


def mean_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Mean cosine over all pairs of one feature of `first` [n, P] and one of `second` [m, P].

    Raises:
        ValueError: one of them is empty.
    """
    if not len(first) or not len(second):
        raise ValueError("the mean over no pairs is not defined")
    # The mean over all pairs is the dot product of the means.
    return float(np.mean(first, axis=0, dtype=np.float64) @ np.mean(second, axis=0, dtype=np.float64))


def mean_cosine_among(features: np.ndarray) -> float:
    """Mean cosine over all pairs of two different features of [n, P].

    Raises:
        ValueError: fewer than two features.
    """
    n = len(features)
    if n < 2:
        raise ValueError("one feature has no pair")
    cosines = np.asarray(features, dtype=np.float64) @ np.asarray(features, dtype=np.float64).T  # (n, n)
    return float((cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def share_of_the_way(baseline: float, value: float, ceiling: float) -> float | None:
    """How far `value` is on the way from `baseline` (0) to `ceiling` (1); None where the ceiling is not higher."""
    return (value - baseline) / (ceiling - baseline) if ceiling > baseline else None


def ratio(value: float, baseline: float) -> float | None:
    """`value` as a share of `baseline`; None where the baseline is not positive."""
    return value / baseline if baseline > 0 else None
