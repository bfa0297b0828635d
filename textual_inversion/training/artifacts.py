"""The files of a run, and saves that may fail without taking the run with them.

    embeddings            learned_embeds-steps-N.* on the way, learned_embeds-best.*, learned_embeds.* at the end
    run.json              how they were made
    Saves.attempt(…)      any save: one that fails is reported, and tried again the next time
    save_somewhere(…)     the last save of the vectors: where the output folder cannot take them, elsewhere

Faults of the program itself are not forgiven, only what the system refuses.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.embeddings import file_names
from textual_inversion.formats import embedding_file
from textual_inversion.formats.embedding_file import LearnedEmbedding
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.identity import content_hash, public_name
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.flag import all_flags, values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system import atomic
from textual_inversion.system.addresses import address_of
from textual_inversion.system.errors import OutputError
from textual_inversion.system.home import home_folder
from textual_inversion.system.paths import portable
from textual_inversion.system.provenance import git_revision, versions
from textual_inversion.training.state import Record
from textual_inversion.training.step_plan import StepPlan

# ------------------------------------------------------------------------------------------------------- embeddings


def save_embeddings(folder: Path, learned: Sequence[LearnedEmbedding], step: int) -> None:
    """Write the files of a step and make `learned_embeds.pdparams` the same; raises OutputError."""
    save_as(folder, file_names.of_step(step), learned)
    embedding_file.write_pdparams(folder / file_names.FINAL_NAME, learned)


def save_final(folder: Path, learned: Sequence[LearnedEmbedding]) -> None:
    """Write the final files, `learned_embeds.*`; raises OutputError."""
    save_as(folder, file_names.FINAL, learned)


def save_as(folder: Path, stem: str, learned: Sequence[LearnedEmbedding]) -> None:
    """Write `STEM.pdparams` with all concepts, and a `.safetensors` for each; raises OutputError.

    Args:
        stem: see `file_names.safetensors_names`.
    """
    embedding_file.write_pdparams(folder / f"{stem}.pdparams", learned)
    names = file_names.safetensors_names(stem, [concept.placeholder_token for concept in learned])
    for name, concept in zip(names, learned, strict=True):
        embedding_file.write_safetensors(folder / name, concept)


def file_facts(model: BaseModel, seed: int, step: int) -> dict[str, str]:
    """What an embedding file says about the run, where its format can hold it."""
    reading = {"clip_skip": model.clip_skip, "max_token_length": model.max_token_length}
    read_so = {name: str(value) for name, value in reading.items() if value is not None}
    return {"base_model": portable(model.name), "steps": str(step), "seed": str(seed)} | read_so


def as_learned(
    concepts: Sequence[Concept], vectors: Mapping[str, np.ndarray], facts: Mapping[str, str]
) -> list[LearnedEmbedding]:
    """The vectors of all concepts, cut into one `LearnedEmbedding` each.

    Args:
        concepts: in the order of their vectors.
        vectors: text encoder -> float32 [N, D] of all concepts.
        facts: from `file_facts`.

    Raises:
        OutputError: a vector holds NaN or infinity.
    """
    if not all(np.isfinite(values).all() for values in vectors.values()):
        raise OutputError(
            "the vectors are no longer finite, so they are not saved and the last good file stays; training diverged: "
            "lower --learning_rate"
        )
    learned, first = [], 0
    for concept in concepts:
        part = slice(first, first := first + concept.num_vectors)
        own = {encoder: np.asarray(values[part], dtype=np.float32) for encoder, values in vectors.items()}
        learned.append(LearnedEmbedding(concept.placeholder_token, own, dict(facts) | _concept_facts(concept)))
    return learned


def _concept_facts(concept: Concept) -> dict[str, str]:
    """What an embedding file says about one concept."""
    facts = {"learnable_property": concept.learnable_property}
    return facts if concept.initializer_token is None else facts | {"initializer_token": concept.initializer_token}


# ----------------------------------------------------------------------------------------------------------- run.json


def write_run_record(
    folder: Path,
    config: TrainConfig,
    plan: StepPlan,
    model: BaseModel,
    concepts: Sequence[Concept],
    record: Record,
) -> None:
    """Write `run.json`: settings, versions, base model, dimensions, seed, revision, and the figures so far.

    What is said per concept is a list where there are several concepts, and a plain value for a single one.

    Raises:
        OutputError: it cannot be written.
    """
    atomic.write_json(
        folder / "run.json",
        {
            "base_model": portable(model.name),
            "public_base_model": public_name(model.name, model.folder),
            **_vae_facts(model),
            "placeholder_token": _single([concept.placeholder_token for concept in concepts]),
            "initializer_token": _single([concept.initializer_token for concept in concepts]),
            "learnable_property": _single([concept.learnable_property for concept in concepts]),
            "num_vectors": _single([concept.num_vectors for concept in concepts]),
            "embedding_width": {encoder.name: encoder.embedding_width for encoder in model.text_encoders},
            "prediction_type": model.prediction_type,
            "seed": config.training.seed,
            "settings": recorded_settings(config, plan),
            "versions": versions(),
            "git_revision": git_revision(),
            "resumed": list(record.history),
            "figures": _finite(record.figures),
        },
    )


def _vae_facts(model: BaseModel) -> dict[str, str]:
    """Which VAE was used, where it is not the base model's own."""
    if model.vae_name is None:
        return {}
    folder = model.vae_folder
    return {"vae": public_name(model.vae_name, folder), "vae_sha256": content_hash(folder)}


