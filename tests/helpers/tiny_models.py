"""Tiny random base models of every family, built in code, in both layouts and with the oddities of real ones.

Each has its family's real architecture: the same classes, the same kinds of blocks, the same settings that decide what
is computed; only sizes and numbers of layers are small.
"""

import json
from pathlib import Path

from helpers.tiny_tokenizers import (
    END,
    POSITIONS,
    START,
    WORDS,
    write_bert_tokenizer,
    write_json,
    write_roberta_tokenizer,
    write_tokenizer,
)
from helpers.tiny_weights import Store, old_attention, random_state

__all__ = ["END", "FAMILIES", "START", "WORDS", "build_model", "random_state", "tree", "write_json", "write_tokenizer"]

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
_BERT = dict(
    model_type="bert",
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_hidden_layers=2,
    max_position_embeddings=96,
    type_vocab_size=2,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
)
_BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
_SCHEDULER = dict(
    _BETAS, _class_name="PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1, clip_sample=False
)

# What a family does otherwise than Stable Diffusion 1, in the same proportions. `encoders`: folder -> (class, its
# tokenizer's folder, changes to its configuration).
FAMILIES = {
    "sd1": {},
    "sd2": dict(
        unet=dict(attention_head_dim=[2, 4], use_linear_projection=True),
        encoders=dict(text_encoder=("CLIPTextModel", "tokenizer", dict(hidden_act="gelu", num_hidden_layers=3))),
        scheduler=dict(_class_name="DDIMScheduler", prediction_type="v_prediction"),
        pads={"tokenizer": "!"},
    ),
    "sdxl": dict(
        pipeline_class="StableDiffusionXLPipeline",
        unet=dict(
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
            transformer_layers_per_block=[1, 2],
            attention_head_dim=[2, 4],
            use_linear_projection=True,
            cross_attention_dim=32 + 40,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        ),
        vae=dict(scaling_factor=0.13025),
        encoders=dict(
            # Both say 2, as the real ones do, whatever their tokenizer's end token is.
            text_encoder=("CLIPTextModel", "tokenizer", dict(eos_token_id=2)),
            text_encoder_2=(
                "CLIPTextModelWithProjection",
                "tokenizer_2",
                dict(hidden_size=40, hidden_act="gelu", num_hidden_layers=3, projection_dim=24, eos_token_id=2),
            ),
        ),
        scheduler=dict(_class_name="EulerDiscreteScheduler", timestep_spacing="leading"),
        settings=dict(force_zeros_for_empty_prompt=True),
        optional=("image_encoder", "feature_extractor"),
        pads={"tokenizer_2": "!"},
    ),
    "taiyi": dict(encoders=dict(text_encoder=("BertModel", "tokenizer", {}))),
    "alt": dict(
        pipeline_class="AltDiffusionPipeline",
        encoders=dict(
            text_encoder=(
                "RobertaSeriesModelWithTransformation",
                "tokenizer",
                dict(hidden_size=40, project_dim=32, type_vocab_size=1, use_attention_mask=True, pad_token_id=1),
            )
        ),
    ),
    "ldm": dict(
        pipeline_class="LDMTextToImagePipeline",
        # Its pipeline takes it for granted that the VAE makes eight pixels out of one latent.
        vae=dict(
            block_out_channels=[16, 16, 32, 32],
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
        ),
        vae_folder="vqvae",
        encoders=dict(
            bert=(
                "LDMBertModel",
                "tokenizer",
                dict(d_model=32, encoder_layers=2, encoder_ffn_dim=48, encoder_attention_heads=2, head_dim=8)
                | dict(max_position_embeddings=POSITIONS, activation_function="gelu"),
            )
        ),
        scheduler=dict(_class_name="DDIMScheduler"),
        settings={},
        optional=(),
    ),
}
_DEFAULTS = dict(
    pipeline_class="StableDiffusionPipeline",
    encoders=dict(text_encoder=("CLIPTextModel", "tokenizer", {})),
    vae_folder="vae",
    settings=dict(requires_safety_checker=False),
    optional=("feature_extractor", "safety_checker"),
    pads={},
)
# Class -> (base of its configuration, its tokenizer's class).
_ENCODERS = {
    "CLIPTextModel": (_TEXT, "CLIPTokenizer"),
    "CLIPTextModelWithProjection": (_TEXT, "CLIPTokenizer"),
    "BertModel": (_BERT, "BertTokenizer"),
    "RobertaSeriesModelWithTransformation": (dict(_BERT, model_type="roberta"), "XLMRobertaTokenizer"),
    "LDMBertModel": (dict(model_type="ldmbert"), "BertTokenizer"),
}
_LIBRARIES = {"RobertaSeriesModelWithTransformation": "alt_diffusion", "LDMBertModel": "latent_diffusion"}


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
    vae: dict | None = None,
    text: dict | None = None,
    scheduler: dict | None = None,
    pipeline_class: str | None = None,
) -> Path:
    """Write a tiny model and return its folder.

    Args:
        family: of `FAMILIES`.
        layout: "ppdiffusers" or "diffusers".
        sample_size: latents per side; images have twice as many pixels, for "ldm" eight times.
        dtype: of the stored tensors, "float32" or "float16".
        shards: into how many files each part is cut.
        variant: a word in the files' names, such as "fp16".
        text_prefix: False leaves out `text_model.`, as transformers 5 does.
        tokenizer_json_only: store the tokenizers as tokenizer.json, as transformers 5 does.
        old_vae_names: name and shape the VAE's attention as older Stable Diffusion 1 files do.
        unet, vae, text, scheduler: entries to change in the configurations; `text` of every text encoder.
        pipeline_class: another than the family's own.
    """
    from ppdiffusers import AutoencoderKL, UNet2DConditionModel

    folder, family = Path(folder), _DEFAULTS | FAMILIES[family]
    store = Store(seed, layout, dtype, shards, variant)
    unet_config = _UNET | family.get("unet", {}) | {"sample_size": sample_size} | (unet or {})
    store.diffusion(folder / "unet", UNet2DConditionModel(**unet_config), unet_config)
    vae_config = _VAE | family.get("vae", {}) | (vae or {})
    pixels = sample_size * 2 ** (len(vae_config["block_out_channels"]) - 1)
    vae_rename = old_attention if old_vae_names else None
    store.diffusion(
        folder / family["vae_folder"], AutoencoderKL(**vae_config), dict(vae_config, sample_size=pixels), vae_rename
    )
    text_rename = None if text_prefix else (lambda name, array: (name.removeprefix("text_model."), array))
    for part, (class_name, tokenizer, changes) in family["encoders"].items():
        vocabulary = _write_tokenizer(folder / tokenizer, class_name, tokenizer_json_only, family["pads"])
        encoder, config = _encoder(class_name, changes | (text or {}), vocabulary)
        store.encoder(folder / part, encoder, config, rename=text_rename)
    if safety_checker:
        _write_safety_checker(folder, store)
    scheduler_config = _SCHEDULER | family.get("scheduler", {}) | (scheduler or {})
    write_json(folder / "scheduler/scheduler_config.json", scheduler_config)
    family["pipeline_class"] = pipeline_class or family["pipeline_class"]
    write_json(folder / "model_index.json", _index(family, layout, scheduler_config["_class_name"], safety_checker))
    return folder


