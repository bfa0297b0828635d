"""Upload the folder of a run to the Hugging Face hub, or to the one that HF_ENDPOINT names.

The upload is small: the embeddings, how they were learned, and the images. The saved pipeline takes gigabytes, and
anybody can make it from the base model and the embeddings, so it is uploaded only on request. The files are collected
in `.upload/` inside the folder of the run, without paths of this machine (see `sharing.redact`). The client is
huggingface_hub, which makes one commit over HTTP and needs no git.
"""

import fnmatch
import shlex
import shutil
from pathlib import Path

from textual_inversion.hub.hugging_face import client, explain
from textual_inversion.sharing.redact import put_public_copy
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

SMALL_FILES = ["learned_embeds*", "README.md", "run.json", "config.yaml", "overview.png", "samples/*.png"]
# Logs and checkpoints are useful only on the machine that made them.
_KEPT_BACK = ["logs/*", "checkpoint-*/*", ".*"]
_STAGE = ".upload"


def check_login(token: str | None) -> None:
    """Check before a long run that the hub accepts the token.

    Args:
        token: access token; None takes the one of an earlier login.

    Raises:
        OutputError: the hub does not accept it, or cannot be reached.
    """
    try:
        client(token).whoami()
    except Exception as error:
        raise OutputError(
            f"--push_to_hub: cannot log in ({explain(error)}); check --hub_token and the network, or leave "
            "--push_to_hub out"
        ) from error


def upload(folder: Path, repository: str | None, token: str | None, *, whole_pipeline: bool = False) -> str:
    """Upload the folder of a run in one commit and return the address of the repository.

    Args:
        repository: repository id; None takes the folder's name, under the account of the token.
        token: access token; None takes the one of an earlier login.
        whole_pipeline: also upload the saved pipeline, not only `SMALL_FILES`.

    Raises:
        OutputError: the hub cannot be reached or refuses; all files are still in `folder`.
    """
    name = repository or folder.resolve().name
    stage = _collect(folder, whole_pipeline=whole_pipeline)
    try:
        api = client(token)
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=str(stage), commit_message="Textual Inversion")
    # The client raises errors of several libraries: network, HTTP, token store.
    except Exception as error:
        raise OutputError(
            f"the upload to {name} failed ({explain(error, name)}); nothing is lost, all files are in {folder}; upload "
            f"them later with: {shlex.join(['huggingface-cli', 'upload', name, str(stage), '.'])}"
        ) from error
    shutil.rmtree(stage, ignore_errors=True)
    return str(address)


def _collect(folder: Path, *, whole_pipeline: bool) -> Path:
    """Collect the files to upload in a new folder and return it; raises OutputError."""
    patterns = ["*"] if whole_pipeline else SMALL_FILES
    with atomic.fill_folder(folder / _STAGE) as stage:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if stage not in path.parents and _matches(name, patterns) and not _matches(name, _KEPT_BACK):
                put_public_copy(path, stage / name)
    return folder / _STAGE


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
