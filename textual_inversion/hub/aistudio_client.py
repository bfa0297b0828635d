"""Requests to AI Studio: where it is, who asks, how long an answer may be, and what an error means.

AI Studio keeps a repository on a git server with an HTTP interface, and lists repositories in a service of its own. The
addresses are those of aistudio-sdk, whose functions are not used: they write into the working folder, keep what an
error says as if it were the file, and take the paths and lengths of answers as they come. A token is only sent to the
server that it is for, and to AI Studio itself never without encryption.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from typing_extensions import TypedDict

from textual_inversion.hub.bounded_answers import LongAnswer, bounded_session, within
from textual_inversion.hub.hugging_face import MALFORMED, SECONDS_TO_ANSWER, HubError, is_offline
from textual_inversion.system import user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json
from textual_inversion.system.home import home_folder

_LONGEST_MESSAGE = 200  # characters of an answer that an error shows
_LONGEST_TOKEN = 4096
_SECONDS_TO_FINISH = 8  # of a short answer, once it has begun
_SECONDS_BETWEEN_BYTES = 60  # of a file
_WRONG_IN_A_TOKEN = re.compile(r"[^!-~]")
T = TypeVar("T")


class _Message(TypedDict, total=False):
    """An answer that says why something is refused."""

    message: str
    errorMsg: str


class _Login(requests.auth.AuthBase):
    """Names the user by a token, or nobody; without it requests would send what ~/.netrc holds for the server."""

    def __init__(self, token: str | None):
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"token {self._token}"
        return request


class _Session(requests.Session):
    """Drops the token where an answer leads to another server, and tells nothing of ~/.netrc there either."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        if self.should_strip_auth(response.request.url, prepared_request.url):
            prepared_request.headers.pop("Authorization", None)


def git_server() -> str:
    """The address of the server that holds the files: that of STUDIO_GIT_HOST, else AI Studio's."""
    return _address("STUDIO_GIT_HOST", "STUDIO_GIT_HOST_DEFAULT")


def service(path: str) -> str:
    """An address of the service that makes repositories and knows who may see them.

    Args:
        path: the name of one of the SDK's paths, such as "HUB_URL".
    """
    return _address("STUDIO_MODEL_API_URL_PREFIX", "STUDIO_MODEL_API_URL_PREFIX_DEFAULT") + getattr(_config(), path)


def _address(variable: str, default: str) -> str:
    named = os.environ.get(variable, "").strip().rstrip("/")
    if named and not is_web_address(named):
        raise HubError(f"{variable} is not the address of a web server; give one that begins with https://")
    # The SDK's own default sends the token in the clear.
    return named or getattr(_config(), default).replace("http://", "https://")


def _config() -> Any:
    try:
        from aistudio_sdk import config
    except ValueError as error:  # CURRENT_ENV names an environment that it does not know
        raise HubError(f"aistudio-sdk refuses to start ({error}); unset CURRENT_ENV") from error
    return config


def in_repository(repository: str, *parts: str) -> str:
    """An address on the git server, such as that of a file; `parts` are quoted."""
    owner, name = repository.split("/")
    return "/".join([git_server(), "api/v1/repos", *(quote(part, safe="") for part in (owner, name, *parts))])


def token() -> str | None:
    """The access token of AISTUDIO_ACCESS_TOKEN, else that of an earlier `aistudio config`; None where there is none.

    Raises:
        HubError: it has characters that no token has.
    """
    found = os.environ.get("AISTUDIO_ACCESS_TOKEN", "").strip() or _kept_token()
    if _WRONG_IN_A_TOKEN.search(found):
        raise HubError("the access token for AI Studio holds blanks or other characters that no token has")
    return found or None


def _kept_token() -> str:
    home = os.environ.get("AISTUDIO_CACHE_HOME") or home_folder()
    if home is None:
        return ""
    try:
        return user_files.read_text(Path(home, ".cache/aistudio/.auth/token"), _LONGEST_TOKEN).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def ask(
    method: str,
    url: str,
    schema: Any,
    *,
    body: Mapping[str, Any] | None = None,
    params: Mapping[str, str | int] | None = None,
    headers: Mapping[str, str] | None = None,
    own: bool = True,
    seconds: float = _SECONDS_TO_FINISH,
) -> Any:
    """The JSON value of an answer.

    Args:
        schema: the type that the value must have, see `system.checked_json`.
        body: sent as JSON.
        own: it is AI Studio that is asked, so that the token is sent.
        seconds: after which it counts as unreachable.

    Raises:
        Refusal: the answer's status is none of success.
        HubError: there is no answer in time, or one that cannot be used.
    """
    response = within_reach(
        lambda: within(seconds, lambda: request(method, url, json=body, params=params, headers=headers, own=own))
    )
    refuse_failure(response)
    try:
        return checked(parse_json(response.content), schema)
    except UnusableJson as error:
        raise HubError(f"AI Studio gave an answer that cannot be used ({str(error)[:_LONGEST_MESSAGE]})") from error


def request(method: str, url: str, *, own: bool = True, **options: Any) -> requests.Response:
    """An answer, of which no more is read than `bounded_answers` allows, unless it is streamed.

    Only what is read follows to another address.
    """
    if is_offline():
        raise HubError("HF_HUB_OFFLINE forbids it")
    options.setdefault("timeout", (SECONDS_TO_ANSWER, _SECONDS_BETWEEN_BYTES))
    login = _Login(token() if own else None)
    with bounded_session(_Session) as session:
        return session.request(method, url, auth=login, allow_redirects=method == "GET", **options)


class Refusal(HubError):
    """AI Studio answered with a status that is none of success.

    Attributes:
        status: the status.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def within_reach(call: Callable[[], T]) -> T:
    """What `call()` returns; raises HubError where the server cannot be reached, breaks off, or makes no sense."""
    try:
        return call()
    except LongAnswer as error:
        raise HubError(str(error)) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise HubError("AI Studio cannot be reached") from error
    # An address that it leads to, or a header, may be anything.
    except (requests.RequestException, *MALFORMED) as error:
        raise HubError(f"AI Studio gave an answer that cannot be used ({type(error).__name__})") from error


def refuse_failure(response: requests.Response, *, has_message: bool = True) -> None:
    """Raise Refusal where an answer's status is none of success.

    Args:
        has_message: the answer was read, so that it may say why.
    """
    status = response.status_code
    if status // 100 == 2:
        return
    if status in (requests.codes.unauthorized, requests.codes.forbidden):
        raise Refusal(status, _about_token(status))
    if status == requests.codes.not_found:
        raise Refusal(status, "AI Studio has no public repository of this name")
    said = _message(response) if has_message else ""
    raise Refusal(status, f"AI Studio answered {status}" + (f": {said}" if said else ""))


def _about_token(status: int) -> str:
    if token() is None:
        return f"AI Studio wants an access token ({status}): set AISTUDIO_ACCESS_TOKEN, or use aistudio config -t"
    return f"AI Studio does not accept the access token ({status})"


def _message(response: requests.Response) -> str:
    try:
        said = checked(parse_json(response.content), _Message)
    except UnusableJson:
        return ""
    return shortened(said.get("message") or said.get("errorMsg") or "")


def shortened(message: str) -> str:
    """An answer's message as a part of a line."""
    return " ".join(message.split())[:_LONGEST_MESSAGE]


def is_web_address(url: str) -> bool:
    """Whether a text is the address of a web server."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)
