"""Whether the paths in a form may be used: each must lie in a chosen folder, or be the name of a repository."""

from collections.abc import Mapping
from typing import Any

from textual_inversion.formats.lora_file import split_scale
from textual_inversion.hub import aistudio, hugging_face
from textual_inversion.studio import forms
from textual_inversion.studio.workspace import OutsideError, Workspace
from textual_inversion.system.addresses import is_address


def refusal(workspace: Workspace, command: str, values: Mapping[str, Any]) -> tuple[str, str] | None:
    """(name of the flag, why) of the first path that may not be used; None where all may."""
    for name, path in forms.paths_in(command, values):
        try:
            check(workspace, path)
        except OutsideError as error:
            return name, f"--{name}: {error}"
    return None


def check(workspace: Workspace, name: str) -> None:
    """Raise OutsideError for a path that lies elsewhere; the name of a repository, where nothing lies, is none."""
    path = split_scale(name)[0]
    if is_address(path):
        raise OutsideError(f"{path[:60]} is an address of object storage; the page reads and writes folders only")
    try:
        workspace.inside(path)
    except OutsideError:
        from pathlib import Path

        is_name = hugging_face.is_repository_id(path) or aistudio.is_name(path)
        if not is_name or Path(path).exists() or path.startswith((".", "/", "~")):
            raise
