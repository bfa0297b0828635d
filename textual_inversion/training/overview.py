"""A concept before and after its training: pictures side by side, and the score of the demo.

All of it is drawn after training: a prompt can read the initial embedding vectors as well as the trained ones
(`ImageRequest.initial_vectors`). So nobody waits for pictures before the first step, and all of them go through the
U-Net together, each different one once.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from textual_inversion.data import images
from textual_inversion.data.templates import plain_template
from textual_inversion.evaluation.scoring import Protocol, ceiling, compare, report
from textual_inversion.generation import image_grid
from textual_inversion.generation.eval_prompts import showcase
from textual_inversion.generation.generate import ImageRequest
from textual_inversion.generation.prompt_file import SamplePrompt
from textual_inversion.settings.choices import GENERIC_WORDS, PROPERTIES
from textual_inversion.training.drawing import draw, request_of

# Pictures per score: enough to see a concept learned, few enough for a run of minutes; `score.py` makes more.
_SCORED_PICTURES = 14


@dataclass(frozen=True)
class Pictures:
    """What was drawn at the end of a run.

    Attributes:
        before, after: the overview's, one a prompt; [] where there is none.
        scored: for each concept of the demo those of the initializer word and then those of the new one, in the order
            of `scoring.Protocol.requests`; {} elsewhere.
    """

    before: list
    after: list
    scored: dict[str, list]


def is_wanted(args) -> bool:
    """Whether pictures are drawn at the end of a run."""
    return args.overview or args.demo


def draw_all(args, run) -> Pictures | None:
    """Draw what overview and scores show; to be called on all ranks, and None on all but the first.

    Args:
        args: settled settings.
        run: the command's `Run`, trained.

    Raises:
        Stopped: a rank was told to end.
    """
    after = [request_of(prompt, seed, args) for seed, prompt in _with_seeds(overview_prompts(args))]
    before = [with_initial_vectors(run.model, request) for request in after]
    scored = {word: _score_requests(args, concept) for word, concept in _scored(args, run).items()}
    in_scores = [request for requests in scored.values() for request in requests]
    run.say(f"drawing {len({*before, *after, *in_scores})} pictures of before and after")
    size, own_size = (args.height, args.width), (run.model.resolution, run.model.resolution)
    # Scores are of the size that the model was made for, which is nearly always the training pictures', too.
    lists = [[*before, *after, *in_scores]] if size == own_size else [[*before, *after], in_scores]
    drawn = [
        draw(args, run, requests, size=wanted, shows_progress=True)
        for requests, wanted in zip(lists, (size, own_size), strict=False)
        if requests
    ]
    if not run.ranks.is_main:
        return None
    rest = iter([picture for pictures in drawn for picture in pictures])
    before, after = ([next(rest) for _ in requests] for requests in (before, after))
    return Pictures(before, after, {word: [next(rest) for _ in requests] for word, requests in scored.items()})


def overview_prompts(args) -> list[SamplePrompt]:
    """What the overview shows: the sample prompts or, where there are none, a few that show the concepts off."""
    if args.sample_prompts:
        return list(args.sample_prompts)
    plain = {kind: plain_template(kind, args.language) for kind in PROPERTIES}
    words = {concept.placeholder_token: concept.learnable_property for concept in args.concepts}
    return [SamplePrompt(text) for text in showcase(words, plain, args.language)]


def _with_seeds(prompts: list[SamplePrompt]) -> list[tuple[int, SamplePrompt]]:
    """One picture a prompt; those without a seed of their own get 0, 1, 2, … in the order of the prompts."""
    return [(i if prompt.seed is None else prompt.seed, prompt) for i, prompt in enumerate(prompts)]


def with_initial_vectors(model, request: ImageRequest) -> ImageRequest:
    """The same image with the initial vectors; the same request where neither of its prompts holds a placeholder."""
    holds = model.text_encoders[0].encode_ids.holds_placeholder
    return replace(request, initial_vectors=holds(request.prompt) or holds(request.negative_prompt))


def save_overview(path: Path, args, pixels: list[np.ndarray], before: list, after: list) -> None:
    """Write the overview: training images | before | after.

    Args:
        pixels: training images as the model saw them, float32 [3, H, W] in [-1, 1].
        before, after: one picture for each of `overview_prompts`.
    """
    training = [images.from_array(array) for array in pixels]
    captions = [prompt.caption for prompt in overview_prompts(args)]
    image_grid.save_png(image_grid.overview(training, before, after, captions), path)


# ---------------------------------------------------------------------------------------------- scores of the demo


def score_all(args, run, scored: dict[str, list]) -> dict[str, dict]:
    """Score the demo's words with its model's own CLIP (arXiv 2208.01618, section 5), on few pictures.

    The baseline is the initializer word: what the new word draws as long as nothing is learned.

    Args:
        scored: from `draw_all`.

    Returns:
        Word -> baseline, concept and ceiling; see `scoring.report`.
    """
    from demo.shipped import fresh_drawings
    from textual_inversion.evaluation.clip import ClipScorer, find_clip

    if not scored:
        return {}
    scorer, found = ClipScorer(find_clip(run.model.folder)), {}
    for place, (word, concept) in enumerate(_scored(args, run).items()):
        own = [array for array, image in zip(run.pixels, run.images, strict=True) if image.concept == place]
        training = scorer.image_features([images.from_array(array) for array in own])
        best = ceiling(scorer, training, fresh_drawings(concept.image_folder, args.width))
        baseline, learned = compare(scorer, scored[word], training, _protocol(args, concept))
        found[word] = report(baseline, learned, best, word=word, initializer=_baseline_word(concept))
    return found


def _scored(args, run) -> dict:
    """Word -> concept, where words are scored."""
    return {concept.placeholder_token: concept for concept in run.concepts} if args.demo else {}


def _score_requests(args, concept) -> list[ImageRequest]:
    """The pictures of the baseline, then those of the word."""
    words = (_baseline_word(concept), concept.placeholder_token)
    return [request for word in words for request in _protocol(args, concept).requests(word)]


def _baseline_word(concept) -> str:
    return concept.initializer_token or GENERIC_WORDS[concept.learnable_property]


def _protocol(args, concept) -> Protocol:
    return Protocol(
        learnable_property=concept.learnable_property,
        num_images=_SCORED_PICTURES,
        guidance_scale=args.guidance_scale,
        num_inference_steps=args.num_inference_steps,
    )
