"""Whether other programs read our embedding files, and we theirs.

    python benchmarks/interop.py --torch_python PYTHON

PYTHON is an interpreter with torch, diffusers and transformers; without one, only our own reading is tried. For tiny
base models of Stable Diffusion 1.x, 2.x and XL with a concept of three vectors:

- each of our files is loaded by diffusers' own `load_textual_inversion`, an image is drawn, and the hidden states of a
  prompt are compared with ours;
- files that are saved as diffusers' training scripts save them are read here, and compared bit by bit;
- with `--invokeai FOLDER` or `--sdkit FOLDER` (an unpacked wheel), those programs' loaders read each file, too.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from benchmarks import runs  # noqa: E402
from benchmarks.tables import Target, section, table, targets_table  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402

WORD, NUM_VECTORS, PROMPT = "<cat-toy>", 3, "a photo of a <cat-toy> on a table"
FAMILIES = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}
_BOUND = 1e-5  # of the hidden states
_OTHERS = ("invokeai", "sdkit")
_WRITTEN = ("bin", "safetensors", "plain", "half")


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="interop.py", description="Exchange embedding files with other programs.")
    flag = parser.add_argument
    flag("--torch_python", "--torch-python", metavar="PYTHON", help="an interpreter with torch and diffusers")
    for name in _OTHERS:
        flag(f"--{name}", metavar="FOLDER", help=f"an unpacked wheel of {name}")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; the status is 1 where something was not read as it should be."""
    args = build_parser().parse_args(argv)
    others = {name: getattr(args, name) for name in _OTHERS if getattr(args, name)}
    missing = next((folder for folder in others.values() if not Path(folder).is_dir()), None)
    if missing:
        raise SettingsError(f"there is no folder {missing}; unpack the wheel and name its folder")
    importlib.import_module("ppdiffusers")
    folder = args.work_dir / "interop"
    cases = [make_case(folder, family) for family in FAMILIES]
    result = {"versions": {}, "loaded": [], "others": []}
    if args.torch_python:
        result = run_torch(args.torch_python, folder, cases, others)
    rows, worst = loaded_rows(cases, result["loaded"])
    back = [read_back(case, kind) for case in cases for kind in _WRITTEN] if args.torch_python else []
    targets = [
        Target("largest difference of hidden states", worst, _BOUND),
        Target("our files that diffusers did not load whole", count_bad(result["loaded"]), 0),
        Target("its files that were not read to the last bit", sum(not row[-1] for row in back) if back else None, 0),
    ]
    print(section("Exchange with other programs", *parts(rows, back, result, targets)))
    return 0 if all(target.is_met is not False for target in targets) else 1


# ------------------------------------------------------------------------------------------------------- what we do


def make_case(folder: Path, family: str) -> dict:
    """A tiny model in diffusers' layout, and a concept of it in each of our formats that PyTorch reads."""
    from helpers.tiny_models import build_model
    from textual_inversion.embeddings.conversion import conversion, write
    from textual_inversion.embeddings.files import ConceptFile
    from textual_inversion.formats.learned_embedding import LearnedEmbedding
    from textual_inversion.formats.targets import TARGETS
    from textual_inversion.models.vocabulary import load_text_encoders

    model = folder / family / "model"
    if not (model / "model_index.json").is_file():
        build_model(model, family, "diffusers")
    encoders = load_text_encoders(model)
    generator = np.random.default_rng(7)
    vectors = {
        one.name: generator.normal(size=(NUM_VECTORS, one.embedding_width)).astype(np.float32) for one in encoders
    }
    np.savez(folder / family / "vectors.npz", **vectors)
    concept = LearnedEmbedding(WORD, vectors, {"steps": "100"})
    files = []
    for name, target in TARGETS.items():
        if target.ending in (".pdparams", ".png"):
            continue
        output = folder / family / name
        new, _ = conversion([ConceptFile(output / "memory", (concept,))], name, f"{output}/")
        write(new, [], overwrite=True)
        files.append({"target": name, "paths": [str(one.path) for one in new]})
    return {
        "family": family,
        "model": str(model),
        "word": WORD,
        "prompt": PROMPT,
        "encoders": [one.name for one in encoders],
        "vectors": str(folder / family / "vectors.npz"),
        "written": str(folder / family / "written"),
        "files": files,
    }


