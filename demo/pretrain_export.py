"""Stage `export` of the pretraining: writes the model in the ppdiffusers layout, with float16 weights.

That layout keeps the weight of a linear layer as [in, out]. An unfinished run exports its weights so far.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from demo import pretrain_clip, pretrain_ldm, pretrain_vae, training
from demo.drawing import SIZE
from demo.pretrain_data import WordTokenizer

VERSION = "0.29.0"  # of ppdiffusers, whose layout this is
TEXT_PREFIX = "text_model."
TOKENIZER_FILES = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")
SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler",
    "_ppdiffusers_version": VERSION,
    **pretrain_ldm.SCHEDULE,
    **pretrain_ldm.SOLVER,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_ppdiffusers_version": VERSION,
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["ppdiffusers", SCHEDULER["_class_name"]],
    "text_encoder": ["ppdiffusers.transformers", "CLIPTextModel"],
    "tokenizer": ["ppdiffusers.transformers", "CLIPTokenizer"],
    "unet": ["ppdiffusers", "UNet2DConditionModel"],
    "vae": ["ppdiffusers", "AutoencoderKL"],
}
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": pretrain_clip.SIDE},
    "resample": 3,  # bicubic
    "do_center_crop": True,
    "crop_size": {"height": pretrain_clip.SIDE, "width": pretrain_clip.SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(pretrain_clip.MEAN),
    "image_std": list(pretrain_clip.STD),
}


def paddle_state(module: nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    """Return a module's weights as float16, linear layers transposed."""
    linear = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    state = {}
    for name, tensor in module.state_dict().items():
        if name.endswith("position_ids"):
            continue
        array = tensor.float().numpy()
        state[prefix + name] = np.ascontiguousarray(array.T if name in linear else array, dtype=np.float16)
    return state


