"""Whether what is said after a run is true, on the demo: in cases in which it must be said, and in others.

    python benchmarks/after.py

The cat is learned as `train_textual_inversion.py` learns it without arguments, but for the overview. Then

- `verify.py` trains that run again, and a short one of whose vectors one number was changed by one bit
- `score.py --curve` measures the way from the start to the learned vectors and the saved steps
- `score.py --leave_one_out` looks among images of the cat for a rabbit, and among the cat's alone
- `score.py --pairs` draws each two of cat, rabbit and style in one prompt
- `score.py` measures the background leak of words whose images show one place, the same with masks, and several places
- and how much of what a word draws is a copy: of one that learned one image, shown many times beside another one, and
  of the cat

The demo's captions tell a toy from its place, so one vector learns no place, whatever its images show. The words of the
last two parts are several vectors that begin at a place. Everything is drawn in fewer images than by default; the
section says how many.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from benchmarks.steps_to_quality import CONCEPTS  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.evaluation.copies import NEARER, REPEATS_FROM  # noqa: E402
from textual_inversion.evaluation.pairs import SURVIVES  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

FINAL = "learned_embeds.pdparams"
CAT, RABBIT, STYLE = "<cat-toy>", "<rabbit-toy>", "<rose-style>"
ODD = "odd-rabbit.png"
PLACE = "on the grass"  # the one that all images show where they show one
PLACED = {"num_vectors": 4, "initializer_token": f"cat {PLACE}"}  # a word that can learn a place
WHOLE = {**PLACED, "num_vectors": 8}  # a word that can learn a whole image: four draw its cat at other places
COPIES = 15  # times that one image is shown
SIDE = 256  # pixels of the images that are drawn here
OTHER_BYTES = 3  # status of verify.py


@dataclass(frozen=True)
class Found:
    """What a part has found: a table, with a sentence above it, and its targets."""

    says: str
    table: str
    targets: Sequence[tables.Target]


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="after.py", description="What is said after a run, where it must be and must not be.")
    flag = parser.add_argument
    flag("--part", nargs="+", choices=PARTS, default=list(PARTS))
    flag("--steps", type=positive_int, help="optimizer steps of the cat; unset: the demo's own")
    flag("--word_steps", type=positive_int, default=100, help="of each other word")
    flag("--left_out_steps", type=positive_int, default=50, help="of the words learned without an image")
    flag("--images", type=positive_int, default=3, help="images of the cat from which each is left out")
    flag("--num_images", type=positive_int, default=6, help="images drawn for each figure")
    flag("--num_inference_steps", type=positive_int, help="of these images; unset: the demo's own")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    args.folder = args.work_dir / "after"
    shutil.rmtree(args.folder, ignore_errors=True)
    learn("cat", args, steps=args.steps, only_save_embeds=None)
    found = []
    for name in args.part:
        runs.say(f"== {name}")
        found.append(PARTS[name](args))
    parts = [part for one in found for part in (one.says, one.table)]
    targets = [target for one in found for target in one.targets]
    title = f"What is said after a run, {args.num_images} images for each figure"
    print(tables.section(title, *parts, tables.targets_table(targets)))


# ------------------------------------------------------------------------------------------------- runs and scores


def learn(name: str, args, images: Path | None = None, token: str = CAT, kind: str = "object", **settings) -> Path:
    """Learn a word, with nothing drawn; returns the run's folder.

    Args:
        images: None: those of the demo's cat.
        settings: other flags; `steps` for `max_train_steps`.
    """
    folder = args.folder / name
    plain = {
        "train_data_dir": images or ROOT / CONCEPTS["cat"][0],
        "placeholder_token": token,
        "learnable_property": kind,
        "output_dir": folder,
        "max_train_steps": settings.pop("steps", args.word_steps),
        "overview": "false",
        "report_to": "none",
        "only_save_embeds": True,
    }
    runs.say(f"learning {name}")
    runs.run([sys.executable, ROOT / "train_textual_inversion.py", *runs.flags(plain | settings)])
    return folder


def score(args, files: Sequence[Path], *more: str | Path, num_images: int | None = None) -> dict:
    """What score.py writes of embeddings; the edit prompts, which few figures need, are drawn once each."""
    output = args.folder / "score.json"
    plain = {
        "embeds": files,
        "num_images": num_images or args.num_images,
        "images_per_edit_prompt": 1,
        "num_inference_steps": args.num_inference_steps,
        "output": output,
    }
    runs.run([sys.executable, ROOT / "score.py", *runs.flags(plain), *more])
    return json.loads(output.read_text())


def cats(folder: Path, scenes: Sequence[str], *, masks: Path | None = None) -> Path:
    """Draw the demo's cat in these scenes, each time a little elsewhere, and its masks where they are wanted."""
    from demo.drawing import draw, thing_mask
    from demo.specs import HELD_OUT_TOYS, PHOTO

    for place in filter(None, (folder, masks)):
        place.mkdir(parents=True)
    for seed, scene in enumerate(scenes):
        draw(HELD_OUT_TOYS["cat"], scene, PHOTO, SIDE, seed=seed).save(folder / f"{seed}.png")
        if masks is not None:
            thing_mask(HELD_OUT_TOYS["cat"], scene, SIDE, seed).save(masks / f"{seed}.png")
    return folder


