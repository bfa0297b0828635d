"""How well a concept was learned: the protocol of arXiv 2208.01618, section 5, with a baseline and a ceiling.

Image similarity: mean CLIP cosine over all pairs of a training image and an image generated from the plain sentence,
"a photo of a S*" (for a style "a picture in the style of S*"). Does it look like the concept?

Text similarity: mean CLIP cosine between images of edit prompts ("a photo of a S* on the beach") and the prompt's text
without the word ("a photo of a on the beach"). Can it still be edited? As in the authors' evaluation code this is the
mean of the cosines; the cosine of the mean feature, as the paper words it, would grow with the number of images.

Both mean little alone, since CLIP's cosines live in a narrow range that differs between models. So the same is measured
for the initializer word from the same seeds (baseline), and for images that are as like the training images as can be
(ceiling): fresh pictures of the same thing where there are any, else the training images among themselves.

The paper makes 64 images from each prompt. Here `num_images` is spread over the edit prompts, unless
`images_per_edit_prompt` says how many each gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textual_inversion.data.templates import generic_word, plain_template
from textual_inversion.evaluation import metrics
from textual_inversion.generation.eval_prompts import EDITS, edits, without_word
from textual_inversion.generation.generate import ImageRequest, generate, total_steps


@dataclass(frozen=True)
class Protocol:
    """What is generated for a score.

    Attributes:
        learnable_property: "object", "style" or "face".
        num_images: images of the plain sentence, and of all edit prompts together (rounded up to equal shares).
        images_per_edit_prompt: images of each edit prompt, instead of that share; 64 in the paper.
        seed: seed of the first image of each prompt; the next ones count on from it.
        guidance_scale, num_inference_steps, scheduler, batch_size: as in `generate`.
        language: of the prompts that pictures are made from, one of `choices.LANGUAGES`.
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
        """The edit prompts, with one `{}` each."""
        return edits(self.learnable_property, self.language)

    @property
    def texts(self) -> list[str]:
        """What the edited pictures are compared with: always English, which the CLIP models that can be loaded read."""
        return [without_word(template) for template in EDITS[self.learnable_property]]

    def requests(self, word: str) -> list[ImageRequest]:
        """The images to make of a word: `num_images` plain ones, then equally many of each edit prompt."""
        per_edit = self.images_per_edit_prompt or -(-self.num_images // len(self.edits))
        plain = plain_template(self.learnable_property, self.language)
        counts = {plain: self.num_images, **dict.fromkeys(self.edits, per_edit)}
        return [
            ImageRequest(
                template.replace("{}", word),
                self.seed + i,
                guidance_scale=self.guidance_scale,
                num_inference_steps=self.num_inference_steps,
            )
            for template, count in counts.items()
            for i in range(count)
        ]

    def steps(self, num_words: int = 1) -> int:
        """Denoising steps for scoring so many words: the total of a progress bar."""
        return num_words * total_steps(self.requests(""))


@dataclass(frozen=True)
class Similarity:
    """CLIP cosines of one word's images.

    Attributes:
        image: with the training images; of plain images.
        text: with the prompts' texts without the word; of edited images.
        text_by_edit: the same for each edit prompt.
    """

    image: float
    text: float
    text_by_edit: dict[str, float]


def score(
    model,
    scorer,
    *,
    word: str,
    training_images: Sequence,
    initializer: str | None = None,
    fresh_images: Sequence = (),
    protocol: Protocol | None = None,
    progress=None,
) -> dict:
    """Score a learned word against baseline and ceiling.

    Args:
        model: a `models.BaseModel` that knows the word.
        scorer: a `clip.ClipScorer`.
        training_images: RGB PIL images.
        initializer: word or phrase of the baseline; None takes "toy", "person" or "style" in the prompts' language.
        fresh_images: other pictures of the same concept, for the ceiling.
        progress: a `progress.Progress` whose total is `protocol.steps(2)`.

    Returns:
        See `report`.
    """
    protocol = protocol or Protocol()
    initializer = initializer or generic_word(protocol.learnable_property, protocol.language)
    training = scorer.image_features(training_images)
    baseline, concept = measure(model, scorer, [initializer, word], training, protocol, progress)
    return report(baseline, concept, ceiling(scorer, training, fresh_images), word=word, initializer=initializer)


def measure(model, scorer, words: Sequence[str], training, protocol: Protocol, progress=None) -> list[Similarity]:
    """Generate images of words, from the same seeds for each, and measure them.

    Args:
        training: float32 [n, P], CLIP features of the training images.

    Returns:
        One `Similarity` a word, in order.
    """
    requests = [request for word in words for request in protocol.requests(word)]
    images = generate(model, requests, scheduler=protocol.scheduler, batch_size=protocol.batch_size, progress=progress)
    return compare(scorer, images, training, protocol)


def compare(scorer, images: Sequence, training, protocol: Protocol) -> list[Similarity]:
    """Measure the images of several words.

    Args:
        images: RGB PIL images, word by word in the order of `Protocol.requests`.
        training: float32 [n, P], CLIP features of the training images.

    Returns:
        One `Similarity` a word, in order.
    """
    features, texts = scorer.image_features(images), scorer.text_features(protocol.texts)
    words = np.split(features, len(images) // len(protocol.requests("")))
    return [_similarity(own, training, texts, protocol) for own in words]


def _similarity(features: np.ndarray, training, texts, protocol: Protocol) -> Similarity:
    """Compare one word's image features [n, P], in the order of `Protocol.requests`."""
    plain, edited = features[: protocol.num_images], features[protocol.num_images :]
    by_edit = {
        template: metrics.mean_cosine(images, text[None])
        for template, images, text in zip(protocol.edits, np.split(edited, len(texts)), texts, strict=True)
    }
    text = float(np.mean(list(by_edit.values())))
    return Similarity(metrics.mean_cosine(plain, training), text, by_edit)


def ceiling(scorer, training: np.ndarray, fresh_images: Sequence = ()) -> float | None:
    """The image similarity that a perfect inversion would have; None where one picture is all there is."""
    if len(fresh_images):
        return metrics.mean_cosine(scorer.image_features(fresh_images), training)
    return metrics.mean_cosine_among(training) if len(training) > 1 else None


def report(baseline: Similarity, concept: Similarity, ceiling: float | None, *, word: str, initializer: str) -> dict:
    """Put a score together, ready for JSON.

    Returns:
        `baseline`, `concept`, `ceiling`: `word`, `image_similarity`, `text_similarity`, `text_by_edit` each as far as
        defined; `share_of_the_way`: of the image similarity from baseline (0) to ceiling (1); `text_ratio`: text
        similarity as a share of the baseline's. The last two are None where they are not defined.
    """
    share = None if ceiling is None else metrics.share_of_the_way(baseline.image, concept.image, ceiling)
    return {
        "baseline": _row(initializer, baseline),
        "concept": _row(word, concept),
        "ceiling": {"image_similarity": ceiling},
        "share_of_the_way": share,
        "text_ratio": metrics.ratio(concept.text, baseline.text),
    }


def _row(word: str, similarity: Similarity) -> dict:
    return {
        "word": word,
        "image_similarity": similarity.image,
        "text_similarity": similarity.text,
        "text_by_edit": similarity.text_by_edit,
    }


def table(result: dict) -> str:
    """The lines that show a `report` to people."""
    baseline, concept = result["baseline"], result["concept"]
    rows = [
        ("", "image similarity", "text similarity"),
        (f"baseline: {baseline['word']}", *_cosines(baseline)),
        (f"concept: {concept['word']}", *_cosines(concept)),
        ("ceiling", *_cosines(result["ceiling"])),
        ("concept's share", _percent(result["share_of_the_way"], "of the way"), _percent(result["text_ratio"], "kept")),
    ]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {image:>16}  {text:>15}" for name, image, text in rows)


def _cosines(row: dict) -> tuple[str, str]:
    values = (row.get("image_similarity"), row.get("text_similarity"))
    image, text = ("-" if value is None else f"{value:.3f}" for value in values)
    return image, text


def _percent(value: float | None, what: str) -> str:
    return "-" if value is None else f"{round(100 * value)} % {what}"
