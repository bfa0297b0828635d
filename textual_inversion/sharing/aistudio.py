"""Put a folder into a repository of AI Studio, also by hand where an upload has failed.

By hand: `python -m textual_inversion.sharing.aistudio me/my-cat text-inversion-model/.upload`
"""

import re
import sys
from pathlib import Path

from textual_inversion.hub.aistudio_upload import create, upload_folder
from textual_inversion.hub.hugging_face import HubError, is_repository_id
from textual_inversion.system import user_files
from textual_inversion.system.errors import OutputError, SettingsError, run_command
from textual_inversion.system.progress import print_line

_MESSAGE = "Textual Inversion"
_CARD = "README.md"
_LICENSE = re.compile(r"^license: ([\w.+-]{1,60})$", re.MULTILINE)
_MOST_BYTES = 1 << 20  # of a model card


def push(repository: str, folder: Path) -> str:
    """Upload all files of a folder, and return the address of the repository, which is made unless it is there.

    Args:
        repository: such as "owner/name".

    Raises:
        HubError: AI Studio refuses or cannot be reached.
    """
    create(repository, _license_in(folder))
    return upload_folder(repository, folder, _MESSAGE)


def _license_in(folder: Path) -> str:
    """The licence that the model card in a folder names; "other" without one."""
    try:
        card = user_files.read_text(folder / _CARD, _MOST_BYTES)
    except (OSError, UnicodeDecodeError):
        return "other"
    found = _LICENSE.search(card.partition("\n---")[0])
    return found[1] if found else "other"


def main(argv: list[str] | None = None) -> None:
    """Upload a folder that was collected for an upload; `argv`: a repository and the folder.

    Raises:
        SettingsError: that is not what `argv` holds.
        OutputError: the upload failed.
    """
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 2 or not is_repository_id(words[0]) or not Path(words[1]).is_dir():
        raise SettingsError("give a repository such as me/my-cat and a folder, no more and no less")
    try:
        print_line(f"uploaded to {push(words[0], Path(words[1]))}")
    except HubError as error:
        raise OutputError(f"the upload to {words[0]} failed ({error}); try it again later") from error


if __name__ == "__main__":
    run_command(main)
