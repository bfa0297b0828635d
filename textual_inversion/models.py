"""Base models: load one, prove that every weight was loaded, freeze it, encode prompts with it.

A base model is a folder with model_index.json and a sub-folder per part, as ppdiffusers or diffusers saves it. The
folder is read, never written. All parts come in float32, frozen, in evaluation mode.
"""

import gc
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from textual_inversion import schedulers
from textual_inversion.concepts import PromptEncoder
from textual_inversion.embedding import table_of
from textual_inversion.errors import BaseModelError
from textual_inversion.hub import resolve
from textual_inversion.tokenizers import load_clip_tokenizer
from textual_inversion.weight_files import DIFFUSION_FILES, ENCODER_FILES, read_state
from textual_inversion.weights import build_unset, load_weights

# Pipelines that can be trained -> their text towers, as (text encoder, tokenizer) folders. Pipelines that differ only
# in what they do with the same parts share a row.
_STABLE_DIFFUSION = (("text_encoder", "tokenizer"),)
TOWERS = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": _STABLE_DIFFUSION,
    "StableDiffusionMegaPipeline": _STABLE_DIFFUSION,
    "StableDiffusionInpaintPipelineLegacy": _STABLE_DIFFUSION,
}


@dataclass
class TextTower:
    """One text encoder with its tokenizer.

    Attributes:
        name: its folder, e.g. "text_encoder".
        encode_ids: prompts -> token ids int64 [B, L]; without learned words until `concepts.attach_concepts` sets one.
    """

    name: str
    tokenizer: Any
    text_encoder: nn.Layer
    encode_ids: Callable[[list[str]], Any]

    @property
    def embedding_width(self) -> int:
        """Width of an embedding row (D)."""
        return int(table_of(self.text_encoder).shape[1])


@dataclass(frozen=True)
class PromptEmbedding:
    """What the U-Net is told of B prompts.

    Attributes:
        hidden_states: float [B, L, width of the U-Net's cross-attention].
        added: further keyword arguments for the U-Net; empty for Stable Diffusion 1.x and 2.x.
    """

    hidden_states: paddle.Tensor
    added: dict[str, Any] = field(default_factory=dict)


