"""Maintainers' tool: trains the demo model from scratch, stage by stage. Needs `demo/requirements.txt`.

    python -m demo.pretrain data tokenizer vae latents sharpen latents clip ldm decoder export report --work-dir WORK

Each stage keeps its state in WORK and resumes where it was killed. A stage that has used its minutes ends at once, so
the same command can simply be run again; more `--minutes` prolong it.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

STAGES = ("data", "tokenizer", "adopt", "vae", "latents", "sharpen", "clip", "ldm", "decoder", "export", "report")
MINUTES = {"vae": 13.0, "sharpen": 120.0, "clip": 60.0, "ldm": 300.0, "decoder": 60.0}
MODEL_DIR = Path(__file__).resolve().parent / "model"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="+", choices=STAGES, help="what to do, in this order")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder of the images and the training states")
    parser.add_argument("--minutes", type=float, help=f"minutes of each training stage; default: {MINUTES}")
    parser.add_argument("--steps", type=int, default=1_000_000, help="the most steps of a training stage")
    parser.add_argument("--device", default="cpu", help="where to train: cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the training")
    parser.add_argument(
        "--model-dir", type=Path, default=MODEL_DIR, help="where `export` writes the model, and `adopt` reads it"
    )
    return parser.parse_args(argv)


def torch_device(args: argparse.Namespace):
    """Return the device to train on, and set it up."""
    import torch

    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # shapes never change
    torch.set_float32_matmul_precision("high")
    return torch.device(args.device)


def run_stage(stage: str, args: argparse.Namespace) -> None:
    """Run one stage; each imports only what it needs."""
    if stage == "data":
        from demo.pretrain_data import make_data

        make_data(args.work_dir)
    elif stage == "tokenizer":
        from demo.pretrain_data import make_tokenizer

        make_tokenizer(args.work_dir)
    elif stage == "latents":
        from demo import pretrain_vae

        pretrain_vae.encode_all(args.work_dir, torch_device(args))
    elif stage == "adopt":
        from demo import pretrain_export

        pretrain_export.adopt(args.model_dir, args.work_dir)
    elif stage in ("sharpen", "decoder"):
        from demo import pretrain_vae

        train = pretrain_vae.sharpen if stage == "sharpen" else pretrain_vae.train_decoder
        train(args.work_dir, args.minutes or MINUTES[stage], args.steps, torch_device(args))
    elif stage in MINUTES:
        trainer = importlib.import_module(f"demo.pretrain_{stage}")
        trainer.train(args.work_dir, args.minutes or MINUTES[stage], args.steps, torch_device(args))
    elif stage == "export":
        from demo import pretrain_export

        pretrain_export.export(args.work_dir, args.model_dir)
        pretrain_export.reference(args.work_dir, args.work_dir / "reference.npz")
    else:
        from demo import pretrain_report

        pretrain_report.report(args.work_dir, torch_device(args))


def main(argv: list[str] | None = None) -> None:
    """Run the stages named."""
    args = parse_arguments(argv)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    for stage in args.stages:
        run_stage(stage, args)


if __name__ == "__main__":
    main()
