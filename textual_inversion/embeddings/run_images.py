"""The images that a run leaves beside its embeddings."""

import re
from collections.abc import Sequence
from pathlib import Path

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.formats.errors import file_name
from textual_inversion.system.errors import SettingsError

_OF_STEP = re.compile(r"step-(\d+)\.png")
_OVERVIEW = "overview.png"


def newest_image(files: Sequence[ConceptFile]) -> Path:
    """The validation image of the last step in the folder of a run, else its overview.

    Raises:
        SettingsError: no folder of these files has one.
    """
    for file in files:
        folder = file.path.parent
        steps = [(int(match[1]), path) for path in folder.glob("samples/*") if (match := _OF_STEP.fullmatch(path.name))]
        if steps:
            return max(steps)[1]
        if (folder / _OVERVIEW).is_file():
            return folder / _OVERVIEW
    looked = ", ".join(dict.fromkeys(file_name(file.path.parent) for file in files))
    raise SettingsError(f"--cover auto: no run has left an image in {looked}; name one, as in --cover image.png")
