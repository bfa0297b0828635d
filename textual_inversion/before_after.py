"""A concept before and after its training: pictures side by side, and the score of the demo."""

from pathlib import Path

import numpy as np

from textual_inversion import images, sheets
from textual_inversion.edit_prompts import showcase
from textual_inversion.prompts import GENERIC_WORDS, PROPERTIES, plain_template
from textual_inversion.sample_prompts import SamplePrompt
from textual_inversion.watching import draw_once

# Pictures per score: enough to see a concept learned, few enough for a run of minutes; `score.py` makes more.
_SCORED_PICTURES = 14


def overview_prompts(args) -> list[SamplePrompt]:
    """What the overview shows: the sample prompts or, where there are none, a few that show the concepts off."""
    if args.sample_prompts:
        return list(args.sample_prompts)
    plain = {kind: plain_template(kind, args.language) for kind in PROPERTIES}
    words = {concept.placeholder_token: concept.learnable_property for concept in args.concepts}
    return [SamplePrompt(text) for text in showcase(words, plain, args.language)]


def draw_overview(model, args) -> list:
    """The overview's pictures for the rows as they are now."""
    return draw_once(model, args, overview_prompts(args))


def save_overview(path: Path, args, pixels: list[np.ndarray], before: list, after: list) -> None:
    """Write the overview: training images | before | after.

    Args:
        pixels: training images as the model saw them, float32 [3, H, W] in [-1, 1].
        before, after: what `draw_overview` gave before and after training.
    """
    training = [images.from_array(array) for array in pixels]
    captions = [prompt.caption for prompt in overview_prompts(args)]
    sheets.save_png(sheets.overview(training, before, after, captions), path)


class DemoScore:
    """Scores one of the demo's words with the demo model's own CLIP (arXiv 2208.01618, section 5), on few pictures.

    Made before training, it measures the initializer word: what the new word draws as long as nothing is learned.

    Args:
        model: the demo's `models.BaseModel`, with rows attached.
        concept: the word, a `concepts.Concept`.
        pixels: its training images, float32 [3, H, W] in [-1, 1].
        fresh_images: other pictures of the same concept, for the ceiling; may be empty.
    """

    def __init__(self, model, args, concept, pixels: list[np.ndarray], fresh_images: list):
        from textual_inversion.clip import ClipScorer, find_clip
        from textual_inversion.scoring import Protocol, ceiling

        self._model, self._word = model, concept.placeholder_token
        self._initializer = concept.initializer_token or GENERIC_WORDS[concept.learnable_property]
        self._scorer = ClipScorer(find_clip(model.folder))
        self._training = self._scorer.image_features([images.from_array(array) for array in pixels])
        self._ceiling = ceiling(self._scorer, self._training, fresh_images)
        self._protocol = Protocol(
            learnable_property=concept.learnable_property,
            num_images=_SCORED_PICTURES,
            guidance_scale=args.guidance_scale,
            num_inference_steps=args.num_inference_steps,
        )
        self._baseline = self._measure(self._initializer)

    def _measure(self, word: str):
        from textual_inversion.scoring import measure

        return measure(self._model, self._scorer, [word], self._training, self._protocol)[0]

    def report(self) -> dict:
        """Baseline (the initializer word), the word as it is now, ceiling: see `scoring.report`."""
        from textual_inversion.scoring import report

        concept = self._measure(self._word)
        self._model.free_vae()
        return report(self._baseline, concept, self._ceiling, word=self._word, initializer=self._initializer)


def demo_scores(args, run) -> dict[str, DemoScore]:
    """The words of a demo run -> their scores, the baselines measured.

    Args:
        run: the command's `Run`, before any training.
    """
    from demo.shipped import fresh_drawings

    scores = {}
    for place, concept in enumerate(run.concepts):
        pixels = [array for array, image in zip(run.pixels, run.images, strict=True) if image.concept == place]
        fresh = fresh_drawings(concept.image_folder, args.width)
        scores[concept.placeholder_token] = DemoScore(run.model, args, concept, pixels, fresh)
    return scores
