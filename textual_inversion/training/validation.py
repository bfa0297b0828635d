"""Images drawn by a run: validation images on the way, and whatever else is drawn by all processes together.

An image depends on its request alone, so it does not matter which process draws it, but for rounding: the U-Net's sums
come out slightly differently in a batch of another size, which moves a pixel by one of 255 levels here and there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist
from PIL import Image

from textual_inversion.distributed.ranks import Ranks
from textual_inversion.generation import image_grid, png_files
from textual_inversion.generation.generate import ImageRequest, blank_notes, generate, total_steps
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.models.prompt_notes import reading_notes
from textual_inversion.settings.train_run import ValidationSettings
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.system import atomic
from textual_inversion.system.progress import Progress
from textual_inversion.system.signals import blocked
from textual_inversion.system.tracking import Tracker
from textual_inversion.training.artifacts import Saves
from textual_inversion.training.checkpoints import Checkpoint
from textual_inversion.training.state import RunContext

OVER_TIME = "over-time.png"
# Images that are made together, and the pixels from which they are made one by one.
_BATCH = 8
_LARGE_IMAGE = 256 * 256


# ------------------------------------------------------------------------------------------------ drawing on all ranks


def request_of(prompt: ValidationPrompt, seed: int, settings: ValidationSettings) -> ImageRequest:
    """One image of a prompt; what the prompt leaves open is settled by the flags."""
    steps, guidance = prompt.num_inference_steps, prompt.guidance_scale
    return ImageRequest(
        prompt=prompt.text,
        seed=seed,
        negative_prompt=prompt.negative_prompt,
        guidance_scale=settings.guidance_scale if guidance is None else guidance,
        num_inference_steps=settings.num_inference_steps if steps is None else steps,
        prompt_weights=settings.prompt_weights,
        scheduler=settings.scheduler,
    )


def share(requests: Sequence[ImageRequest], ranks: Ranks) -> list[ImageRequest]:
    """The requests that this rank draws: each once, dealt out in turn."""
    return list(dict.fromkeys(requests))[ranks.rank :: ranks.world_size]


class Painter:
    """Draws images on all ranks together; the first rank gets them all.

    Args:
        model: with the concepts attached.
        size: (height, width) in pixels, unless a call says otherwise.
        one_by_one: draw one image at a time, to save memory.
        keep_vae: whether the VAE stays in memory between two calls.
    """

    def __init__(
        self, model: BaseModel, context: RunContext, size: tuple[int, int], *, one_by_one: bool, keep_vae: bool
    ):
        self._model, self._context, self._size = model, context, size
        self._one_by_one, self._keep_vae = one_by_one, keep_vae

    def draw(
        self, requests: Sequence[ImageRequest], *, size: tuple[int, int] | None = None, shows_progress: bool = False
    ) -> list[Image.Image] | None:
        """The images of the requests, each distinct one drawn once; to be called on all ranks alike.

        Args:
            size: (height, width) in pixels.
            shows_progress: of the first rank's share.

        Returns:
            RGB images in the order of the requests on the first rank; None on the others.

        Raises:
            Stopped: this rank was told to end or, where there are several, another was before all were done.
        """
        height, width = size or self._size
        ranks, images = self._context.ranks, []
        own = share(requests, ranks)
        # A large image's attention alone fills gigabytes; small ones are made quickest together.
        batch_size = _BATCH if height * width < _LARGE_IMAGE and not self._one_by_one else 1
        if own:
            shown = shows_progress and ranks.is_main
            with Progress(total_steps(own), description="denoising step", enabled=shown) as progress:
                options = {"height": height, "width": width, "batch_size": batch_size, "progress": progress}
                images = generate(self._model, own, **options)
        if not self._keep_vae:
            self._model.free_vae()
        distinct = list(dict.fromkeys(requests))
        drawn = _gather(self._context, images, len(distinct), (height, width))
        if drawn is None:
            return None
        for note in blank_notes(drawn):
            self._context.say(f"note: {note}")
        by_request = dict(zip(distinct, drawn, strict=True))
        return [by_request[request] for request in requests]


def _gather(context: RunContext, images: list, count: int, size: tuple[int, int]) -> list[Image.Image] | None:
    """All `count` images of (height, width), in the order in which they were dealt out, on the first rank.

    They travel as uint8 [ceil(count / world size), H, W, 3] of each rank, the last of which may be empty.
    """
    ranks = context.ranks
    if ranks.world_size == 1:
        return images
    own = np.zeros((-(-count // ranks.world_size), *size, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        own[index] = np.asarray(image)
    with context.stop.noted():
        ranks.meet(context.stop)
        with blocked():
            sent, received = paddle.to_tensor(own), [] if ranks.is_main else None
            dist.gather(sent, received, dst=0)
            sent.numpy()  # on a GPU the exchange is over only now, and nobody leaves before
            shares = [tensor.numpy() for tensor in received or ()]
    if not ranks.is_main:
        return None
    return [Image.fromarray(shares[i % ranks.world_size][i // ranks.world_size]) for i in range(count)]


# -------------------------------------------------------------------------------------------------- validation images


def prompt_notes(
    prompts: Sequence[ValidationPrompt],
    encode_ids: PromptEncoder,
    tokens: Sequence[str],
    *,
    prompt_weights: bool = False,
) -> list[str]:
    """What the user should know of the validation prompts: those without a concept, text that is not read.

    Args:
        tokens: the placeholder tokens of the run.

    Raises:
        SettingsError: with `prompt_weights`, a prompt cannot be encoded.
    """
    listed, found = ", ".join(tokens), []
    for prompt in prompts:
        texts = (prompt.text, prompt.negative_prompt)
        for text in texts:
            if unknown := encode_ids.unknown_placeholders(text):
                found.append(f"{', '.join(unknown)} in the validation prompt {text!r} is no placeholder token; "
                             f"the run learns {listed}")  # fmt: skip
        if not any(encode_ids.holds_placeholder(text) or encode_ids.unknown_placeholders(text) for text in texts):
            found.append(f"the validation prompt {prompt.text!r} holds none of {listed}")
    texts = [text for prompt in prompts for text in (prompt.text, prompt.negative_prompt)]
    return found + reading_notes([encode_ids], texts, prompt_weights=prompt_weights)


@dataclass(frozen=True)
class Drawn:
    """The validation images of a step.

    Attributes:
        path: their file; None where it could not be written.
        prompts: of each image, as it was requested.
        images: RGB, `--num_validation_images` a prompt.
    """

    path: Path | None
    prompts: list[str]
    images: list[Image.Image]


class ValidationImages:
    """Images of the validation prompts, drawn with the modules in memory every so often, a share of them on each rank.

    They go to `samples/step-N.png` in the run's folder and, as a strip over time, to `samples/over-time.png`. The strip
    of a resumed run begins with what was drawn before.

    Args:
        folder: the run's.
        painter: draws them.
        tracker: logs them too.
        saves: attempts to write them.
        resumed: the checkpoint that the run resumes, on the first rank; else None.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        prompts: Sequence[ValidationPrompt],
        folder: Path,
        *,
        painter: Painter,
        tracker: Tracker,
        saves: Saves,
        resumed: Checkpoint | None,
    ):
        self._settings, self._prompts, self._folder = settings, prompts, folder / "samples"
        self._painter, self._tracker, self._saves = painter, tracker, saves
        self._over_time = [frame for frame in _drawn_before(resumed) if len(frame[1]) == len(prompts)]

    def draw(self, step: int) -> Drawn | None:
        """Draw, save and log the images of a step; to be called on all ranks, and None on all but the first."""
        each = self._settings.num_validation_images
        requests = [request_of(p, p.first_seed + i, self._settings) for p in self._prompts for i in range(each)]
        images = self._painter.draw(requests)
        if images is None:
            return None
        captions = [prompt.caption for prompt in self._prompts]
        labels = [caption for caption in captions for _ in range(each)]
        sheet = image_grid.contact_sheet(images, columns=each, labels=labels, title=f"step {step}")
        self._tracker.image("samples", sheet, step)
        self._tracker.text("samples", "\n\n".join(captions), step)
        self._over_time.append((step, images[::each]))
        path = self._folder / f"step-{step}.png"
        text = {"step": str(step), "prompts": "\n".join(captions)}
        is_saved = self._saves.attempt(self._save, path, sheet, text, captions)
        return Drawn(path if is_saved else None, [request.prompt for request in requests], images)

    def _save(self, path: Path, sheet: Image.Image, text: dict[str, str], captions: list[str]) -> None:
        atomic.make_folder(path.parent)
        png_files.save_png(sheet, path, text=text)
        strip = image_grid.strip(self._over_time, prompts=captions)
        png_files.save_png(strip, path.with_name(OVER_TIME), text={"frames": strip.info["frames"]})


def _drawn_before(checkpoint: Checkpoint | None) -> list[tuple[int, list]]:
    """The frames of the strip over time of the run that a checkpoint belongs to: (step, first image of each prompt)."""
    if checkpoint is None:
        return []
    return image_grid.frames_of(checkpoint.folder.parent / "samples" / OVER_TIME, checkpoint.step)
