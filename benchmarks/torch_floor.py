"""The bare passes of `floor.py` in PyTorch with diffusers, on a CPU in float32, for an interpreter that has them.

    PYTHON benchmarks/torch_floor.py MODEL --record FILE

MODEL is a folder of `full_size_model.py`, of which only the configurations are read; the weights are random. Nothing
of this project is imported, so the interpreter needs only torch, diffusers and transformers.
"""

import argparse
import json
import time
from pathlib import Path

_LENGTH = 77
_LATENT_SIDE = 8


def main() -> None:
    """Time the passes and write their seconds."""
    parser = argparse.ArgumentParser(description="Time text encoder and U-Net in PyTorch, forward and backward.")
    parser.add_argument("model")
    parser.add_argument("--record", required=True)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm_up", type=int, default=1)
    parser.add_argument("--num_threads", type=int)
    args = parser.parse_args()

    import diffusers
    import torch
    import transformers

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    once = make_pass(torch, Path(args.model), args.batch_size, args.resolution // _LATENT_SIDE)
    every = []
    for _ in range(args.warm_up + args.steps):
        begin = time.perf_counter()
        once()
        every.append(time.perf_counter() - begin)
    versions = {m.__name__: m.__version__ for m in (torch, diffusers, transformers)}
    record = {"floor": every[args.warm_up :], "versions": versions, "threads": torch.get_num_threads()}
    Path(args.record).write_text(json.dumps(record))


def make_pass(torch, folder: Path, batch_size: int, side: int):
    """A function that does one forward and backward pass to one new vector and clears its gradient."""
    unet, text_encoder = random_parts(torch, folder)
    table = text_encoder.get_input_embeddings()
    width, tokens = table.weight.shape[1], table.weight.shape[0]
    row = torch.nn.Parameter(0.02 * torch.randn(1, width))
    text_encoder.set_input_embeddings(new_row_embedding(torch, table, row))
    ids = torch.randint(0, tokens, (batch_size, _LENGTH))
    ids[:, 5] = tokens
    latents = torch.randn(batch_size, unet.config.in_channels, side, side)
    target, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (batch_size,))

    def once() -> float:
        prediction = unet(latents, timesteps, text_encoder(ids)[0]).sample
        torch.nn.functional.mse_loss(prediction, target).backward()
        norm = float(row.grad.norm())
        row.grad = None
        return norm

    return once


def new_row_embedding(torch, table, row):
    """An embedding with the table's rows and, after them, one vector that is trained."""

    class NewRow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.row = table, row
            self.weight = table.weight  # the encoder asks its embedding for its type of numbers

        def forward(self, ids):
            is_new = (ids >= self.table.weight.shape[0]).unsqueeze(-1)
            old = self.table(ids.clamp(max=self.table.weight.shape[0] - 1))
            return torch.where(is_new, self.row[0], old)

    return NewRow()


def random_parts(torch, folder: Path):
    """U-Net and text encoder from their configurations, frozen, with small random weights; quickly."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet_config = json.loads((folder / "unet/config.json").read_text())
    text_config = json.loads((folder / "text_encoder/config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(unet_config)
        text_encoder = CLIPTextModel(CLIPTextConfig(**text_config))
    for part in (unet, text_encoder):
        part.to_empty(device="cpu").requires_grad_(False).eval()
        for name, tensor in part.named_parameters():
            is_scale = "norm" in name and name.endswith("weight")
            tensor.fill_(1.0) if is_scale else tensor.normal_(0.0, 0.02)
        for name, buffer in part.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return unet, text_encoder


if __name__ == "__main__":
    main()
