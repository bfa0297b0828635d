"""Upload the folder of a run to a hub: Hugging Face, or the one that HF_ENDPOINT names, or AI Studio.

Only files that the run itself wrote, and that are as it wrote them, are uploaded: those of its list (see
`system.written_files`), and of these its results and, on request, its saved pipeline, which takes gigabytes and which
anybody can make from the base model and the embeddings. Records are built anew from what may be shown (see
`sharing.public_records`). All is collected in `.upload/` inside the folder of the run. For Hugging Face the client is
huggingface_hub, which makes one commit over HTTP and needs no git; for AI Studio see `hub.aistudio_upload`.
"""

import dataclasses
import fnmatch
import shlex
from collections.abc import Callable
from pathlib import Path

from textual_inversion.formats.embedding_file import read_embeddings, write_safetensors
from textual_inversion.formats.targets import TARGETS
from textual_inversion.hub import aistudio_upload
from textual_inversion.hub.hugging_face import HubError, client, explain
from textual_inversion.settings.choices import AI_STUDIO, HUGGING_FACE
from textual_inversion.sharing import aistudio
from textual_inversion.sharing.public_records import EXPORTS, public_config, public_metadata, public_record, record_of
from textual_inversion.system import atomic
from textual_inversion.system.errors import EmbeddingFileError, OutputError
from textual_inversion.system.written_files import (
    PIPELINE,
    RESULT,
    UPLOAD,
    ChangedFileError,
    WrittenFiles,
    is_own,
    of_kind,
)

RECORD = "run.json"
CONFIGURATIONS = ("config.yaml", "config-of-run.yaml")
EMBEDDINGS = "learned_embeds*"
# Results that show nothing but what the records show, the vectors, and images that were drawn to be seen.
_AS_THEY_ARE = ("learned_embeds*.pdparams", "README.md", "overview.png", "samples/*.png",
                *(f"{EXPORTS}/{name}/*" for name in TARGETS))  # fmt: skip
_STAGE = ".upload"


def check_login(token: str | None, hub: str = HUGGING_FACE) -> None:
    """Check before a long run that a hub accepts the access token.

    Args:
        token: that of Hugging Face; None takes the one of an earlier login.
        hub: one of `choices.HUBS`; AI Studio's token is in the environment, or of an earlier login.

    Raises:
        OutputError: the hub does not accept it, or cannot be reached.
    """
    try:
        if hub == AI_STUDIO:
            return aistudio_upload.check_login()
        client(token).whoami()
    except HubError as error:
        raise OutputError(
            f"--push_to {AI_STUDIO}: cannot log in ({error}); set AISTUDIO_ACCESS_TOKEN to your access token and check "
            "the network, or leave --push_to out"
        ) from error
    except Exception as error:
        raise OutputError(
            f"--push_to_hub: cannot log in ({explain(error)}); check --hub_token and the network, or leave "
            "--push_to_hub out"
        ) from error


def upload(
    files: WrittenFiles,
    repository: str | None,
    token: str | None,
    *,
    hub: str = HUGGING_FACE,
    whole_pipeline: bool = False,
    say: Callable[[str], None] = print,
) -> str:
    """Upload the results of a run and return the address of the repository.

    Args:
        files: the list of what the run wrote.
        repository: repository id; None takes the folder's name, under the account of the token.
        token: access token of Hugging Face; None takes the one of an earlier login.
        hub: one of `choices.HUBS`.
        whole_pipeline: also upload the saved pipeline.
        say: told about each file that was changed since the run wrote it, and is left out.

    Raises:
        OutputError: the hub cannot be reached or refuses, or no embedding file is as it was written; all files are
            still in the folder.
    """
    name = repository or files.folder.resolve().name
    stage = collect(files, whole_pipeline=whole_pipeline, say=say)
    # What uploads the stage, and what a user can do so with later.
    by_hand = ["huggingface-cli", "upload", name, str(stage), "."]
    if hub == AI_STUDIO:
        by_hand = ["python", "-m", aistudio.__name__, name, str(stage)]
    try:
        address = aistudio.push(name, stage) if hub == AI_STUDIO else _push_to_hugging_face(name, stage, token)
    # The client raises errors of several libraries: network, HTTP, token store.
    except Exception as error:
        reason = str(error) if isinstance(error, HubError) else explain(error, name)
        raise OutputError(
            f"the upload to {name} failed ({reason}); nothing is lost, all files are in {files.folder}; "
            f"upload them later with: {shlex.join(by_hand)}"
        ) from error
    if is_own(stage):
        atomic.remove_folder(stage)
    return address


