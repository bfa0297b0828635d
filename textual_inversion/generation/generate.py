"""Prompts and seeds -> images.

An image is a function of its request alone: its noise comes from a NumPy Philox generator keyed by its own seed, first
the initial latents, then all noise that a stochastic scheduler asks for. So the same seed gives the same image in a
batch of one and in a batch of eight, on any machine, and beside any other images.

Generation changes neither the base model nor a pipeline, so several threads may generate with one model at once.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
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
from textual_inversion.generation.request import ImageRequest
from textual_inversion.generation.text_embeddings import Text, TextEmbeddings
from textual_inversion.models.attention_maps import recorded
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.config_checks import IN_USE, explained
from textual_inversion.system.progress import Progress

# Images with at least this many pixels are decoded one by one: at 512 x 512 the VAE's activations for a single
# image take gigabytes, and a batch is no faster.
_SLICED_PIXELS = 256 * 256

# The texts of a request: its prompt and, with guidance, its negative prompt.
_Texts = tuple[Text, Text | None]


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
        batch_size: images made together. Only requests with equal `batch_settings` share a batch, and of these only
            those whose prompts are encoded in equally many chunks.
        scheduler, height, width, progress, pipeline: as for `generate_batches`, which yields and raises the same.
    """
    own = dict(scheduler=scheduler, height=height, width=width, progress=progress, pipeline=pipeline)
    return generate_batches(model, requests, batches(requests, batch_size), **own)


