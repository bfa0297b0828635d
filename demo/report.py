"""Every figure of the demo, measured on the shipped model, and its contact sheet.

python demo/report.py                         all of it, into demo/FIGURES.md: an hour on two cores
python demo/report.py --part clip pictures    only these; the other sections stay

decoder     what the autoencoder loses on drawings that it was not trained on
clip        how many attributes of drawings the CLIP model recognizes, which bounds what it can recognize in images
pictures    the same for images from the diffusion model: of descriptions, of invented names, of toys that training
            images showed and of toys that none showed
inversion   the default training on each held-out concept with several seeds, scored with `--scored` images a row
together    the three concepts in one run
pairs       a learned toy beside a duck: what its text says of images of both, against drawings of both
sheet       demo/contact_sheet.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks import all as results  # noqa: E402
from benchmarks import runs, tables  # noqa: E402
from demo import judging  # noqa: E402
from demo.drawing import draw  # noqa: E402
from demo.judging import ATTRIBUTES, STYLE, Shown  # noqa: E402
from demo.pretrain_data import N_ALL, N_TRAIN  # noqa: E402
from demo.specs import HELD_OUT_TOYS, NAMED_TOYS, SCENES  # noqa: E402
from demo.toyworld import picture  # noqa: E402
from textual_inversion.cli.parser import OneLineParser, demo_defaults  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system import atomic  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402
from textual_inversion.system.paths import DEMO_MODEL, ROOT  # noqa: E402

FIGURES = Path(__file__).with_name("FIGURES.md")
SHEET = Path(__file__).with_name("contact_sheet.png")
HEAD = """# Figures of the demo

Written by `python demo/report.py`. A target stands beside each figure that has one.
"""
N_DECODED, N_DRAWN, N_STYLED = 500, 256, 256
HELD_OUT = N_TRAIN  # the first of the drawings that nothing was trained on
EASY, HARD = ("species", "body", "scene"), ("accent", "third", "pattern")
# Concept -> (folder of its images, what is learned from them, the share of the way that it should reach).
CONCEPTS = {
    "cat": ("cat_toy_images", "object", 0.75),
    "rabbit": ("demo/rabbit_toy_images", "object", 0.75),
    "style": ("demo/style_images", "style", 0.6),
}
TEXT_KEPT, PAIR_KEPT = 0.85, 0.90
# Unseen combinations should be recognized as well as seen ones. This difference may be chance with so many images,
# in the mean of the attributes, and of so many standard errors in any one of them.
CHANCE, CHANCE_IN_ERRORS = 0.05, 2.0


class Subject:
    """The shipped model and its CLIP model, loaded once.

    Args:
        count: images to make of each kind.
        seed: of the first of them.
    """

    def __init__(self, count: int, seed: int):
        from textual_inversion.system.environment import prepare_environment

        prepare_environment()
        from textual_inversion.evaluation.clip import ClipScorer, find_clip
        from textual_inversion.models.base_model import load_base_model

        self.model, self.scorer = load_base_model(DEMO_MODEL), ClipScorer(find_clip(DEMO_MODEL))
        self.count, self._seed, self._settings = count, seed, demo_defaults()
        self.side = self.model.resolution  # of the model's images, in pixels

    def draw(self, prompts: list[str]) -> list:
        """An image of each prompt, with the demo's own settings."""
        from textual_inversion.generation.generate import ImageRequest, generate, total_steps
        from textual_inversion.system.progress import Progress

        settings = {name: self._settings[name] for name in ("guidance_scale", "num_inference_steps")}
        requests = [ImageRequest(prompt, self._seed + i, **settings) for i, prompt in enumerate(prompts)]
        with Progress(total_steps(requests), description="denoising step") as progress:
            return generate(self.model, requests, batch_size=16, progress=progress)

    def accuracies(self, images: list, shown: list[Shown], attributes=ATTRIBUTES) -> dict[str, float]:
        """See `judging.accuracies`."""
        return judging.accuracies(self.scorer, images, shown, attributes)


# ---------------------------------------------------------------------------------------------------------- model


def decoder(subject: Subject, args) -> list[str]:
    """Peak signal-to-noise ratio of drawings that nothing was trained on, encoded, sampled and decoded."""
    alone, pairs = (_decoded_ratio(subject.model.vae, first, subject.side) for first in (HELD_OUT, N_ALL))
    what = f"{N_DECODED} drawings that nothing was trained on, from sampled latents"
    text = f"{what}: {alone:.2f} dB; as many of two toys: {pairs:.2f} dB."
    found = {"held-out drawings": (alone, 28.0), "drawings of two toys": (pairs, 26.0)}
    targets = [tables.Target(f"PSNR of {name}, dB", *ratio, at_least=True) for name, ratio in found.items()]
    return [text, tables.targets_table(targets)]


