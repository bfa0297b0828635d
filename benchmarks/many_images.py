"""What memory grows with the number of training images: the peak of a run, and what is kept of each image.

    python benchmarks/many_images.py
    python benchmarks/many_images.py --images 6 100 --megapixels 3

The first table is of runs of the real command on the demo's model, on photos that all have to be decoded: a few are
drawn, and the others are links to them. The second table counts what the set of training images holds once its latents
are encoded, traced by Python's allocator, at 512x512 pixels and with latents of the shape that a full-size VAE gives.
"""

import gc
import math
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, memory, runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import count, positive, positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

_DRAWN = 6  # different photos
_LATENTS = (4, 64, 64)  # a full-size VAE's of 512x512 pixels
_SIDE = 512
_KEPT_MEGAPIXELS = 0.5  # of the photos for the second table, to which their size does not matter


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="many_images.py", description="Memory that grows with the number of training images.")
    flag = parser.add_argument
    flag("--images", type=positive_int, nargs="+", default=[6, 1000], help="numbers of images; the first is the base")
    flag("--megapixels", type=positive, default=12.0, help="of each photo")
    flag("--workers", type=count(0, 256), default=2, help="threads that read the images")
    flag("--limit_gb", type=positive, help="end a run that takes more; unset: nine tenths of the memory")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    limit = 1e9 * args.limit_gb if args.limit_gb else 0.9 * machine.memory_bytes()
    measured = {images: measure(args, images, limit) for images in args.images}
    kept = bytes_kept(args.work_dir, args.images[-1])
    base = measured[args.images[0]]["peak"]
    rows = [
        (f"{images} images", tables.gigabytes(m["peak"]), tables.gigabytes(m["peak"] - base),
         tables.seconds(m["reading"]), tables.seconds(m["encoding"]))
        for images, m in measured.items()
    ]  # fmt: skip
    head = (f"**photos of {args.megapixels:g} megapixels**", "peak", "above the first", "reading", "encoding")
    posterior = 2 * 4 * math.prod(_LATENTS)
    second = tables.table(
        ("**kept of an image**", "bytes", "of mean and std"),
        [(f"{args.images[-1]} images of {_SIDE}x{_SIDE} pixels", f"{kept:,.0f}", tables.times(kept / posterior))],
    )
    targets = [
        tables.Target(f"{images} images: peak above that of {args.images[0]}, GB", (m["peak"] - base) / 1e9, 1.5)
        for images, m in list(measured.items())[1:]
    ]
    targets.append(tables.Target("kept of an image, of mean and std", kept / posterior, 1.1))
    title = "Memory by the number of images"
    print(tables.section(title, tables.table(head, rows), second, tables.targets_table(targets)))


def measure(args, images: int, limit: float) -> dict[str, float]:
    """The peak memory of a run in bytes, and the seconds of reading and of encoding the images."""
    runs.say(f"many_images: {images} photos")
    arguments = runs.quiet_training(
        machine.ROOT / "demo" / "model",
        photos(args.work_dir, images, args.megapixels),
        args.work_dir / "many-out",
        1,
        dataloader_num_workers=args.workers,
    )
    watcher = memory.Watcher(limit)
    instruments = ["--memory", "--only_training"]
    (record,) = runs.record(arguments, args.work_dir / "many", instruments=instruments, watch=watcher)
    phases = memory.labelled(record["phases"], watcher)
    lasting = {phase["label"]: phase["end"] - phase["begin"] for phase in phases}
    return {
        "peak": memory.overall(phases),
        "reading": lasting["reading the images"],
        "encoding": lasting["encoding the images"],
    }


def photos(work_dir: Path, images: int, megapixels: float) -> Path:
    """A folder of photos in the shape 4:3: a few that are drawn, and links to them."""
    import numpy as np
    from PIL import Image

    width, height = round((4 * megapixels * 1e6 / 3) ** 0.5), round((3 * megapixels * 1e6 / 4) ** 0.5)
    drawn, folder = work_dir / f"photos-{width}x{height}", work_dir / f"photos-{width}x{height}-{images}"
    for path in (drawn, folder):
        path.mkdir(parents=True, exist_ok=True)
    for number in range(min(_DRAWN, images)):
        if not (drawn / f"{number}.jpg").is_file():
            blocks = np.random.default_rng(number).integers(0, 255, (height // 20, width // 20, 3), dtype=np.uint8)
            image = Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)
            image.save(drawn / f"{number}.jpg", quality=90)
    for number in range(images):
        path = folder / f"{number:05}.jpg"
        if not path.exists():
            os.link(drawn / f"{number % _DRAWN}.jpg", path)
    return folder


class InstantVae:
    """Stands for a full-size VAE: what it gives has the same shape, and costs nothing."""

    config = SimpleNamespace(scaling_factor=0.18215, latent_channels=_LATENTS[0])

    def named_parameters(self) -> Iterator[tuple]:
        """One, whose type is that of the computation."""
        import paddle

        yield "weight", paddle.zeros([1])

    def encode(self, pixels) -> SimpleNamespace:
        """A posterior of the image's own colours."""
        mean = pixels[:, [0, 1, 2, 0], ::8, ::8]
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=mean * 0 + 1))


def bytes_kept(work_dir: Path, images: int) -> float:
    """What the set of training images holds of each image once its latents are encoded, in bytes."""
    from textual_inversion.data.dataset import encode_images
    from textual_inversion.data.read_images import read_images
    from textual_inversion.settings.concept import Concept
    from textual_inversion.settings.train_data import ImageSettings, PromptSettings

    runs.say(f"many_images: what is kept of {images} images")
    vae = InstantVae()
    model = SimpleNamespace(vae=vae, vae_scale_factor=8, side_factor=8, free_vae=lambda: None)
    settings, silent = ImageSettings(flip_p=0.0), runs.say

    def held(folder: Path) -> tuple:
        concept = Concept("<cat-toy>", image_folder=str(folder))
        read = read_images([concept], settings, PromptSettings(), "en", 100, silent)
        return read, encode_images(read, model, settings, (_SIDE, _SIDE), keep_vae=False, say=silent)

    held(photos(work_dir, _DRAWN, _KEPT_MEGAPIXELS))  # what is loaded at the first use does not count
    folder = photos(work_dir, images, _KEPT_MEGAPIXELS)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = held(folder)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(kept[1].images) == images
    return (after - before) / images


if __name__ == "__main__":
    run_command(main)
