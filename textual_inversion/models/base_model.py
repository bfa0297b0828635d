"""Base models: load one, check that every weight was loaded, freeze it, and encode prompts with it.

A base model is a folder with model_index.json and a sub-folder per part, as ppdiffusers or diffusers saves it. The
folder is read, never written. All parts are in float32, frozen, and in evaluation mode. `families.py` holds the
differences between kinds of models.
"""

import gc
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paddle import nn

from textual_inversion.models import safety_checker, schedulers
from textual_inversion.models.config_checks import (
    IN_USE,
    check_blocks,
    check_sample_size,
    explained,
)
from textual_inversion.models.diffusion_parts import load_diffusion_part
from textual_inversion.models.families import (
    FAMILIES,
    Family,
    PromptEmbedding,
    check_clip_skip,
    check_shapes,
    check_widths,
    class_of,
    read_index,
)
from textual_inversion.models.hub import resolve
from textual_inversion.models.other_vae import find_vae
from textual_inversion.models.prompt_encoder import Reading
from textual_inversion.models.text_encoders import (
    TextEncoder,
    TextEncoderLocation,
    load_text_encoder,
    tokenizer_folder,
)
from textual_inversion.models.weight_files import read_json
from textual_inversion.system.errors import BaseModelError, SettingsError
from textual_inversion.system.paths import is_single_file

# The pipelines of ppdiffusers refuse images whose sides are not multiples of this.
_PIPELINE_FACTOR = 8


