"""Upload files to a repository of Baidu AI Studio, which takes one at a time and makes a commit of each.

Small files go to the git server as they are. For those that it wants in large file storage it names an address, takes
the content there, and then a pointer to it in the repository.
"""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from typing_extensions import TypedDict

from textual_inversion.hub import aistudio_client
from textual_inversion.hub.aistudio import BRANCH
from textual_inversion.hub.aistudio_client import (
    Refusal,
    ask,
    git_server,
    in_repository,
    is_web_address,
    refuse_failure,
    shortened,
    within_reach,
)
from textual_inversion.hub.aistudio_download import hashes_of
from textual_inversion.hub.hugging_face import HubError
from textual_inversion.system import user_files

MOST_BYTES = 5 << 30  # of a file that is sent in one request
_MOST_BYTES_IN_GIT = 5 << 20
_SECONDS = 300  # for an answer to what is written
_LFS = {"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
_ABOUT_ACCESS = (requests.codes.unauthorized, requests.codes.forbidden)


class _Made(TypedDict, total=False):
    errorCode: int
    errorMsg: str | None


class _HowToSend(TypedDict):
    lfs: bool


class _Preupload(TypedDict):
    files: list[_HowToSend]


class _Action(TypedDict, total=False):
    href: str
    header: dict[str, str] | None


class _Object(TypedDict, total=False):
    actions: dict[str, _Action] | None


class _Batch(TypedDict):
    objects: list[_Object]


def check_login() -> None:
    """Check that there is an access token, and that AI Studio does not refuse it.

    Raises:
        HubError: there is none, it is refused, or AI Studio cannot be reached.
    """
    if aistudio_client.token() is None:
        raise HubError("there is no access token and no earlier login")
    try:
        ask("GET", f"{git_server()}/api/v1/user", dict[str, Any])
    except Refusal as error:
        if error.status in _ABOUT_ACCESS or error.status >= requests.codes.server_error:
            raise  # any other status: it does not say who is asking, and the upload will tell


def create(repository: str, license_name: str) -> None:
    """Make a public repository, unless it is there.

    Args:
        repository: such as "owner/name"; the owner must be that of the token.
        license_name: of what will be in it.

    Raises:
        HubError: AI Studio refuses or cannot be reached.
    """
    name = repository.partition("/")[2]
    body = {"repoType": 1, "repoName": name, "modelName": name, "desc": "", "license": license_name}
    made = ask("POST", aistudio_client.service("HUB_URL"), _Made, body=body, seconds=_SECONDS)
    said = shortened(made.get("errorMsg") or "")
    if made.get("errorCode") and "already" not in said:
        raise HubError(f"AI Studio makes no repository: {said or made['errorCode']}")


def upload_folder(repository: str, folder: Path, message: str, say: Callable[[str], None] = lambda name: None) -> str:
    """Upload all files of a folder, and return the address of the repository.

    Args:
        message: of the commits.
        say: told the name of each file before it is sent.

    Raises:
        HubError: AI Studio refuses or cannot be reached; files before that one are there.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for name, path in files.items():
        if path.stat().st_size > MOST_BYTES:
            size = user_files.size_text(path.stat().st_size)
            raise HubError(f"{name} has {size}, and AI Studio takes {user_files.size_text(MOST_BYTES)} at most")
    there = _hashes_there(repository)
    for name, path in files.items():
        say(name)
        _send(repository, name, path, message, there.get(name))
    return f"{git_server()}/{repository}"


def _hashes_there(repository: str) -> dict[str, str]:
    try:
        return hashes_of(repository)
    except Refusal as error:
        if error.status in (requests.codes.not_found, requests.codes.conflict):
            return {}  # so a git server answers where nothing is in it yet
        raise


def _send(repository: str, name: str, path: Path, message: str, before: str | None) -> None:
    """Send a file; `before` is git's hash of what has its name now."""
    how = ask("POST", f"{git_server()}/{repository}/preupload/{BRANCH}", _Preupload, body={"files": [{"path": name}]})
    if not how["files"]:
        raise HubError("AI Studio gave an answer that cannot be used (no file)")
    if how["files"][0]["lfs"]:
        content = _stored(repository, path)
    elif path.stat().st_size > _MOST_BYTES_IN_GIT:
        raise HubError(f"AI Studio takes no {name} of {user_files.size_text(path.stat().st_size)}")
    else:
        content = {"content": _encoded(user_files.read_bytes(path, _MOST_BYTES_IN_GIT)), "lfs": False}
    body = {"branch": BRANCH, "new_branch": BRANCH, "message": message, **content}
    method = "POST" if before is None else "PUT"
    body |= {} if before is None else {"sha": before}
    url = in_repository(repository, "contents", *name.split("/"))
    ask(method, url, dict[str, Any], body=body, seconds=_SECONDS)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _stored(repository: str, path: Path) -> dict[str, Any]:
    """Put a file into large file storage, and return what says in the repository where it is."""
    oid, size = _sha256(path), path.stat().st_size
    body = {"operation": "upload", "objects": [{"oid": oid, "size": size}], "transfers": ["basic"],
            "ref": {"name": f"refs/heads/{BRANCH}"}, "hash_algo": "sha256"}  # fmt: skip
    batch = ask("POST", f"{git_server()}/{repository}.git/info/lfs/objects/batch", _Batch, body=body, headers=_LFS)
    actions = (batch["objects"][0].get("actions") if batch["objects"] else None) or {}
    if "upload" in actions:  # otherwise it has this content already
        _put(actions["upload"], path)
    if "verify" in actions:
        url, headers = _address(actions["verify"]), _LFS | _headers(actions["verify"])
        ask("POST", url, dict[str, Any], body={"oid": oid, "size": size}, headers=headers, own=_is_own(url))
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}"
    return {"content": _encoded(pointer.encode()), "lfsPointer": True}


def _put(action: _Action, path: Path) -> None:
    url, headers = _address(action), {"Content-Type": "application/octet-stream"} | _headers(action)

    def put() -> None:
        with user_files.opened(path, MOST_BYTES) as file:
            refuse_failure(aistudio_client.request("PUT", url, data=file, headers=headers, own=_is_own(url)))

    within_reach(put)


def _address(action: _Action) -> str:
    url = action.get("href", "")
    if not is_web_address(url):
        raise HubError("AI Studio gave an answer that cannot be used (no address for a file)")
    return url


def _headers(action: _Action) -> dict[str, str]:
    """What the server wants to be sent along, such as a signature."""
    return dict(action.get("header") or {})


def _is_own(url: str) -> bool:
    """Whether an address is on the git server, which alone gets the token."""
    return url.startswith(f"{git_server()}/")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with user_files.opened(path, MOST_BYTES) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
