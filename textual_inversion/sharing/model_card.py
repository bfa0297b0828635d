"""Write the README.md of a run's folder: what was learned, images, and how other programs load it.

It begins with the metadata that the Hugging Face hub reads (https://huggingface.co/docs/hub/model-cards).
"""

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.data.templates import plain_template
from textual_inversion.embeddings.file_names import BEST, BEST_NAME, FINAL, FINAL_NAME, safe_name, safetensors_names
from textual_inversion.hub import aistudio
from textual_inversion.hub.hugging_face import is_repository_id
from textual_inversion.settings.choices import NEGATIVE
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_method import TrainingSettings
from textual_inversion.system import atomic
from textual_inversion.system.links import beginning_of
from textual_inversion.system.paths import LOCAL, LOCAL_DEMO
from textual_inversion.system.terminal_text import one_line

FILE_NAME = "README.md"
# Marks a card of ours, which a later run may replace; the user's own README stays.
_MARK = "<!-- written by train_textual_inversion.py -->"
_MOST_BYTES = 1 << 20  # of a card of ours
_ANY_MODEL = "FOLDER OF THE BASE MODEL"
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

    @property
    def skipped(self) -> int:
        """The layers that are left out, as diffusers and InvokeAI count them; 0: the model reads as usual."""
        return 0 if self.clip_skip is None else self.clip_skip - (2 if self.is_xl else 1)


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
        front_matter(base, [token for token in tokens if token not in _unwanted(facts.concepts)], is_xl=is_xl),
        f"# {', '.join(map(_code, tokens))}",
        f"Learned by Textual Inversion ([arXiv 2208.01618](https://arxiv.org/abs/2208.01618)) on {_named(base)}, with "
        "PaddlePaddle and ppdiffusers: only the embedding vectors of the new placeholder tokens were trained.",
        _concept_table(facts.concepts, facts.language),
        *_about_unwanted(facts.concepts),
        *_images(facts),
        _how_to_load(facts, files),
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
        **({"base_model": base_model} if _is_repository(base_model) else {}),
        **({"instance_prompt": " ".join(tokens)} if tokens else {}),
        "tags": ["textual_inversion", "stable-diffusion", *family, "text-to-image", "diffusers", "ppdiffusers"],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---"


def _is_repository(base_model: str) -> bool:
    return is_repository_id(base_model)  # which has no colon


def _named(base_model: str) -> str:
    """The base model as readers see it."""
    if base_model == LOCAL_DEMO:
        return "the miniature model of this project"
    if _is_repository(base_model):
        return _code(base_model)
    if aistudio.is_name(base_model):
        return f"{_code(base_model.removeprefix(aistudio.PREFIX))} of AI Studio"
    is_hash = base_model.startswith(LOCAL)
    return "a local model" + (f", hash {_code(base_model.removeprefix(LOCAL))}" if is_hash else "")


def _code(text: str) -> str:
    """A text as it is, as code in Markdown: it cannot end the code and become a link, a picture or HTML."""
    shown = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    blank = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def _cell(text: str) -> str:
    """`_code` in a cell of a table."""
    return _code(text).replace("|", "\\|")


def _prompt(concept: Concept, language: str) -> str:
    """An example prompt; of a word for what is not wanted, a prompt that does not hold it."""
    if concept.learnable_property == NEGATIVE:
        return plain_template("object", language).format("cat" if language == "en" else "猫")
    return plain_template(concept.learnable_property, language).format(concept.placeholder_token)


def _unwanted(concepts: Sequence[Concept]) -> list[str]:
    """The placeholder tokens of words for what is not wanted, which belong in the negative prompt."""
    return [concept.placeholder_token for concept in concepts if concept.learnable_property == NEGATIVE]


