"""What a hub may answer: everything but files is short, and is read no further than that.

huggingface_hub reads an answer as a whole, however long it is or becomes when it is unpacked, and waits for it as long
as a byte comes now and then. Files are streamed onto the disk, so they are not bounded here.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from huggingface_hub import configure_http_backend, constants
from requests.adapters import HTTPAdapter

MOST_BYTES = 4 << 20  # after unpacking; the list of a repository of a thousand files has 100 kB
_CHUNK = 4096  # packed bytes at a time, which become four megabytes at most
_T = TypeVar("_T")


class LongAnswer(requests.RequestException):
    """A hub's answer has more than MOST_BYTES."""


class LateAnswer(requests.Timeout):
    """A hub has not finished answering in time."""


class _Adapter(HTTPAdapter):
    """Sends requests; an answer that is not streamed, or that leads elsewhere, is read up to MOST_BYTES."""

    def send(self, request: requests.PreparedRequest, stream: bool = False, **more: Any) -> requests.Response:
        if constants.HF_HUB_OFFLINE:
            raise requests.ConnectionError("HF_HUB_OFFLINE forbids it")
        response = super().send(request, stream=True, **more)
        if not stream or response.is_redirect:  # requests reads the body of each redirection
            response._content, response._content_consumed = _content(response), True
        return response


def _content(response: requests.Response) -> bytes:
    parts, size = [], 0
    for part in response.iter_content(_CHUNK):
        size += len(part)
        if size > MOST_BYTES:
            response.close()
            raise LongAnswer(f"the hub's answer is longer than {MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def bounded_session(kind: type[requests.Session] = requests.Session) -> requests.Session:
    """A session, of some class, whose answers are read up to MOST_BYTES, unless they are streamed."""
    session = kind()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


def bound_answers() -> None:
    """From now on huggingface_hub reads answers up to MOST_BYTES, in this and in all other threads."""
    configure_http_backend(bounded_session)


def within(seconds: float, ask: Callable[[], _T]) -> _T:
    """What `ask()` returns; raises what it raises, or LateAnswer, when it is left to itself in its own thread."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise LateAnswer(f"no answer within {seconds:.0f} s")
    return results[0]
