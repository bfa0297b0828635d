"""The demo's score for the embedding files of one concept, from images of the plain prompt alone.

It is the "share of the way" of `score.py` with the same number of images. Edit prompts do not affect it and are left
out.
"""

from pathlib import Path

from benchmarks.machine import ROOT
from demo.shipped import fresh_drawings
from textual_inversion.cli.parser import demo_defaults
from textual_inversion.data.image_folder import find_images
from textual_inversion.data.images import fit, load_image
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.evaluation.scoring import Protocol, ceiling, mean_cosine, share_of_the_way
from textual_inversion.generation.generate import generate
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import load_base_model
from textual_inversion.settings.choices import GENERIC_WORDS
from textual_inversion.system.paths import DEMO_MODEL


class ConceptScorer:
    """How far an embedding has come from the initializer word's likeness (0) to the best possible (1).

    Args:
        image_folder: folder of the concept's images, relative to the root of the repository.
        kind: what is learned from them, one of `choices.PROPERTIES`.
        num_images: images to make.
        num_inference_steps: denoising steps of each; None: the demo's own.
        shared: another scorer, whose models are used.
    """

    def __init__(
        self,
        image_folder: str,
        kind: str,
        num_images: int,
        num_inference_steps: int | None = None,
        shared: "ConceptScorer | None" = None,
    ):
        self.model = shared.model if shared else load_base_model(DEMO_MODEL)
        self.clip = shared.clip if shared else ClipScorer(find_clip(DEMO_MODEL))
        side = self.model.resolution
        framed = [fit(load_image(path), side, side) for path in find_images(ROOT / image_folder)]
        self._training = self.clip.image_features(framed)
        self._ceiling = ceiling(self.clip, self._training, fresh_drawings(str(ROOT / image_folder), side))
        own = demo_defaults()
        steps = num_inference_steps or own["num_inference_steps"]
        self._protocol = Protocol(kind, num_images, guidance_scale=own["guidance_scale"], num_inference_steps=steps)
        self._baseline = self._likeness(GENERIC_WORDS[kind])

    def __call__(self, path: Path) -> float:
        """The share of the way of the only concept in an embedding file."""
        file = read_concept_files([path])[0]
        attach_files(self.model, [file])
        return share_of_the_way(self._baseline, self._likeness(file.placeholder_tokens[0]), self._ceiling)

    def _likeness(self, word: str) -> float:
        requests = self._protocol.requests(word)[: self._protocol.num_images]
        images = generate(self.model, requests, batch_size=self._protocol.batch_size)
        return mean_cosine(self.clip.image_features(images), self._training)