def _concept_table(concepts: Sequence[Concept], language: str) -> str:
    rows = ["| Placeholder token | Property | Vectors | Initialized from | Example prompt |", "|---|---|---|---|---|"]
    for concept in concepts:
        token, prompt = concept.placeholder_token, _prompt(concept, language)
        start = _cell(concept.initializer_token) if concept.initializer_token else "-"
        shown = f"negative prompt {_cell(token)}" if concept.learnable_property == NEGATIVE else _cell(prompt)
        rows.append(f"| {_cell(token)} | {concept.learnable_property} | {concept.num_vectors} | {start} | {shown} |")
    return "\n".join(rows)


def _about_unwanted(concepts: Sequence[Concept]) -> list[str]:
    """How to use words for what is not wanted, whichever the program."""
    if not (words := _unwanted(concepts)):
        return []
    verb = "was" if len(words) == 1 else "were"
    return [
        f"{', '.join(map(_code, words))} {verb} learned from images of what is not wanted: write it in the "
        "**negative** prompt. Images drawn without it there are the same as without this file."
    ]


def _images(facts: CardFacts) -> list[str]:
    shown = []
    if "overview" in facts.figures:
        shown.append(f"![Training images, before, after]({facts.figures['overview']})")
    if facts.has_validation_images:
        shown.append("![Validation images over time](samples/over-time.png)")
    return shown


def _how_to_load(facts: CardFacts, files: dict[str, str]) -> str:
    base, concepts, is_xl, language = facts.base_model, facts.concepts, facts.is_xl, facts.language
    model = base if _is_repository(base) or aistudio.is_name(base) else _ANY_MODEL
    names = {concept.placeholder_token: _name_in_diffusers(concept) for concept in concepts}
    shown = next((one for one in concepts if one.learnable_property != NEGATIVE), concepts[0])
    prompt, unwanted = _prompt(shown, language), _unwanted(concepts)
    texts = [
        "## How to use it",
        "Download the files first; the examples expect them in the current folder.",
        "### ppdiffusers",
        _python("ppdiffusers", model, prompt, files, is_xl, unwanted=unwanted, skipped=facts.skipped),
        "### diffusers",
        _python(
            "diffusers",
            model,
            prompt.replace(shown.placeholder_token, names[shown.placeholder_token]),
            {name: files[token] for token, name in names.items()},
            is_xl,
            renamed={name for token, name in names.items() if name != token},
            unwanted=[names[token] for token in unwanted],
            skipped=facts.skipped,
        ),
        *_about_capitals(names),
        "### AUTOMATIC1111",
        "Copy the file into `embeddings/`, named as you want to write it in prompts:",
        "\n".join(
            f"- `{file}` as `{safe_name(token)}.safetensors`, written `{safe_name(token)}`"
            for token, file in files.items()
        ),
        *_if_skipped(facts, f"In the settings, set Clip skip to {facts.clip_skip}."),
        "### ComfyUI",
        "Copy the file into `models/embeddings/`:",
        "\n".join(
            f"- `{file}` as `{safe_name(token)}.safetensors`, written `embedding:{safe_name(token)}`"
            for token, file in files.items()
        ),
        *_if_skipped(facts, f"Put a node CLIP Set Last Layer with {-(facts.clip_skip or 1)} before the prompts."),
        "### kohya's scripts",
        "Give the file to `gen_img.py` as `--textual_inversion_embeddings`, named as you want to write it in prompts. "
        "To go on training, give it as `--weights`.",
        *_if_skipped(facts, f"Both take `--clip_skip {facts.clip_skip}`."),
    ]
    return "\n\n".join(texts)


def _if_skipped(facts: CardFacts, text: str) -> list[str]:
    """What the user of a program has to set so that it reads prompts as they were read in training."""
    return [text] if facts.skipped else []


def _exports(exported: Sequence[ExportedFile]) -> list[str]:
    """The files for other programs: where each belongs, and what its prompts say."""
    if not exported:
        return []
    rows = ["| File | Program, and where it belongs | In a prompt |", "|---|---|---|"]
    rows += [f"| {_cell(one.path)} | {_PLACES[one.format]} | {' '.join(map(_cell, one.prompts))} |" for one in exported]
    return ["## Files for other programs", "\n".join(rows)]


