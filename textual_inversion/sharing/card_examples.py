"""The part of a model card that says how other programs load the embeddings of a run."""

import json
from collections.abc import Mapping, Sequence, Set

from textual_inversion.data.templates import plain_template
from textual_inversion.embeddings.file_names import safe_name
from textual_inversion.hub import aistudio
from textual_inversion.hub.hugging_face import is_repository_id
from textual_inversion.settings.choices import NEGATIVE
from textual_inversion.settings.concept import Concept
from textual_inversion.sharing.markdown import code

_ANY_MODEL = "FOLDER OF THE BASE MODEL"


def how_to_load(
    base_model: str,
    concepts: Sequence[Concept],
    files: Mapping[str, str],
    *,
    language: str,
    is_xl: bool = False,
    clip_skip: int | None = None,
) -> str:
    """The section of the card, with an example for each library and what each other program wants.

    Args:
        base_model: its name for others, see `models.identity`.
        files: placeholder token -> file.
        language: of the prompts, one of `choices.LANGUAGES`.
        is_xl: whether the base model has two text encoders.
        clip_skip: the layer of CLIP that prompts were read with, counted from the last, which is 1; None: the usual.
    """
    model = base_model if is_repository_id(base_model) or aistudio.is_name(base_model) else _ANY_MODEL
    names = {concept.placeholder_token: _name_in_diffusers(concept) for concept in concepts}
    shown = next((one for one in concepts if one.learnable_property != NEGATIVE), concepts[0])
    token, prompt, unwanted = shown.placeholder_token, example_prompt(shown, language), unwanted_words(concepts)
    # The layers that are left out, as diffusers and InvokeAI count them; 0: the model reads as usual.
    skipped = 0 if clip_skip is None else clip_skip - (2 if is_xl else 1)
    texts = [
        "## How to use it",
        "Download the files first; the examples expect them in the current folder.",
        "### ppdiffusers",
        _python("ppdiffusers", model, prompt, files, is_xl, unwanted=unwanted, skipped=skipped),
        "### diffusers",
        _python(
            "diffusers",
            model,
            prompt.replace(token, names[token]),
            {name: files[token] for token, name in names.items()},
            is_xl,
            renamed={name for token, name in names.items() if name != token},
            unwanted=[names[token] for token in unwanted],
            skipped=skipped,
        ),
        *_about_capitals(names),
        *_in_other_programs(files, clip_skip if skipped else None),
    ]
    return "\n\n".join(texts)


def _in_other_programs(files: Mapping[str, str], clip_skip: int | None) -> list[str]:
    """Where the files go, and what has to be set so that prompts are read as they were in training."""
    written = {file: safe_name(token) for token, file in files.items()}
    skip = {
        "AUTOMATIC1111": f"In the settings, set Clip skip to {clip_skip}.",
        "ComfyUI": f"Put a node CLIP Set Last Layer with {-(clip_skip or 1)} before the prompts.",
        "kohya": f"Both take `--clip_skip {clip_skip}`.",
    }
    about = {program: [text] if clip_skip else [] for program, text in skip.items()}
    return [
        "### AUTOMATIC1111",
        "Copy the file into `embeddings/`, named as you want to write it in prompts:",
        "\n".join(f"- `{file}` as `{name}.safetensors`, written `{name}`" for file, name in written.items()),
        *about["AUTOMATIC1111"],
        "### ComfyUI",
        "Copy the file into `models/embeddings/`:",
        "\n".join(f"- `{file}` as `{name}.safetensors`, written `embedding:{name}`" for file, name in written.items()),
        *about["ComfyUI"],
        "### kohya's scripts",
        "Give the file to `gen_img.py` as `--textual_inversion_embeddings`, named as you want to write it in prompts. "
        "To go on training, give it as `--weights`.",
        *about["kohya"],
    ]


def example_prompt(concept: Concept, language: str) -> str:
    """A prompt with the placeholder token of a concept; of a word for what is not wanted, one that does not hold it."""
    if concept.learnable_property == NEGATIVE:
        return plain_template("object", language).format("cat" if language == "en" else "猫")
    return plain_template(concept.learnable_property, language).format(concept.placeholder_token)


def unwanted_words(concepts: Sequence[Concept]) -> list[str]:
    """The placeholder tokens of words for what is not wanted, which belong in the negative prompt."""
    return [concept.placeholder_token for concept in concepts if concept.learnable_property == NEGATIVE]


def _name_in_diffusers(concept: Concept) -> str:
    """The placeholder token to load a concept under in diffusers, so that none of its vectors is lost there."""
    token = concept.placeholder_token
    if not concept.loses_vectors_in_diffusers:
        return token
    return token.lower() if token.startswith("<") else f"<{token.lower()}>"  # "cat" alone is in the vocabulary


def _about_capitals(names: Mapping[str, str]) -> list[str]:
    """What a reader should know who loads a concept under its own name; `names` as `_name_in_diffusers` gives them."""
    changed = [f"{code(token)} as {code(name)}" for token, name in names.items() if name != token]
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
    files: Mapping[str, str],
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


def _xl_lines(library: str, files: Mapping[str, str]) -> list[str]:
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