class BaseModel:
    """A frozen Stable Diffusion model whose parts are in memory.

    Attributes:
        name: as the user gave it.
        folder: where its files are.
        layout: "ppdiffusers" or "diffusers": how the U-Net's file is written.
        index: contents of model_index.json.
        towers: the text encoders with their tokenizers.
        unet: the UNet2DConditionModel.
        variant: weights that were preferred, such as "fp16".
        tokenizer_folders: tower name -> name of its tokenizer's folder.
        scheduler_config: contents of scheduler_config.json, with the class that the index names.
        noise_scheduler: the DDPMScheduler to train with.
    """

    def __init__(self, name: str, folder: Path, index: dict[str, Any], *, tokenizer_folder: Path | None, variant):
        self.name, self.folder, self.index, self.variant = name, folder, index, variant
        # Pipelines take the class from the index; the file itself may name the one it was first made for, or none.
        self.scheduler_config = read_json(folder / "scheduler" / "scheduler_config.json") | (
            {"_class_name": index["scheduler"][-1]} if isinstance(index.get("scheduler"), list) else {}
        )
        self.noise_scheduler = schedulers.training_scheduler(self.scheduler_config, folder / "scheduler")
        unet_config, vae_config = (read_json(folder / part / "config.json") for part in ("unet", "vae"))
        _check_unet(unet_config, vae_config, folder)
        self.tokenizer_folders = dict(TOWERS[index["_class_name"]])
        self.towers = [
            _load_tower(folder, encoder, tokenizer_folder or folder / tokenizer, variant)
            for encoder, tokenizer in self.tokenizer_folders.items()
        ]
        _check_widths(unet_config, self.towers, folder)
        self.unet, self.layout = _load_diffusion_part("UNet2DConditionModel", folder / "unet", unet_config, variant)
        self.vae_scale_factor = 2 ** (len(vae_config["block_out_channels"]) - 1)
        self._vae = None
        _ = self.vae  # a damaged file is better told now than after the text encoders have worked

    @property
    def vae(self) -> nn.Layer:
        """The AutoencoderKL; loaded again when it is wanted after `free_vae`."""
        if self._vae is None:
            config = read_json(self.folder / "vae" / "config.json")
            self._vae, _ = _load_diffusion_part("AutoencoderKL", self.folder / "vae", config, self.variant)
        return self._vae

    def free_vae(self) -> None:
        """Give the VAE's memory back until it is wanted again."""
        self._vae = None
        gc.collect()

    @property
    def prediction_type(self) -> str:
        """What the U-Net predicts: "epsilon" or "v_prediction"."""
        return self.noise_scheduler.config.prediction_type

    @property
    def resolution(self) -> int:
        """The picture size in pixels that the model was trained for: 512 for SD 1.x, 768 for SD 2.1."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else max(size)) * self.vae_scale_factor

    @property
    def embedding_width(self) -> int:
        """Width of the first tower's embedding rows (D)."""
        return self.towers[0].embedding_width

    def encode_prompts(self, prompts: list[str]) -> PromptEmbedding:
        """Encode B prompts, learned words included; gradients flow to attached rows."""
        tower = self.towers[0]
        ids = paddle.to_tensor(tower.encode_ids(prompts))  # int64 [B, L]
        return PromptEmbedding(tower.text_encoder(ids)[0])

    def pipeline(self, scheduler: str | None = None, *, with_safety_checker: bool = False):
        """A ppdiffusers StableDiffusionPipeline over the parts in memory; nothing is copied.

        Args:
            scheduler: a name of `schedulers.SCHEDULERS`; None takes the base model's own.
            with_safety_checker: load the base model's safety checker too, if it has one.
        """
        from ppdiffusers import StableDiffusionPipeline

        checker, extractor = self.load_safety_checker() if with_safety_checker else (None, None)
        pipe = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.towers[0].text_encoder,
            tokenizer=self.towers[0].tokenizer,
            unet=self.unet,
            scheduler=schedulers.sampling_scheduler(self.scheduler_config, scheduler),
            safety_checker=checker,
            feature_extractor=extractor,
            requires_safety_checker=checker is not None,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def load_safety_checker(self):
        """The base model's safety checker and feature extractor; (None, None) where it has none."""
        layer = self.unset_safety_checker()
        if layer is None:
            return None, None
        from ppdiffusers.transformers import CLIPImageProcessor

        load_weights(layer, read_state(self.folder / "safety_checker", ENCODER_FILES, variant=self.variant))
        extractor = read_json(self.folder / "feature_extractor" / "preprocessor_config.json")
        return _frozen(layer), CLIPImageProcessor.from_dict(sizes_written_out(extractor))

    def unset_safety_checker(self) -> nn.Layer | None:
        """A safety checker of the base model's shape, its weights not set; None where the base model has none."""
        config = self.folder / "safety_checker" / "config.json"
        if not config.is_file() or not (self.folder / "feature_extractor" / "preprocessor_config.json").is_file():
            return None
        from ppdiffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        from ppdiffusers.transformers import CLIPConfig

        return build_unset(lambda: StableDiffusionSafetyChecker(CLIPConfig.from_dict(_for_float32(read_json(config)))))


def load_base_model(
    name_or_path: str | Path,
    *,
    tokenizer_name: str | Path | None = None,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
) -> BaseModel:
    """Load a Stable Diffusion 1.x or 2.x model from a folder or by its hub name.

    Args:
        tokenizer_name: folder or hub name to take the tokenizer from, if not from the base model.
        revision: branch, tag or commit of the hub's repository.
        variant: look first for files of this variant, such as "fp16".
        cache_dir: where downloads are kept.
        token: for hub repositories that ask who you are.

    Raises:
        BaseModelError: it is not there, of a kind that cannot be trained, or one of its weights is missing, of
            another shape, or surplus.
    """
    folder = resolve(name_or_path, revision=revision, variant=variant, cache_dir=cache_dir, token=token)
    index = read_index(folder)
    tokenizer_folder = None
    if tokenizer_name is not None:
        tokenizer_folder = resolve(tokenizer_name, only_tokenizer=True, cache_dir=cache_dir, token=token)
        if (tokenizer_folder / "tokenizer").is_dir():
            tokenizer_folder = tokenizer_folder / "tokenizer"
    return BaseModel(str(name_or_path), folder, index, tokenizer_folder=tokenizer_folder, variant=variant)


