"""The README.md of a run's folder: what was learned, pictures, and how other programs load it.

Its head is the metadata that the Hugging Face hub reads (https://huggingface.co/docs/hub/model-cards).
"""

import re
from pathlib import Path

from textual_inversion.data.templates import plain_template
from textual_inversion.embeddings.file_names import BEST_NAME, FINAL_NAME, safe_name
from textual_inversion.system import atomic
from textual_inversion.system.paths import portable

FILE_NAME = "README.md"
# By this line a card of ours is known, which a later run may write anew; a user's own README stays.
_MARK = "<!-- written by train_textual_inversion.py -->"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# Rows follow the licence of the model that they were learned on; where it is not known, "other".
_LICENSES = (
    (
        re.compile(r"(CompVis|runwayml|stable-diffusion-v1-5)/stable-diffusion-(v?1|inpainting)"),
        "creativeml-openrail-m",
    ),
    (re.compile(r"stabilityai/(stable-diffusion-2|stable-diffusion-xl-base)"), "openrail++"),
    (re.compile(r"demo/model"), "apache-2.0"),
)
_DEMO = "demo/model"  # its name in records
_SETTINGS = ("max_train_steps", "train_batch_size", "gradient_accumulation_steps", "learning_rate", "seed")


def write(folder: Path, args, run) -> bool:
    """Write the card of a finished run.

    Args:
        run: the command's `Run`: model, concepts, figures.

    Returns:
        False where a README.md of somebody else's is there, which stays as it is.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / FILE_NAME
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        return False
    atomic.write_text(path, card(args, run))
    return True


def card(args, run) -> str:
    """The card's text."""
    words = [concept.placeholder_token for concept in run.concepts]
    base, is_xl = portable(run.model.name), len(run.model.text_encoders) > 1
    files = {word: "learned_embeds.safetensors" for word in words}
    if len(words) > 1:
        files = {word: f"learned_embeds-{safe_name(word)}.safetensors" for word in words}
    parts = [
        front_matter(base, words, is_xl=is_xl),
        f"# {', '.join(f'`{word}`' for word in words)}",
        f"Learned by Textual Inversion ([arXiv 2208.01618](https://arxiv.org/abs/2208.01618)) on {_named(base)}, with "
        "PaddlePaddle and ppdiffusers: only the embedding rows of the new words were trained.",
        _word_table(args, run.concepts),
        *_pictures(args, run),
        _how_to_load(base, _prompt(args, run.concepts[0]), files, is_xl),
        _settings(args, run),
        _MARK,
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(base_model: str, words: list[str], *, is_xl: bool = False) -> str:
    """The metadata between two lines of dashes.

    Args:
        base_model: named in it where it is a hub's name and no folder.
    """
    import yaml

    license_name = next((name for pattern, name in _LICENSES if pattern.match(base_model)), "other")
    family = ["stable-diffusion-xl"] if is_xl else []
    metadata = {
        "license": license_name,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        **({"base_model": base_model} if _is_hub_name(base_model) else {}),
        "instance_prompt": " ".join(words),
        "tags": ["textual_inversion", "stable-diffusion", *family, "text-to-image", "diffusers", "ppdiffusers"],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---"


def _is_hub_name(base_model: str) -> bool:
    return bool(_HUB_NAME.fullmatch(base_model)) and base_model != _DEMO


def _named(base_model: str) -> str:
    """The base model for readers: nobody needs to know the folders of this machine."""
    if base_model == _DEMO:
        return "the trainer's own miniature model"
    return f"`{base_model}`" if _is_hub_name(base_model) else f"the model `{Path(base_model).name}`"


def _prompt(args, concept) -> str:
    return plain_template(concept.learnable_property, args.language).format(concept.placeholder_token)


def _word_table(args, concepts) -> str:
    rows = ["| Word | Kind | Vectors | Started from | Write for instance |", "|---|---|---|---|---|"]
    for concept in concepts:
        kind, word, prompt = concept.learnable_property, concept.placeholder_token, _prompt(args, concept)
        start = f"`{concept.initializer_token}`" if concept.initializer_token else "-"
        rows.append(f"| `{word}` | {kind} | {concept.num_vectors} | {start} | `{prompt}` |")
    return "\n".join(rows)


def _pictures(args, run) -> list[str]:
    shown = []
    if "overview" in run.figures:
        shown.append(f"![Training pictures, before, after]({run.figures['overview']})")
    if args.sample_prompts:
        shown.append("![Sample pictures over time](samples/over-time.png)")
    return shown


def _how_to_load(base: str, prompt: str, files: dict[str, str], is_xl: bool) -> str:
    model = base if _is_hub_name(base) else "FOLDER OF THE BASE MODEL"
    texts = [
        "## How to use it",
        "Download the files first; the examples name them as they stand beside this one.",
        "### ppdiffusers",
        _python("ppdiffusers", model, prompt, files, is_xl),
        "### diffusers",
        _python("diffusers", model, prompt, files, is_xl),
        "### AUTOMATIC1111",
        "Copy the file into `embeddings/` under the name that you want to write in prompts:",
        "\n".join(
            f"- `{file}` as `{safe_name(word)}.safetensors`, written `{safe_name(word)}`"
            for word, file in files.items()
        ),
        "### ComfyUI",
        "Copy the file into `models/embeddings/`:",
        "\n".join(
            f"- `{file}` as `{safe_name(word)}.safetensors`, written `embedding:{safe_name(word)}`"
            for word, file in files.items()
        ),
    ]
    return "\n\n".join(texts)


def _python(library: str, model: str, prompt: str, files: dict[str, str], is_xl: bool) -> str:
    pipeline = "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline"
    lines = [f"from {library} import {pipeline}"]
    lines += ["from safetensors.numpy import load_file"] if is_xl and library == "ppdiffusers" else []
    lines += ["from safetensors.torch import load_file"] if is_xl and library == "diffusers" else []
    lines += ["", f'pipe = {pipeline}.from_pretrained("{model}")']
    for word, file in files.items():
        lines += _xl_lines(library, word, file) if is_xl else [f'pipe.load_textual_inversion("{file}")']
    lines.append(f'image = pipe("{prompt}").images[0]')
    return "```python\n" + "\n".join(lines) + "\n```"


def _xl_lines(library: str, word: str, file: str) -> list[str]:
    """Each of the two text encoders takes its own rows."""
    lines = [f'rows = load_file("{file}")']
    for key, ending in (("clip_l", ""), ("clip_g", "_2")):
        parts = f"text_encoder=pipe.text_encoder{ending}, tokenizer=pipe.tokenizer{ending}"
        value = f'rows["{key}"]' if library == "diffusers" else f'paddle.to_tensor(rows["{key}"])'
        lines.append(f'pipe.load_textual_inversion({value}, token="{word}", {parts})')
    return ["import paddle", *lines] if library == "ppdiffusers" else lines


def _settings(args, run) -> str:
    lines = ["## Training", ""]
    lines += [f"- `{name}`: {getattr(args, name)}" for name in _SETTINGS]
    best = run.figures.get("best", {})
    if "step" in best:
        lines.append(f"- best step: {best['step']} by the {best['by']}, {best['score']:.4f}, in `{BEST_NAME}`")
    lines.append(f"- all settings: `run.json`; to train it again: `config.yaml`; all words in one file: `{FINAL_NAME}`")
    return "\n".join(lines)