def torch_state(file: Path, module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that `paddle_state` wrote, as a module's own: float32, linear layers as PyTorch has them."""
    linear = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    stored, state = load_file(file), module.state_dict()
    for name in state:
        if name.endswith("position_ids"):
            continue
        array = stored[name if name in stored else TEXT_PREFIX + name].astype(np.float32)
        state[name] = torch.from_numpy(np.ascontiguousarray(array.T if name in linear else array))
    return state


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the files of a tokenizer."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, target / name)


def adopt(model_dir: Path, work_dir: Path) -> None:
    """Make every training stage resume from the exported weights; only its attribute heads start afresh.

    The tokenizer is copied too: ids belong to the weights, and other releases of `tokenizers` assign other ids.
    """
    copy_tokenizer(model_dir / "tokenizer", work_dir / "tokenizer")
    clip = pretrain_clip.clip_model(WordTokenizer(model_dir / "tokenizer"))
    vae, modules = pretrain_vae.AutoencoderKL(**pretrain_vae.CONFIG), pretrain_ldm.build(work_dir)
    encoder, unet = modules["text_encoder"], modules["unet"]
    weights, factor_file = "diffusion_paddle_model.safetensors", work_dir / pretrain_vae.FACTOR_FILE
    training.adopt(work_dir, "vae", {"vae": torch_state(model_dir / "vae" / weights, vae)})
    training.adopt(work_dir, "clip", {"clip": torch_state(model_dir / "clip" / "model.safetensors", clip)})
    told = torch_state(model_dir / "text_encoder" / "model.safetensors", encoder)
    training.adopt(work_dir, "ldm", {"text_encoder": told, "unet": torch_state(model_dir / "unet" / weights, unet)})
    factor = json.loads((model_dir / "vae" / "config.json").read_text())["scaling_factor"]
    factor_file.write_text(json.dumps({"scaling_factor": factor}))


def write_json(path: Path, value: dict) -> None:
    """Write a configuration."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save(state: dict[str, np.ndarray], file: Path, form: str) -> None:
    """Write weights, readable for everyone; `form` is what the loaders ask for."""
    save_file(state, file, metadata={"format": form})
    file.chmod(0o644)


def write_diffusion_part(folder: Path, module: nn.Module, config: dict) -> None:
    """Write the U-Net or the autoencoder."""
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
    listed.pop("mid_block_add_attention", None)  # there is no other way in ppdiffusers
    header = {"_class_name": type(module).__name__, "_ppdiffusers_version": VERSION}
    write_json(folder / "config.json", header | listed)
    save(paddle_state(module), folder / "diffusion_paddle_model.safetensors", "pd")


def write_encoder(folder: Path, state: dict[str, np.ndarray], config: dict) -> None:
    """Write a text encoder or a CLIP model; the configuration asks for float32, which every processor computes."""
    write_json(folder / "config.json", {**config, "dtype": "float32", "torch_dtype": "float32"})
    save(state, folder / "model.safetensors", "np")


def export(work_dir: Path, model_dir: Path) -> None:
    """Write the model from the averaged weights of the runs in `work_dir`."""
    tokenizer = WordTokenizer(work_dir / "tokenizer")
    vae, _ = pretrain_vae.load(work_dir)
    clip, _ = pretrain_clip.load(work_dir)
    modules, figures = pretrain_ldm.load(work_dir)
    factor = json.loads((work_dir / pretrain_vae.FACTOR_FILE).read_text())["scaling_factor"]
    text = {"model_type": "clip_text_model", "layer_norm_eps": 1e-5, **pretrain_clip.text_config(tokenizer)}
    vision = {"layer_norm_eps": 1e-5, **pretrain_clip.VISION}
    unet_config = {"act_fn": "silu", **pretrain_ldm.CONFIG}
    write_diffusion_part(model_dir / "unet", modules["unet"], unet_config)
    write_diffusion_part(model_dir / "vae", vae, {"act_fn": "silu", **pretrain_vae.CONFIG, "scaling_factor": factor})
    encoder_state = paddle_state(modules["text_encoder"])
    if not next(iter(encoder_state)).startswith(TEXT_PREFIX):  # transformers 5 leaves it out
        encoder_state = {TEXT_PREFIX + name: array for name, array in encoder_state.items()}
    write_encoder(model_dir / "text_encoder", encoder_state, {"architectures": ["CLIPTextModel"], **text})
    clip_config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": pretrain_clip.PROJECTION,
        "text_config": text,
        "vision_config": vision,
    }
    write_encoder(model_dir / "clip", paddle_state(clip), clip_config)
    write_json(model_dir / "clip" / "preprocessor_config.json", PREPROCESSOR)
    write_json(model_dir / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(model_dir / "model_index.json", INDEX)
    for folder in ("tokenizer", "clip"):
        copy_tokenizer(work_dir / "tokenizer", model_dir / folder)
    size = sum(path.stat().st_size for path in model_dir.rglob("*") if path.is_file())
    print(f"export: {model_dir}, {size / 2**20:.1f} MiB, diffusion model after {figures}", flush=True)


@torch.no_grad()
def reference(work_dir: Path, file: Path) -> None:
    """Write inputs and PyTorch's outputs of the float16-rounded parts, for `demo/check_export.py`."""
    generator = torch.Generator().manual_seed(0)
    vae, clip = pretrain_vae.load(work_dir)[0].half().float(), pretrain_clip.load(work_dir)[0].half().float()
    modules = {name: module.half().float() for name, module in pretrain_ldm.load(work_dir)[0].items()}
    tokenizer = WordTokenizer(work_dir / "tokenizer")
    ids = torch.tensor([tokenizer("a photo of an orange cat on the beach"), tokenizer("")])
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=generator) * 2 - 1
    latents = torch.randn(2, *pretrain_ldm.LATENT_SHAPE, generator=generator)
    states = modules["text_encoder"](ids).last_hidden_state
    arrays = {
        "ids": ids, "pixels": pixels, "small": pretrain_clip.scaled(pixels), "latents": latents, "states": states,
        "noise": modules["unet"](latents, torch.tensor([500, 20]), states).sample,
        "mean": vae.encode(pixels).latent_dist.mean, "decoded": vae.decode(latents).sample,
        "image_features": pretrain_clip.image_features(clip, pixels),
        "text_features": pretrain_clip.text_features(clip, ids),
    }  # fmt: skip
    np.savez(file, **{name: tensor.numpy() for name, tensor in arrays.items()})
