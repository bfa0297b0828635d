"""A concept before and after its training: images side by side, and the score of the demo.

All of it is drawn after training: a prompt can be read with the initial vectors as well as with the trained ones. So
nobody waits for images before the first step, and all of them go through the U-Net together, each distinct one once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from textual_inversion.data.dataset import TrainingSet
from textual_inversion.data.templates import plain_template
from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.evaluation.copies import copies_among, pixel_features
from textual_inversion.evaluation.scoring import Protocol, ceiling, compare, report
from textual_inversion.generation import image_grid, png_files
from textual_inversion.generation.eval_prompts import showcase
from textual_inversion.generation.request import ImageRequest
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.settings.choices import GENERIC_WORDS, PROPERTIES
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_run import ValidationSettings
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.training.validation import Painter, request_of

# Images per score: enough to see a concept learned, few enough for a run of minutes; `score.py` makes more. Where there
# are several concepts each has half as many, so that two together take no longer than one: one for each edit prompt.
_SCORED_IMAGES, _SCORED_IMAGES_OF_SEVERAL = 14, 7

# (folder of training images, side in pixels) -> fresh RGB images of the same concept; [] where there are none.
FreshImages = Callable[[str, int], list]


@dataclass(frozen=True)
class Drawings:
    """What is drawn at the end of a run.

    Attributes:
        before, after: the overview's, one a prompt; [] where there is none.
        scored: for each scored concept, by its placeholder token, the images of the initializer word and then those of
            the concept, in the order of `scoring.Protocol.requests`; {} where nothing is scored.
    """

    before: list[Image.Image]
    after: list[Image.Image]
    scored: dict[str, list[Image.Image]]


@dataclass(frozen=True)
class DrawingPlan:
    """The images that a run draws at its end.

    Attributes:
        prompts: of the overview.
        before, after: requests of the overview.
        scored: placeholder token -> requests of its score.
        left_out: what is not shown, and the flags that show it, one phrase each.
    """

    prompts: list[ValidationPrompt]
    before: list[ImageRequest]
    after: list[ImageRequest]
    scored: dict[str, list[ImageRequest]]
    left_out: tuple[str, ...] = ()

    @property
    def distinct(self) -> int:
        """How many different images that are."""
        in_scores = [request for requests in self.scored.values() for request in requests]
        return len({*self.before, *self.after, *in_scores})


def plan_drawings(
    settings: ValidationSettings,
    prompts: Sequence[ValidationPrompt],
    concepts: Sequence[Concept],
    language: str,
    encode_ids: PromptEncoder,
    *,
    scores: bool,
) -> DrawingPlan:
    """What is to be drawn: the overview's images, and those of the scores, within the bounds that the settings name.

    Whatever the number of concepts and prompts, the defaults draw about as much as for a single concept.

    Args:
        prompts: the validation prompts; where there are none, a few that show the first concepts off.
        language: of those few, one of `choices.LANGUAGES`.
        encode_ids: knows the placeholder tokens.
        scores: whether the concepts are scored, as in the demo.
    """
    chosen, most = concepts[: settings.overview_concepts], settings.overview_images
    wanted = len(prompts) or len(_showcase(chosen, language))
    shows_concepts = scores or not prompts
    prompts = list(prompts[:most]) or _showcase(chosen, language, most)
    after = [request_of(prompt, seed, settings) for seed, prompt in _with_seeds(prompts)]
    before = [with_initial_vectors(request, encode_ids) for request in after]
    scored = {c.placeholder_token: _score_requests(settings, c, len(chosen)) for c in chosen} if scores else {}
    left_out = _left_out(len(chosen), len(concepts), "concepts (--overview_concepts)") if shows_concepts else []
    left_out += _left_out(len(prompts), wanted, "prompts (--overview_images)")
    return DrawingPlan(prompts, before, after, scored, tuple(left_out))


def _left_out(shown: int, of: int, what: str) -> list[str]:
    return [f"{of - shown} of {of} {what}"] if shown < of else []


def with_initial_vectors(request: ImageRequest, encode_ids: PromptEncoder) -> ImageRequest:
    """The same image with the initial vectors; the same request where neither of its prompts holds a concept."""
    prompts = [request.prompt, request.negative_prompt]
    if request.prompt_weights:
        prompts = [encode_ids.without_marks(prompt) for prompt in prompts]
    return replace(request, initial_vectors=any(map(encode_ids.holds_placeholder, prompts)))


def _showcase(concepts: Sequence[Concept], language: str, most: int | None = None) -> list[ValidationPrompt]:
    plain = {kind: plain_template(kind, language) for kind in PROPERTIES}
    kinds = {concept.placeholder_token: concept.learnable_property for concept in concepts}
    return [ValidationPrompt(text) for text in showcase(kinds, plain, language, most=most)]


def _with_seeds(prompts: Sequence[ValidationPrompt]) -> list[tuple[int, ValidationPrompt]]:
    """One image a prompt; those without a seed of their own get 0, 1, 2, … in the order of the prompts."""
    return [(i if prompt.seed is None else prompt.seed, prompt) for i, prompt in enumerate(prompts)]


def draw_all(plan: DrawingPlan, painter: Painter, size: tuple[int, int], resolution: int) -> Drawings | None:
    """Draw what overview and scores show; to be called on all ranks, and None on all but the first.

    Args:
        size: (height, width) of the training images, in pixels: that of the overview's.
        resolution: the side that the base model was made for: that of the scores' images.

    Raises:
        Stopped: a rank was told to end.
    """
    own_size = (resolution, resolution)
    overview = [*plan.before, *plan.after]
    in_scores = [request for requests in plan.scored.values() for request in requests]
    lists = [[*overview, *in_scores]] if size == own_size else [overview, in_scores]
    drawn = [
        painter.draw(requests, size=wanted, shows_progress=True)
        for requests, wanted in zip(lists, (size, own_size), strict=False)
        if requests
    ]
    if any(part is None for part in drawn):
        return None
    rest = iter([image for part in drawn for image in part])
    before, after = ([next(rest) for _ in requests] for requests in (plan.before, plan.after))
    return Drawings(before, after, {token: [next(rest) for _ in requests] for token, requests in plan.scored.items()})


def save_overview(path: Path, plan: DrawingPlan, training: Sequence[Image.Image], drawings: Drawings) -> None:
    """Write the overview: training images | before | after.

    Args:
        training: training images as the model saw them.
    """
    captions = [prompt.caption for prompt in plan.prompts]
    sheet = image_grid.overview(training, drawings.before, drawings.after, captions)
    png_files.save_png(sheet, path, text={"frames": sheet.info["frames"], "prompts": "\n".join(captions)})


# ---------------------------------------------------------------------------------------------- scores of the demo


def score_all(
    drawings: Drawings,
    settings: ValidationSettings,
    concepts: Sequence[Concept],
    model: BaseModel,
    data: TrainingSet,
    fresh_images: FreshImages,
    say: Callable[[str], None],
) -> dict[str, dict]:
    """Score the concepts with the base model's own CLIP (arXiv 2208.01618, section 5), on few images.

    The baseline is the initializer word: what the concept draws as long as nothing is learned.

    Args:
        concepts: all of the run, of which the first are scored.
        fresh_images: gives the ceiling's images.
        say: told what the user should know of the CLIP model.

    Returns:
        Placeholder token -> baseline, concept and ceiling; see `scoring.report`.
    """
    if not drawings.scored:
        return {}
    scorer, found = ClipScorer(find_clip(model.folder)), {}
    for note in scorer.notes:
        say(f"note: {note}")
    for index, concept in enumerate(concepts[: len(drawings.scored)]):
        own, token = data.previews_of(index), concept.placeholder_token
        training = scorer.image_features(own)
        best = ceiling(scorer, training, fresh_images(concept.image_folder, data.shapes[0][1]))
        protocol = _protocol(settings, concept, len(drawings.scored))
        baseline, learned = compare(scorer, drawings.scored[token], training, protocol)
        copies = copies_among(learned.features, (training, pixel_features(own)))
        found[token] = report(baseline, learned, best, word=token, initializer=_baseline_word(concept), copies=copies)
    return found


def _score_requests(settings: ValidationSettings, concept: Concept, num_scored: int) -> list[ImageRequest]:
    """The images of the baseline, then those of the concept, one of `num_scored`."""
    words = (_baseline_word(concept), concept.placeholder_token)
    return [request for word in words for request in _protocol(settings, concept, num_scored).requests(word)]


def _baseline_word(concept: Concept) -> str:
    return concept.initializer_token or GENERIC_WORDS[concept.learnable_property]


def _protocol(settings: ValidationSettings, concept: Concept, num_scored: int) -> Protocol:
    return Protocol(
        learnable_property=concept.learnable_property,
        num_images=_SCORED_IMAGES if num_scored == 1 else _SCORED_IMAGES_OF_SEVERAL,
        guidance_scale=settings.guidance_scale,
        num_inference_steps=settings.num_inference_steps,
        scheduler=settings.scheduler,
    )
