"""Prompts and seeds -> images.

An image is a function of its request alone: its noise comes from a NumPy Philox generator keyed by its own seed, first
the initial latents, then all noise that a stochastic scheduler asks for. So the same seed gives the same image in a
batch of one and in a batch of eight, on any machine, and beside any other images.

Generation changes neither the base model nor a pipeline, so several threads may generate with one model at once.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from PIL import Image

from textual_inversion.generation.from_image import (
    Starts,
    call_arguments,
    check_model,
    drawn_size,
    keeping_outside,
    pipeline_from_image,
)
from textual_inversion.generation.noise import draw, drawing_from, noise_generator
from textual_inversion.generation.start_image import StartImage
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.config_checks import IN_USE, explained
from textual_inversion.models.prompt_encoder import Reading
from textual_inversion.system.progress import Progress

# Prompts that go through the text encoder together.
_PROMPT_BATCH = 16
# Images with at least this many pixels are decoded one by one: at 512 x 512 the VAE's activations for a single
# image take gigabytes, and a batch is no faster.
_SLICED_PIXELS = 256 * 256

# A prompt, and whether its placeholders stand for their initial vectors.
_Text = tuple[str, bool]
_Embeddings = dict[_Text, dict[str, paddle.Tensor]]


@dataclass(frozen=True)
class ImageRequest:
    """One image to make.

    Attributes:
        prompt: may hold placeholders; the model's own prompt encoder expands them.
        seed: 0 to 2**64 - 1; decides all noise.
        negative_prompt: what guidance leads away from; without effect where `guidance_scale` is at most 1.
        guidance_scale: weight w of classifier-free guidance (arXiv 2207.12598); at most 1 means none, at half the work.
        num_inference_steps: denoising steps.
        scheduler: a key of `choices.SCHEDULERS`; None: the pipeline's own.
        eta: the share of noise that DDIM adds in each step, 0 to 1 (arXiv 2010.02502, equation 16); without effect on
            other schedulers.
        height, width: in pixels; None: the size that the model was trained for.
        initial_vectors: placeholders stand for the initial values of their embedding vectors.
        start: what the image is made from; None: from noise alone. A height and width of None then stand for the size
            that `from_image.drawn_size` gives.

    Raises:
        SettingsError: the strength of `start` is less than one denoising step.
    """

    prompt: str
    seed: int
    negative_prompt: str = ""
    guidance_scale: float = 7.5
    num_inference_steps: int = 50
    scheduler: str | None = None
    eta: float = 0.0
    height: int | None = None
    width: int | None = None
    initial_vectors: bool = False
    start: StartImage | None = None

    def __post_init__(self) -> None:
        if self.start is not None:
            self.start.check_steps(self.num_inference_steps)

    @property
    def batch_settings(self) -> tuple:
        """What the images of a batch must have in common."""
        sampling = self.num_inference_steps, self.guidance_scale, self.scheduler, self.eta, self.height, self.width
        return (*sampling, self.start and self.start.batch_settings)

    @property
    def denoising_steps(self) -> int:
        """The denoising steps that are taken: from an image not all of `num_inference_steps`."""
        return self.num_inference_steps if self.start is None else self.start.denoising_steps(self.num_inference_steps)

    @property
    def is_guided(self) -> bool:
        """Whether the U-Net also predicts without the prompt, for guidance."""
        return self.guidance_scale > 1


def generate(model: BaseModel, requests: Sequence[ImageRequest], **settings: Any) -> list[Image.Image]:
    """All images of the requests, in their order; see `generate_each` for the settings."""
    images = dict(generate_each(model, requests, **settings))
    return [images[position] for position in range(len(requests))]


def generate_each(
    model: BaseModel,
    requests: Sequence[ImageRequest],
    *,
    scheduler: str | None = None,
    height: int | None = None,
    width: int | None = None,
    batch_size: int = 4,
    progress: Progress | None = None,
    pipeline: Any = None,
) -> Iterator[tuple[int, Image.Image]]:
    """Generate images batch by batch, so that the first can be saved before the last is made.

    Args:
        model: a base model, with or without embedding vectors attached.
        scheduler, height, width: of requests that do not say their own; None: the base model's own.
        batch_size: images made together. Only requests with equal `batch_settings` share a batch.
        progress: its total is `total_steps(requests)`.
        pipeline: a result of `model.pipeline(...)` to use in place of a new one; its own scheduler is then the one in
            use. The pipeline stays as it is.

    Yields:
        (position in `requests`, RGB image). Where a safety checker blacked an image out,
        `image.info["safety_checker"]` says so.

    Raises:
        SettingsError: the model cannot make this size, or no scheduler has this name.
    """
    check_model(model, [one.start for one in requests])
    starts, sizes = Starts(model), [_size(model, one, height, width) for one in requests]
    pipe = pipeline if pipeline is not None else model.pipeline(scheduler)
    pipes = {name: _scheduled(model, pipe, name) for name in dict.fromkeys(one.scheduler for one in requests)}
    embeddings = _encode_distinct(model, requests)
    done = 0
    for positions in batches(requests, batch_size):
        batch = [requests[position] for position in positions]
        own, size = pipes[batch[0].scheduler], sizes[positions[0]]
        images = _make_batch(model, own, batch, embeddings, size, starts, _reporter(progress, done, batch))
        done += total_steps(batch)
        yield from zip(positions, images, strict=True)


def blank_notes(images: Sequence[Image.Image]) -> list[str]:
    """A line where images hold one colour only, other than those that a safety checker blacked out."""
    drawn = [image for image in images if "safety_checker" not in image.info]
    blank = [image for image in drawn if all(low == high for low, high in image.convert("RGB").getextrema())]
    if not blank:
        return []
    return [
        f"{len(blank)} of {len(images)} images hold one colour only, as where a model computes NaN; if that was in "
        "half precision, try --mixed_precision no, else check the base model"
    ]


def total_steps(requests: Sequence[ImageRequest]) -> int:
    """Denoising steps of all requests together: the total of a progress bar."""
    return sum(request.denoising_steps for request in requests)


def batches(requests: Sequence[ImageRequest], batch_size: int) -> list[list[int]]:
    """Positions of the requests, cut into batches of equal settings, in the order of the requests."""
    alike: dict[tuple, list[int]] = {}
    for position, request in enumerate(requests):
        alike.setdefault(request.batch_settings, []).append(position)
    return [group[i : i + batch_size] for group in alike.values() for i in range(0, len(group), batch_size)]


def _size(model: BaseModel, request: ImageRequest, height: int | None, width: int | None) -> tuple[int, int]:
    """(height, width) of a request's image; the arguments are of requests that do not say their own."""
    own = request.height or height, request.width or width
    return model.image_size(*own) if request.start is None else drawn_size(model, request.start, *own)


