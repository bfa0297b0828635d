"""Prompts and seeds -> images.

An image is a function of its request alone: its noise comes from a NumPy Philox generator keyed by its own seed, first
the initial latents, then whatever noise a stochastic scheduler asks for. So the same seed gives the same image in a
batch of one and in a batch of eight, on any machine, and beside any other images.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import paddle

from textual_inversion.system.errors import SettingsError

# The second word of the Philox key: keeps the noise of images apart from the noise of training samples.
_IMAGES = 1
# Prompts that go through the text encoder together.
_PROMPT_BATCH = 16
# Images at least this many pixels large are decoded one by one: at 512 x 512 the VAE's activations of one image
# alone take gigabytes, and a batch is no faster.
_SLICED_PIXELS = 256 * 256
# The pipelines of ppdiffusers refuse other sizes.
_PIPELINE_FACTOR = 8


@dataclass(frozen=True)
class ImageRequest:
    """One image to make.

    Attributes:
        prompt: may hold learned words; they are expanded by the model's own prompt encoder.
        seed: 0 to 2**64 - 1; decides all noise.
        negative_prompt: what guidance leads away from; without effect where `guidance_scale` is at most 1.
        guidance_scale: weight w of classifier-free guidance (arXiv 2207.12598); at most 1 means none, at half the work.
        num_inference_steps: denoising steps.
    """

    prompt: str
    seed: int
    negative_prompt: str = ""
    guidance_scale: float = 7.5
    num_inference_steps: int = 50

    @property
    def is_guided(self) -> bool:
        """Whether the unconditional half of the work is done too."""
        return self.guidance_scale > 1


def generate(model, requests: Sequence[ImageRequest], **settings) -> list:
    """All images of the requests, in their order; see `generate_each` for the settings."""
    images = [None] * len(requests)
    for position, image in generate_each(model, requests, **settings):
        images[position] = image
    return images


def generate_each(
    model,
    requests: Sequence[ImageRequest],
    *,
    scheduler: str | None = None,
    height: int | None = None,
    width: int | None = None,
    batch_size: int = 4,
    eta: float = 0.0,
    progress=None,
    pipeline=None,
) -> Iterator[tuple[int, object]]:
    """Make images batch by batch, so that the first can be saved before the last is made.

    Args:
        model: a `models.BaseModel`, with or without learned words.
        scheduler: a name of `choices.SCHEDULERS`; None takes the base model's own.
        height, width: pixels; None takes the size the model was trained for.
        batch_size: images made together. Only requests with equal steps and guidance share a batch.
        eta: share of fresh noise in DDIM steps, 0 to 1; other schedulers have no use for it.
        progress: a `progress.Progress` whose total is `total_steps(requests)`.
        pipeline: what `model.pipeline(...)` gave, to use it again; `scheduler` is then the pipeline's.

    Yields:
        (position in `requests`, RGB PIL image). `image.info["safety_checker"]` says so where a safety checker blacked
        it out.

    Raises:
        SettingsError: a size that the model cannot make, or a scheduler it cannot use.
    """
    height, width = image_size(model, height, width)
    pipe = pipeline if pipeline is not None else model.pipeline(scheduler)
    embeddings = _encode_distinct(model, requests)
    done = 0
    for positions in batches(requests, batch_size):
        batch = [requests[position] for position in positions]
        with _sliced_decoding(pipe.vae, height * width >= _SLICED_PIXELS):
            report = _reporter(progress, done, batch)
            images = _make_batch(model, pipe, batch, embeddings, (height, width), eta, report)
        done += total_steps(batch)
        yield from zip(positions, images, strict=True)


def total_steps(requests: Sequence[ImageRequest]) -> int:
    """Denoising steps of all requests together: the total of a progress bar."""
    return sum(request.num_inference_steps for request in requests)


def batches(requests: Sequence[ImageRequest], batch_size: int) -> list[list[int]]:
    """Positions of the requests, cut into batches of equal steps and guidance, in order of appearance."""
    alike: dict[tuple, list[int]] = {}
    for position, request in enumerate(requests):
        alike.setdefault((request.num_inference_steps, request.guidance_scale), []).append(position)
    return [group[i : i + batch_size] for group in alike.values() for i in range(0, len(group), batch_size)]


def side_factor(model) -> int:
    """What the sides of a model's pictures, in pixels, must be multiples of."""
    return math.lcm(_PIPELINE_FACTOR, model.vae_scale_factor)