def tree(folder) -> dict[str, bytes]:
    """All files below a folder with their contents."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _write_tokenizer(folder: Path, encoder_class: str, json_only: bool, pads: dict) -> dict[str, int]:
    kind = _ENCODERS[encoder_class][1]
    if kind == "CLIPTokenizer":
        return write_tokenizer(folder, json_only=json_only, pad=pads.get(folder.name, END))
    write = write_bert_tokenizer if kind == "BertTokenizer" else write_roberta_tokenizer
    return write(folder, json_only=json_only)


def _encoder(class_name: str, changes: dict, vocabulary: dict[str, int]):
    """A text encoder, and its configuration as a file holds it."""
    from textual_inversion.models.text_encoders import KINDS, config_and_class

    config = _ENCODERS[class_name][0] | {"vocab_size": len(vocabulary)}
    if START in vocabulary:
        config |= dict(bos_token_id=vocabulary[START], eos_token_id=vocabulary[END])
    config |= changes
    config_class, encoder_class = config_and_class(KINDS[class_name])
    return encoder_class(config_class.from_dict(dict(config))), config


# ----------------------------------------------------------------------------------------------------- other parts


def _write_safety_checker(folder: Path, store: Store) -> None:
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


def _index(family: dict, layout: str, scheduler_class: str, safety_checker: bool) -> dict:
    torch = layout == "diffusers"
    diffusion, encoders = ("diffusers", "transformers") if torch else ("ppdiffusers", "ppdiffusers.transformers")
    index = {"_class_name": family["pipeline_class"]}
    index |= {"_diffusers_version": "0.29.0"} if torch else {"_ppdiffusers_version": "0.29.0"}
    index |= {name: [None, None] for name in family["optional"]} | family["settings"]
    if safety_checker:
        index["feature_extractor"] = [encoders, "CLIPImageProcessor"]
        index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        index["requires_safety_checker"] = True
    for part, (class_name, tokenizer, _) in family["encoders"].items():
        index[part] = [_LIBRARIES.get(class_name, encoders), class_name]
        index[tokenizer] = [encoders, _ENCODERS[class_name][1]]
    index["scheduler"] = [diffusion, scheduler_class]
    index["unet"] = [diffusion, "UNet2DConditionModel"]
    index[family["vae_folder"]] = [diffusion, "AutoencoderKL"]
    return index