def _push_to_hugging_face(name: str, stage: Path, token: str | None) -> str:
    """Upload a folder in one commit; raises what huggingface_hub raises."""
    api = client(token)
    address = api.create_repo(name, exist_ok=True)
    api.upload_folder(repo_id=address.repo_id, folder_path=str(stage), commit_message="Textual Inversion")
    return str(address)


def collect(files: WrittenFiles, *, whole_pipeline: bool, say: Callable[[str], None]) -> Path:
    """Collect what is to be uploaded in a new folder inside the run's, and return it.

    Raises:
        OutputError: it cannot be written, a record is damaged, or no embedding file is as it was written.
    """
    folder, missing = _free_folder(files.folder), []
    names = [name for name in files.names(RESULT) if _is_shown(name)]
    names += files.names(PIPELINE) if whole_pipeline else []
    with of_kind(UPLOAD), atomic.fill_folder(folder) as stage:
        copied = []
        for name in names:
            try:
                _put(files, name, stage)
                copied.append(name)
            except ChangedFileError as change:
                missing.append(f"{name} {change}")
        if not fnmatch.filter(copied, EMBEDDINGS):
            reason = missing[0] if missing else f"{files.folder} holds no embedding file of this run"
            raise OutputError(f"nothing is uploaded: {reason}; train again, or upload the files yourself")
    for line in missing:
        say(f"note: {line}, so it is not uploaded")
    return folder


def _is_shown(name: str) -> bool:
    patterns = (RECORD, *CONFIGURATIONS, "learned_embeds*.safetensors", *_AS_THEY_ARE)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _free_folder(parent: Path) -> Path:
    """Where nothing lies but what this run has collected before."""
    number, folder = 1, parent / _STAGE
    while not is_own(folder):
        number += 1
        folder = parent / f"{_STAGE}-{number}"
    return folder


def _put(files: WrittenFiles, name: str, stage: Path) -> None:
    """Put a file of the run, fit for others to see, into the stage; raises ChangedFileError or OutputError."""
    target = stage / name
    atomic.make_folder(target.parent)
    if name == RECORD:
        atomic.write_json(target, public_record(_record(files)))
    elif name in CONFIGURATIONS:
        with files.opened(name) as file:
            text = file.read().decode("utf-8", "replace")
        atomic.write_text(target, public_config(text, _record(files)["public_base_model"]))
    elif fnmatch.fnmatchcase(name, "learned_embeds*.safetensors"):
        files.copy(name, target)
        _clean(target, _record(files)["public_base_model"])
    else:
        files.copy(name, target)


def _record(files: WrittenFiles) -> dict:
    with files.opened(RECORD) as file:
        record = record_of(file.read())
    if not isinstance(record.get("public_base_model"), str):
        raise OutputError(f"{files.folder / RECORD} is not as a run writes it, so nothing is uploaded; train again")
    return record


def _clean(path: Path, base_model: str) -> None:
    """Leave in a copy of an embedding file only the metadata that others may see."""
    try:
        (embedding,) = read_embeddings(path)
    except (EmbeddingFileError, ValueError) as error:
        raise OutputError(f"{path.name} is damaged, so nothing is uploaded; train again") from error
    metadata = public_metadata(embedding.metadata, base_model)
    write_safetensors(path, dataclasses.replace(embedding, metadata=metadata))
