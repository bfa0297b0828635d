"""Find the file of a learned embedding that a user names: by a path, or by the name of a repository on a hub.

A path that exists always wins. A repository such as `sd-concepts-library/cat-toy` is looked up in the cache on this
machine. If it is not there, one of its embedding files is fetched. It is read by the safe reader, like any other: the
placeholder token of a concept in that library is the key inside its `learned_embeds.bin`.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from textual_inversion.embeddings.file_names import embeddings_among
from textual_inversion.embeddings.pairs import partner_names
from textual_inversion.formats.errors import printable
from textual_inversion.hub import aistudio, hugging_face, repositories
from textual_inversion.storage import reading
from textual_inversion.system.addresses import Address, is_address
from textual_inversion.system.errors import EmbeddingFileError

# The first that exists is taken. In a repository, the file that names its base model comes first; in the folder of a
# run, the file that is written throughout the training.
NAMES = ("learned_embeds.safetensors", "learned_embeds.pdparams", "learned_embeds.bin")
_NAMES_HERE = ("learned_embeds.pdparams", "learned_embeds.safetensors", "learned_embeds.bin")

_RECORD = "run.json"  # says what an embedding was learned on
_MOST_SHOWN = 8  # files in a message
_OF_STEPS = re.compile(r"learned_embeds-steps-(\d{1,18})\.(pdparams|safetensors|bin)")

_ENDINGS = (".pdparams", ".safetensors", ".pt", ".bin", ".pth", ".ckpt")


def find_embedding_file(name_or_path: str | Path, token: str | None = None) -> Path:
    """The embedding file that a path or a repository id stands for.

    Args:
        name_or_path: a file; a folder that holds one of `NAMES`, such as that of a run, else the newest of those that
            a run saves on its way; an address of either in object storage; or the name of a repository. Any other path
            is returned unchanged, so that the reader can explain what is wrong with it.
        token: for private and gated repositories of Hugging Face; None takes the one of an earlier login.

    Returns:
        The file, which may hold several concepts.

    Raises:
        EmbeddingFileError: a folder or repository without embedding files, or a repository that cannot be reached.
    """
    path, name = Path(name_or_path).expanduser(), str(name_or_path)
    if is_address(name):
        path = at_address(reading.address(name))
    if path.is_dir():
        found = _first_of(path, _NAMES_HERE) or _newest_of(path)
        if found is None:
            raise EmbeddingFileError(f"{name} holds none of {', '.join(NAMES)}; name an embedding file in it")
        return found
    if path.exists() or not _can_be_repository(name):
        return path
    snapshot = repositories.cached(name)
    return (snapshot and (_first_of(snapshot) or _only_one_in(snapshot))) or _fetched(name, token)


def at_address(source: Address) -> Path:
    """The file, or the folder of a run, that stands for an address of object storage, with the record beside it.

    Raises:
        StorageError: it cannot be read, or there is nothing.
    """

    def inside(names: Collection[str]) -> set[str]:
        return {*embeddings_among(name for name in names if "/" not in name), _RECORD}

    return reading.file(source, {_RECORD, *partner_names(source.name)}, inside)


def _can_be_repository(name: str) -> bool:
    """Whether a name that is not a path here can be a repository id, instead of a missing file."""
    if aistudio.is_name(name):
        return True
    folder = name.partition("/")[0]
    return hugging_face.is_repository_id(name) and not name.endswith(_ENDINGS) and not Path(folder).is_dir()


def _first_of(folder: Path, names: tuple[str, ...] = NAMES) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _only_one_in(snapshot: Path) -> Path | None:
    """The file of a cached repository that holds none of NAMES, and of which one file was fetched."""
    found = embeddings_among(path.name for path in snapshot.iterdir())
    return snapshot / found[0] if len(found) == 1 else None


def _newest_of(folder: Path) -> Path | None:
    """What a run that has not finished saved last."""
    return next(iter(step_files(folder)[::-1]), None)


def step_files(folder: Path) -> list[Path]:
    """The embeddings that a run saved on its way, in the order of the steps; of a step's files, one."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _OF_STEPS.fullmatch(path.name))]
    return list({step: path for step, path in sorted(found, key=lambda one: (one[0], str(one[1])))}.values())


def step_of(path: Path) -> int:
    """The number of the step whose embeddings a file holds, one of `step_files`."""
    return int(_OF_STEPS.fullmatch(path.name)[1])


def _only_other(repository: str, available: Iterable[str]) -> str:
    """The embedding of a repository that holds none of NAMES: the newest of a run on its way, else the only one.

    Raises:
        EmbeddingFileError: there is none, or there are several.
    """
    found = embeddings_among(available)
    steps = {int(match[1]): name for name in found if (match := _OF_STEPS.fullmatch(name))}
    if steps:
        return steps[max(steps)]
    if not found:
        raise EmbeddingFileError(
            f"{repository} on the hub holds none of {', '.join(NAMES)}; choose a repository of a learned embedding"
        )
    if len(found) > 1:
        shown = ", ".join(printable(name, 40) for name in found[:_MOST_SHOWN])
        more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        raise EmbeddingFileError(
            f"{repository} on the hub holds several embeddings, {shown}{more}; download the one you want, and name it"
        )
    return found[0]


def _fetched(repository: str, token: str | None) -> Path:
    try:
        available = set(repositories.files_of(repository, token=token))
        name = next((name for name in NAMES if name in available), None) or _only_other(repository, available)
        partners = [partner for partner in partner_names(name) if partner in available][:1]
        return repositories.fetch(repository, [name, *partners], token=token) / name
    except repositories.HubError as error:
        raise EmbeddingFileError(
            f"{repository} is not a file or folder here, is not in the cache, and {error}; give a file instead"
        ) from error