def our_states(case: dict) -> dict[str, np.ndarray]:
    """The last hidden states of each text encoder, [1, L, D], for the prompt with all vectors of the concept."""
    from textual_inversion.models.concept_embedding import attach
    from textual_inversion.models.prompt_encoder import PromptEncoder
    from textual_inversion.models.vocabulary import load_text_encoders

    states, vectors = {}, np.load(case["vectors"])
    for encoder in load_text_encoders(case["model"]):
        embedding = attach(encoder.layer, [vectors[encoder.name]])
        encoder.encode_ids = PromptEncoder(encoder.tokenizer, {WORD: NUM_VECTORS}, embedding.first_id)
        ids = np.asarray(encoder.encode_ids([PROMPT]))
        states[encoder.name] = encoder(ids, output_hidden_states=True).hidden_states[-1].numpy()
    return states


def run_torch(python: str, folder: Path, cases: Sequence[dict], others: dict[str, str]) -> dict:
    """What `torch_interop.py` found."""
    job, found = folder / "job.json", folder / "result.json"
    job.write_text(json.dumps({"cases": list(cases), "others": others}))
    script = Path(__file__).with_name("torch_interop.py")
    done = subprocess.run([python, str(script), str(job), str(found)], capture_output=True, text=True)
    if done.returncode:
        raise runs.BenchmarkError(f"{script.name} ended with status {done.returncode}: {done.stderr[-1500:]}")
    return json.loads(found.read_text())


def read_back(case: dict, kind: str) -> tuple[str, str, bool]:
    """(family, how it was saved, whether our reading equals what was saved, to the last bit)."""
    from textual_inversion.embeddings.files import read_concept_files

    (file,) = read_concept_files([Path(case["written"]) / kind])
    (concept,) = file.concepts
    wanted = dict(np.load(case["vectors"]))
    if kind == "half":
        wanted = {name: array.astype(np.float16).astype(np.float32) for name, array in wanted.items()}
    is_equal = concept.placeholder_token == WORD and set(concept.vectors) == set(wanted)
    is_equal &= all(np.array_equal(concept.vectors[name], wanted[name]) for name in concept.vectors)
    return FAMILIES[case["family"]], kind, bool(is_equal)


# ------------------------------------------------------------------------------------------------------ what is told


def loaded_rows(cases: Sequence[dict], loaded: Sequence[dict]) -> tuple[list[tuple], float | None]:
    """A row for each of our files, and the largest difference of hidden states."""
    ours = {case["family"]: our_states(case) for case in cases} if loaded else {}
    rows, differences = [], []
    for one in loaded:
        found = None
        if "states" in one:
            states = np.load(one["states"])
            found = max(float(np.abs(states[name] - ours[one["family"]][name]).max()) for name in states)
            differences.append(found)
        verdict = one.get("error") or ("yes" if is_good(one) else "no")
        shown = "–" if found is None else f"{found:.1e}"
        rows.append((FAMILIES[one["family"]], f"`{one['target']}`", shown, verdict))
    return rows, max(differences, default=None)


def is_good(one: dict) -> bool:
    """Whether diffusers has all vectors of a file, to the last bit, and drew an image with them."""
    return "error" not in one and all(value for name, value in one.items() if name.endswith(("_is_equal", "_finite")))


def count_bad(loaded: Sequence[dict]) -> int | None:
    return sum(not is_good(one) for one in loaded) if loaded else None


def parts(rows: Sequence[tuple], back: Sequence[tuple], result: dict, targets: Sequence[Target]) -> list[str]:
    """The text and the tables of the section."""
    if not rows:
        return ["Not measured: no interpreter with PyTorch was named (`--torch_python`).", targets_table(targets)]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    said = [
        f"Loaded by `load_textual_inversion` of diffusers, three vectors each ({versions}):",
        table(("base model", "written as", "hidden states differ by", "whole, and an image drawn"), rows),
        "Saved as diffusers' training scripts do, and read here:",
        table(("base model", "saved as", "equal"), [(*row[:2], "yes" if row[2] else "no") for row in back]),
    ]
    for name in dict.fromkeys(one["program"] for one in result["others"]):
        own = [one for one in result["others"] if one["program"] == name]
        verdicts = [
            (FAMILIES[one["family"]], f"`{one['target']}`", one.get("error") or ("yes" if one["is_equal"] else "no"))
            for one in own
        ]
        said += [f"Read by the loader of {name}:", table(("base model", "written as", "equal"), verdicts)]
    return [*said, targets_table(targets)]


if __name__ == "__main__":
    run_command(main)