def _scheduled(model: BaseModel, pipe: Any, scheduler: str | None) -> Any:
    """The pipeline with another scheduler; None: the pipeline itself."""
    if scheduler is None:
        return pipe
    own = copy.copy(pipe)
    own.scheduler = model.sampling_scheduler(scheduler)
    return own


def _text(model: BaseModel, prompt: str, initial: bool) -> _Text:
    """What decides the embedding of a prompt; a prompt without placeholders has no initial vectors."""
    return prompt, initial and model.text_encoders[0].encode_ids.holds_placeholder(prompt)


def _encode_distinct(model: BaseModel, requests: Sequence[ImageRequest]) -> _Embeddings:
    """Text -> a pipeline's arguments; each distinct text goes through the text encoders once."""
    texts = [_text(model, request.prompt, request.initial_vectors) for request in requests]
    texts += [_text(model, one.negative_prompt, one.initial_vectors) for one in requests if one.is_guided]
    distinct, embeddings = list(dict.fromkeys(texts)), {}
    with paddle.no_grad():
        for first in range(0, len(distinct), _PROMPT_BATCH):
            chunk = distinct[first : first + _PROMPT_BATCH]
            prompts, readings = [prompt for prompt, _ in chunk], [Reading(initial=initial) for _, initial in chunk]
            embeddings.update(zip(chunk, model.encode_prompts(prompts, readings).for_pipeline(), strict=True))
    return embeddings


