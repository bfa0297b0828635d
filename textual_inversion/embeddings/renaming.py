"""Give concepts of embedding files other placeholder tokens: `--rename OLD=NEW`.

Whoever made a file chose its token. It may hold blanks, be a word of the base model, or be the one of another file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from textual_inversion.embeddings.pairs import ReadFile
from textual_inversion.formats.errors import file_name, printable, quoted
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.system.errors import SettingsError

_ANY = ("", "*")  # what files hold that do not name their concept


def read_renaming(renaming: Sequence[str] | None) -> dict[str, str]:
    """OLD -> NEW of texts such as "OLD=NEW"; OLD may hold equal signs, NEW does not.

    Raises:
        SettingsError: one OLD gets two names.
    """
    names: dict[str, str] = {}
    for text in renaming or ():
        old, _, new = text.rpartition("=")
        if names.setdefault(old, new) != new:
            raise SettingsError(f"--rename gives {quoted(old)} two names, {names[old]} and {new}; choose one")
    return names


def rename(files: Sequence[ReadFile], names: Mapping[str, str]) -> list[tuple[ReadFile, dict[str, str]]]:
    """Files with concepts under other placeholder tokens.

    Args:
        names: OLD -> NEW. OLD is a placeholder token, or the name or path of a file with one concept.

    Returns:
        Each file, with NEW -> the token that it holds for each of its concepts that got another name.

    Raises:
        SettingsError: nothing, or more than one concept, is called OLD.
    """
    chosen: dict[tuple[int, str], str] = {}
    for old, new in names.items():
        place = _place_of(composed(old), files)
        if place in chosen:
            raise SettingsError(f"--rename gives {quoted(place[1])} two names, {chosen[place]} and {new}; choose one")
        chosen[place] = composed(new)
    renamed = []
    for index, file in enumerate(files):
        own = {token: chosen.get((index, token), token) for token in file.tokens}
        originals = {new: token for token, new in own.items() if new != token}
        concepts = tuple(
            replace(concept, placeholder_token=own[concept.placeholder_token]) for concept in file.concepts
        )
        renamed.append((replace(file, concepts=concepts), originals))
    return renamed


def _place_of(old: str, files: Sequence[ReadFile]) -> tuple[int, str]:
    """(index of the file, placeholder token) of the concept that OLD names; raises SettingsError."""
    everything = [(index, token) for index, file in enumerate(files) for token in file.tokens]
    places = [place for place in everything if place[1] == old]
    if not places:
        places = [place for place in everything if _is_called(files[place[0]], old)]
    if not places and old in _ANY and len(everything) == 1:
        places = everything
    if len(places) == 1:
        return places[0]
    if not places:
        held = ", ".join(printable(token, 60) for _, token in everything)
        raise SettingsError(f"--rename: nothing is called {quoted(old)}; the files hold {held}")
    if len({index for index, _ in places}) > 1:
        paths = ", ".join(file_name(files[index].path) for index, _ in places)
        raise SettingsError(f"--rename: {quoted(old)} is in {paths}; name the file, as in FILE=NEW")
    held = ", ".join(printable(token, 60) for _, token in places)
    raise SettingsError(f"--rename: {quoted(old)} holds {held}; name one of them instead of the file")


def _is_called(file: ReadFile, old: str) -> bool:
    return any(old in (str(path), path.name, path.stem) for path in file.paths)