# ----------------------------------------------------------------------------------------------------------- parts


def proof(args) -> Found:
    """The cat's run has to be proved, and a run whose file was changed must not be."""
    changed = learn("changed", args, steps=10)
    change_one_number(changed / FINAL)
    rows, statuses = [], []
    for name, folder in (("as it was learned", args.folder / "cat"), ("one number changed by one bit", changed)):
        runs.say(f"training {folder.name} again")
        statuses.append(verified(folder))
        rows.append((name, {0: "the same bytes", OTHER_BYTES: "other bytes"}[statuses[-1]]))
    targets = [
        tables.Target("`verify.py`: status for the run as it was learned", statuses[0], 0),
        tables.Target("`verify.py`: status for the changed one", statuses[1], OTHER_BYTES, at_least=True),
    ]
    return Found("**Trained again** by `verify.py`:", tables.table(("embedding", "it says"), rows), targets)


def verified(folder: Path) -> int:
    """The status of verify.py for a run; raises BenchmarkError where it could say nothing."""
    command = [sys.executable, str(ROOT / "verify.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=runs.default_environment(), cwd=ROOT)
    if done.returncode not in (0, OTHER_BYTES):
        raise runs.BenchmarkError(f"verify.py ended with status {done.returncode}: {done.stderr.strip()}")
    return done.returncode


def change_one_number(path: Path) -> None:
    """Change the last bit of one number in an embedding file."""
    import numpy as np

    from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams

    (one,) = read_embeddings(path)
    vectors = {name: own.copy() for name, own in one.vectors.items()}
    first = next(iter(vectors.values()))
    first[0, 0] = np.nextafter(first[0, 0], np.float32(np.inf))
    write_pdparams(path, [LearnedEmbedding(one.placeholder_token, vectors)])


def bargain(args) -> Found:
    """The curve from start to learned vectors, with the point recommended."""
    found = score(args, [args.folder / "cat" / FINAL], "--curve", args.folder / "curve")
    best = found["recommended"]
    mixes = [point for point in found["points"] if point["kind"] == "mix"]
    chosen = next(p for p in found["points"] if (p["kind"], p["at"]) == (best["kind"], best["at"]))
    rows = [(name, point_name(point), *(f"{point[key]:.0%}" for key in ("likeness", "editability")))
            for name, point in (("start", mixes[0]), ("recommended", chosen), ("as learned", mixes[-1]))]  # fmt: skip
    head = ("point", "mix or step", "likeness", "editability")
    targets = [
        tables.Target("likeness of the start", mixes[0]["likeness"], 0.1),
        tables.Target("likeness of the recommended point", chosen["likeness"], 0.75, at_least=True),
        tables.Target("editability of the recommended point", chosen["editability"], 0.85, at_least=True),
    ]
    return Found("**Likeness against editability** by `score.py --curve`:", tables.table(head, rows), targets)


def point_name(point: dict) -> str:
    """A point of the curve, for people."""
    return f"{point['at']:.0%} of the way" if point["kind"] == "mix" else f"step {point['at']:.0f}"


def one_left_out(args) -> Found:
    """A rabbit among the cats has to be named, and of the cats none."""
    source = sorted((ROOT / CONCEPTS["cat"][0]).glob("*.png"))[: args.images]
    odd = sorted((ROOT / CONCEPTS["rabbit"][0]).glob("*.png"))[0]
    rows, hurts = [], {}
    for name, others in (("with a rabbit", {ODD: odd}), ("cats alone", {})):
        folder = args.folder / f"images {name}"
        folder.mkdir()
        for target, path in ({path.name: path for path in source} | others).items():
            shutil.copy(path, folder / target)
        run = learn(name, args, folder, steps=args.left_out_steps)
        runs.say(f"learning {name} without each of its images")
        found = score(args, [run / FINAL], "--leave_one_out")
        hurts[name] = found["hurts"]
        rows += [(name, one["image"], f"{one['gain']:+.3f} ± {one['standard_error']:.3f}", one["verdict"])
                 for one in found["without"]]  # fmt: skip
    targets = [
        tables.Target("the rabbit is named", float(hurts["with a rabbit"] == ODD), 1, at_least=True),
        tables.Target("a cat is named among cats", float(hurts["cats alone"] is not None), 0),
    ]
    says = f"**Which image hurts** by `score.py --leave_one_out`, {args.left_out_steps} steps each:"
    return Found(says, tables.table(("images", "without", "likeness to the others", "so it"), rows), targets)


def together(args) -> Found:
    """The two toys have to survive beside each other; what the style does is told."""
    files = [args.folder / "cat" / FINAL]
    for name, token in (("rabbit", RABBIT), ("style", STYLE)):
        images, kind = CONCEPTS[name]
        files.append(learn(name, args, ROOT / images, token, kind) / FINAL)
    found = score(args, files, "--pairs")["pairs"]
    rows = [(f"`{one['word']}`", f"`{one['beside']}`", percent(one["share"], one["error"]),
             "yes" if one["survives"] else "no") for one in found]  # fmt: skip
    toys = [one["share"] or 0.0 for one in found if {one["word"], one["beside"]} == {CAT, RABBIT}]
    targets = [
        tables.Target("left of each of two toys in one prompt, the lesser", min(toys), SURVIVES, at_least=True),
    ]
    head = ("word", "beside", "left of it", "survives")
    return Found("**Words in one prompt** by `score.py --pairs`:", tables.table(head, rows), targets)


def percent(share: float | None, error: float | None) -> str:
    """A share with its standard error."""
    if share is None:
        return tables.MISSING
    return f"{share:.0%}" if error is None else f"{share:.0%} ± {error:.0%}"


def leaks(args) -> Found:
    """A word whose images show one place has to leak more than one whose images show several, or that had masks."""
    from demo.specs import SCENES

    one = cats(args.folder / "images of one place", [PLACE] * len(SCENES), masks=args.folder / "masks")
    cases = {
        "several places": learn(
            "several-places", args, cats(args.folder / "images of several places", SCENES), **PLACED
        ),
        "one place": learn("one-place", args, one, **PLACED),
        "one place, masks": learn("one-place-masks", args, one, mask_dir=args.folder / "masks", **PLACED),
    }
    found = {name: score(args, [run / FINAL], "--train_data_dir", ROOT / CONCEPTS["cat"][0], num_images=1)
             ["background_leak"] for name, run in cases.items()}  # fmt: skip
    rows = [(name, f"{own['concept']:.3f} ± {own['standard_error']:.3f}", f"{own['baseline']:.3f}",
             f"{own['outside']:.3f}") for name, own in found.items()]  # fmt: skip
    head = ("the word's images show", "background leak", "of `toy`", "without any aim")
    targets = [
        tables.Target(f"leak with one place above that with {name}, in standard errors",
                      apart(found["one place"], found[other]), 2, at_least=True)
        for name, other in (("several", "several places"), ("masks", "one place, masks"))
    ]  # fmt: skip
    return Found("**Where the word acts**, on 12 other drawings of the cat:", tables.table(head, rows), targets)


def apart(first: dict, second: dict) -> float:
    """How far the first leak is above the second, in standard errors of the difference."""
    return (first["concept"] - second["concept"]) / hypot(first["standard_error"], second["standard_error"])


def repeats(args) -> Found:
    """A word that learned one image alone has to repeat it, and the cat must not repeat its images."""
    cases = {
        "one image, often": learn("copier", args, one_image_often(args.folder / "one image often"), **WHOLE),
        "six images": args.folder / "cat",
    }
    found = {name: score(args, [run / FINAL])["copies"] for name, run in cases.items()}
    rows = [(name, f"{own['share']:.0%}", f"{max(own['likeness']):.3f}", f"{own['among_training']:.3f}")
            for name, own in found.items()]  # fmt: skip
    head = ("learned from", "copies among what it draws", "likeness, the most", "of two training images")
    targets = [
        tables.Target("copies of the word that learned one image", found["one image, often"]["share"],
                      REPEATS_FROM, at_least=True),
        tables.Target("copies of the word that learned six", found["six images"]["share"], REPEATS_FROM),
    ]  # fmt: skip
    says = f"**Copies**, {NEARER:.0f} times as near to a training image as two of those are to each other:"
    return Found(says, tables.table(head, rows), targets)


def one_image_often(folder: Path) -> Path:
    """One drawing of the cat `COPIES` times, and one of another thing, without which nothing tells how near is near."""
    from demo.drawing import draw
    from demo.specs import HELD_OUT_STYLE, HELD_OUT_TOYS, PHOTO

    folder.mkdir(parents=True)
    for number in range(COPIES):
        draw(HELD_OUT_TOYS["cat"], PLACE, PHOTO, SIDE, seed=0).save(folder / f"{number:02d}.png")
    draw(HELD_OUT_TOYS["rabbit"], "at night", HELD_OUT_STYLE, SIDE, seed=1).save(folder / "other.png")
    return folder


PARTS = {
    "verify": proof, "curve": bargain, "leave_one_out": one_left_out, "pairs": together, "leak": leaks,
    "copies": repeats,
}  # fmt: skip


if __name__ == "__main__":
    run_command(main)