def _decoded_ratio(vae, first: int, side: int) -> float:
    """In dB, for the images of the training world from a number on, drawn with `side` pixels."""
    import paddle

    paddle.seed(0)
    drawings = [np.asarray(picture(first + i).draw(side), np.float32) for i in range(N_DECODED)]
    squares = []
    with paddle.no_grad():
        for start in range(0, N_DECODED, 50):
            batch = np.stack(drawings[start : start + 50]).transpose(0, 3, 1, 2) / 127.5 - 1  # (B, 3, H, W) in [-1, 1]
            pixels = paddle.to_tensor(batch)
            again = vae.decode(vae.encode(pixels).latent_dist.sample()).sample.clip(-1, 1)
            squares.append(float((again - pixels).square().mean()))
    return 10 * np.log10(4 / np.mean(squares))


def clip(subject: Subject, args) -> list[str]:
    """What the CLIP model tells of drawings."""
    shown = judging.random_shown(N_DRAWN, seed=2)
    told = subject.accuracies([one.drawing(HELD_OUT + i, subject.side) for i, one in enumerate(shown)], shown)
    styled = judging.random_styled(N_STYLED, seed=5)
    told |= subject.accuracies(
        [one.drawing(HELD_OUT + i, subject.side) for i, one in enumerate(styled)], styled, (STYLE,)
    )
    bounds = dict.fromkeys(EASY, 0.95) | dict.fromkeys((*HARD, STYLE), 0.85)
    rows = [(f"{N_DRAWN} drawings, {N_STYLED} for the style", *_percents(told))]
    return [_accuracy_table(rows), tables.targets_table(_at_least("drawings", told, bounds))]


def pictures(subject: Subject, args) -> list[str]:
    """What the CLIP model recognizes in images from the diffusion model."""
    seen_toys = {picture(i).toy for i in range(HELD_OUT)}
    kinds = {
        "toys that training pictures showed": judging.random_shown(args.count, 3, lambda toy: toy in seen_toys),
        "toys that none showed": judging.random_shown(args.count, 4, lambda toy: toy not in seen_toys),
    }
    found = {name: subject.accuracies(subject.draw([s.description for s in own]), own) for name, own in kinds.items()}
    seen, unseen = (found[name] for name in kinds)
    named = [Shown(toy, SCENES[i % len(SCENES)]) for i, toy in enumerate(list(NAMED_TOYS.values())[: args.count])]
    prompts = [f"a photo of a {name} {one.scene}" for name, one in zip(NAMED_TOYS, named, strict=False)]
    found["invented names of toys"] = subject.accuracies(subject.draw(prompts), named)
    styled = judging.random_styled(args.count, seed=5)
    found["named styles"] = subject.accuracies(subject.draw([one.description for one in styled]), styled, (STYLE,))
    rows = [(name, *_percents(told)) for name, told in found.items()]
    worse = {name: min(seen[name], unseen[name]) for name in ATTRIBUTES}
    bounds = dict.fromkeys(EASY, 0.90) | {STYLE: 0.93} | dict.fromkeys(HARD, 0.75)
    mean_gap = float(np.mean([seen[name] - unseen[name] for name in ATTRIBUTES]))
    widest_gap = max(gap_in_errors(seen[name], unseen[name], args.count) for name in ATTRIBUTES)
    targets = [
        *_at_least("pictures, seen or unseen toys, the worse", worse, bounds),
        *_at_least("pictures", found["named styles"], bounds),
        tables.Target("seen less unseen toys, mean", mean_gap, CHANCE),
        tables.Target("seen less unseen toys, the widest gap, in standard errors", widest_gap, CHANCE_IN_ERRORS),
    ]
    return [f"{args.count} pictures of each kind.", _accuracy_table(rows), tables.targets_table(targets)]


def gap_in_errors(seen: float, unseen: float, count: int) -> float:
    """How many standard errors of their difference one share lies above another, each measured on `count` images."""
    both = (seen + unseen) / 2
    error = (2 * both * (1 - both) / count) ** 0.5
    return (seen - unseen) / error if error else 0.0


