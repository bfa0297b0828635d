"""Write the README.md of a run's folder: what was learned, images, and how other programs load it.

It begins with the metadata that the Hugging Face hub reads (https://huggingface.co/docs/hub/model-cards).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.embeddings.file_names import BEST, BEST_NAME, FINAL, FINAL_NAME, safetensors_names
from textual_inversion.hub import aistudio
from textual_inversion.hub.hugging_face import is_repository_id
from textual_inversion.settings.choices import NEGATIVE
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_method import TrainingSettings
from textual_inversion.sharing.card_examples import example_prompt, how_to_load, unwanted_words
from textual_inversion.sharing.markdown import cell, code
from textual_inversion.system import atomic
from textual_inversion.system.links import beginning_of
from textual_inversion.system.paths import LOCAL, LOCAL_DEMO

FILE_NAME = "README.md"
# Marks a card of ours, which a later run may replace; the user's own README stays.
_MARK = "<!-- written by train_textual_inversion.py -->"
_MOST_BYTES = 1 << 20  # of a card of ours
# Embedding vectors follow the licence of the base model; where it is not known, "other".
_LICENSES = (
    (
        re.compile(r"(CompVis|runwayml|stable-diffusion-v1-5)/stable-diffusion-(v?1|inpainting)"),
        "creativeml-openrail-m",
    ),
    (re.compile(r"stabilityai/(stable-diffusion-2|stable-diffusion-xl-base)"), "openrail++"),
    (re.compile(LOCAL_DEMO), "apache-2.0"),
)
_SETTINGS = ("max_train_steps", "train_batch_size", "gradient_accumulation_steps", "learning_rate", "seed")


# Format of `--export` -> the programs that read it, and where they want the file.
_PLACES = {
    "pdparams": "ppdiffusers: `paddle.load`",
    "safetensors": "diffusers and ppdiffusers: `pipe.load_textual_inversion`",
    "diffusers-bin": "diffusers: `pipe.load_textual_inversion`",
    "webui-pt": "AUTOMATIC1111: `embeddings/`",
    "webui-png": "AUTOMATIC1111: `embeddings/`",
    "kohya": "kohya's scripts: `--textual_inversion_embeddings` of `gen_img.py`, `--weights` of its training script",
    "onetrainer": "OneTrainer: base embedding",
    "invoke": "InvokeAI: add it in the model manager, as a textual inversion",
    "comfyui": "ComfyUI: `models/embeddings/`",
}


@dataclass(frozen=True)
class ExportedFile:
    """A file of `--export`.

    Attributes:
        format: one of `targets.TARGETS`.
        path: in the folder of the run.
        prompts: what the program's prompts say for each concept in it.
    """

    format: str
    path: str
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class CardFacts:
    """The facts about a run that its card states.

    Attributes:
        base_model: its name for others, see `models.identity`.
        is_xl: whether the base model has two text encoders.
        concepts: what was learned.
        language: of the prompts, one of `choices.LANGUAGES`.
        figures: what the run measured.
        has_validation_images: whether the run made any.
        training: batch size, steps and learning rate.
        exported: the files for other programs.
        clip_skip: the layer of CLIP that prompts were read with, counted from the last, which is 1; None: the usual.
        max_token_length: tokens of a prompt that were read; None: one chunk.
        vae: another VAE than the base model's own, by its name for others; None: its own.
        presets: the values of `--preset`.
    """

    base_model: str
    is_xl: bool
    concepts: tuple[Concept, ...]
    language: str
    figures: Mapping[str, Any]
    has_validation_images: bool
    training: TrainingSettings
    exported: tuple[ExportedFile, ...] = ()
    clip_skip: int | None = None
    max_token_length: int | None = None
    vae: str | None = None
    presets: tuple[str, ...] = ()


def write(folder: Path, facts: CardFacts) -> bool:
    """Write the model card of a finished run.

    Returns:
        False if there is a README.md that this program did not write; that one stays as it is.

    Raises:
        OutputError: the card cannot be written.
    """
    path = folder / FILE_NAME
    try:
        earlier = beginning_of(path, _MOST_BYTES)
    except OSError:
        return False
    if earlier is not None and _MARK.encode() not in earlier:
        return False
    atomic.write_text(path, card(facts))
    return True


def card(facts: CardFacts) -> str:
    """The text of the model card."""
    tokens = [concept.placeholder_token for concept in facts.concepts]
    base, is_xl = facts.base_model, facts.is_xl
    files = dict(zip(tokens, safetensors_names(FINAL, tokens), strict=True))
    parts = [
        front_matter(base, [token for token in tokens if token not in unwanted_words(facts.concepts)], is_xl=is_xl),
        f"# {', '.join(map(code, tokens))}",
        f"Learned by Textual Inversion ([arXiv 2208.01618](https://arxiv.org/abs/2208.01618)) on {_named(base)}, with "
        "PaddlePaddle and ppdiffusers: only the embedding vectors of the new placeholder tokens were trained.",
        _concept_table(facts.concepts, facts.language),
        *_about_unwanted(facts.concepts),
        *_images(facts),
        how_to_load(base, facts.concepts, files, language=facts.language, is_xl=is_xl, clip_skip=facts.clip_skip),
        *_exports(facts.exported),
        _settings(facts),
        _MARK,
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(base_model: str, tokens: Sequence[str], *, is_xl: bool = False) -> str:
    """The metadata between two lines of dashes.

    Args:
        base_model: named in the metadata if it is a repository id of Hugging Face, which is what its hub expects there.
        tokens: the placeholder tokens that belong in prompts.
    """
    import yaml

    license_name = next((name for pattern, name in _LICENSES if pattern.match(base_model)), "other")
    family = ["stable-diffusion-xl"] if is_xl else []
    metadata = {
        "license": license_name,
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        **({"base_model": base_model} if is_repository_id(base_model) else {}),
        **({"instance_prompt": " ".join(tokens)} if tokens else {}),
        "tags": ["textual_inversion", "stable-diffusion", *family, "text-to-image", "diffusers", "ppdiffusers"],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---"


def _named(base_model: str) -> str:
    """The base model as readers see it."""
    if base_model == LOCAL_DEMO:
        return "the miniature model of this project"
    if is_repository_id(base_model):
        return code(base_model)
    if aistudio.is_name(base_model):
        return f"{code(base_model.removeprefix(aistudio.PREFIX))} of AI Studio"
    is_hash = base_model.startswith(LOCAL)
    return "a local model" + (f", hash {code(base_model.removeprefix(LOCAL))}" if is_hash else "")


def _concept_table(concepts: Sequence[Concept], language: str) -> str:
    rows = ["| Placeholder token | Property | Vectors | Initialized from | Example prompt |", "|---|---|---|---|---|"]
    for concept in concepts:
        token, prompt = concept.placeholder_token, example_prompt(concept, language)
        start = cell(concept.initializer_token) if concept.initializer_token else "-"
        shown = f"negative prompt {cell(token)}" if concept.learnable_property == NEGATIVE else cell(prompt)
        rows.append(f"| {cell(token)} | {concept.learnable_property} | {concept.num_vectors} | {start} | {shown} |")
    return "\n".join(rows)


def _about_unwanted(concepts: Sequence[Concept]) -> list[str]:
    """How to use words for what is not wanted, whichever the program."""
    if not (words := unwanted_words(concepts)):
        return []
    verb = "was" if len(words) == 1 else "were"
    return [
        f"{', '.join(map(code, words))} {verb} learned from images of what is not wanted: write it in the "
        "**negative** prompt. Images drawn without it there are the same as without this file."
    ]


def _images(facts: CardFacts) -> list[str]:
    shown = []
    if "overview" in facts.figures:
        shown.append(f"![Training images, before, after]({facts.figures['overview']})")
    if facts.has_validation_images:
        shown.append("![Validation images over time](samples/over-time.png)")
    return shown


def _exports(exported: Sequence[ExportedFile]) -> list[str]:
    """The files for other programs: where each belongs, and what its prompts say."""
    if not exported:
        return []
    rows = ["| File | Program, and where it belongs | In a prompt |", "|---|---|---|"]
    rows += [f"| {cell(one.path)} | {_PLACES[one.format]} | {' '.join(map(cell, one.prompts))} |" for one in exported]
    return ["## Files for other programs", "\n".join(rows)]


def _settings(facts: CardFacts) -> str:
    lines = ["## Training", ""]
    lines += [f"- presets: {', '.join(map(code, facts.presets))}"] if facts.presets else []
    lines += [f"- `{name}`: {getattr(facts.training, name)}" for name in _SETTINGS]
    reading = {"clip_skip": facts.clip_skip, "max_token_length": facts.max_token_length}
    lines += [f"- `{name}`: {value}" for name, value in reading.items() if value is not None]
    lines += [f"- VAE: {_named_vae(facts.vae)}"] if facts.vae else []
    best = facts.figures.get("best", {})
    if "step" in best:
        best_step = f"- best step: {best['step']} by the {best['by']}, {best['score']:.4f}"
        lines.append(f"{best_step}, in `{BEST_NAME}` and {_listed(BEST, facts)}")
    lines.append(f"- earlier steps, where they were saved: {_listed(f'{FINAL}-steps-N', facts)}")
    lines.append(
        f"- all settings: `run.json`; to train it again: `config.yaml`; all embeddings in one file: `{FINAL_NAME}`"
    )
    return "\n".join(lines)


def _named_vae(vae: str) -> str:
    return f"a local one, hash {code(vae.removeprefix(LOCAL))}" if vae.startswith(LOCAL) else code(vae)


def _listed(stem: str, facts: CardFacts) -> str:
    """The `.safetensors` of all concepts under a stem, as one name."""
    return f"`{stem}.safetensors`" if len(facts.concepts) == 1 else f"`{stem}-NAME.safetensors`"
