"""Uploading a run's folder to the Hugging Face hub, or to the one that HF_ENDPOINT names.

What goes up is small: the words, how they were made, and the pictures. The saved pipeline is gigabytes that anybody can
make from the base model and the words, so it goes along only where it is asked for. It is put together in `.upload/`
inside the run's folder, without the places of this machine that records name (`public_copies`). The client is
huggingface_hub, which reads HF_ENDPOINT when it is first imported, makes one commit over HTTP and needs no git.
"""

import fnmatch
import shlex
import shutil
from pathlib import Path

from textual_inversion.sharing.redact import put_public_copy
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

SMALL_FILES = ["learned_embeds*", "README.md", "run.json", "config.yaml", "overview.png", "samples/*.png"]
# Logs and resume state are of use on the machine that made them only.
_KEPT_BACK = ["logs/*", "checkpoint-*/*", ".*"]
_STAGE = ".upload"


def check_login(token: str | None) -> None:
    """Find out before a long run whether the hub will know who uploads.

    Raises:
        OutputError: it does not, or it cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        HfApi(token=token).whoami()
    except Exception as error:
        raise OutputError(
            f"--push_to_hub: the hub does not let you in ({_reason(error)}); check --hub_token and the network, or "
            "leave --push_to_hub out"
        ) from error


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def upload(folder: Path, repository: str | None, token: str | None, *, whole_pipeline: bool = False) -> str:
    """Upload a run's folder in one commit and return the repository's address.

    Args:
        repository: its name on the hub; None takes the folder's name, under the account of the token.
        token: access token; None takes the one of an earlier login.
        whole_pipeline: the saved pipeline too, and not `SMALL_FILES` alone.

    Raises:
        OutputError: the hub cannot be reached or refuses; everything is still in `folder`.
    """
    from huggingface_hub import HfApi

    name = repository or folder.resolve().name
    stage = _put_together(folder, whole_pipeline=whole_pipeline)
    try:
        api = HfApi(token=token)
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=str(stage), commit_message="Textual Inversion")
    # The hub's client lets errors of several libraries through (network, HTTP, token store).
    except Exception as error:
        raise OutputError(
            f"the upload to {name} failed ({_reason(error)}); nothing is lost, everything is in {folder}: upload it "
            f"later with: {shlex.join(['huggingface-cli', 'upload', name, str(stage), '.'])}"
        ) from error
    shutil.rmtree(stage, ignore_errors=True)
    return str(address)


def _put_together(folder: Path, *, whole_pipeline: bool) -> Path:
    """The folder of what goes up, made anew; raises OutputError."""
    patterns = ["*"] if whole_pipeline else SMALL_FILES
    with atomic.fill_folder(folder / _STAGE) as stage:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if stage not in path.parents and _matches(name, patterns) and not _matches(name, _KEPT_BACK):
                put_public_copy(path, stage / name)
    return folder / _STAGE


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
