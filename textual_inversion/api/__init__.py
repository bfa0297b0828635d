"""The public Python API, for notebooks and programs: what `import textual_inversion` offers.

    import textual_inversion as ti

    model = ti.load_base_model("demo/model")
    ti.attach_embeddings(model, "demo/learned_embeds.pdparams")
    image, = ti.generate(model, "a photo of a <cat-toy> in the snow", seed=3)

Everything else in the library may change between versions. Errors are `TextualInversionError`s, with messages of one
line. May import every other package of the library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual_inversion import PUBLIC, commands
from textual_inversion.cli.train import build_parser, settled
from textual_inversion.formats.embedding_file import LearnedEmbedding
from textual_inversion.formats.embedding_file import read_embeddings as _read_embeddings
from textual_inversion.reporting.figures import read_curves
from textual_inversion.settings import other_names
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.environment import prepare_environment
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.errors import TextualInversionError as TextualInversionError  # public

if TYPE_CHECKING:
    from PIL import Image

    from textual_inversion.models.base_model import BaseModel

__all__ = list(PUBLIC)


def read_embeddings(path: str | Path) -> list[LearnedEmbedding]:
    """The concepts in an embedding file of this or another program; nothing in it is executed or imported.

    Returns:
        For each concept its placeholder token, float32 [N, D] by text encoder, and the file's metadata.

    Raises:
        EmbeddingFileError: the file cannot be read, or is no embedding.
    """
    return _read_embeddings(path)


def inspect_embeddings(name_or_path: str | Path) -> dict[str, Any]:
    """What any file is, and what the concepts in it are: as `convert.py inspect --json` says it.

    Args:
        name_or_path: a file of any kind, the folder of a run, or a repository id.

    Returns:
        `kind`, `bytes`, `problem` (why it cannot be used; None) and, of an embedding file, `container`, `layout` and
        `concepts` with their words, vectors, widths, norms and metadata. All values are those of JSON.

    Raises:
        EmbeddingFileError: nothing is there, or it may not be read.
    """
    from textual_inversion.embeddings.inspection import as_json, described

    return as_json(described(str(name_or_path)))


def convert_embeddings(
    *files: str | Path,
    to: str,
    output: str | Path,
    words: Sequence[str] | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write the concepts of embedding files as another program reads them.

    Args:
        files: embedding files, folders of runs, or repository ids.
        to: one of the formats of `convert.py --to`, such as "webui-pt".
        output: a file with the ending of that format, else a folder.
        words: placeholder tokens of the concepts; None: all.
        half: in float16.
        overwrite: replace what is there.

    Returns:
        The files that were written.

    Raises:
        EmbeddingFileError: a file cannot be read, or the format cannot hold a concept.
        SettingsError: no such format, or a file is there already.
        OutputError: a file cannot be written.
    """
    from textual_inversion.embeddings.conversion import conversion, write
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.formats.targets import TARGETS, Writing

    if to not in TARGETS:
        raise SettingsError(f"{to!r} is no format; choose one of {', '.join(TARGETS)}")
    read = read_concept_files(files)
    new, _ = conversion(read, to, str(output), words=words, writing=Writing(is_half=half))
    inputs = [path for file in read for path in (file.path, file.partner) if path is not None]
    write(new, inputs, overwrite=overwrite)
    return [one.path for one in new]


def load_base_model(
    name_or_path: str | Path,
    *,
    tokenizer: str | None = None,
    vae: str | Path | None = None,
    clip_skip: int | None = None,
    max_token_length: int | None = None,
    **source: str | None,
) -> "BaseModel":
    """Load a frozen base model, in float32, on the default device.

    Args:
        name_or_path: a folder, a single safetensors file, or a repository id.
        tokenizer: folder or repository id of a tokenizer other than the base model's.
        vae: folder, safetensors file or repository id of a VAE other than the base model's.
        clip_skip: layer of CLIP that prompts are read with, counted from the last, which is 1; None: as the embeddings
            that are attached were learned.
        max_token_length: tokens of a prompt that are read, 75 for each chunk; None: as for `clip_skip`.
        source: `revision`, `variant`, `cache_dir` and `token`, for a model on a hub.

    Raises:
        BaseModelError: it is missing, incomplete or of an unknown kind.
        SettingsError: its prompts cannot be read as asked.
    """
    prepare_environment()
    from textual_inversion.models.base_model import load_base_model as load

    parts = dict(tokenizer_name=tokenizer, vae=vae, clip_skip=clip_skip, max_token_length=max_token_length)
    return load(name_or_path, **parts, **source)


def attach_embeddings(model: "BaseModel", *files: str | Path, rename: Mapping[str, str] | None = None) -> list[str]:
    """Give a base model the concepts of embedding files, beside those that were attached before.

    A concept whose placeholder token is attached already is replaced. Not while another thread draws with the model.

    It then reads prompts as the concepts were learned, unless `load_base_model` was told how.

    Args:
        files: embedding files, folders of runs, or repository ids.
        rename: other placeholder tokens, by the token or the name of the file that they replace.

    Returns:
        The placeholder tokens, for use in prompts.

    Raises:
        EmbeddingFileError: a file cannot be used, or was made for a base model of another width.
        ConceptError: a placeholder token is already a token of the base model, or the name of another's vector. The
            model then stays as it was.
    """
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.models.attach import add_files

    read = read_concept_files(files, [f"{old}={new}" for old, new in (rename or {}).items()])
    add_files(model, read)
    return [token for file in read for token in file.placeholder_tokens]


