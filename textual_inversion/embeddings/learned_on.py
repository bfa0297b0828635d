"""The base model that embedding files were learned on: from what is recorded beside them, and what it is worth."""

import re
from collections.abc import Sequence
from pathlib import Path

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.embeddings.run_record import FILE_NAME
from textual_inversion.formats.errors import file_name, printable
from textual_inversion.hub.repositories import is_repository_name
from textual_inversion.settings.generation import BaseModelSettings
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import DEMO_MODEL, LOCAL_DEMO, has_demo, located

_REPOSITORY_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def base_model_of(files: Sequence[ConceptFile], named: str | None = None) -> str:
    """Folder or repository id of the base model that embedding files were learned on.

    A repository id from a record is a stranger's word: whoever loads it must not ask a hub for it, unless the user
    trusts the record (`models.hub.resolve` has an argument for that).

    Args:
        named: the one that the user names, which overrides the records.

    Returns:
        The named one, else that of the run.json beside a file, else that of a file's metadata, else the demo's.

    Raises:
        SettingsError: the files were learned on different models, on one that no longer exists, on an unknown one, or
            on one that another program describes.
    """
    if named is not None:
        return named
    found: dict[str, Path] = {}
    for file in files:
        recorded = file.recorded("base_model")
        if recorded is not None:
            found.setdefault(_existing(recorded, file.record_path), file.path)
    if len(found) > 1:
        (first, one), (second, other) = list(found.items())[:2]
        raise SettingsError(
            f"{one} was learned on {first} and {other} on {second}; use them one at a time, or choose a model "
            "with --pretrained_model_name_or_path"
        )
    if not found:
        _refuse_to_guess(files)
    return next(iter(found), str(DEMO_MODEL))


def doubted_records(files: Sequence[ConceptFile], chosen: BaseModelSettings) -> dict[str, Path | None]:
    """The arguments of `models.base_model.load_base_model` that keep a record from deciding what a hub is asked for.

    Args:
        chosen: what the user says about the base model, before anything is filled in from a record.

    Returns:
        `recorded_in`, `tokenizer_recorded_in` and `vae_recorded_in`: the record to doubt, None where there is none.
    """
    if chosen.pretrained_model_name_or_path is not None or chosen.trust_record:
        return dict.fromkeys(("recorded_in", "tokenizer_recorded_in", "vae_recorded_in"))
    run = next((file.path.parent / FILE_NAME for file in files if file.run), None)
    return {
        "recorded_in": _record_of_model(files),
        "tokenizer_recorded_in": run if chosen.tokenizer_name is None else None,
        "vae_recorded_in": run if chosen.vae is None else None,
    }


def _record_of_model(files: Sequence[ConceptFile]) -> Path | None:
    """The record that `base_model_of` takes the base model from where the user names none; None: no record has one."""
    return next((file.record_path for file in files if file.recorded("base_model") is not None), None)


def base_model_notes(files: Sequence[ConceptFile], base_model: str, named: str | None) -> list[str]:
    """What a user who named no base model should know about the one that is used."""
    if named is not None:
        return []
    record = _record_of_model(files)
    if record is not None:
        is_id = not Path(base_model).exists()
        found = [f"base model {printable(base_model)}, as {file_name(record)} says"] if is_id else []
        hints = [(file_name(file.path), printable(file.hint)) for file in files if file.hint is not None]
        return found + [f"{path} says that it was learned on {hint}; {base_model} is used" for path, hint in hints]
    silent = next((file for file in files if not file.path.resolve().is_relative_to(DEMO_MODEL.parent)), None)
    if silent is None:
        return []
    return [
        f"{file_name(silent.path)} does not say which base model it was learned on; the demo's is used, another one "
        "with --pretrained_model_name_or_path"
    ]


def _refuse_to_guess(files: Sequence[ConceptFile]) -> None:
    """Raise SettingsError where a file was learned on a model that nobody here can name."""
    hinting = next((file for file in files if file.hint is not None), None)
    if hinting is not None:
        raise SettingsError(
            f"{file_name(hinting.path)} says that it was learned on {printable(hinting.hint)}; name that model with "
            "--pretrained_model_name_or_path"
        )
    if not has_demo():
        raise SettingsError(
            f"{files[0].path} does not say which base model it was learned on; name it with "
            "--pretrained_model_name_or_path"
        )


def _existing(name: str, record: Path) -> str:
    """Where a recorded base model is now: a path may be relative to this project, which may have moved."""
    found = located(name)
    if found is not None:
        return str(found.resolve())
    if name == LOCAL_DEMO or Path(name).parts[-2:] == DEMO_MODEL.parts[-2:] and has_demo():
        return str(DEMO_MODEL)
    if not _REPOSITORY_ID.fullmatch(name) and not is_repository_name(name):
        raise SettingsError(
            f"{file_name(record)} was learned on {printable(name, 300)}, which does not exist; name it with "
            "--pretrained_model_name_or_path"
        )
    return name