def image_size(model, height: int | None = None, width: int | None = None) -> tuple[int, int]:
    """(height, width) in pixels, the model's own where None; raises SettingsError where it cannot make that size."""
    factor = side_factor(model)
    for flag, value in (("--height", height), ("--width", width)):
        if value is not None and (value < factor or value % factor):
            near = max(factor, round(value / factor) * factor)
            raise SettingsError(f"{flag} {value}: this model makes pictures in multiples of {factor}; try {near}")
    return height or model.resolution, width or model.resolution


def noise_generator(seed: int) -> np.random.Generator:
    """The source of all noise of one image."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, _IMAGES], dtype=np.uint64)))


def _encode_distinct(model, requests) -> dict[str, dict[str, paddle.Tensor]]:
    """Prompt -> a pipeline's arguments; each distinct text goes through the text encoders once."""
    texts = [request.prompt for request in requests]
    texts += [request.negative_prompt for request in requests if request.is_guided]
    distinct, embeddings = list(dict.fromkeys(texts)), {}
    with paddle.no_grad():
        for first in range(0, len(distinct), _PROMPT_BATCH):
            chunk = distinct[first : first + _PROMPT_BATCH]
            embeddings.update(zip(chunk, model.encode_prompts(chunk).for_pipeline(), strict=True))
    return embeddings


def _prompt_arguments(model, batch, embeddings) -> dict[str, paddle.Tensor]:
    """What a pipeline is told of a batch: [B, L, D] hidden states and, of SDXL, [B, P] pooled ones; their negatives."""
    wanted = [embeddings[request.prompt] for request in batch]
    arguments = {name: paddle.stack([one[name] for one in wanted]) for name in wanted[0]}
    if not batch[0].is_guided:
        return arguments
    avoided = []
    for request in batch:
        texts = embeddings[request.negative_prompt]
        nothing = model.zeroes_empty_prompt and not request.negative_prompt
        avoided.append({name: paddle.zeros_like(v) if nothing else v for name, v in texts.items()})
    return arguments | {f"negative_{name}": paddle.stack([one[name] for one in avoided]) for name in wanted[0]}


def _make_batch(model, pipe, batch, embeddings, size: tuple[int, int], eta: float, report) -> list:
    """The images of requests with equal steps and guidance."""
    first = batch[0]
    generators = [noise_generator(request.seed) for request in batch]
    shape = (pipe.unet.config.in_channels, size[0] // pipe.vae_scale_factor, size[1] // pipe.vae_scale_factor)
    with _scheduler_noise(pipe.scheduler, generators):
        output = pipe(
            **_prompt_arguments(model, batch, embeddings),
            latents=_draw(generators, shape),  # (B, C, H, W)
            height=size[0],
            width=size[1],
            num_inference_steps=first.num_inference_steps,
            guidance_scale=first.guidance_scale,
            eta=eta,
            callback_on_step_end=report,
        )
    for image, is_unsafe in zip(output.images, getattr(output, "nsfw_content_detected", None) or (), strict=False):
        if is_unsafe:
            image.info["safety_checker"] = "blacked out"
    return output.images


def _draw(generators, shape: tuple[int, ...]) -> paddle.Tensor:
    """Standard normal noise float32 [B, *shape], row b from generator b."""
    return paddle.to_tensor(np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators]))


@contextmanager
def _scheduler_noise(scheduler, generators):
    """Let a stochastic scheduler draw image b's noise from generator b.

    The `generator` argument of ppdiffusers' schedulers cannot do this: on a CPU it is ignored. Schedulers draw through
    the name `randn_tensor` of their own module, so this name is lent to the batch.
    """
    module = sys.modules[type(scheduler).__module__]
    original = getattr(module, "randn_tensor", None)
    if original is None:  # a deterministic scheduler
        yield
        return

    def randn_tensor(shape, generator=None, dtype=None):
        return _draw(generators, tuple(shape[1:])).astype(dtype or "float32")

    module.randn_tensor = randn_tensor
    try:
        yield
    finally:
        module.randn_tensor = original


@contextmanager
def _sliced_decoding(vae, wanted: bool):
    """Decode one image at a time while this lasts."""
    before = vae.use_slicing
    vae.use_slicing = before or wanted
    try:
        yield
    finally:
        vae.use_slicing = before


def _reporter(progress, done: int, batch):
    """A pipeline callback that moves the progress bar with every denoising step of a batch."""
    if progress is None:
        return None
    steps = total_steps(batch)

    def report(pipe, index: int, timestep, tensors: dict) -> dict:
        # Schedulers of second order call the U-Net more often than `num_inference_steps`.
        progress.update(done + steps * (index + 1) // pipe.num_timesteps)
        return {}

    return report