def read_index(folder: Path) -> dict[str, Any]:
    """The model_index.json of a base model of a kind that can be trained; raises BaseModelError."""
    path = folder / "model_index.json"
    if not path.is_file():
        raise BaseModelError(
            f"{folder} holds no model_index.json; give the folder of a whole Stable Diffusion model, as ppdiffusers or "
            "diffusers saves it"
        )
    index = read_json(path)
    kind = index.get("_class_name")
    if kind not in TOWERS:
        raise BaseModelError(
            f"{folder} is a model for {kind}, which cannot be trained; take a text-to-image Stable Diffusion 1.x or 2.x"
        )
    for part, allowed in (
        ("text_encoder", "CLIPTextModel"),
        ("unet", "UNet2DConditionModel"),
        ("vae", "AutoencoderKL"),
    ):
        entry = index.get(part)
        if not isinstance(entry, list) or entry[-1] != allowed:
            found = entry[-1] if isinstance(entry, list) else "nothing"
            raise BaseModelError(f"{path} names {found} as {part}; only models with {allowed} can be trained")
    return index


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a base model; raises BaseModelError."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BaseModelError(f"{path} is missing; the base model is incomplete, fetch it again") from error
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} is no readable JSON file; fetch it again") from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{path} holds no JSON object; fetch it again")
    return value


def _check_unet(unet: dict[str, Any], vae: dict[str, Any], folder: Path) -> None:
    taken, latent = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if taken != latent:
        kind = "an inpainting model" if taken == 9 else "no plain text-to-image model"
        raise BaseModelError(
            f"{folder} is {kind}: its U-Net takes {taken} channels and its VAE makes {latent}; take the text-to-image "
            "model that it was made from"
        )


def _check_widths(unet: dict[str, Any], towers: list[TextTower], folder: Path) -> None:
    given, wanted = towers[0].text_encoder.config.hidden_size, unet.get("cross_attention_dim")
    if isinstance(wanted, int) and wanted != given:
        raise BaseModelError(
            f"{folder} mixes parts of different models: its text encoder gives {given} numbers per token, its U-Net "
            f"takes {wanted}"
        )


def _load_diffusion_part(class_name: str, folder: Path, config: dict[str, Any], variant: str | None):
    import ppdiffusers

    cls = getattr(ppdiffusers, class_name)
    known = set(inspect.signature(cls.__init__).parameters)
    layer = build_unset(lambda: cls(**{key: value for key, value in config.items() if key in known}))
    layout = load_weights(layer, read_state(folder, DIFFUSION_FILES, variant=variant))
    return _frozen(layer), layout


def _load_tower(folder: Path, encoder_name: str, tokenizer_folder: Path, variant: str | None) -> TextTower:
    from ppdiffusers.transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig.from_dict(encoder_config(folder / encoder_name))
    tokenizer = load_clip_tokenizer(tokenizer_folder, longest=config.max_position_embeddings)
    if len(tokenizer) > config.vocab_size:
        raise BaseModelError(
            f"the tokenizer of {folder} has {len(tokenizer)} tokens and its text encoder {config.vocab_size} rows; "
            "they are of different models"
        )
    # Some files say 2, at which the encoder would pool at the largest id: a learned word's.
    config.eos_token_id = tokenizer.eos_token_id
    encoder = build_unset(lambda: CLIPTextModel(config))
    load_weights(encoder, read_state(folder / encoder_name, ENCODER_FILES, variant=variant))
    return TextTower(encoder_name, tokenizer, _frozen(encoder), PromptEncoder(tokenizer))


def encoder_config(folder: Path) -> dict[str, Any]:
    """A text encoder's configuration, also where a whole CLIP model's config.json stands for it."""
    config = read_json(folder / "config.json")
    if config.get("model_type") == "clip" and isinstance(config.get("text_config"), dict):
        config = {"projection_dim": config.get("projection_dim", 512), **config["text_config"]}
    return _for_float32(config) | {"model_type": "clip_text_model"}


def _for_float32(config: dict[str, Any]) -> dict[str, Any]:
    """An encoder's configuration without what concerns the file and not the model."""
    dropped = ("torch_dtype", "dtype", "_name_or_path", "transformers_version", "paddlenlp_version", "architectures")
    plain = {key: value for key, value in config.items() if key not in dropped}
    for part in ("text_config", "vision_config"):
        if isinstance(plain.get(part), dict):
            plain[part] = _for_float32(plain[part])
    return plain | {"dtype": "float32"}


def sizes_written_out(config: dict[str, Any]) -> dict[str, Any]:
    """An image processor's configuration in which older files' bare numbers say what they measure."""
    size, crop = config.get("size"), config.get("crop_size")
    longhand = {"size": {"shortest_edge": size}} if isinstance(size, int) else {}
    if isinstance(crop, int):
        longhand["crop_size"] = {"height": crop, "width": crop}
    return config | longhand


def _frozen(layer: nn.Layer) -> nn.Layer:
    for parameter in layer.parameters():
        parameter.stop_gradient = True
    return layer.eval()
