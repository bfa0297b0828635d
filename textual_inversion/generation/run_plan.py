"""Draw the images of a plan that are not there yet, and save each as soon as it is there."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from PIL import Image

from textual_inversion.generation.draw_plan import draw
from textual_inversion.generation.gallery import Gallery
from textual_inversion.generation.generate import is_blank, total_steps
from textual_inversion.generation.heat_sheets import HeatSheets
from textual_inversion.generation.plan import Plan, value_of
from textual_inversion.generation.request import ImageRequest
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.identity import content_hash
from textual_inversion.system.paths import portable
from textual_inversion.system.progress import Progress
from textual_inversion.system.signals import Signals

_LOOK_SECONDS = 2.0  # shortest time between two looks at what the other processes have drawn
_LOOK_SHARE = 50  # and at least this many times what the last look took


class WholeProgress:
    """The progress of a run over all of its processes, as the folder tells it.

    Args:
        shown: its total is the `total_steps` of the whole plan.
        requests: of the whole plan.
        own: positions of the images that this process draws.
        drawn: the positions of the images that are in the folder.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        shown: Progress,
        requests: Sequence[ImageRequest],
        own: set[int],
        drawn: Callable[[], set[int]],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._shown, self._requests, self._own, self._drawn, self._clock = shown, requests, own, drawn, clock
        self._begun, self._next_look = clock(), 0.0
        self._images = self._images_before = len(drawn())
        self._others = 0

    def update(self, own_steps: int) -> None:
        """Show that `own_steps` denoising steps of this process's images are done."""
        now = self._clock()
        if now >= self._next_look:
            there = self._drawn()
            self._images = len(there)
            self._others = total_steps([self._requests[position] for position in there - self._own])
            self._next_look = now + max(_LOOK_SECONDS, _LOOK_SHARE * (self._clock() - now))
        rate = (self._images - self._images_before) / max(now - self._begun, 1e-9)
        self._shown.update(self._others + own_steps, **({"images/s": rate} if rate else {}))


def run_plan(
    model: BaseModel,
    plan: Plan,
    batches: Sequence[Sequence[int]],
    gallery: Gallery,
    done: set[int],
    stop: Signals,
    *,
    pipeline: Any,
    common: Mapping[str, Any] = MappingProxyType({}),
    score: Callable[[Image.Image, str, str], dict[str, float]] | None = None,
    shows_progress: bool = True,
    heat: HeatSheets | None = None,
) -> tuple[int, int]:
    """Draw this process's batches, and save those of their images that are not there yet.

    Args:
        batches: this process's share, each with an image that is missing.
        gallery: has begun the run.
        done: positions of the images that are complete already; where their batch is drawn for another image, they
            are computed again, since an image depends on its batch, and not written.
        stop: its `advice` says what is there.
        common: facts that all of the images have.
        score: (image, prompt, label of the column) -> its similarities, to be recorded with it.
        heat: takes the attention maps of each image, and writes a sheet of them beside the images.

    Returns:
        How many images were saved, and how many of them hold one colour only.

    Raises:
        OutputError: an image could not be saved.
    """
    own = {position for batch in batches for position in batch}
    scheduler, saved, blank = type(pipeline.scheduler).__name__, 0, 0  # of requests that name none
    start = total_steps([plan.requests[position] for position in done - own])
    shown = Progress(total_steps(plan.requests), description="denoising step", start=start, enabled=shows_progress)
    with shown:
        progress = WholeProgress(shown, plan.requests, own, gallery.drawn) if shows_progress else None
        how = dict(pipeline=pipeline, progress=progress, attention=heat and heat.take)
        for position, image in draw(model, plan, batches, **how):
            request = plan.requests[position]
            if heat is not None:
                heat.write(position, image, request)
            if position in done:
                continue
            facts = image_facts(request, image, scheduler, model.name) | model_facts(model) | common
            if score is not None:
                facts["score"] = score(image, request.prompt, request.embeds)
            with stop.noted():
                gallery.save(position, image, facts)
                saved, blank = saved + 1, blank + is_blank(image)
                there = len(done) + saved
                stop.advice = f"after {there} of {len(plan.requests)} images, which are in {gallery.folder}"
    return saved, blank


def model_facts(model: BaseModel) -> dict[str, Any]:
    """What a base model does otherwise than usual: another VAE, another way to read prompts."""
    facts = {"clip_skip": model.clip_skip, "max_token_length": model.max_token_length}
    if model.vae_name is not None:
        facts |= {"vae": portable(model.vae_name), "vae_sha256": content_hash(model.vae_folder)}
    return {name: value for name, value in facts.items() if value is not None}


def image_facts(request: ImageRequest, image: Image.Image, scheduler: str, base_model: str) -> dict[str, Any]:
    """What one image was made with, for its file and for the manifest.

    Args:
        scheduler: class of the scheduler of requests that name none.
        base_model: its name, as the user gave it.
    """
    facts = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "guidance_scale": request.guidance_scale,
        "num_inference_steps": request.num_inference_steps,
        "scheduler": value_of(request, "scheduler", scheduler),
        "eta": request.eta,
        "height": image.height,
        "width": image.width,
        "base_model": portable(base_model),
    }
    if request.embeds:
        facts["embeds"] = request.embeds
    if request.prompt_weights:
        facts["prompt_weights"] = True
    if request.start is not None:
        facts |= request.start.facts
    if "safety_checker" in image.info:
        facts["safety_checker"] = image.info["safety_checker"]
    return facts
