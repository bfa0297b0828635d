"""Loads embedding files with diffusers, and writes some as its saving code does, in an interpreter that has PyTorch.

    PYTHON benchmarks/torch_interop.py JOB.json RESULT.json

The job comes from `interop.py`. Nothing of this project is imported; the other programs' loaders, where folders with
them are named, are taken from their own files and called as they are.
"""

import ast
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np

_ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


def main() -> None:
    """Do the job and write the result."""
    job_file, result_file = map(Path, sys.argv[1:])
    job = json.loads(job_file.read_text())
    import diffusers
    import torch
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    torch.set_grad_enabled(False)
    versions = {m.__name__: m.__version__ for m in (torch, diffusers, transformers)}
    result = {"versions": versions, "loaded": [], "others": []}
    for case in job["cases"]:
        for file in case["files"]:
            result["loaded"].append(load(torch, diffusers, case, file, job_file.parent))
        write(torch, case)
    for name, folder in job["others"].items():
        for case in job["cases"]:
            result["others"] += [read_by(name, Path(folder), torch, case, file) for file in case["files"]]
    result_file.write_text(json.dumps(result))


def load(torch, diffusers, case: dict, file: dict, folder: Path) -> dict:
    """Load one file into a pipeline of diffusers; save what the encoders then make of the prompt; draw an image."""
    said = {"family": case["family"], "target": file["target"]}
    try:
        pipe = diffusers.DiffusionPipeline.from_pretrained(case["model"], local_files_only=True)
        pipe.set_progress_bar_config(disable=True)
        for name, source in sources(torch, case, file["paths"]).items():
            encoder, tokenizer = getattr(pipe, name), getattr(pipe, _ENCODERS[name])
            pipe.load_textual_inversion(
                source, token=case["word"], text_encoder=encoder, tokenizer=tokenizer, local_files_only=True
            )
        arrays = {}
        for name in case["encoders"]:
            arrays[name] = states(pipe, name, case["prompt"])
            said[f"{name}_is_equal"] = rows_are_equal(pipe, name, case)
        image = pipe(case["prompt"], num_inference_steps=2, output_type="np", height=64, width=64).images[0]
        said["image_is_finite"] = bool(np.isfinite(image).all() and image.std() > 0)
        said["states"] = str(folder / f"states-{case['family']}-{file['target']}.npz")
        np.savez(said["states"], **arrays)
    except Exception as error:  # what another program says is the result
        said["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
    return said


def sources(torch, case: dict, paths: list[str]) -> dict:
    """What is loaded into each text encoder: a file of its own, or its entry in the one that has both."""
    if len(case["encoders"]) == 1:
        return {"text_encoder": paths[0]}
    if len(paths) == 2:
        return dict(zip(case["encoders"], paths, strict=True))
    tensors = state_of(torch, paths[0])
    return {"text_encoder": tensors["clip_l"], "text_encoder_2": tensors["clip_g"]}


def state_of(torch, path: str) -> dict:
    """The dictionary in a file."""
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, weights_only=True, map_location="cpu")


def states(pipe, name: str, prompt: str) -> np.ndarray:
    """The last hidden states of a text encoder, [1, L, D], as the pipeline would ask for them."""
    tokenizer = getattr(pipe, _ENCODERS[name])
    converted = pipe.maybe_convert_prompt(prompt, tokenizer)
    ids = tokenizer(
        converted, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return getattr(pipe, name)(ids, output_hidden_states=True).hidden_states[-1].numpy()


def rows_are_equal(pipe, name: str, case: dict) -> bool:
    """Whether the table holds all vectors, to the last bit."""
    wanted = np.load(case["vectors"])[name]
    words = [case["word"]] + [f"{case['word']}_{i}" for i in range(1, len(wanted))]
    ids = getattr(pipe, _ENCODERS[name]).convert_tokens_to_ids(words)
    return bool(np.array_equal(getattr(pipe, name).get_input_embeddings().weight[ids].numpy(), wanted))


def write(torch, case: dict) -> None:
    """Write the vectors as diffusers' training scripts do: a file per text encoder, as pickle and as safetensors."""
    from safetensors.torch import save_file

    vectors = np.load(case["vectors"])
    for name, number in zip(case["encoders"], ("", "_2"), strict=False):
        state = {case["word"]: torch.from_numpy(vectors[name])}
        folder = Path(case["written"])
        for kind in ("bin", "safetensors", "plain", "half"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / "bin" / f"learned_embeds{number}.bin")
        save_file(state, str(folder / "safetensors" / f"learned_embeds{number}.safetensors"), metadata={"format": "pt"})
        torch.save(state, folder / "plain" / f"learned_embeds{number}.bin", _use_new_zipfile_serialization=False)
        half = {word: tensor.half() for word, tensor in state.items()}
        torch.save(half, folder / "half" / f"learned_embeds{number}.bin")


# ---------------------------------------------------------------------------------------------------- other programs


def read_by(name: str, folder: Path, torch, case: dict, file: dict) -> dict:
    """Read one file with the loader of another program, whose package lies in a folder."""
    said = {"program": name, "family": case["family"], "target": file["target"]}
    wanted = np.load(case["vectors"])
    try:
        found = _LOADERS[name](folder, torch, file["paths"][0])
        if len(found) < len(case["encoders"]):
            said["error"] = f"takes the vectors of {len(found)} text encoder from a file"
            return said
        pairs = [(found[encoder].float().numpy(), wanted[encoder]) for encoder in case["encoders"]]
        said["is_equal"] = all(np.array_equal(one, other) for one, other in pairs)
    except Exception as error:
        said["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error) else ''}"
    return said


def read_by_invokeai(folder: Path, torch, path: str) -> dict:
    """`TextualInversionModelRaw.from_checkpoint` of invokeai/backend/textual_inversion.py."""
    stub("compel", "compel.embeddings_provider", BaseTextualInversionManager=object)
    stub("invokeai", "invokeai.backend", "invokeai.backend.raw_model", RawModel=object)
    stub("invokeai.backend.util", "invokeai.backend.util.calc_tensor_size", calc_tensors_size=len)
    module = module_of(folder / "invokeai" / "backend" / "textual_inversion.py")
    raw = module.TextualInversionModelRaw.from_checkpoint(path)
    if raw.embedding_2 is None:
        return {"text_encoder": raw.embedding}
    return {"text_encoder": raw.embedding_2, "text_encoder_2": raw.embedding}


def read_by_sdkit(folder: Path, torch, path: str) -> dict:
    """`get_embedding` of sdkit/models/model_loader/embeddings.py, on the dictionary in the file."""
    source = (folder / "sdkit" / "models" / "model_loader" / "embeddings.py").read_text(encoding="utf-8")
    own = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "get_embedding")
    space = {"torch": torch}
    exec(compile(ast.Module([own], []), "embeddings.py", "exec"), space)  # the whole module needs all of sdkit
    found = space["get_embedding"](state_of(torch, path))
    if not found:
        raise ValueError("it knows no such layout")
    return dict(zip(_ENCODERS, found, strict=False))


def stub(*names: str, **content) -> None:
    """Empty modules, the last one with some names, in place of packages that are not installed."""
    for name in names:
        sys.modules.setdefault(name, types.ModuleType(name))
    for key, value in content.items():
        setattr(sys.modules[names[-1]], key, value)


def module_of(path: Path) -> types.ModuleType:
    """One file of a package as a module."""
    spec = importlib.util.spec_from_file_location(f"other_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_LOADERS = {"invokeai": read_by_invokeai, "sdkit": read_by_sdkit}


if __name__ == "__main__":
    main()
