"""Which repositories an owner or a collection of Hugging Face has, without any of their files.

A name is one of these:

    owner/name                 a repository; also aistudio:owner/name
    owner                      whatever a person or an organization has, most downloaded first
    owner/title-64f9a5…        a collection, as its address on the hub ends

All that is asked is names; see `bounded_answers` for how much of an answer is read.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from textual_inversion.hub import repositories
from textual_inversion.hub.hugging_face import HubError, client, explaining, is_repository_id
from textual_inversion.system.checked_json import checked

_COLLECTION = re.compile(r"[\w-][\w.-]*/[\w.-]*-?[0-9a-f]{24}")
_OWNER = re.compile(r"[\w-][\w.-]*")
_SECONDS_FOR_A_LIST = 20  # of hundreds of repositories
_SECONDS_FOR_ALL = 60


@dataclass(frozen=True)
class Listed:
    """A repository.

    Attributes:
        name: its name.
        files: the paths in it; None where the hub did not say.
    """

    name: str
    files: tuple[str, ...] | None


@dataclass(frozen=True)
class Listing:
    """Some repositories.

    Attributes:
        repositories: no more than were asked for.
        has_more: there are others.
    """

    repositories: tuple[Listed, ...]
    has_more: bool = False


def is_listable(name: str) -> bool:
    """Whether a name is one that `listed` can be asked for."""
    return repositories.is_repository_name(name) or bool(_OWNER.fullmatch(name))


def listed(name: str, *, most: int, token: str | None = None) -> Listing:
    """What is behind a name: a repository, or those of an owner or a collection.

    Args:
        most: repositories.
        token: for private and gated repositories of Hugging Face; None takes the one of an earlier login.

    Raises:
        HubError: the hub refuses, cannot be reached, or gives an answer that is none.
    """
    if _COLLECTION.fullmatch(name):
        return _of_collection(name, most, token)
    if repositories.is_repository_name(name):
        return Listing((Listed(name, tuple(repositories.files_of(name, token=token))),))
    return _of_owner(name, most, token)


def _of_owner(owner: str, most: int, token: str | None) -> Listing:
    from textual_inversion.hub.bounded_answers import within

    options = dict(author=owner, limit=most + 1, sort="downloads", direction=-1, full=True)
    with explaining(owner, None):
        ask = partial(client(token).list_models, **options)
        found = within(_SECONDS_FOR_A_LIST, lambda: list(ask()))
        models = [
            Listed(model.id, tuple(checked([file.rfilename for file in model.siblings or ()], list[str])))
            for model in found
            if is_repository_id(checked(model.id, str))
        ]
    return Listing(tuple(models[:most]), len(found) > most)


def _of_collection(slug: str, most: int, token: str | None) -> Listing:
    from textual_inversion.hub.bounded_answers import within

    with explaining(slug, None):
        collection = within(_SECONDS_FOR_A_LIST, partial(client(token).get_collection, slug))
        names = [checked(item.item_id, str) for item in collection.items if item.item_type == "model"]
    names = list(dict.fromkeys(filter(is_repository_id, names)))
    found = list(_each(names[:most], token))
    return Listing(tuple(found), len(names) > len(found))


def _each(names: list[str], token: str | None) -> Iterator[Listed]:
    """The repositories of a collection, as far as there is time for; one that is gone or private has no files."""
    end = time.monotonic() + _SECONDS_FOR_ALL
    for name in names:
        if time.monotonic() > end:
            return
        try:
            yield Listed(name, tuple(repositories.files_of(name, token=token)))
        except HubError:
            yield Listed(name, None)
