"""The least that a training step can be: text encoder and U-Net, forward, and backward to the new rows.

    python benchmarks/floor.py MODEL --record FILE

Inputs are fixed and ready, nothing is sampled, logged or optimised, everything but the rows is frozen. `Floor.of_run`
takes the modules of a training run as they are; the command loads ppdiffusers' own classes and changes nothing in them.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from textual_inversion.errors import run_command  # noqa: E402
from textual_inversion.options import OneLineParser, natural, positive_int  # noqa: E402

_LENGTH = 77  # tokens of a prompt
_LATENT_SIDE = 8  # pixels that one latent stands for


class Floor:
    """The bare pass, to be repeated.

    Args:
        text_encoder, unet: frozen but for the rows.
        rows: the parameters that the gradient is wanted of.
        ids: int64 [B, L], with a new row's id among them.
        latents: float32 [B, C, H, W].
    """

    def __init__(self, text_encoder, unet, rows: list, ids: np.ndarray, latents: np.ndarray):
        import paddle

        generator = np.random.default_rng(0)
        self._text_encoder, self._unet, self._rows = text_encoder, unet, rows
        self._ids = paddle.to_tensor(np.asarray(ids, dtype=np.int64))
        self._latents = paddle.to_tensor(latents.astype(np.float32))
        self._target = paddle.to_tensor(generator.standard_normal(latents.shape, dtype=np.float32))
        self._timesteps = paddle.to_tensor(generator.integers(0, 1000, len(ids)))

    @classmethod
    def of_run(cls, args, run) -> "Floor":
        """With the modules, rows, prompts and shapes of a training run; for models with one text encoder."""
        (tower,) = run.model.towers
        batch = run.samples.batch(0, range(args.train_batch_size))
        return cls(tower.text_encoder, run.model.unet, run.parameters, tower.encode_ids(batch.prompts), batch.noise)

    def run(self) -> float:
        """One pass; returns the norm of the rows' gradient and clears it."""
        import paddle.nn.functional as F

        hidden_states = self._text_encoder(self._ids, return_dict=True)[0]  # (B, L, D)
        prediction = self._unet(self._latents, self._timesteps, hidden_states).sample  # (B, C, H, W)
        F.mse_loss(prediction, self._target).backward()
        norm = float(sum((row.grad**2).sum() for row in self._rows)) ** 0.5
        for row in self._rows:
            row.clear_gradient(False)
        return norm

    def seconds(self) -> float:
        """How long one pass takes."""
        begin = time.perf_counter()
        self.run()
        return time.perf_counter() - begin


def plain_floor(folder: Path, batch_size: int, resolution: int) -> Floor:
    """The floor of ppdiffusers' classes as they are, with a row beside the table and all weights frozen."""
    import ppdiffusers
    from ppdiffusers.transformers import CLIPTextConfig, CLIPTextModel

    from textual_inversion.embedding import attach

    text_encoder = _loaded(folder / "text_encoder", lambda c: CLIPTextModel(CLIPTextConfig.from_dict(c)))
    unet = _loaded(folder / "unet", lambda config: ppdiffusers.UNet2DConditionModel.from_config(config))
    generator = np.random.default_rng(1)
    embedding = attach(text_encoder, generator.normal(0, 0.02, (1, text_encoder.config.hidden_size)))
    ids = generator.integers(0, embedding.first_id, (batch_size, _LENGTH))
    ids[:, 5] = embedding.first_id
    side = resolution // _LATENT_SIDE
    latents = generator.standard_normal((batch_size, unet.config.in_channels, side, side))
    return Floor(text_encoder, unet, list(embedding.parts), ids, latents)


def _loaded(folder: Path, build):
    from textual_inversion.weight_files import DIFFUSION_FILES, ENCODER_FILES, read_json, read_state
    from textual_inversion.weights import build_unset, load_weights

    config = read_json(folder / "config.json")
    files = ENCODER_FILES if folder.name == "text_encoder" else DIFFUSION_FILES
    layer = build_unset(lambda: build(config))
    load_weights(layer, read_state(folder, files))
    for parameter in layer.parameters():
        parameter.stop_gradient = True
    return layer.eval()


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="floor.py", description="Time the bare passes of ppdiffusers' own modules.")
    parser.add_argument("model", help="a folder in ppdiffusers' layout, Stable Diffusion 1.x")
    parser.add_argument("--record", required=True, metavar="FILE", help="where the seconds of each pass are written")
    parser.add_argument("--resolution", type=positive_int, default=256)
    parser.add_argument("--batch_size", type=positive_int, default=1)
    parser.add_argument("--steps", type=positive_int, default=5)
    parser.add_argument("--warm_up", type=natural, default=1, help="passes that do not count")
    parser.add_argument("--num_threads", type=positive_int)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    from textual_inversion.runtime import prepare_environment

    prepare_environment(args.num_threads)
    floor = plain_floor(Path(args.model), args.batch_size, args.resolution)
    every = [floor.seconds() for _ in range(args.warm_up + args.steps)]
    Path(args.record).write_text(json.dumps({"floor": every[args.warm_up :]}))


if __name__ == "__main__":
    run_command(main)
