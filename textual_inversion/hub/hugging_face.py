"""Repositories of the Hugging Face hub, or of the one that HF_ENDPOINT names: the cache, downloads, and errors.

The client is huggingface_hub, imported where it is needed. It reads its environment variables when it is first
imported, shows the progress of downloads itself, and keeps them where other programs can find them.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textual_inversion.system.checked_json import checked

SECONDS_TO_ANSWER = 5  # after which a hub counts as unreachable
_SECONDS_TO_LIST = 8  # after which a hub that has begun to answer counts as such, too
_LONGEST_MESSAGE = 200  # characters of a hub's answer
# What the client raises for an answer that is no JSON, or JSON of another type.
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_REPOSITORY_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class HubError(Exception):
    """A repository cannot be reached; the message is a phrase such as "the hub cannot be reached"."""


def is_repository_id(name: str) -> bool:
    """Whether a name has the form "owner/name"."""
    return bool(_REPOSITORY_ID.fullmatch(name))


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids downloads."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def cached(repository: str, *, revision: str | None = None, cache_dir: str | Path | None = None) -> Path | None:
    """The cached folder of a repository, perhaps incomplete, or None. Any program may have downloaded it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, cache_dir=cache_dir, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def files_of(repository: str, *, revision: str | None = None, token: str | None = None) -> list[str]:
    """The paths of all files in a repository.

    Args:
        revision: branch, tag or commit.
        token: for private and gated repositories; None takes the one of an earlier login.

    Raises:
        HubError: the hub refuses, does not answer within SECONDS_TO_ANSWER, or answers what is no list of files.
    """
    from textual_inversion.hub.bounded_answers import within

    with explaining(repository, revision):
        ask = partial(client(token).model_info, repository, revision=revision, timeout=SECONDS_TO_ANSWER)
        info = within(_SECONDS_TO_LIST, ask)
        return checked([entry.rfilename for entry in info.siblings or ()], list[str])


def client(token: str | None) -> Any:
    """A huggingface_hub.HfApi, of which no answer but a file may be long; see `bounded_answers`."""
    from huggingface_hub import HfApi

    from textual_inversion.hub.bounded_answers import bound_answers

    bound_answers()
    return HfApi(token=token)


def fetch(
    repository: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
) -> Path:
    """Download some files of a repository into the cache, unless they are there already, and return the folder.

    Args:
        files: paths as `files_of` gives them.

    Raises:
        HubError: they cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    from textual_inversion.hub.bounded_answers import bound_answers

    with explaining(repository, revision):
        bound_answers()
        # By the name of the branch, not by its commit: only then can the copy be found again without a network.
        folder = snapshot_download(
            repository, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=list(files)
        )
        return Path(folder)


@contextlib.contextmanager
def explaining(repository: str, revision: str | None) -> Iterator[None]:
    """Turn whatever the client raises into a HubError; raises one at once where downloads are forbidden."""
    if is_offline():
        raise HubError("HF_HUB_OFFLINE forbids downloads")
    try:
        yield
    # The client takes whatever a hub answers for what it expects, so any exception may come of it.
    except Exception as error:
        raise HubError(explain(error, repository, revision)) from error


def explain(error: BaseException, repository: str = "", revision: str | None = None) -> str:
    """What an error of huggingface_hub, or of the network below it, means: a phrase of one line."""
    import requests
    from huggingface_hub import utils as hub

    from textual_inversion.hub.bounded_answers import LongAnswer

    if isinstance(error, hub.GatedRepoError):
        return f"access must be requested at https://huggingface.co/{repository}; then log in or give --hub_token"
    if isinstance(error, hub.RevisionNotFoundError):
        return f"the hub has no revision {revision} of it"
    if isinstance(error, hub.RepositoryNotFoundError):
        return "the hub has no public repository of this name (a private one needs --hub_token)"
    if isinstance(error, LongAnswer):
        return str(error)
    malformed = isinstance(error, MALFORMED) and not isinstance(error, OSError | hub.HFValidationError)
    if malformed or isinstance(error, requests.JSONDecodeError):
        return f"the hub gave an answer that cannot be used ({type(error).__name__})"
    if isinstance(error, hub.LocalEntryNotFoundError | requests.ConnectionError | requests.Timeout):
        return "the hub cannot be reached"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        if error.response.status_code == requests.codes.unauthorized:
            return "the hub does not accept the token (401)"
        message = " ".join((getattr(error, "server_message", None) or "").split())
        return f"the hub answered {error.response.status_code}" + (f": {message[:_LONGEST_MESSAGE]}" if message else "")
    if isinstance(error, hub.LocalTokenNotFoundError):
        return "there is no token and no earlier login"
    if error.__cause__ is not None:  # such as when one file of several could not be uploaded
        return explain(error.__cause__, repository, revision)
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:_LONGEST_MESSAGE]}" if lines else type(error).__name__
