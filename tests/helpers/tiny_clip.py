"""A tiny random CLIP model, built in code, in both layouts."""

import copy
from pathlib import Path

import numpy as np
from paddle import nn
from safetensors.numpy import save_file

from helpers.tiny_models import END, START, random_state, write_json, write_tokenizer

SIDE = 16  # pixels
_TOWER = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_hidden_layers=2, hidden_act="quick_gelu")
_PREPROCESSOR = dict(
    do_resize=True,
    size={"shortest_edge": SIDE},
    resample=3,
    do_center_crop=True,
    crop_size={"height": SIDE, "width": SIDE},
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    image_mean=[0.5, 0.4, 0.3],
    image_std=[0.2, 0.3, 0.4],
    image_processor_type="CLIPImageProcessor",
)


def build_clip(folder, layout: str = "ppdiffusers", *, tokenizer: bool = True, preprocessor: bool = True) -> Path:
    """Write a tiny CLIP model and return its folder."""
    from ppdiffusers.transformers import CLIPConfig, CLIPModel

    folder = Path(folder)
    vocabulary = write_tokenizer(folder)
    ids = dict(bos_token_id=vocabulary[START], eos_token_id=vocabulary[END], vocab_size=len(vocabulary))
    config = dict(
        model_type="clip",
        projection_dim=24,
        text_config=dict(_TOWER, max_position_embeddings=77, **ids),
        vision_config=dict(_TOWER, image_size=SIDE, patch_size=8),
    )
    model = CLIPModel(CLIPConfig(**copy.deepcopy(config)))
    is_torch = layout == "diffusers"
    linear = {f"{name}.weight" for name, part in model.named_sublayers() if isinstance(part, nn.Linear)}
    tensors = {
        name: np.ascontiguousarray(array.T if is_torch and name in linear else array)
        for name, array in random_state(model, seed=0).items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt" if is_torch else "np"})
    write_json(folder / "config.json", config)
    if preprocessor:
        write_json(folder / "preprocessor_config.json", _PREPROCESSOR)
    if not tokenizer:
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
            (folder / name).unlink()
    return folder
