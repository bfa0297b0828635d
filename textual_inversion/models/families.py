"""Families of base models, as data: the parts of a pipeline class, and how prompts reach its U-Net.

`FAMILIES` has one entry per pipeline class that can be trained; everything else is the same for all families.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from textual_inversion.models.prompt_chunks import TokenIds
from textual_inversion.models.text_encoders import TextEncoder, TextEncoderLocation
from textual_inversion.models.weight_files import read_json
from textual_inversion.system.device import to_device
from textual_inversion.system.errors import BaseModelError, SettingsError


@dataclass(frozen=True)
class PromptEmbedding:
    """The U-Net's input from B prompts.

    Attributes:
        hidden_states: float [B, n * L, width of the U-Net's cross-attention], of n chunks; n is 1 for plain prompts.
        added: further keyword arguments for the U-Net; empty for all but Stable Diffusion XL.
    """

    hidden_states: paddle.Tensor
    added: dict[str, Any] = field(default_factory=dict)

    def for_pipeline(self) -> list[dict[str, paddle.Tensor]]:
        """A pipeline's arguments for each prompt: prompt_embeds [n * L, D], and for SDXL pooled_prompt_embeds [P]."""
        arguments = {"prompt_embeds": self.hidden_states}
        if "added_cond_kwargs" in self.added:
            arguments["pooled_prompt_embeds"] = self.added["added_cond_kwargs"]["text_embeds"]
        return [{name: values[i] for name, values in arguments.items()} for i in range(len(self.hidden_states))]


@dataclass(frozen=True)
class Family:
    """What base models of one kind have in common.

    Attributes:
        text_encoders: the locations of their text encoders.
        encode: (text encoders, token ids of the prompts for each, (height, width) in pixels, the transformer layer that
            the prompts are read with, counted from the last, or None) -> PromptEmbedding.
        own_layer: the layer that stands for None.
        pipeline_class: the class of ppdiffusers that generates images with their parts.
        image_to_image: the class that draws from an image; None: there is none.
        vae: sub-folder of the AutoencoderKL.
        optional: further parts in model_index.json, which are `[None, None]` where the model lacks them.
        settings: further entries of model_index.json, with the pipeline's default values.
        addition: the U-Net's `addition_embed_type`.
    """

    text_encoders: tuple[TextEncoderLocation, ...]
    encode: Callable[..., PromptEmbedding]
    own_layer: int = 1
    pipeline_class: str = "StableDiffusionPipeline"
    image_to_image: str | None = "StableDiffusionImg2ImgPipeline"
    vae: str = "vae"
    optional: tuple[str, ...] = ("safety_checker", "feature_extractor", "image_encoder")
    settings: dict[str, Any] = field(default_factory=dict)
    addition: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Sub-folders that every model of this family has."""
        text_encoders = [name for location in self.text_encoders for name in (location.folder, location.tokenizer)]
        return ("unet", self.vae, *text_encoders, "scheduler")


def _last_states(
    text_encoders: Sequence[TextEncoder], token_ids: Sequence[TokenIds], size: tuple[int, int], layer: int | None
) -> PromptEmbedding:
    """The encoder's first output, as in the pipelines of Stable Diffusion 1.x and 2.x, AltDiffusion and LDM.

    With a `layer`, the states of that one behind the final layer norm, as in AUTOMATIC1111's web UI and diffusers.
    """
    (encoder,), (tokens,) = text_encoders, token_ids
    return PromptEmbedding(tokens.joined(encoder.states(tokens.ids, layer)))


def _two_penultimate_states(
    text_encoders: Sequence[TextEncoder], token_ids: Sequence[TokenIds], size: tuple[int, int], layer: int | None
) -> PromptEmbedding:
    """Stable Diffusion XL (arXiv 2307.01952, section 2): the penultimate states of both encoders, concatenated.

    With a `layer`, the states of that one, without the final layer norm, as in diffusers.

    Further inputs are the second encoder's projected state at the end of the text [B, P], and the sizes of section
    2.2, float32 [B, 6]: the original size, the crop position and the target size, here of an image without a crop. Of a
    prompt in several chunks the projected state is that of the first, without weights, as in AUTOMATIC1111's web UI.
    """
    outputs = [encoder(t.ids, output_hidden_states=True) for encoder, t in zip(text_encoders, token_ids, strict=True)]
    pairs = zip(token_ids, outputs, strict=True)
    states = [tokens.joined(output.hidden_states[-(layer or 2)]) for tokens, output in pairs]
    hidden_states = paddle.concat(states, axis=-1)  # (B, n * L, D1 + D2)
    pooled = token_ids[-1].first(outputs[-1].text_embeds)
    numbers = to_device(np.array([*size, 0, 0, *size], np.float32)).astype(hidden_states.dtype)
    added = {"text_embeds": pooled, "time_ids": numbers.tile([len(hidden_states), 1])}
    return PromptEmbedding(hidden_states, {"added_cond_kwargs": added})


_ONE_ENCODER = ("CLIPTextModel", "BertModel", "RobertaSeriesModelWithTransformation")
_STABLE_DIFFUSION = Family(
    text_encoders=(TextEncoderLocation("text_encoder", "text_encoder", "tokenizer", _ONE_ENCODER),),
    encode=_last_states,
    settings={"requires_safety_checker": True},
)
_STABLE_DIFFUSION_XL = Family(
    text_encoders=(
        TextEncoderLocation("text_encoder", "text_encoder", "tokenizer", ("CLIPTextModel",)),
        TextEncoderLocation("text_encoder_2", "text_encoder_2", "tokenizer_2", ("CLIPTextModelWithProjection",)),
    ),
    encode=_two_penultimate_states,
    own_layer=2,
    pipeline_class="StableDiffusionXLPipeline",
    image_to_image="StableDiffusionXLImg2ImgPipeline",
    optional=("image_encoder", "feature_extractor"),
    settings={"force_zeros_for_empty_prompt": True},
    addition="text_time",
)
_LATENT_DIFFUSION = Family(
    text_encoders=(TextEncoderLocation("text_encoder", "bert", "tokenizer", ("LDMBertModel",)),),
    encode=_last_states,
    image_to_image=None,
    vae="vqvae",
    optional=(),
)
# Pipelines that differ only in what they do with the same parts share a family.
FAMILIES = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": _STABLE_DIFFUSION,
    "StableDiffusionMegaPipeline": _STABLE_DIFFUSION,
    "StableDiffusionInpaintPipelineLegacy": _STABLE_DIFFUSION,
    "AltDiffusionPipeline": _STABLE_DIFFUSION,
    "AltDiffusionImg2ImgPipeline": _STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": _STABLE_DIFFUSION_XL,
    "StableDiffusionXLImg2ImgPipeline": _STABLE_DIFFUSION_XL,
    "LDMTextToImagePipeline": _LATENT_DIFFUSION,
}

_CONTROLLED = "another network controls its U-Net; take the text-to-image model that it was made from"
_STAGES = "it makes images in stages of other kinds; take a text-to-image Stable Diffusion"
_FROM_IMAGES = "its U-Net takes an image's embedding and not a prompt's; take a text-to-image Stable Diffusion"
_TRANSFORMER = "it has a transformer in place of the U-Net; take Stable Diffusion 1.x, 2.x or XL"
# Parts of a pipeline's name -> why models of that kind cannot be trained. A message gives the first that fits.
_REASONS = (
    ("Inpaint", "its U-Net also takes a mask and an image; take the text-to-image model that it was made from"),
    ("ControlNet", _CONTROLLED),
    ("Adapter", _CONTROLLED),
    ("Pix2Pix", "its U-Net also takes an image; take the text-to-image model that it was made from"),
    ("Upscale", "its U-Net also takes an image; take a text-to-image model"),
    ("Depth2Img", "its U-Net also takes a depth map; take the text-to-image model that it was made from"),
    ("UnCLIP", _FROM_IMAGES),
    ("Kandinsky", _FROM_IMAGES),
    ("Cascade", _STAGES),
    ("Wuerstchen", _STAGES),
    ("StableDiffusion3", _TRANSFORMER),
    ("Flux", _TRANSFORMER),
    ("PixArt", _TRANSFORMER),
    ("DiT", _TRANSFORMER),
    ("Sana", _TRANSFORMER),
    ("AuraFlow", _TRANSFORMER),
    ("UViT", _TRANSFORMER),
    ("IF", "it works on pixels and not on latents; take a text-to-image Stable Diffusion"),
    ("Video", "it makes videos; take a text-to-image Stable Diffusion"),
)


def read_index(folder: Path) -> dict[str, Any]:
    """The model_index.json of a base model of a kind that can be trained; raises BaseModelError."""
    path = folder / "model_index.json"
    if not path.is_file():
        raise BaseModelError(
            f"{folder} holds no model_index.json{_instead(folder)}; give the folder of a whole Stable Diffusion model, "
            "as ppdiffusers or diffusers saves it"
        )
    index = read_json(path)
    kind = index.get("_class_name")
    if not isinstance(kind, str) or kind not in FAMILIES:
        reason = next((why for part, why in _REASONS if part in str(kind)), None)
        reason = reason or "take a text-to-image Stable Diffusion 1.x, 2.x or XL, AltDiffusion or latent diffusion"
        raise BaseModelError(f"{folder} is a model for {kind}, which cannot be trained: {reason}")
    _check_parts(index, FAMILIES[kind], path)
    return index


def _instead(folder: Path) -> str:
    """What a folder without an index holds, according to its config.json."""
    try:
        config = read_json(folder / "config.json")
        found = config.get("_class_name") or (config.get("architectures") or [None])[0]
    except (BaseModelError, TypeError, IndexError, KeyError):
        return ""
    return f" and is a {found} alone" if isinstance(found, str) else ""


def _check_parts(index: dict[str, Any], family: Family, path: Path) -> None:
    if index.get("requires_aesthetics_score") or (
        len(family.text_encoders) == 2 and class_of(index, "text_encoder") is None
    ):
        raise BaseModelError(
            f"{path.parent} is the refiner of Stable Diffusion XL, which has one text encoder only and finishes "
            "images that the base model began; take the base model"
        )
    allowed = {location.folder: location.classes for location in family.text_encoders}
    allowed |= {"unet": ("UNet2DConditionModel",), family.vae: ("AutoencoderKL",)}
    for part, classes in allowed.items():
        found = class_of(index, part)
        if found not in classes:
            raise BaseModelError(
                f"{path} names {found or 'nothing'} as {part}; only models with {' or '.join(classes)} can be trained"
            )


def class_of(index: dict[str, Any], part: str) -> Any:
    """The class that a model_index.json names for a part; None where it names none."""
    entry = index.get(part)
    return entry[-1] if isinstance(entry, list) and entry else None


def check_shapes(family: Family, unet: dict[str, Any], vae: dict[str, Any], folder: Path) -> None:
    """Refuse a U-Net with other inputs than noise, time and prompt; raises BaseModelError."""
    taken, latent = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if taken != latent:
        kind = "an inpainting model" if taken == 9 else "not a plain text-to-image model"
        raise BaseModelError(
            f"{folder} is {kind}: its U-Net takes {taken} channels and its VAE makes {latent}; take the text-to-image "
            "model that it was made from"
        )
    inputs = {key: unet.get(key) for key in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")}
    for key, value in inputs.items():
        if value != (family.addition if key == "addition_embed_type" else None):
            raise BaseModelError(
                f"{folder} cannot be trained: its U-Net has {key} {value}, so it does not get prompts in the usual "
                "way; take the text-to-image model that it was made from"
            )


def check_clip_skip(family: Family, text_encoders: Sequence[TextEncoder], clip_skip: int | None, name: str) -> None:
    """Refuse a layer that a model's prompts cannot be read with; raises SettingsError.

    Args:
        clip_skip: counted from the last, which is 1; None: the model's own.
        name: of the model.
    """
    if clip_skip is None or clip_skip == family.own_layer:
        return
    for encoder in text_encoders:
        if encoder.kind.final_norm is None:
            raise SettingsError(
                f"--clip_skip {clip_skip}: the text encoder of {name} is a {encoder.kind.class_name}, whose last layer "
                "alone reads prompts; leave --clip_skip out, or take a model with CLIP's"
            )
    most = min(len(encoder.transformer_layers) for encoder in text_encoders)
    if clip_skip < family.own_layer or clip_skip > most:
        raise SettingsError(
            f"--clip_skip {clip_skip}: the prompts of {name} can be read with the layers {family.own_layer} (its own) "
            f"to {most}, counted from the last, which is 1"
        )


def check_widths(family: Family, unet: dict[str, Any], text_encoders: Sequence[TextEncoder], folder: Path) -> None:
    """Refuse a text encoder and a U-Net of different models; raises BaseModelError."""
    given, wanted = sum(encoder.output_width for encoder in text_encoders), unet.get("cross_attention_dim")
    if isinstance(wanted, int) and wanted != given:
        raise BaseModelError(
            f"{folder} mixes parts of different models: its text encoder gives vectors of width {given}, and its "
            f"U-Net takes width {wanted}"
        )
    if family.addition == "text_time":
        projected = text_encoders[-1].layer.config.projection_dim
        given = projected + 6 * (unet.get("addition_time_embed_dim") or 0)
        wanted = unet.get("projection_class_embeddings_input_dim")
        if wanted != given:
            raise BaseModelError(
                f"{folder} cannot be trained: its U-Net takes a pooled input of width {wanted}, and text encoder "
                f"and six sizes give {given}; take the base model of Stable Diffusion XL"
            )