def _accuracy_table(rows: list[tuple]) -> str:
    return tables.table(("told rightly", *ATTRIBUTES, STYLE), rows)


def _percents(told: dict[str, float]) -> list[str]:
    return [f"{100 * told[name]:.1f} %" if name in told else tables.MISSING for name in (*ATTRIBUTES, STYLE)]


def _at_least(what: str, told: dict[str, float], bounds: dict[str, float]) -> list[tables.Target]:
    return [
        tables.Target(f"{name} of {what}", told[name], bound, at_least=True)
        for name, bound in bounds.items()
        if name in told
    ]


# ------------------------------------------------------------------------------------------------------ inversion


def inversion(subject: Subject, args) -> list[str]:
    """The default training of each concept, from several seeds."""
    rows, targets = [], []
    for name, (_, _, bound) in CONCEPTS.items():
        scores = []
        for seed in args.seeds:
            scores.append(_score(_learned(name, seed, args.work_dir, args.reuse), args.scored))
            rows.append((f"{name}, seed {seed}", *_score_cells(scores[-1])))
        targets += _score_targets(name, scores, bound)
    return [f"{args.scored} pictures a row.", _score_table(rows), tables.targets_table(targets)]


def together(subject: Subject, args) -> list[str]:
    """The three concepts in one run, each with as many steps as alone."""
    output = args.work_dir / "demo-together"
    folders, kinds, _ = zip(*CONCEPTS.values(), strict=True)
    words = {"train_data_dir": [ROOT / folder for folder in folders], "learnable_property": kinds}
    steps = len(CONCEPTS) * demo_defaults()["max_train_steps"]
    placeholders = [f"<{name}>" for name in CONCEPTS]
    _train(output, args.reuse, placeholder_token=placeholders, max_train_steps=steps, **words)
    scores = {name: _score(output, args.scored, f"<{name}>") for name in CONCEPTS}
    rows = [(name, *_score_cells(score)) for name, score in scores.items()]
    targets = [t for name, score in scores.items() for t in _score_targets(name, [score], CONCEPTS[name][2])]
    return [f"{steps} steps in all, {args.scored} pictures a row.", _score_table(rows), tables.targets_table(targets)]


def _learned(name: str, seed: int, work_dir: Path, reuse: bool) -> Path:
    """The folder of the default training of one concept."""
    folder, kind, _ = CONCEPTS[name]
    output = work_dir / f"demo-{name}-{seed}"
    words = {"train_data_dir": ROOT / folder, "learnable_property": kind, "placeholder_token": f"<{name}>"}
    _train(output, reuse, seed=seed, **words)
    return output


def _train(output: Path, reuse: bool, **flags) -> None:
    if reuse and (output / "learned_embeds.pdparams").exists():
        return
    runs.say(f"training {output.name}")
    runs.run([sys.executable, "-u", ROOT / "train_textual_inversion.py", *runs.flags({"output_dir": output, **flags})])


def _score(output: Path, count: int, word: str | None = None) -> dict:
    runs.say(f"scoring {output.name} {word or ''}")
    flags = {"embeds": output / "learned_embeds.pdparams", "output": output / "score.json", "placeholder_token": word}
    runs.run([sys.executable, ROOT / "score.py", *runs.flags({**flags, "num_images": count})])
    return json.loads((output / "score.json").read_text())


def _score_table(rows: list[tuple]) -> str:
    head = ("", "image similarity, before → after (ceiling)", "of the way", "text similarity, before → after", "kept")
    return tables.table(head, rows)


def _score_cells(score: dict) -> list[str]:
    before, after, ceiling = score["baseline"], score["concept"], score["ceiling"]["image_similarity"]
    image, text = (f"{before[key]:.3f} → {after[key]:.3f}" for key in ("image_similarity", "text_similarity"))
    return [f"{image} ({ceiling:.3f})", f"{score['share_of_the_way']:.0%}", text, f"{score['text_ratio']:.0%}"]


def _score_targets(name: str, scores: list[dict], bound: float) -> list[tables.Target]:
    """What the least good of a concept's runs should reach."""
    way, kept = (min(score[key] for score in scores) for key in ("share_of_the_way", "text_ratio"))
    return [
        tables.Target(f"{name}: share of the way, the least", way, bound, at_least=True),
        tables.Target(f"{name}: text similarity kept, the least", kept, TEXT_KEPT, at_least=True),
    ]


