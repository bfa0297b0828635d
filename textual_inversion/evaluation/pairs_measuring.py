"""Draw each two of several words in one prompt, and measure what is left of each: see `pairs`."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from PIL import Image

from textual_inversion.data.templates import plain_template
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.evaluation.pairs import PROMPTS, Survival, survival, views
from textual_inversion.evaluation.scoring import Protocol
from textual_inversion.generation.generate import ImageRequest, generate, total_steps
from textual_inversion.models.base_model import BaseModel
from textual_inversion.system.progress import Progress


def measure_pairs(
    model: BaseModel, scorer: ClipScorer, training: Mapping[str, np.ndarray], protocol: Protocol
) -> list[Survival]:
    """What is left of each word beside each other one.

    Args:
        model: with all words attached.
        training: placeholder token -> CLIP features of its training images, float32 [m, P].
        protocol: `num_images` of each prompt, and how they are drawn.
    """
    plain, together = plain_template(protocol.learnable_property, protocol.language), PROMPTS[protocol.language]
    couples = list(combinations(training, 2))
    prompts = [plain.replace("{}", word) for word in training] + [together.format(*couple) for couple in couples]
    requests = [request for prompt in prompts for request in requests_of(prompt, protocol)]
    with Progress(total_steps(requests), description="denoising step") as progress:
        images = generate(model, requests, batch_size=protocol.batch_size, progress=progress)
    features = np.split(features_of_views(scorer, images), len(prompts))
    alone, both = dict(zip(training, features, strict=False)), features[len(training) :]
    found = []
    for (first, second), own in zip(couples, both, strict=True):
        for word, other in ((first, second), (second, first)):
            found.append(survival(word, other, own, alone[word], alone[other], training[word]))
    return found


def features_of_views(scorer: ClipScorer, images: Sequence[Image.Image]) -> np.ndarray:
    """CLIP features of all views of images, as `survival` takes them, float32 [n, V, P]."""
    return np.stack([scorer.image_features(views(image)) for image in images])


def requests_of(prompt: str, protocol: Protocol) -> Sequence[ImageRequest]:
    """`num_images` of one prompt, with seeds that count up."""
    return [
        ImageRequest(
            prompt,
            protocol.seed + i,
            guidance_scale=protocol.guidance_scale,
            num_inference_steps=protocol.num_inference_steps,
            scheduler=protocol.scheduler,
        )
        for i in range(protocol.num_images)
    ]