def recorded_settings(config: TrainConfig, plan: StepPlan) -> dict[str, Any]:
    """All settings by name, as run.json holds them: without secrets, places as other machines can read them."""
    flags = {name: flag for name, flag in all_flags(TrainConfig).items() if not flag.is_secret}
    values = values_of(config)
    settings = {name: values[name] for name in flags} | {
        "demo": config.demo,
        "epoch_samples": plan.epoch_samples,
        "global_batch": plan.global_batch,
        "peak_learning_rate": plan.peak_learning_rate,
        "sample_prompts": [vars(prompt) for prompt in config.validation_prompts],
    }
    settings |= {name: _portable(settings[name]) for name, flag in flags.items() if flag.recorded_portably}
    settings |= {name: _address(settings[name]) for name, flag in flags.items() if flag.is_path}
    per_concept = ["placeholder_token", *(name for name, flag in flags.items() if flag.per_concept)]
    settings |= {name: _single(settings[name]) for name in per_concept}
    return dict(sorted(settings.items()))


def _portable(value: Any) -> Any:
    """A path, or several, as another machine can read them; None stays."""
    if isinstance(value, tuple):
        return [portable(path) for path in value]
    return None if value is None else portable(value)


def _address(value: Any) -> Any:
    """A path, or several, of which those that stand for an address of object storage are that address."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_address, value))
    return (address_of(value) or value) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    """Figures as JSON can hold them: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _single(values: Any) -> Any:
    """The only value of a list of one; else the list."""
    return values[0] if isinstance(values, (list, tuple)) and len(values) == 1 else values


# ----------------------------------------------------------------------------------------------- saves that may fail


class Saves:
    """Attempts to write into a run's output folder.

    Args:
        folder: the output folder; if it is gone, it is created again.
        say: told about a save that failed and will be tried again; None: nobody is.

    Attributes:
        failures: what went wrong, one `OutputError` a failed attempt.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] | None = None):
        self._folder, self._say = folder, say
        self.failures: list[OutputError] = []

    def attempt(self, write: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
        """Call `write` with the arguments; False where the system refused what it wanted to write."""
        try:
            if not self._folder.is_dir():
                atomic.make_folder(self._folder)
                self._tell(f"warning: the output folder {self._folder} was gone; it is created again")
            write(*arguments, **options)
        except (OutputError, OSError) as error:
            self.failures.append(as_output_error(error, self._folder))
            self._tell(f"warning: {self.failures[-1]}; training continues, and the next save tries again")
            return False
        return True

    def _tell(self, line: str) -> None:
        if self._say is not None:
            self._say(line)


def save_somewhere(folder: Path, learned: Sequence[LearnedEmbedding]) -> tuple[Path, OutputError | None]:
    """Write the final embedding files; where the output folder cannot take them, in a new temporary folder.

    Returns:
        The folder that they are in, and what kept them from the output folder; None where nothing did.

    Raises:
        OutputError: they could not be written anywhere.
    """
    saves = Saves(folder)
    if saves.attempt(save_final, folder, learned):
        return folder, None
    failure = saves.failures[0]
    for parent in _other_folders():
        try:
            other = Path(tempfile.mkdtemp(prefix="textual-inversion-", dir=parent))
            save_final(other, learned)
        except (OutputError, OSError):
            continue
        return other, failure
    raise OutputError(f"{failure}; nor could the vectors be kept in a temporary folder, they are lost")


def _other_folders() -> list[Path]:
    """Where files may go that the output folder cannot take: the system's temporary folders, then the user's own."""
    folders = [Path("/tmp"), Path("/var/tmp"), home_folder(), Path.cwd()]
    try:
        folders.insert(0, Path(tempfile.gettempdir()))
    except FileNotFoundError:  # it can write into none of those that it knows
        pass
    return list(dict.fromkeys(filter(None, folders)))


def as_output_error(error: Exception, folder: Path) -> OutputError:
    """The system's error as one that names the folder and the way out."""
    if isinstance(error, OutputError):
        return error
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"cannot write {getattr(error, 'filename', None) or folder}: {reason}; choose another folder")


def unsaved(failures: Sequence[OutputError], kept: Path) -> OutputError:
    """How a run ends when some of the last files could not be written, though the vectors were.

    Args:
        kept: the file that the vectors are in.
    """
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return OutputError(f"{failures[0]}{more}; the learned vectors are in {kept}")