def _name_in_diffusers(concept: Concept) -> str:
    """The placeholder token to load a concept under in diffusers, so that none of its vectors is lost there."""
    token = concept.placeholder_token
    if not concept.loses_vectors_in_diffusers:
        return token
    return token.lower() if token.startswith("<") else f"<{token.lower()}>"  # "cat" alone is in the vocabulary


def _about_capitals(names: Mapping[str, str]) -> list[str]:
    """What a reader should know who loads a concept under its own name; `names` as `_name_in_diffusers` gives them."""
    changed = [f"{_code(token)} as {_code(name)}" for token, name in names.items() if name != token]
    if not changed:
        return []
    return [
        f"The example loads {', '.join(changed)}: of a word of several vectors with capitals in it, diffusers with "
        "transformers 5 reads only the first vector."
    ]


def _python(
    library: str,
    model: str,
    prompt: str,
    files: dict[str, str],
    is_xl: bool,
    renamed: Set[str] = frozenset(),
    unwanted: Sequence[str] = (),
    skipped: int = 0,
) -> str:
    """An example; `renamed` are those of the placeholder tokens that the files do not have.

    `unwanted` are those that belong in the negative prompt.
    """
    pipeline = "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline"
    lines = ["import paddle"] if is_xl and library == "ppdiffusers" else []
    lines.append(f"from {library} import {pipeline}")
    lines += [f"from safetensors.{'numpy' if library == 'ppdiffusers' else 'torch'} import load_file"] if is_xl else []
    lines += ["", f"pipe = {pipeline}.from_pretrained({_where(model, library)})"]
    if is_xl:
        lines += _xl_lines(library, files)
    else:
        for token, file in files.items():
            name = f", token={_quoted(token)}" if token in renamed else ""
            lines.append(f"pipe.load_textual_inversion({_quoted(file)}{name})")
    options = f", negative_prompt={_quoted(', '.join(unwanted))}" if unwanted else ""
    options += f", clip_skip={skipped}" if skipped else ""
    lines.append(f"image = pipe({_quoted(prompt)}{options}).images[0]")
    return "```python\n" + "\n".join(lines) + "\n```"


def _where(model: str, library: str) -> str:
    """The arguments by which a library finds a base model; diffusers knows nothing of AI Studio."""
    if not aistudio.is_name(model):
        return _quoted(model)
    if library == "ppdiffusers":
        return f"{_quoted(model.removeprefix(aistudio.PREFIX))}, from_aistudio=True"
    return _quoted(_ANY_MODEL)


def _quoted(text: str) -> str:
    """A string as Python writes it, whatever characters it has."""
    return json.dumps(text, ensure_ascii=False)


def _xl_lines(library: str, files: dict[str, str]) -> list[str]:
    """Each of the two text encoders takes its own vectors, and the second one pools at the end of the prompt.

    Its configuration often says 2, by which CLIP pools at the highest token id: that of the placeholder token.
    """
    lines = ["pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id  # not the new word's"]
    for token, file in files.items():
        lines.append(f"vectors = load_file({_quoted(file)})")
        for key, ending in (("clip_l", ""), ("clip_g", "_2")):
            parts = f"text_encoder=pipe.text_encoder{ending}, tokenizer=pipe.tokenizer{ending}"
            value = f'vectors["{key}"]' if library == "diffusers" else f'paddle.to_tensor(vectors["{key}"])'
            lines.append(f"pipe.load_textual_inversion({value}, token={_quoted(token)}, {parts})")
    return lines


def _settings(facts: CardFacts) -> str:
    lines = ["## Training", ""]
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
    return f"a local one, hash {_code(vae.removeprefix(LOCAL))}" if vae.startswith(LOCAL) else _code(vae)


def _listed(stem: str, facts: CardFacts) -> str:
    """The `.safetensors` of all concepts under a stem, as one name."""
    return f"`{stem}.safetensors`" if len(facts.concepts) == 1 else f"`{stem}-NAME.safetensors`"