def pairs(subject: Subject, args) -> list[str]:
    """Text similarity of images of a learned toy and a duck, against drawings of the same."""
    rows, targets = [], []
    for name, toy in HELD_OUT_TOYS.items():
        output, text = _learned(name, args.seeds[0], args.work_dir, reuse=True), f"a {name} and a duck"
        ducks = [one.toy for one in judging.random_shown(args.scored, 6, lambda toy: toy.species == "duck")]
        drawings = [
            draw(toy, SCENES[i % len(SCENES)], size=subject.side, seed=HELD_OUT + i, beside=duck)
            for i, duck in enumerate(ducks)
        ]
        images = _images(output, f"a <{name}> and a duck", args.scored)
        ours, drawn = (_text_similarity(subject.scorer, shown, text) for shown in (images, drawings))
        rows.append((name, f"{ours:.3f}", f"{drawn:.3f}", f"{ours / drawn:.0%}"))
        what = f"text similarity of a {name} and a duck, of a drawing's"
        targets.append(tables.Target(what, ours / drawn, PAIR_KEPT, at_least=True))
    head = ("a duck beside the", "images", "drawings", "of a drawing's")
    return [f"{args.scored} pictures of each.", tables.table(head, rows), tables.targets_table(targets)]


def _images(output: Path, prompt: str, count: int) -> list[Image.Image]:
    """Images of a prompt with what a run learned."""
    folder = output / "pairs"
    flags = {"embeds": output / "learned_embeds.pdparams", "prompt": prompt, "num_images": count, "seed": 0}
    runs.run([sys.executable, ROOT / "infer.py", *runs.flags({**flags, "output_dir": folder})])
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("0*.png"))[:count]]


def _text_similarity(scorer, images: list[Image.Image], text: str) -> float:
    """Mean cosine of images and a text."""
    return float((scorer.image_features(images) @ scorer.text_features([text], trimmed=True)[0]).mean())


# ---------------------------------------------------------------------------------------------------------- sheet


def sheet(subject: Subject, args) -> list[str]:
    """Pictures beside drawings of the same: described toys, named toys, things worn and held, pairs, named styles."""
    from textual_inversion.generation import image_grid, png_files

    described = judging.random_shown(12, seed=1)
    styled = judging.random_styled(12, seed=1)
    both = judging.named_pairs(12)
    worn = [f"a {name} {how}" for name, how in zip(list(NAMED_TOYS)[12:24], 4 * _WORN, strict=True)]
    columns = {
        "described": (
            [one.description for one in described],
            [one.drawing(i, subject.side) for i, one in enumerate(described)],
        ),
        "worn and held": (worn, []),
        "two toys": (
            [f"a photo of a {one.toy_name} and a {one.beside_name} {one.scene}" for one in both],
            [one.draw(subject.side) for one in both],
        ),
        "styles": ([one.description for one in styled], [one.drawing(i, subject.side) for i, one in enumerate(styled)]),
    }
    images, labels = [], []
    for name, (prompts, drawings) in columns.items():
        images += [*subject.draw(prompts), *drawings]
        labels += [*prompts, *[f"{name}: drawn"] * len(drawings)]
    png_files.save_png(image_grid.contact_sheet(images, columns=12, labels=labels), SHEET)
    return [f"[{SHEET.name}]({SHEET.name})"]


_WORN = ("wearing a hat", "wearing a backpack", "holding a balloon")
PARTS = {f.__name__: f for f in (decoder, clip, pictures, inversion, together, pairs, sheet)}


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="report.py", description="Measure the demo's figures on the model that ships.")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="unset: all of them")
    parser.add_argument("--count", type=positive_int, default=128, help="images of each kind")
    parser.add_argument("--scored", type=positive_int, default=64, help="images per row when scoring a concept")
    parser.add_argument("--seeds", type=positive_int, nargs="+", default=[42, 1, 2], help="of the inversions")
    parser.add_argument("--output", type=Path, default=FIGURES, help="the file of figures")
    parser.add_argument("--reuse", action="store_true", help="reuse what an earlier call learned; score again")
    runs.add_work_dir(parser.add_argument)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    subject = Subject(args.count, seed=0)
    for name in args.part:
        runs.say(f"=== {name}")
        section = tables.section(name.capitalize(), *PARTS[name](subject, args))
        print(section)
        text = args.output.read_text(encoding="utf-8") if args.output.is_file() else ""
        atomic.write_text(args.output, results.with_section(text, name, section, order=PARTS, head=HEAD))


if __name__ == "__main__":
    run_command(main)
