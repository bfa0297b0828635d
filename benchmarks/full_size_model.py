"""Make a base model of the real size with random weights; speed and memory do not depend on their values.

    python benchmarks/full_size_model.py FOLDER                     Stable Diffusion 1.x, 4.3 GB
    python benchmarks/full_size_model.py FOLDER --layout diffusers  the same for PyTorch
    python benchmarks/full_size_model.py FOLDER --size tiny         its structure, in a few megabytes

The U-Net has 859,520,964 parameters, the text encoder 123,060,480, the VAE 83,653,863. The values keep activations
close to unit size. They are drawn and written block by block, so that only one block is in memory at a time.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.full_size_tokenizer import POSITIONS, VOCABULARY, write_json, write_tokenizer  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import seed_number  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402

LAYOUTS = ("ppdiffusers", "diffusers")
_BLOCK = 1 << 22  # values that are drawn at a time
_VAE_LEVELS = dict(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
_SCHEDULER = dict(
    _class_name="PNDMScheduler",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    skip_prk_steps=True,
    set_alpha_to_one=False,
    steps_offset=1,
    clip_sample=False,
)


@dataclass(frozen=True)
class Size:
    """Configurations of the three parts: `sample_size` is the U-Net's, in latents."""

    unet: dict
    vae: dict
    text: dict


def _unet(channels: list[int], layers: int, groups: int, width: int, sample_size: int) -> dict:
    inner = len(channels) - 1
    return dict(
        sample_size=sample_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=layers,
        down_block_types=["CrossAttnDownBlock2D"] * inner + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * inner,
        cross_attention_dim=width,
        attention_head_dim=8,
        norm_num_groups=groups,
        act_fn="silu",
    )


def _vae(channels: list[int], layers: int, groups: int) -> dict:
    return _VAE_LEVELS | dict(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=channels,
        layers_per_block=layers,
        norm_num_groups=groups,
        act_fn="silu",
        scaling_factor=0.18215,
    )


def _text(width: int, inner: int, layers: int, heads: int) -> dict:
    return dict(
        model_type="clip_text_model",
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=POSITIONS,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        projection_dim=width,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=1,
    )


_SMALL_UNET, _SMALL_VAE = ([32, 64], 1, 8), ([8, 8, 16, 16], 1, 4)
SIZES = {
    "full": Size(
        _unet([320, 640, 1280, 1280], 2, 32, 768, 64), _vae([128, 256, 512, 512], 2, 32), _text(768, 3072, 12, 12)
    ),
    # The real embedding table, and as little as can be around it.
    "table": Size(_unet(*_SMALL_UNET, 768, 8), _vae(*_SMALL_VAE), _text(768, 64, 1, 12)),
    "tiny": Size(_unet(*_SMALL_UNET, 32, 8), _vae(*_SMALL_VAE), _text(32, 48, 2, 4)),
}


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="full_size_model.py", description="Make a base model with random weights.")
    parser.add_argument("folder", help="where to write it; what it held of a model is overwritten")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--layout", choices=LAYOUTS, default="ppdiffusers")
    parser.add_argument("--seed", type=seed_number, default=0)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    from textual_inversion.system.environment import prepare_environment

    prepare_environment()
    counts = make(Path(args.folder), args.size, args.layout, seed=args.seed)
    for part, count in counts.items():
        print(f"{part}: {count:,} parameters")


def cached(work_dir: Path, size: str, layout: str = "ppdiffusers") -> Path:
    """The folder of a model below `work_dir`, made in a process of its own if it is not there."""
    import subprocess

    folder = work_dir / f"model-{size}-{layout}"
    if not (folder / "model_index.json").is_file():
        print(f"making a {size} model ({layout}) in {folder}", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, str(folder), "--size", size, "--layout", layout]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SettingsError(f"no model could be made in {folder}: {(done.stderr or done.stdout).strip()[-500:]}")
    return folder


def make(folder: Path, size: str = "full", layout: str = "ppdiffusers", *, seed: int = 0) -> dict[str, int]:
    """Write a base model with random weights.

    Args:
        size: of `SIZES`; layout: of `LAYOUTS`.

    Returns:
        Part -> number of its parameters.
    """
    parts, torch = SIZES[size], layout == "diffusers"
    layers = shapes_of(parts)
    configs = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.text}
    for index, (name, tensors) in enumerate(layers.items()):
        part = folder / name
        write_json(part / "config.json", _config(name, configs[name], parts, torch))
        file, form = _file(name, torch)
        values = [_as_stored(tensor, torch) for tensor in tensors]
        write_random(part / file, values, form, np.random.SFC64([seed, index]))
    write_tokenizer(folder / "tokenizer")
    write_json(folder / "scheduler/scheduler_config.json", _SCHEDULER)
    # Last of all: a folder without it is no model, so one that was cut short is made again.
    write_json(folder / "model_index.json", _index(torch))
    return {name: sum(math.prod(tensor.shape) for tensor in tensors) for name, tensors in layers.items()}


