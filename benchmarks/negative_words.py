"""What a word for what is not wanted does in the negative prompt, on the demo.

    python benchmarks/negative_words.py --fault blurred noisy

Drawings of the demo world are spoiled: blurred, covered with noise, or without their colours. A word is learned from
the spoiled ones alone, and another one from these and the clean ones (`--contrast_data_dir`). Then the same prompts are
drawn with the same seeds: without a negative prompt, with the templates' own word for it, and with each learned word.

*fault measure* is a property of the images themselves that the fault takes away or brings in: for blur and noise the
mean difference of neighbouring pixels, for lost colours the mean distance from grey, both in levels of 255. By the
demo's CLIP, over all images, *clean* is the mean cosine with clean drawings of other toys, *spoiled* with the same
drawings spoiled, and *text* with the prompt. A word helps where the measure moves away from that of spoiled drawings
and text stays.
"""

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from PIL import Image, ImageFilter, ImageOps  # noqa: E402

from benchmarks import runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from textual_inversion.cli.parser import OneLineParser, demo_defaults  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.settings.choices import GENERIC_WORDS, NEGATIVE  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

SIDE = 128  # the demo model's own
WORD = "<unwanted>"
# Numbers of drawings of the demo world: those to learn from, and others to compare with. Both show single toys.
FIRST_LEARNED, FIRST_COMPARED = 1000, 5000


def _noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(list(image.tobytes()[:64])).normal(0, 45, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(SIDE / 25)),
    "noisy": _noisy,
    "colourless": lambda image: ImageOps.grayscale(image).convert("RGB"),
}


def detail(image: Image.Image) -> float:
    """Mean absolute difference of neighbouring pixels."""
    pixels = np.asarray(image, np.float32)
    return float((np.abs(np.diff(pixels, axis=0)).mean() + np.abs(np.diff(pixels, axis=1)).mean()) / 2)


def colour(image: Image.Image) -> float:
    """Mean distance of the channels from their mean."""
    pixels = np.asarray(image, np.float32)
    return float(np.abs(pixels - pixels.mean(axis=2, keepdims=True)).mean())


MEASURES = {"blurred": detail, "noisy": detail, "colourless": colour}


@dataclass(frozen=True)
class Row:
    """The means over the images with one negative prompt, or over drawings, which have no cosines."""

    negative_prompt: str
    measure: float
    clean: float | None = None
    spoiled: float | None = None
    text: float | None = None


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="negative_words.py", description="What a learned word does in the negative prompt.")
    flag = parser.add_argument
    flag("--fault", nargs="+", choices=FAULTS, default=list(FAULTS))
    flag("--steps", type=positive_int, default=100, help="optimizer steps of each word")
    flag("--images", type=positive_int, default=12, help="bad images to learn from, and as many good ones")
    flag("--num_images", type=positive_int, default=24, help="images for each negative prompt")
    flag("--num_inference_steps", type=positive_int, help="of these images; unset: the demo's own")
    flag("--guidance_scale", type=float, help="unset: the demo's own")
    flag("--reuse", action="store_true", help="reuse words that were learned before in the work folder")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    place = args.work_dir / "negative"
    learned = {fault: [learn(fault, pair, place, args) for pair in (False, True)] for fault in args.fault}
    from textual_inversion.system.environment import prepare_environment

    prepare_environment()
    compared = Comparison(args)
    parts = []
    for fault, files in learned.items():
        found = compared.rows(fault, files)
        cells = [(_names(row.negative_prompt), *_cells(row)) for row in found]
        head = ("negative prompt", "fault measure", "clean", "spoiled", "clean less spoiled", "text")
        parts += [f"**{fault}**", tables.table(head, cells)]
    print(tables.section(f"Words for what is not wanted, {args.steps} steps, {args.num_images} images", *parts))


def _names(negative_prompt: str) -> str:
    return f"`{negative_prompt}`" if negative_prompt in GENERIC_WORDS.values() else negative_prompt


def _cells(row: Row) -> list[str]:
    if row.text is None:
        return [f"{row.measure:.2f}", *[tables.MISSING] * 4]
    cosines = (row.clean, row.spoiled, row.clean - row.spoiled, row.text)
    return [f"{row.measure:.2f}", *(f"{value:.4f}" for value in cosines)]


# ------------------------------------------------------------------------------------------------------- training