class BaseModel:
    """A frozen Stable Diffusion model whose parts are in memory.

    Attributes:
        name: as the user gave it.
        folder: where its files are.
        layout: "ppdiffusers" or "diffusers": how the U-Net's file is written.
        index: contents of model_index.json.
        family: the properties of its kind of model.
        text_encoders: the text encoders with their tokenizers.
        unet: the UNet2DConditionModel.
        vae_scale_factor: pixels per latent, along each side.
        tokenizer_folder: of a tokenizer that is used in place of the model's own; None: its own is used.
        vae_folder: of the VAE, the model's own or another.
        vae_name: of another VAE, as the user gave it; None: it is the model's own.
        clip_skip, max_token_length: how prompts are read, see `read_prompts_as`; None: the model's own way.
        asked_reading: those of both that whoever loaded the model settled.
        variant: weights to prefer, such as "fp16".
        scheduler_config: contents of scheduler_config.json, with the class that the index names.
        noise_scheduler: the DDPMScheduler to train with.
        is_lowered: some parts compute in half precision, see `precision.lower`.
    """

    is_lowered = False

    def __init__(
        self,
        name: str,
        folder: Path,
        index: dict[str, Any],
        *,
        tokenizer_folder: Path | None,
        variant: str | None,
        reading: dict[str, int | None] | None = None,
        vae: str | Path | None = None,
        vae_source: dict[str, Any] | None = None,
    ):
        self.name, self.folder, self.index, self.variant = name, folder, index, variant
        # Pipelines take the class from the index; the file itself may name the original one, or none.
        self.scheduler_config = read_json(folder / "scheduler" / "scheduler_config.json") | (
            {"_class_name": name} if isinstance(name := class_of(index, "scheduler"), str) else {}
        )
        self.noise_scheduler = schedulers.training_scheduler(self.scheduler_config, folder / "scheduler")
        self.family: Family = FAMILIES[index["_class_name"]]
        unet_config, vae_config = (read_json(folder / part / "config.json") for part in ("unet", self.family.vae))
        check_blocks(unet_config, folder / "unet")
        check_blocks(vae_config, folder / self.family.vae)
        check_sample_size(unet_config, "unet", folder / "unet")
        check_sample_size(vae_config, "vae", folder / self.family.vae)
        check_shapes(self.family, unet_config, vae_config, folder)
        self.vae_folder, self.vae_name = folder / self.family.vae, None if vae is None else str(vae)
        if vae is not None:
            channels = unet_config.get("in_channels", 4)
            self.vae_folder = find_vae(vae, vae_config, channels, variant=variant, **(vae_source or {}))
        self.tokenizer_folder = tokenizer_folder
        self.text_encoders = [self._load_text_encoder(location) for location in self.family.text_encoders]
        check_widths(self.family, unet_config, self.text_encoders, folder)
        self.asked_reading = reading or {}
        self.read_prompts_as()
        self.unet, self.layout = self._load_unet()
        self.vae_scale_factor = 2 ** (len(vae_config["block_out_channels"]) - 1)
        self._vae, self._vae_preparations, self._vae_lock = None, [], threading.Lock()
        # Loaded now, so that a damaged file is reported before anything is computed.
        _ = self.vae, self.resolution

    @property
    def vae(self) -> nn.Layer:
        """The AutoencoderKL; loaded again on the first use after `free_vae`."""
        with self._vae_lock:  # two threads may ask at once
            if self._vae is None:
                self._vae = self._load_vae()
            return self._vae

    def _load_vae(self) -> nn.Layer:
        config = read_json(self.vae_folder / "config.json")
        vae, _ = load_diffusion_part("AutoencoderKL", self.vae_folder, config, self.variant)
        for prepare in self._vae_preparations:
            prepare(vae)
        return vae

    def _load_text_encoder(self, location: TextEncoderLocation) -> TextEncoder:
        named = self.tokenizer_folder
        folder = tokenizer_folder(named, location.tokenizer) if named else self.folder / location.tokenizer
        return load_text_encoder(self.folder, location, self.index[location.folder][-1], folder, self.variant)

    def _load_unet(self) -> tuple[nn.Layer, str]:
        folder = self.folder / "unet"
        return load_diffusion_part("UNet2DConditionModel", folder, read_json(folder / "config.json"), self.variant)

    def read_prompts_as(self, clip_skip: int | None = None, max_token_length: int | None = None) -> None:
        """Set how prompts are read, where `load_base_model` was not told; to be called before vectors are attached.

        Args:
            clip_skip: with the states of which transformer layer, counted from the last, which is 1.
            max_token_length: tokens of a prompt, start and end not counted; in chunks of what an encoder reads at once.

        Raises:
            SettingsError: the model's prompts cannot be read so.
        """
        asked = {name: value for name, value in self.asked_reading.items() if value is not None}
        clip_skip = asked.get("clip_skip", clip_skip)
        check_clip_skip(self.family, self.text_encoders, clip_skip, self.name)
        self.clip_skip, self.max_token_length = clip_skip, asked.get("max_token_length", max_token_length)
        for encoder in self.text_encoders:
            encoder.read_in_chunks(self.max_token_length)

    def exact_text_encoder(self, encoder: TextEncoder) -> TextEncoder:
        """A text encoder with the weights of its file, for saving: the same one, unless it is in half precision."""
        return self._load_text_encoder(encoder.location) if self.is_lowered else encoder

    def exact_unet(self) -> nn.Layer:
        """The U-Net with the weights of its file, for saving; see `exact_text_encoder`."""
        return self._load_unet()[0] if self.is_lowered else self.unet

    def prepare_vae(self, prepare: Callable[[nn.Layer], None]) -> None:
        """Call `prepare` on the VAE, now and whenever it is loaded again."""
        with self._vae_lock:
            self._vae_preparations.append(prepare)
            if self._vae is not None:
                prepare(self._vae)

    def free_vae(self) -> None:
        """Free the VAE's memory until its next use."""
        with self._vae_lock:
            self._vae = None
        gc.collect()

    @property
    def prediction_type(self) -> str:
        """What the U-Net predicts: "epsilon" or "v_prediction"."""
        return self.noise_scheduler.config.prediction_type

    @property
    def resolution(self) -> int:
        """The image size in pixels that the model was trained for: 512 for SD 1.x, 768 for SD 2.1, 1024 for SDXL."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else max(size)) * self.vae_scale_factor

    @property
    def side_factor(self) -> int:
        """The number of pixels that both sides of the model's images must be multiples of."""
        return math.lcm(_PIPELINE_FACTOR, self.vae_scale_factor)

    def image_size(self, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """(height, width) of images in pixels; None stands for the size that the model was trained for.

        Raises:
            SettingsError: the model cannot make images of this size.
        """
        factor = self.side_factor
        for flag, value in (("--height", height), ("--width", width)):
            if value is not None and (value < factor or value % factor):
                near = max(factor, round(value / factor) * factor)
                raise SettingsError(f"{flag} {value}: this model makes images in multiples of {factor}; try {near}")
        return height or self.resolution, width or self.resolution

    @property
    def embedding_width(self) -> int:
        """Width of the first text encoder's embedding vectors (D)."""
        return self.text_encoders[0].embedding_width

    @property
    def zeroes_empty_prompt(self) -> bool:
        """Whether guidance without a negative prompt leads away from zeros rather than from the embedding of ""."""
        default = self.family.settings.get("force_zeros_for_empty_prompt", False)
        return bool(self.index.get("force_zeros_for_empty_prompt", default))

    def encode_prompts(
        self,
        prompts: list[str],
        readings: Sequence[Reading] | None = None,
        image_size: tuple[int, int] | None = None,
        chunks: int | None = None,
    ) -> PromptEmbedding:
        """Encode B prompts, placeholders included; gradients flow to attached embedding vectors.

        Args:
            prompts: without `chunks` they are taken as they stand, and cut where `max_token_length` ends.
            readings: how the placeholders of each prompt are read; None: all vectors, with a gradient.
            image_size: (height, width) of the images in pixels, an input of Stable Diffusion XL; None: the size that
                the model was trained for.
            chunks: read marks such as `(word:1.3)` as weights, and encode each prompt in this many chunks, at least
                its `count_chunks`.
        """
        size = image_size or (self.resolution, self.resolution)
        with explained(self.folder, IN_USE):
            token_ids = [encoder.token_ids(prompts, readings, chunks) for encoder in self.text_encoders]
            return self.family.encode(self.text_encoders, token_ids, size, self.clip_skip)

    def count_chunks(self, prompt: str) -> int:
        """In how many chunks a prompt with weights is encoded; raises SettingsError where it cannot be."""
        return max(max(len(one.encode_ids.chunks(prompt)), one.num_chunks) for one in self.text_encoders)

    def drawing_notes(self, scheduler: str | None = None) -> list[str]:
        """What the user should know of how images are drawn; `scheduler` as for `pipeline`."""
        return schedulers.drawing_notes(self.scheduler_config, scheduler)

    def sampling_scheduler(self, name: str | None = None) -> Any:
        """A new scheduler of ppdiffusers; `name` as for `pipeline`."""
        with explained(self.folder / "scheduler"):
            return schedulers.sampling_scheduler(self.scheduler_config, name)

    def pipeline(self, scheduler: str | None = None, *, with_safety_checker: bool = False) -> Any:
        """A new ppdiffusers pipeline: the parts in memory, which are not copied, with a new scheduler.

        Args:
            scheduler: a key of `choices.SCHEDULERS`; None: `schedulers.drawing_class`.
            with_safety_checker: load the base model's safety checker too, if it has one.
        """
        import ppdiffusers

        parts = {"vae": self.vae, "unet": self.unet}
        for encoder, tokenizer in zip(self.text_encoders, ("tokenizer", "tokenizer_2"), strict=False):
            parts |= {encoder.name: encoder.layer, tokenizer: encoder.tokenizer}
        parts["scheduler"] = self.sampling_scheduler(scheduler)
        if len(self.text_encoders) == 1:
            checker, extractor = self.load_safety_checker() if with_safety_checker else (None, None)
            parts |= {"safety_checker": checker, "feature_extractor": extractor}
            parts["requires_safety_checker"] = checker is not None
        else:  # by default this pipeline adds a watermark if the package for that is installed
            parts |= {"add_watermarker": False, "force_zeros_for_empty_prompt": self.zeroes_empty_prompt}
        pipe = getattr(ppdiffusers, self.family.pipeline_class)(**parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def load_safety_checker(self) -> tuple[nn.Layer | None, Any]:
        """The base model's safety checker and feature extractor; see `safety_checker.load`."""
        return safety_checker.load(self.folder, self.variant)


def load_base_model(
    name_or_path: str | Path,
    *,
    tokenizer_name: str | Path | None = None,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    vae: str | Path | None = None,
    clip_skip: int | None = None,
    max_token_length: int | None = None,
    recorded_in: str | Path | None = None,
    tokenizer_recorded_in: str | Path | None = None,
    vae_recorded_in: str | Path | None = None,
) -> BaseModel:
    """Load a base model of one of the `families.FAMILIES`.

    Args:
        name_or_path: a folder, a single file, or a repository id.
        tokenizer_name: folder or repository id of a tokenizer to use instead of the base model's own.
        revision: branch, tag or commit of the repository.
        variant: look first for files of this variant, such as "fp16".
        cache_dir: where downloads are kept.
        token: access token for gated repositories.
        vae: a VAE to use instead of the base model's own; see `other_vae.find_vae`.
        clip_skip, max_token_length: how prompts are read; see `BaseModel.read_prompts_as`.
        recorded_in, tokenizer_recorded_in, vae_recorded_in: the stranger's record that names the model, the tokenizer
            or the VAE; `hub.resolve`.

    Raises:
        BaseModelError: there is no such model, its kind cannot be trained, or one of its weights is missing, of
            another shape, or surplus.
        SettingsError: its prompts cannot be read as asked.
    """
    if tokenizer_name is None and is_single_file(Path(name_or_path).expanduser()):
        raise BaseModelError(
            f"{name_or_path} is a single-file checkpoint, which holds no tokenizer; give one with "
            "--tokenizer_name: a folder with vocab.json and merges.txt, or a repository id such as "
            "openai/clip-vit-large-patch14"
        )
    source = dict(cache_dir=cache_dir, token=token)
    folder = resolve(name_or_path, revision=revision, variant=variant, recorded_in=recorded_in, **source)
    index = read_index(folder)
    tokenizer_folder = None
    if tokenizer_name is not None:
        tokenizer_folder = resolve(tokenizer_name, only_tokenizer=True, recorded_in=tokenizer_recorded_in, **source)
    with explained(folder):
        return BaseModel(
            str(name_or_path),
            folder,
            index,
            tokenizer_folder=tokenizer_folder,
            variant=variant,
            reading={"clip_skip": clip_skip, "max_token_length": max_token_length},
            vae=vae,
            vae_source=source | {"recorded_in": vae_recorded_in},
        )
