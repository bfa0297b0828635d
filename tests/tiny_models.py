"""Tiny random Stable Diffusion models, built in code, in both layouts and with the oddities of real ones.

The numbers come from a seed and the tensor's name, so that two layouts built with one seed are the same model.
"""

import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WORDS = (
    "a an the photo picture rendering painting of in on at with and my one toy cat dog rabbit style backpack beach "
    "snow grass table night room small large good bad dark bright clean dirty cool nice weird close up cropped "
    "depiction illustration red blue green orange pink teal striped spotted art"
).split()
START, END = "<|startoftext|>", "<|endoftext|>"
POSITIONS = 77

_SIZES = dict(block_out_channels=[32, 64], layers_per_block=1, act_fn="silu")
_UNET = dict(
    _SIZES,
    in_channels=4,
    out_channels=4,
    down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
    norm_num_groups=8,
    attention_head_dim=4,
    cross_attention_dim=32,
)
_VAE = dict(
    _SIZES,
    block_out_channels=[16, 32],
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    down_block_types=["DownEncoderBlock2D"] * 2,
    up_block_types=["UpDecoderBlock2D"] * 2,
    norm_num_groups=8,
    scaling_factor=0.18215,
)
_TEXT = dict(
    model_type="clip_text_model",
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_hidden_layers=2,
    max_position_embeddings=POSITIONS,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
    projection_dim=32,
)
_VISION = dict(
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_hidden_layers=2,
    image_size=16,
    patch_size=8,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
)
_BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
_SCHEDULER = dict(
    _BETAS, _class_name="PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1, clip_sample=False
)

# What Stable Diffusion 2 does otherwise, in the same proportions.
_SD2 = dict(
    unet=dict(attention_head_dim=[2, 4], use_linear_projection=True),
    text=dict(hidden_act="gelu", num_hidden_layers=3),
    scheduler=dict(_class_name="DDIMScheduler", prediction_type="v_prediction"),
)


def build_model(
    folder,
    family: str = "sd1",
    layout: str = "ppdiffusers",
    *,
    seed: int = 0,
    sample_size: int = 8,
    dtype: str = "float32",
    shards: int = 1,
    variant: str | None = None,
    text_prefix: bool = True,
    tokenizer_json_only: bool = False,
    old_vae_names: bool = False,
    safety_checker: bool = False,
    unet: dict | None = None,
    scheduler: dict | None = None,
    pipeline_class: str = "StableDiffusionPipeline",
) -> Path:
    """Write a tiny model and return its folder.

    Args:
        family: "sd1" (epsilon) or "sd2" (v-prediction, another text encoder, linear projections).
        layout: "ppdiffusers" or "diffusers".
        sample_size: latents per side; pictures have twice as many pixels.
        dtype: of the stored tensors, "float32" or "float16".
        shards: into how many files each part is cut.
        variant: a word in the files' names, such as "fp16".
        text_prefix: False leaves out `text_model.`, as transformers 5 does.
        tokenizer_json_only: store the tokenizer as tokenizer.json, as transformers 5 does.
        old_vae_names: name and shape the VAE's attention as older Stable Diffusion 1 files do.
        unet, scheduler: entries to change in the configurations.
    """
    from ppdiffusers import AutoencoderKL, UNet2DConditionModel
    from ppdiffusers.transformers import CLIPTextConfig, CLIPTextModel

    folder = Path(folder)
    changes = _SD2 if family == "sd2" else {}
    store = _Store(seed, layout, dtype, shards, variant)
    vocabulary = write_tokenizer(folder / "tokenizer", json_only=tokenizer_json_only, pad="!" if changes else END)

    unet_config = _UNET | changes.get("unet", {}) | {"sample_size": sample_size} | (unet or {})
    store.diffusion(folder / "unet", UNet2DConditionModel(**unet_config), unet_config)
    vae_rename = _old_attention if old_vae_names else None
    store.diffusion(folder / "vae", AutoencoderKL(**_VAE), dict(_VAE, sample_size=sample_size * 2), rename=vae_rename)

    ids = dict(bos_token_id=vocabulary[START], eos_token_id=vocabulary[END], vocab_size=len(vocabulary))
    text_config = _TEXT | ids | changes.get("text", {})
    encoder = CLIPTextModel(CLIPTextConfig.from_dict(dict(text_config)))
    text_rename = None if text_prefix else (lambda name, array: (name.removeprefix("text_model."), array))
    store.encoder(folder / "text_encoder", encoder, text_config, rename=text_rename)
    if safety_checker:
        _write_safety_checker(folder, store)

    scheduler_config = _SCHEDULER | changes.get("scheduler", {}) | (scheduler or {})
    write_json(folder / "scheduler/scheduler_config.json", scheduler_config)
    write_json(
        folder / "model_index.json", _index(layout, pipeline_class, scheduler_config["_class_name"], safety_checker)
    )
    return folder


def tree(folder) -> dict[str, bytes]:
    """All files below a folder with their contents."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


# ------------------------------------------------------------------------------------------------------- tokenizer


def write_tokenizer(folder: Path, *, json_only: bool = False, pad: str = END) -> dict[str, int]:
    """Write a CLIP tokenizer that knows `WORDS` and, byte by byte, every text; returns its vocabulary."""
    letters = _byte_letters()
    merges = _merges(WORDS)
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *dict.fromkeys("".join(m) for m in merges),
        START,
        END,
    ]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=pad)
    write_json(
        folder / "tokenizer_config.json", dict(special, model_max_length=POSITIONS, tokenizer_class="CLIPTokenizer")
    )
    if json_only:
        model = dict(type="BPE", end_of_word_suffix="</w>", vocab=vocabulary, merges=[list(pair) for pair in merges])
        added = [dict(id=vocabulary[token], content=token, special=True) for token in (START, END)]
        write_json(folder / "tokenizer.json", dict(version="1.0", added_tokens=added, model=model))
        return vocabulary
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return vocabulary


def _byte_letters() -> list[str]:
    """CLIP's letter for each byte, bytes that print first."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printing]
    return [chr(byte) for byte in printing] + [chr(256 + number) for number in range(len(other))]