def words(model: "BaseModel") -> dict[str, int]:
    """The placeholder tokens that are attached to a base model, with the numbers of their vectors."""
    return dict(model.text_encoders[0].encode_ids.num_vectors)


def detach_embeddings(model: "BaseModel", *placeholder_tokens: str) -> None:
    """Take concepts from a base model again; the others stay. Not while another thread draws with the model.

    Args:
        placeholder_tokens: of the concepts; none: all of them.

    Raises:
        ConceptError: such a concept is not attached. The model then stays as it was.
    """
    from textual_inversion.models.attach import detach

    detach(model, placeholder_tokens or list(words(model)))


def generate(
    model: "BaseModel",
    prompts: str | Sequence[str],
    *,
    seed: int = 0,
    num_images: int = 1,
    negative_prompt: str = "",
    guidance_scale: float = 7.5,
    num_inference_steps: int = 50,
    prompt_weights: bool = False,
    **options: Any,
) -> list["Image.Image"]:
    """Make images. Each depends only on its prompt, seed and settings, not on the others of the call.

    Several threads may call this at once, with one model or several.

    Args:
        prompts: one or several.
        seed: of each prompt's first image; the next images have the following seeds.
        num_images: images per prompt.
        guidance_scale: weight of classifier-free guidance; at most 1 means none.
        prompt_weights: read marks such as `(word:1.3)` as weights, and prompts of any length.
        options: `height` and `width` in pixels, `scheduler` (one of `choices.SCHEDULERS`), `batch_size`.

    Returns:
        RGB images: all of the first prompt, then all of the second, …

    Raises:
        SettingsError: the model cannot make images of this size, cannot use this scheduler, or cannot encode a prompt
            with weights.
    """
    from textual_inversion.generation.generate import generate as draw
    from textual_inversion.generation.request import ImageRequest

    requests = [
        ImageRequest(
            prompt, seed + i, negative_prompt, guidance_scale, num_inference_steps, prompt_weights=prompt_weights
        )
        for prompt in ([prompts] if isinstance(prompts, str) else prompts)
        for i in range(num_images)
    ]
    return draw(model, requests, **options)


def contact_sheet(
    images: Sequence["Image.Image"], *, columns: int | None = None, labels: Sequence[str] | None = None
) -> "Image.Image":
    """All images in one, in rows.

    Args:
        columns: images in a row; None: at most four.
        labels: a text for each image, written under it.

    Raises:
        SettingsError: no images, or not one label for each.
    """
    from textual_inversion.generation.image_grid import contact_sheet as sheet

    if not images or (labels is not None and len(labels) != len(images)):
        raise SettingsError(f"a contact sheet needs images, and a label for each or none; here {len(images)} images")
    return sheet(images, columns=columns or min(4, len(images)), labels=labels)


def curves(folder: str | Path) -> dict[str, list[tuple[int, float]]]:
    """What a run has measured so far, step by step; also while it trains, from another process or thread.

    Args:
        folder: the run's `output_dir`.

    Returns:
        Name of each curve, such as "train/loss" -> (optimizer step, value) in the order of the steps; {} where there
        is no run yet.
    """
    return read_curves(Path(folder))


def train_config(**flags: Any) -> TrainConfig:
    """The settings of a training run, from flags of `train_textual_inversion.py` by name.

    Args:
        flags: such as `train_data_dir="photos"`, `max_train_steps=500`. Flags of several values take a list. Flags
            that are not given have the command's defaults.

    Raises:
        SettingsError: there is no such flag, or its value is out of bounds.
    """
    known = all_flags(TrainConfig)
    arguments = []
    for name, value in flags.items():
        if name not in known:
            script = commands.SCRIPTS["train"]
            answer = other_names.answer(script, name, known)
            raise SettingsError(f"{name} is not a flag of {script}" + (f"; {answer}" if answer else ""))
        values = value if isinstance(value, (list, tuple)) else [value]
        arguments += [f"--{name}", *map(str, values)] if len(values) > 1 else [f"--{name}={v}" for v in values]
    parser = build_parser()
    return settled(vars(parser.parse_args(arguments)), parser.explicit(arguments), parser.notes)


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run.

    Attributes:
        folder: where everything was written.
        embeddings: what was learned.
        figures: what the run measured, as in run.json.
    """

    folder: Path
    embeddings: list[LearnedEmbedding]
    figures: dict[str, Any]

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Figures by step: name -> (optimizer step, value)."""
        return read_curves(self.folder)


def train(config: TrainConfig | None = None, **flags: Any) -> TrainedRun:
    """Teach a base model concepts, in this process. Does what the command does, and writes the same files.

    Args:
        config: from `train_config`; None: made from `flags`.

    Raises:
        TextualInversionError: whatever the command would end with.
    """
    if config is not None and flags:
        raise SettingsError("give a configuration or flags, not both")
    config = config or train_config(**flags)
    if config.saving.max_restarts:
        raise SettingsError("max_restarts is for the command, whose process it starts again; leave it out here")
    run = commands.load("train").run(config)
    from textual_inversion.embeddings.file_names import FINAL_NAME

    folder = run.context.folder
    return TrainedRun(folder, _read_embeddings(folder / FINAL_NAME), run.record.figures)
