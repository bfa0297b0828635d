"""Background leak: which share of a word's attention lies beside the thing that it should mean.

Images on which it is known where the thing is (by masks, or because they were drawn here) are noised as in training,
and the U-Net predicts their noise with the plain prompt of the word. The word's attention maps
(`models.attention_maps`) are held against the masks. A word that aims at nothing leaks as much as lies outside the
thing; the initializer word says what a word of the vocabulary leaks on the same images.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from textual_inversion.data.images import to_array
from textual_inversion.data.masks import masks_for
from textual_inversion.data.resizing import Resizer
from textual_inversion.data.templates import plain_template
from textual_inversion.evaluation.standard_errors import standard_error
from textual_inversion.generation.noise import draw, noise_generator
from textual_inversion.models.attention_maps import recorded, share_outside, word_map
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.config_checks import IN_USE, explained
from textual_inversion.system.device import to_device

_AT = (0.2, 0.4, 0.6, 0.8)  # of the noise schedule: where the image still shows, and where it hardly does
_SEED = 0


def background_leak(
    model: BaseModel,
    words: Sequence[str],
    images: Sequence[Image.Image],
    masks: Sequence[Image.Image],
    *,
    learnable_property: str = "object",
    language: str = "en",
) -> dict[str, float] | None:
    """The leak of the initializer word and of a concept; None where one of them is not read in the plain prompt.

    Args:
        words: the baseline's, then the concept's placeholder token.
        images: RGB, of sizes that the model can make.
        masks: mode "L", as large as their images: white is the thing.

    Returns:
        `baseline`, `concept`: mean share of the attention that lies outside the thing; `standard_error` of the second,
        over the images; `outside`: the mean share of the images that is outside the thing.
    """
    template = plain_template(learnable_property, language)
    prompts = [template.replace("{}", word) for word in words]
    encode_ids = model.text_encoders[0].encode_ids
    places = [_tokens_of(encode_ids.places(prompt), word) for prompt, word in zip(prompts, words, strict=True)]
    if not all(places):
        return None
    leaks, outside = [], []
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        maps = _maps_of(model, prompts, image, number)
        inside = _at_size(mask, maps.shape[-2:])
        leaks.append([share_outside(word_map(own, tokens), inside) for own, tokens in zip(maps, places, strict=True)])
        outside.append(float(1 - inside.mean()))
    baseline, concept = (float(value) for value in np.mean(leaks, axis=0))
    error = standard_error([own[1] for own in leaks])
    found = {"baseline": baseline, "concept": concept, "outside": float(np.mean(outside))}
    return found if error is None else found | {"standard_error": error}


def masks_as_trained(
    paths: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    folder: str,
    resizer: Resizer,
    *,
    note: Callable[[str], None],
) -> list[Image.Image]:
    """The masks of training images, brought to size as these were.

    Args:
        paths, sizes: of the images; (width, height) in pixels.
        folder: of the masks.
        note: called with a line about each thing that was found or skipped.

    Raises:
        ImageError: a mask is missing or cannot be used.
    """
    masks = dict(zip(paths, masks_for(list(zip(paths, sizes, strict=True)), folder, note=note), strict=True))
    return resizer.resize_all(paths, sizes, lambda path: masks[path].load())


def sentence(leak: Mapping[str, float]) -> str:
    """What `background_leak` has found, for people."""
    error = f" ± {leak['standard_error']:.3f}" if "standard_error" in leak else ""
    return (
        f"background leak: {leak['concept']:.3f}{error} of the word's attention lies beside the thing, of the "
        f"baseline's {leak['baseline']:.3f}; without any aim it would be {leak['outside']:.3f}"
    )


def _tokens_of(places: Sequence[tuple[str, list[int]]], word: str) -> list[int]:
    """The positions of a word or phrase, which may be several words of the prompt; [] where it is not read."""
    wanted = "".join(word.split()).casefold()
    for first in range(len(places)):
        text, positions = "", []
        for own, at in places[first:]:
            text, positions = text + own.casefold(), positions + at
            if text == wanted:
                return positions
            if not wanted.startswith(text):
                break
    return []


@paddle.no_grad()
def _maps_of(model: BaseModel, prompts: Sequence[str], image: Image.Image, number: int) -> np.ndarray:
    """The maps of each prompt over one image, averaged over some noise levels: float32 [prompts, M, H, W]."""
    schedule, count = model.noise_scheduler.alphas_cumprod.numpy(), len(prompts)
    pixels = to_device(to_array(image)[None])  # (1, 3, H, W)
    with explained(model.folder, IN_USE):
        latents = model.vae.encode(pixels).latent_dist.mean.astype("float32") * model.vae.config.scaling_factor
        encoded = model.encode_prompts(list(prompts), None, (image.height, image.width))
        shape, draws = latents.shape[1:], noise_generator(_SEED + number)
        with recorded(model.unet, count, tuple(shape[1:])) as maps:
            for at in _AT:
                step = int(at * len(schedule))
                noise = draw([draws], shape)
                noisy = float(schedule[step]) ** 0.5 * latents + float(1 - schedule[step]) ** 0.5 * noise
                noisy, steps = noisy.tile([count, 1, 1, 1]), paddle.full([count], step, dtype="int64")
                model.unet(noisy, steps, encoded.hidden_states, **encoded.added)
    return maps.maps()


def _at_size(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel of the latents is inside: float64 [H, W] in [0, 1]."""
    small = mask.convert("L").resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255
