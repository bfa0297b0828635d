"""Checks that the exported model computes in Paddle what it computed in PyTorch.

    python -m demo.check_export WORK/reference.npz

`pretrain.py export` writes the reference: inputs, and the outputs of the same float16-rounded weights in PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

MODEL_DIR = Path(__file__).resolve().parent / "model"
TOLERANCE = 2e-3


def paddle_outputs(model_dir: Path, given) -> dict:
    """Compute every output of the reference with ppdiffusers. `given` maps names to arrays."""
    import paddle
    from ppdiffusers import StableDiffusionPipeline
    from ppdiffusers.transformers import CLIPModel

    pipe = StableDiffusionPipeline.from_pretrained(str(model_dir), safety_checker=None)
    clip = CLIPModel.from_pretrained(str(model_dir / "clip"))
    clip.eval()
    pipe.text_encoder.eval()
    pipe.unet.eval()
    pipe.vae.eval()
    ids, pixels, small, latents = (paddle.to_tensor(given[name]) for name in ("ids", "pixels", "small", "latents"))
    with paddle.no_grad():
        states = pipe.text_encoder(ids)[0]
        return {
            "states": states,
            "noise": pipe.unet(latents, paddle.to_tensor([500, 20]), states).sample,
            "mean": pipe.vae.encode(pixels).latent_dist.mean,
            "decoded": pipe.vae.decode(latents).sample,
            "image_features": clip.get_image_features(small),
            "text_features": clip.get_text_features(ids),
        }


def main() -> None:
    """Print the largest difference of each output; exit 1 if one exceeds `TOLERANCE` of its size."""
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path, help="the file written by `pretrain.py export`")
    parser.add_argument("--model-dir", type=Path, default=MODEL_DIR, help="the exported model")
    args = parser.parse_args()
    expected = np.load(args.reference)
    worst = 0.0
    for name, output in paddle_outputs(args.model_dir, expected).items():
        difference = float(np.abs(output.numpy() - expected[name]).max())
        size = float(np.abs(expected[name]).max())
        worst = max(worst, difference / size)
        print(f"{name:15} shape {list(output.shape)!s:18} size {size:8.3f} largest difference {difference:.2e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