def generate_batches(
    model: BaseModel,
    requests: Sequence[ImageRequest],
    chosen: Sequence[Sequence[int]],
    *,
    scheduler: str | None = None,
    height: int | None = None,
    width: int | None = None,
    progress: Progress | None = None,
    pipeline: Any = None,
    attention: Callable[[int, np.ndarray], None] | None = None,
) -> Iterator[tuple[int, Image.Image]]:
    """Generate the images of some batches, such as one process's share, in the order of the batches.

    Args:
        model: a base model, with or without embedding vectors attached.
        chosen: positions in `requests` of the images of each batch, which have equal `batch_settings`.
        scheduler, height, width: of requests that do not say their own; None: the base model's own.
        progress: its total is the `total_steps` of the images of these batches.
        pipeline: a result of `model.pipeline(...)` to use in place of a new one; its own scheduler is then the one in
            use. The pipeline stays as it is.
        attention: called with the position of each image and its attention maps, float32 [M, H, W], before the image is
            yielded; see `models.attention_maps`. The images stay the same.

    Yields:
        (position in `requests`, RGB image). Where a safety checker blacked an image out,
        `image.info["safety_checker"]` says so.

    Raises:
        SettingsError: the model cannot make this size, no scheduler has this name, or a prompt with weights cannot be
            encoded.
    """
    texts = _texts(model, requests, {position for positions in chosen for position in positions})
    parts = [part for positions in chosen for part in _of_equal_length(positions, texts)]
    firsts = [requests[positions[0]] for positions in parts]
    check_model(model, [one.start for one in firsts])
    starts, sizes = Starts(model), [image_size(model, one, height, width) for one in firsts]
    pipe = pipeline if pipeline is not None else model.pipeline(scheduler)
    pipes = {name: _scheduled(model, pipe, name) for name in dict.fromkeys(one.scheduler for one in firsts)}
    uses = [{text: None for position in positions for text in texts[position] if text} for positions in parts]
    embeddings, done = TextEmbeddings(model, uses), 0
    for turn, positions in enumerate(parts):
        batch = [requests[position] for position in positions]
        own, size = pipes[batch[0].scheduler], sizes[turn]
        arguments = _prompt_arguments(model, [texts[position] for position in positions], embeddings.of(turn))
        latents = (size[0] // model.vae_scale_factor, size[1] // model.vae_scale_factor)
        with recorded(own.unet, len(batch), latents) if attention else nullcontext() as seen:
            images = _make_batch(model, own, batch, arguments, size, starts, _reporter(progress, done, batch))
        if attention:
            for position, maps in zip(positions, seen.maps(), strict=True):
                attention(position, maps)
        done += total_steps(batch)
        yield from zip(positions, images, strict=True)


def blank_notes(images: Sequence[Image.Image]) -> list[str]:
    """A line where images hold one colour only, other than those that a safety checker blacked out."""
    return blank_count_notes(sum(map(is_blank, images)), len(images))


def is_blank(image: Image.Image) -> bool:
    """Whether an image holds one colour only, other than one that a safety checker blacked out."""
    return "safety_checker" not in image.info and all(lo == hi for lo, hi in image.convert("RGB").getextrema())


def blank_count_notes(blank: int, count: int) -> list[str]:
    """A line where `blank` of `count` images hold one colour only."""
    if not blank:
        return []
    return [
        f"{blank} of {count} images hold one colour only, as where a model computes NaN; if that was in "
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


def image_size(
    model: BaseModel, request: ImageRequest, height: int | None = None, width: int | None = None
) -> tuple[int, int]:
    """(height, width) of a request's image in pixels.

    Args:
        height, width: of requests that do not say their own.

    Raises:
        SettingsError: the model cannot make images of this size.
    """
    own = request.height or height, request.width or width
    return model.image_size(*own) if request.start is None else drawn_size(model, request.start, *own)


def _scheduled(model: BaseModel, pipe: Any, scheduler: str | None) -> Any:
    """The pipeline with another scheduler; None: the pipeline itself."""
    if scheduler is None:
        return pipe
    own = copy.copy(pipe)
    own.scheduler = model.sampling_scheduler(scheduler)
    return own


def _texts(model: BaseModel, requests: Sequence[ImageRequest], positions: Iterable[int]) -> dict[int, _Texts]:
    """Position -> texts of a request: both have the same number of chunks, as the U-Net wants it."""
    count = lru_cache(maxsize=None)(model.count_chunks)  # many requests share a prompt
    holds_placeholder = lru_cache(maxsize=None)(model.text_encoders[0].encode_ids.holds_placeholder)
    found = {}
    for position in positions:
        one = requests[position]
        prompts = [one.prompt, one.negative_prompt] if one.is_guided else [one.prompt]
        chunks = max(map(count, prompts)) if one.prompt_weights else None
        # A prompt without placeholders has no initial vectors; the marks of weights may hide one.
        has_initial = [one.initial_vectors and (one.prompt_weights or holds_placeholder(p)) for p in prompts]
        texts = [Text(prompt, initial, chunks) for prompt, initial in zip(prompts, has_initial, strict=True)]
        found[position] = texts[0], texts[1] if one.is_guided else None
    return found


def _of_equal_length(batch: Sequence[int], texts: Mapping[int, _Texts]) -> Iterator[list[int]]:
    """The positions of a batch, those of prompts with equally many chunks together."""
    alike: dict[int | None, list[int]] = {}
    for position in batch:
        alike.setdefault(texts[position][0].chunks, []).append(position)
    yield from alike.values()


def _prompt_arguments(
    model: BaseModel, texts: Sequence[_Texts], embeddings: Mapping[Text, dict[str, paddle.Tensor]]
) -> dict[str, paddle.Tensor]:
    """A pipeline's arguments for a batch: hidden states [B, n * L, D], for SDXL pooled ones [B, P], their negatives."""
    wanted = [embeddings[text] for text, _ in texts]
    arguments = {name: paddle.stack([one[name] for one in wanted]) for name in wanted[0]}
    negatives = [text for _, text in texts if text is not None]
    if not negatives:
        return arguments
    avoided = []
    for text in negatives:
        nothing = model.zeroes_empty_prompt and not text.prompt
        avoided.append({name: paddle.zeros_like(v) if nothing else v for name, v in embeddings[text].items()})
    return arguments | {f"negative_{name}": paddle.stack([one[name] for one in avoided]) for name in wanted[0]}


def _make_batch(
    model: BaseModel,
    pipe: Any,
    batch: Sequence[ImageRequest],
    arguments: dict[str, paddle.Tensor],
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
