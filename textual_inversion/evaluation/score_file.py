"""The JSON file of a measurement: its figures, with all that decided them."""

from collections.abc import Mapping
from typing import Any

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.settings.flag import all_flags, values_of
from textual_inversion.settings.generation import ScoreConfig
from textual_inversion.system import atomic
from textual_inversion.system.paths import portable
from textual_inversion.system.provenance import git_revision, versions


def write_score(
    path: str, result: Mapping[str, Any], config: ScoreConfig, file: ConceptFile, *, base_model: str, clip_model: str
) -> None:
    """Write what was found, and what it was found with.

    Args:
        config: the settings as they were used; secrets are left out, and paths are made portable.
        file: of the concept that was measured, the first one where it was several.

    Raises:
        OutputError: the file cannot be written.
    """
    flags, values = all_flags(ScoreConfig), values_of(config)
    facts = {
        "embeds": {"file": portable(str(file.path)), "sha256": file.sha256},
        "base_model": portable(base_model),
        "clip_model": portable(clip_model),
        "settings": {
            name: _portable(values[name]) for name in sorted(values) if name != "output" and not flags[name].is_secret
        },
        "versions": versions(),
        "git_revision": git_revision(),
    }
    atomic.write_json(path, {**result, **facts})


def _portable(value: Any) -> Any:
    """A setting as the file holds it: paths, one or several, as another machine can read them."""
    if isinstance(value, tuple):
        return [_portable(one) for one in value]
    return portable(value) if isinstance(value, str) else value