def drawings(first: int, count: int) -> list[tuple[Image.Image, str]]:
    """Clean drawings of the demo world with their captions: photos, of which the demo model has seen such ones."""
    from demo.toyworld import picture

    found = []
    while len(found) < count:
        drawn = picture(first)
        if drawn.medium == "photo" and drawn.toy_name is None:
            found.append((drawn.draw(SIDE), drawn.caption()))
        first += 1
    return found


def learn(fault: str, pair: bool, place: Path, args) -> Path:
    """Learn a word from spoiled drawings, where `pair` says so away from the clean ones; returns its file."""
    folder = place / f"{fault}-{'pair' if pair else 'alone'}"
    if args.reuse and (folder / "out" / "learned_embeds.pdparams").is_file():
        return folder / "out" / "learned_embeds.pdparams"
    spoil = FAULTS[fault]
    for name, change in (("bad", spoil), ("good", lambda image: image)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, (image, caption) in enumerate(drawings(FIRST_LEARNED, args.images)):
            change(image).save(folder / name / f"{number}.png")
            (folder / name / f"{number}.txt").write_text(f"{caption}, {{}}")
    words = {
        "train_data_dir": folder / "bad",
        "contrast_data_dir": folder / "good" if pair else None,
        "learnable_property": NEGATIVE,
        "placeholder_token": WORD,
        "output_dir": folder / "out",
        "max_train_steps": args.steps,
        "template_share": 0.5,
        "eval_steps": 0,
        "save_steps": 10**6,
        "only_save_embeds": True,
        "report_to": "none",
    }
    runs.say(f"training {folder.name}")
    command = [sys.executable, ROOT / "train_textual_inversion.py", *runs.flags(words), "--overview", "false"]
    runs.run(command, log=folder / "train.log")
    return folder / "out" / "learned_embeds.pdparams"


# ------------------------------------------------------------------------------------------------------ comparing


class Comparison:
    """Draws the same prompts with several negative prompts, and compares the images with drawings."""

    def __init__(self, args):
        from textual_inversion.evaluation.clip import ClipScorer, find_clip
        from textual_inversion.models.base_model import load_base_model
        from textual_inversion.system.paths import DEMO_MODEL

        self._model, self._clip = load_base_model(DEMO_MODEL), ClipScorer(find_clip(DEMO_MODEL))
        own = demo_defaults()
        self._guidance = args.guidance_scale or own["guidance_scale"]
        self._steps = args.num_inference_steps or own["num_inference_steps"]
        compared = drawings(FIRST_COMPARED, args.num_images)
        self._clean, texts = zip(*compared, strict=True)
        self._prompts = random.Random(1).sample(texts, len(texts))
        self._without: Sequence[Image.Image] = ()

    def rows(self, fault: str, files: Sequence[Path]) -> list[Row]:
        """Drawings, clean and spoiled; images without a negative prompt, with the generic word, with each file's."""
        measure, drawn = MEASURES[fault], (list(self._clean), [FAULTS[fault](image) for image in self._clean])
        clean, spoiled = map(self._clip.image_features, drawn)
        self._without = self._without or self._draw("")
        words = {"none": self._without, GENERIC_WORDS[NEGATIVE]: self._draw(GENERIC_WORDS[NEGATIVE])}
        for name, file in zip(("learned from bad images", "learned from bad and good images"), files, strict=True):
            words[name] = self._draw(WORD, file)
        texts = self._clip.text_features(self._prompts)
        named = zip(("drawings, clean", "drawings, spoiled"), drawn, strict=True)
        found = [Row(name, float(np.mean([measure(image) for image in images]))) for name, images in named]
        for name, images in words.items():
            features = self._clip.image_features(images)
            means = [float((features @ others.T).mean()) for others in (clean, spoiled)]
            mean = float(np.mean([measure(image) for image in images]))
            found.append(Row(name, mean, *means, float((features * texts).sum(axis=1).mean())))
        return found

    def _draw(self, negative_prompt: str, file: Path | None = None) -> list[Image.Image]:
        from textual_inversion.embeddings.files import read_concept_files
        from textual_inversion.generation.generate import generate
        from textual_inversion.generation.request import ImageRequest
        from textual_inversion.models.attach import attach_files

        if file is not None:
            attach_files(self._model, read_concept_files([file]))
        settings = {"guidance_scale": self._guidance, "num_inference_steps": self._steps}
        requests = [
            ImageRequest(prompt, seed, negative_prompt, **settings) for seed, prompt in enumerate(self._prompts)
        ]
        return generate(self._model, requests, batch_size=8)


if __name__ == "__main__":
    run_command(main)