def _merges(words) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        for pair in merges:
            pieces = _merged(pieces, pair)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _merged(pieces, merges[-1])
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result


# --------------------------------------------------------------------------------------------------------- weights


class _Store:
    """Writes parts with random weights in one layout."""

    def __init__(self, seed: int, layout: str, dtype: str, shards: int, variant: str | None):
        self.seed, self.layout, self.dtype, self.shards, self.variant = seed, layout, dtype, shards, variant

    def diffusion(self, folder: Path, module, config: dict, rename=None) -> None:
        torch = self.layout == "diffusers"
        version = {"_diffusers_version": "0.29.0"} if torch else {"_ppdiffusers_version": "0.29.0"}
        write_json(folder / "config.json", {"_class_name": type(module).__name__, **version, **config})
        name = "diffusion_pytorch_model.safetensors" if torch else "diffusion_paddle_model.safetensors"
        self._weights(folder, module, name, "pt" if torch else "pd", rename)

    def encoder(self, folder: Path, module, config: dict, rename=None) -> None:
        torch = self.layout == "diffusers"
        dtype = {"torch_dtype": self.dtype} if torch else {"dtype": self.dtype}
        write_json(folder / "config.json", {"architectures": [type(module).__name__], **dtype, **config})
        self._weights(folder, module, "model.safetensors", "pt" if torch else "np", rename)

    def _weights(self, folder: Path, module, name: str, form: str, rename) -> None:
        tensors = {}
        for key, array in random_state(module, self.seed, f"{folder.name}/").items():
            if self.layout == "diffusers" and key in _linear(module):
                array = array.T
            key, array = rename(key, array) if rename else (key, array)
            tensors[key] = np.ascontiguousarray(array.astype(self.dtype))
        stem = name.removesuffix(".safetensors") + (f".{self.variant}" if self.variant else "")
        if self.shards == 1:
            save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": form})
            return
        names = sorted(tensors)
        weight_map = {}
        for number in range(self.shards):
            part = f"{stem}-{number + 1:05d}-of-{self.shards:05d}.safetensors"
            chosen = names[number :: self.shards]
            save_file({key: tensors[key] for key in chosen}, folder / part, metadata={"format": form})
            weight_map.update(dict.fromkeys(chosen, part))
        ending = f".index.{self.variant}.json" if self.variant else ".index.json"
        write_json(folder / f"{name}{ending}", {"metadata": {}, "weight_map": weight_map})


def random_state(module, seed: int, prefix: str = "") -> dict[str, np.ndarray]:
    """Random float32 values for all weights of a module, of sizes that keep signals alive; from seed and name."""
    state = {}
    for name, tensor in module.state_dict().items():
        generator = np.random.default_rng([seed, zlib.crc32(f"{prefix}{name}".encode())])
        array = generator.standard_normal(tensor.shape).astype(np.float32)
        if name.endswith("embeds_weights"):
            array = np.ones_like(array)  # thresholds on cosines: nothing is ever unsafe
        elif array.ndim < 2:
            array = 0.1 * array + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif "embedding" not in name or "linear" in name:
            fan_in = array.shape[0] if array.ndim == 2 else np.prod(array.shape[1:])
            array = array / np.sqrt(fan_in)
        state[name] = array.astype(np.float32)
    return state


def _linear(module) -> set[str]:
    from paddle import nn

    return {f"{name}.weight" for name, layer in module.named_sublayers() if isinstance(layer, nn.Linear)}


def _old_attention(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return name, array


# ----------------------------------------------------------------------------------------------------- other parts


def _write_safety_checker(folder: Path, store: _Store) -> None:
    from ppdiffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from ppdiffusers.transformers import CLIPConfig

    config = dict(model_type="clip", projection_dim=32, text_config=dict(_TEXT, vocab_size=64), vision_config=_VISION)
    module = StableDiffusionSafetyChecker(CLIPConfig.from_dict(json.loads(json.dumps(config))))
    store.encoder(folder / "safety_checker", module, config)
    extractor = dict(
        crop_size=16,
        do_center_crop=True,
        do_normalize=True,
        do_resize=True,
        image_mean=[0.48, 0.46, 0.41],
        image_std=[0.27, 0.26, 0.28],
        resample=3,
        size=16,
        image_processor_type="CLIPImageProcessor",
    )
    write_json(folder / "feature_extractor/preprocessor_config.json", extractor)


def _index(layout: str, pipeline_class: str, scheduler_class: str, safety_checker: bool) -> dict:
    torch = layout == "diffusers"
    diffusion, encoders = ("diffusers", "transformers") if torch else ("ppdiffusers", "ppdiffusers.transformers")
    version = {"_diffusers_version": "0.29.0"} if torch else {"_ppdiffusers_version": "0.29.0"}
    return {
        "_class_name": pipeline_class,
        **version,
        "feature_extractor": [encoders, "CLIPImageProcessor"] if safety_checker else [None, None],
        "requires_safety_checker": safety_checker,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"] if safety_checker else [None, None],
        "scheduler": [diffusion, scheduler_class],
        "text_encoder": [encoders, "CLIPTextModel"],
        "tokenizer": [encoders, "CLIPTokenizer"],
        "unet": [diffusion, "UNet2DConditionModel"],
        "vae": [diffusion, "AutoencoderKL"],
    }
