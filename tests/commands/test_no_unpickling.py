"""No file of a user is unpickled freely: not by this project's code, and not by a library on its behalf."""

import ast
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file

import infer
import score
import train_textual_inversion
from helpers.paths import ROOT
from helpers.strangers import attacks_by_global
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model
from helpers.training_runs import draw_images, short_run
from textual_inversion.system.errors import BaseModelError

# The commands and all they import of this project; the demo's pretraining reads its own files only.
CODE = [*ROOT.glob("*.py"), *(ROOT / "textual_inversion").rglob("*.py")]
CODE += [ROOT / "demo" / f"{name}.py" for name in ("shipped", "toyworld", "drawing", "drawing_styles", "pen", "specs")]
# What runs, or may run, code from data.
FORBIDDEN_CALLS = {
    *("paddle.load", "torch.load", "np.load", "numpy.load", "joblib.load", "dill.load", "dill.loads"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open"),
    *("eval", "exec", "compile", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "runpy.run_path"),
    *("paddle.jit.load", "paddle.static.load", "paddle.framework.io.load", "shutil.unpack_archive"),
}
FORBIDDEN_IMPORTS = {"pickle", "_pickle", "torch", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
WEIGHTS = {"diffusion_paddle_model": "model_state.pdparams", "diffusion_pytorch_model": "diffusion_pytorch_model.bin"}


def dotted(node) -> str:
    """`a.b.c` of an attribute or a name; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and dotted(node.func) in FORBIDDEN_CALLS:
            found.append(dotted(node.func))
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        found += [name for name in names if name.split(".")[0] in FORBIDDEN_IMPORTS]
        if isinstance(node, ast.ImportFrom):
            found += [n for a in node.names if (n := f"{node.module}.{a.name}") in FORBIDDEN_CALLS]
        if isinstance(node, ast.Constant) and node.value in FORBIDDEN_IMPORTS and node.value != "torch":
            found.append(f"the word {node.value}")  # as for importlib.import_module
    return found


def test_the_code_names_nothing_that_runs_code_from_data():
    assert len(CODE) > 60
    assert {path.name: offences(path.read_text("utf-8")) for path in CODE if offences(path.read_text("utf-8"))} == {}


@pytest.mark.parametrize(
    "source", ["import paddle\npaddle.load('x')", "from paddle import load", "import torch.serialization",
               "import importlib\nimportlib.import_module('pickle')", "eval('1')"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source):
    assert offences(source)


# --------------------------------------------------------------------------------------------------- while running


class FindClass:
    """Counts the names that Python's own unpickler looks up while it watches."""

    watching = hooked = False
    seen: list[str] = []

    def __enter__(self):
        if not FindClass.hooked:
            sys.addaudithook(lambda event, args: FindClass.seen.append(f"{args}") if FindClass.watching
                             and event == "pickle.find_class" else None)  # fmt: skip
            FindClass.hooked = True
        FindClass.seen, FindClass.watching = [], True
        return FindClass.seen

    def __exit__(self, *_):
        FindClass.watching = False


def pickled(folder: Path) -> Path:
    """The model with all its safetensors files turned into pickles, and how many they were."""
    files = list(folder.rglob("*.safetensors"))
    for path in files:
        tensors = load_file(path)
        name = WEIGHTS.get(path.stem, "model_state.pdparams")
        (path.parent / name).write_bytes(pickle.dumps(tensors))
        path.unlink()
    assert len(files) == 5  # U-Net, VAE, text encoder, safety checker, CLIP
    return folder


def forbid(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("somebody unpickles")

    for module, name in ((paddle, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)


@pytest.mark.slow
def test_a_pickled_base_model_passes_no_unpickler_in_any_command(tmp_path, monkeypatch):
    base = build_model(tmp_path / "base", safety_checker=True)
    build_clip(base / "clip")
    pickled(base)
    draw_images(tmp_path / "pictures")
    prompts = ["--validation_prompt", "a <cat-toy>", "--num_validation_images", "1", "--keep_best"]
    argv = short_run(tmp_path, *prompts)
    forbid(monkeypatch)
    embeds = ["--embeds", str(tmp_path / "out"), "--num_inference_steps", "1", "--num_images", "1"]
    with FindClass() as seen:
        train_textual_inversion.main(argv)
        infer.main([*embeds, "--prompt", "a <cat-toy>", "--safety_checker", "--output_dir", str(tmp_path / "shots")])
        score.main([*embeds, "--output", str(tmp_path / "score.json")])

    assert seen == []
    record = json.loads((tmp_path / "out" / "run.json").read_text())["figures"]["best"]
    assert record["by"].startswith("image similarity") and (tmp_path / "score.json").exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "safety_checker", "clip"])
def test_every_part_of_a_base_model_is_refused_where_it_would_run_code(tmp_path, part):
    base = build_model(tmp_path / "base", safety_checker=True)
    build_clip(base / "clip")
    (weights,) = (base / part).glob("*.safetensors")
    weights.unlink()
    mark = tmp_path / "mark"
    (base / part / "model_state.pdparams").write_bytes(attacks_by_global(mark)["os.system"][0])
    draw_images(tmp_path / "pictures")
    prompts = ["--validation_prompt", "a <cat-toy>", "--num_validation_images", "1", "--keep_best"]

    with pytest.raises(BaseModelError, match="asks for os.system"):
        train_textual_inversion.main(short_run(tmp_path, *prompts))
    assert not mark.exists()


def test_the_hook_sees_an_unpickler_at_work():
    with FindClass() as seen:
        pickle.loads(pickle.dumps(np.float32(1)))
    assert seen


# ------------------------------------------------------------------------------------------------ without PyTorch

WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "paddle", "ppdiffusers", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Refuse())
sys.path[:0] = [ROOT, ROOT + "/tests"]
from pathlib import Path
from helpers.strangers import valid_files
from textual_inversion.formats.embedding_file import read_embeddings
for name, data in valid_files().items():
    if name in ("weights_bin", "state_dict_ckpt"):
        continue
    for file in ("x.pdparams", "x.safetensors", "x.pt", "x.bin", "x.txt", "x.png", "x", "\\u732b.zip"):
        path = Path(FOLDER, file)
        path.write_bytes(data)
        concepts = read_embeddings(path)
        assert concepts and all(v.dtype == "float32" for c in concepts for v in c.vectors.values())
    print(name, [c.placeholder_token for c in concepts], [sorted(c.vectors) for c in concepts])
try:
    import torch
except ModuleNotFoundError:
    print("torch is not there")
"""


def test_every_format_is_read_without_torch_whatever_the_file_is_called(tmp_path):
    program = WITHOUT.replace("ROOT", repr(str(ROOT))).replace("FOLDER", repr(str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8")

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    kinds = {line.split()[0] for line in lines}
    ours = {"pdparams", "pdparams_sdxl", "safetensors", "safetensors_sdxl"}
    others = {"diffusers_bin", "diffusers_plain", "diffusers_safetensors", "ppdiffusers", "a1111_pt", "original_pt",
              "kohya_pt", "invoke", "sdxl_pt", "onetrainer", "onetrainer_sdxl", "half", "bfloat16",
              "float64_bin"}  # fmt: skip
    assert ours | others <= kinds and lines[-1] == "torch is not there"
