"""Maintainers' tool: trains the demo model from nothing, stage by stage. Needs `demo/requirements.txt`, no GPU.

    python -m demo.pretrain data tokenizer vae decoder clip ldm export --work-dir WORK

Each stage keeps its state in WORK and goes on where it was killed. A stage that has used its minutes ends at once, so
the same command may simply be run again; more `--minutes` prolong it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

STAGES = ("data", "tokenizer", "vae", "decoder", "clip", "clip_images", "ldm", "export", "report")
MINUTES = {"vae": 13.0, "decoder": 60.0, "clip": 8.0, "clip_images": 30.0, "ldm": 45.0}
MODEL_DIR = Path(__file__).resolve().parent / "model"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="+", choices=STAGES, help="what to do, in this order")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder of the pictures and the training states")
    parser.add_argument("--minutes", type=float, help="minutes of each training stage; default: 13, 60, 8, 30, 45")
    parser.add_argument("--steps", type=int, default=1_000_000, help="the most steps of a training stage")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the training")
    parser.add_argument("--model-dir", type=Path, default=MODEL_DIR, help="where `export` writes the model")
    return parser.parse_args(argv)


def run_stage(stage: str, args: argparse.Namespace) -> None:
    """Run one stage; each imports only what it needs."""
    minutes = args.minutes or MINUTES.get(stage, 0.0)
    if stage == "data":
        from demo.pretrain_data import make_data

        make_data(args.work_dir)
    elif stage == "tokenizer":
        from demo.pretrain_data import make_tokenizer

        make_tokenizer(args.work_dir)
    elif stage == "vae":
        from demo import pretrain_vae

        pretrain_vae.train(args.work_dir, minutes, args.steps)
        pretrain_vae.encode_all(args.work_dir)
    elif stage == "decoder":
        from demo import pretrain_vae

        pretrain_vae.sharpen(args.work_dir, minutes, args.steps)
    elif stage == "clip":
        from demo import pretrain_clip

        pretrain_clip.train(args.work_dir, minutes, args.steps)
    elif stage == "clip_images":
        from demo import pretrain_clip

        pretrain_clip.train_images(args.work_dir, minutes, args.steps)
    elif stage == "ldm":
        from demo import pretrain_ldm

        pretrain_ldm.train(args.work_dir, minutes, args.steps)
    elif stage == "export":
        from demo import pretrain_export

        pretrain_export.export(args.work_dir, args.model_dir)
        pretrain_export.reference(args.work_dir, args.work_dir / "reference.npz")
    else:
        from demo import pretrain_report

        pretrain_report.report(args.work_dir)


def main(argv: list[str] | None = None) -> None:
    """Run the stages named."""
    args = parse_arguments(argv)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if MINUTES.keys() & set(args.stages):
        import torch

        torch.set_num_threads(args.threads)
    for stage in args.stages:
        run_stage(stage, args)


if __name__ == "__main__":
    main()
