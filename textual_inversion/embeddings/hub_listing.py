"""The learned embeddings of a repository, an owner or a collection on a hub, by their names; nothing is downloaded."""

from dataclasses import dataclass

from textual_inversion.embeddings.file_names import embeddings_among
from textual_inversion.formats.errors import printable, quoted
from textual_inversion.hub.hugging_face import HubError
from textual_inversion.hub.listing import is_listable, listed
from textual_inversion.system.errors import EmbeddingFileError, SettingsError

MOST = 200  # repositories of an owner or a collection
_MOST_FILES = 20  # of one repository, in a table


@dataclass(frozen=True)
class EmbeddingsOnHub:
    """What a name on a hub has.

    Attributes:
        name: as it was asked for.
        files: repository -> its embedding files.
        others: how many repositories hold none.
        unknown: repositories of which the hub does not say what they hold.
        has_more: there are more repositories than were looked at.
    """

    name: str
    files: dict[str, tuple[str, ...]]
    others: int
    unknown: tuple[str, ...]
    has_more: bool


def embeddings_on_hub(name: str, *, most: int = MOST, token: str | None = None) -> EmbeddingsOnHub:
    """The embeddings that a hub has under a name.

    Args:
        name: see `hub.listing`.
        most: repositories to look at.
        token: for private and gated repositories of Hugging Face; None takes the one of an earlier login.

    Raises:
        SettingsError: there can be no such name.
        EmbeddingFileError: the hub does not say what is there, or there is no embedding.
    """
    if not is_listable(name):
        raise SettingsError(
            f"{quoted(name)} is nothing that a hub can list; give a repository such as sd-concepts-library/cat-toy, an "
            "owner, or a collection as its address ends"
        )
    try:
        listing = listed(name, most=most, token=token)
    except HubError as error:
        raise EmbeddingFileError(f"{name} cannot be listed: {error}; check the name and the network") from error
    known = {one.name: tuple(embeddings_among(one.files)) for one in listing.repositories if one.files is not None}
    files = {repository: found for repository, found in known.items() if found}
    unknown = tuple(one.name for one in listing.repositories if one.files is None)
    if not files:
        raise EmbeddingFileError(f"{name} on the hub has no learned embedding; choose another name")
    return EmbeddingsOnHub(name, files, len(known) - len(files), unknown, listing.has_more)


def report(found: EmbeddingsOnHub) -> list[str]:
    """The lines that list the embeddings: one for each repository, and what else is to be known."""
    lines = []
    for repository, files in found.files.items():
        shown = ", ".join(printable(file, 80) for file in files[:_MOST_FILES])
        more = f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
        lines.append(f"{printable(repository)}: {shown}{more}")
    if found.others:
        others = "1 other repository holds" if found.others == 1 else f"{found.others} other repositories hold"
        lines.append(f"{others} none")
    if found.unknown:
        lines.append(f"not shown by the hub: {', '.join(printable(name) for name in found.unknown)}")
    if found.has_more:
        lines.append("there are more; these are the first")
    return lines


def as_json(found: EmbeddingsOnHub) -> dict:
    """The same for programs."""
    files = {repository: list(names) for repository, names in found.files.items()}
    return {"name": found.name, "repositories": files, "unknown": list(found.unknown), "has_more": found.has_more}