def _prompt_arguments(
    model: BaseModel, batch: Sequence[ImageRequest], embeddings: _Embeddings
) -> dict[str, paddle.Tensor]:
    """A pipeline's arguments for a batch: hidden states [B, L, D], for SDXL pooled ones [B, P], and their negatives."""
    wanted = [embeddings[_text(model, request.prompt, request.initial_vectors)] for request in batch]
    arguments = {name: paddle.stack([one[name] for one in wanted]) for name in wanted[0]}
    if not batch[0].is_guided:
        return arguments
    avoided = []
    for request in batch:
        texts = embeddings[_text(model, request.negative_prompt, request.initial_vectors)]
        nothing = model.zeroes_empty_prompt and not request.negative_prompt
        avoided.append({name: paddle.zeros_like(v) if nothing else v for name, v in texts.items()})
    return arguments | {f"negative_{name}": paddle.stack([one[name] for one in avoided]) for name in wanted[0]}


def _make_batch(
    model: BaseModel,
    pipe: Any,
    batch: Sequence[ImageRequest],
    embeddings: _Embeddings,
    size: tuple[int, int],
    starts: Starts,
    report: Callable | None,
) -> list[Image.Image]:
    """The images of requests with equal settings."""
    first, begun = batch[0], [request.start for request in batch]
    generators = [noise_generator(request.seed) for request in batch]
    shape = (pipe.unet.config.in_channels, size[0] // pipe.vae_scale_factor, size[1] // pipe.vae_scale_factor)
    noise = draw(generators, shape)  # (B, C, H, W)
    if first.start is None:
        own = copy.copy(pipe)  # a call keeps its settings in the pipeline and in its scheduler
        begin = {"latents": noise, "height": size[0], "width": size[1]}
    else:
        latents = starts.latents(begun, size)
        own, begin = pipeline_from_image(model, pipe, latents, noise), call_arguments(begun)
        report = keeping_outside(starts.masks(begun, size), latents, noise, report)
    own.scheduler = drawing_from(own.scheduler, generators)
    own.vae = _decoder(pipe.vae, one_by_one=size[0] * size[1] >= _SLICED_PIXELS)
    arguments = _prompt_arguments(model, batch, embeddings)
    with explained(model.folder, IN_USE):
        output = own(
            **arguments,
            **begin,
            num_inference_steps=first.num_inference_steps,
            guidance_scale=first.guidance_scale,
            eta=first.eta,
            callback_on_step_end=report,
        )
    unsafe = getattr(output, "nsfw_content_detected", None) or [False] * len(batch)
    return [
        _finished(request, size, starts, image, is_unsafe=is_unsafe)
        for request, image, is_unsafe in zip(batch, output.images, unsafe, strict=True)
    ]


def _finished(
    request: ImageRequest, size: tuple[int, int], starts: Starts, image: Image.Image, *, is_unsafe: bool
) -> Image.Image:
    """A pipeline's image with what stays of the start image, unless a safety checker blacked it out."""
    if is_unsafe:
        image.info["safety_checker"] = "blacked out"
        return image
    return image if request.start is None else starts.finished(request.start, size, image)


def _decoder(vae: Any, *, one_by_one: bool) -> Any:
    """The VAE, or one with the same weights that decodes the images of a batch one by one."""
    if vae.use_slicing or not one_by_one:
        return vae
    sliced = copy.copy(vae)  # another layer with the same parameters and sub-layers
    sliced.use_slicing = True
    return sliced


def _reporter(progress: Progress | None, done: int, batch: Sequence[ImageRequest]) -> Callable | None:
    """A pipeline's callback that reports every denoising step of a batch."""
    if progress is None:
        return None
    steps = total_steps(batch)

    def report(pipe: Any, index: int, timestep: Any, tensors: dict) -> dict:
        # Schedulers of second order call the U-Net more often than `num_inference_steps`.
        progress.update(done + steps * (index + 1) // pipe.num_timesteps)
        return {}

    return report