# ------------------------------------------------------------------------------------------------------- weights


@dataclass(frozen=True)
class RandomTensor:
    """A tensor to draw: normal values with this mean and std."""

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    is_linear_weight: bool = False


def shapes_of(size: Size) -> dict[str, list[RandomTensor]]:
    """The tensors of a model's parts, in ppdiffusers' layout; nothing is allocated."""
    from ppdiffusers import AutoencoderKL, UNet2DConditionModel
    from ppdiffusers.transformers import CLIPTextConfig, CLIPTextModel

    builders: dict[str, Callable] = {
        "unet": lambda: UNet2DConditionModel(**size.unet),
        "vae": lambda: AutoencoderKL(**size.vae),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig.from_dict(dict(size.text))),
    }
    return {name: list(_tensors(build)) for name, build in builders.items()}


def _tensors(build: Callable) -> Iterator[RandomTensor]:
    from paddle import nn

    from textual_inversion.models.weights import build_unset

    module = build_unset(build)
    linear = {f"{name}.weight" for name, layer in module.named_sublayers() if isinstance(layer, nn.Linear)}
    for name, tensor in module.state_dict().items():
        shape = tuple(tensor.shape)
        if len(shape) < 2:
            is_scale = "norm" in name and name.endswith("weight")
            yield RandomTensor(name, shape, 1.0 if is_scale else 0.0, 0.02)
        elif "embedding.weight" in name:
            yield RandomTensor(name, shape, 0.0, 0.02)
        else:
            fan_in = shape[0] if name in linear else math.prod(shape[1:])
            yield RandomTensor(name, shape, 0.0, fan_in**-0.5, name in linear)


def _as_stored(tensor: RandomTensor, torch: bool) -> RandomTensor:
    """PyTorch stores the weight of a linear layer transposed."""
    shape = tensor.shape[::-1] if torch and tensor.is_linear_weight else tensor.shape
    return RandomTensor(tensor.name, shape, tensor.mean, tensor.std)


def write_random(path: Path, tensors: list[RandomTensor], form: str, bits: np.random.BitGenerator) -> None:
    """Write a safetensors file of float32 tensors, drawn block by block.

    Args:
        form: what its metadata says of the layout: "pd", "np" or "pt".
    """
    header: dict[str, object] = {"__metadata__": {"format": form}}
    position = 0
    for tensor in tensors:
        end = position + 4 * math.prod(tensor.shape)
        header[tensor.name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the values begin on a multiple of 8
    generator, block = np.random.Generator(bits), np.empty(_BLOCK, dtype=np.float32)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            left = math.prod(tensor.shape)
            while left:
                values = block[: min(left, _BLOCK)]
                generator.standard_normal(out=values, dtype=np.float32)
                values *= tensor.std
                values += tensor.mean
                file.write(values.data)
                left -= len(values)


# --------------------------------------------------------------------------------------------------- configurations


def _file(part: str, torch: bool) -> tuple[str, str]:
    """A part's file and what it says of its layout; paddlenlp reads text encoders of the kind "np" only."""
    if part == "text_encoder":
        return "model.safetensors", "pt" if torch else "np"
    return f"diffusion_{'pytorch' if torch else 'paddle'}_model.safetensors", "pt" if torch else "pd"


def _config(name: str, config: dict, size: Size, torch: bool) -> dict:
    if name == "text_encoder":
        return {"architectures": ["CLIPTextModel"], "torch_dtype" if torch else "dtype": "float32", **config}
    class_name = "UNet2DConditionModel" if name == "unet" else "AutoencoderKL"
    version = {"_diffusers_version" if torch else "_ppdiffusers_version": "0.29.0"}
    pixels = size.unet["sample_size"] * 2 ** (len(size.vae["block_out_channels"]) - 1)
    return {"_class_name": class_name, **version, **config} | ({} if name == "unet" else {"sample_size": pixels})


def _index(torch: bool) -> dict:
    diffusion, encoders = ("diffusers", "transformers") if torch else ("ppdiffusers", "ppdiffusers.transformers")
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version" if torch else "_ppdiffusers_version": "0.29.0",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": [diffusion, "PNDMScheduler"],
        "text_encoder": [encoders, "CLIPTextModel"],
        "tokenizer": [encoders, "CLIPTokenizer"],
        "unet": [diffusion, "UNet2DConditionModel"],
        "vae": [diffusion, "AutoencoderKL"],
    }


if __name__ == "__main__":
    run_command(main)
