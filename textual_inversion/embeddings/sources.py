"""From what a user names as an embedding to files: a path, or a repository of the Hugging Face hub.

A path that exists always wins. A name such as `sd-concepts-library/cat-toy` is looked up in the cache on this machine,
then fetched, and of the repository embedding files alone. They are read like any others, by the safe reader: the word
of a concept of that library is the key inside its `learned_embeds.bin`.
"""

import os
import re
from pathlib import Path

from textual_inversion.system.errors import EmbeddingFileError

# Of these the first one that is there is taken. On the hub what tells its base model comes first; in a folder what is
# written while training goes on.
NAMES = ("learned_embeds.safetensors", "learned_embeds.pdparams", "learned_embeds.bin")
_NAMES_HERE = ("learned_embeds.pdparams", "learned_embeds.safetensors", "learned_embeds.bin")
SECONDS_TO_ANSWER = 5  # after which the hub counts as not reachable

_ENDINGS = (".pdparams", ".safetensors", ".pt", ".bin", ".pth", ".ckpt")
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def find_embedding_files(name_or_path: str | Path, token: str | None = None) -> list[Path]:
    """The embedding files that a path or a hub name stands for.

    Args:
        name_or_path: a file; a folder that holds `NAMES`, such as a run's; or a repository's name, "owner/name". Any
            other path comes back as it is, for the reader to say what is wrong with it.
        token: for private and gated repositories; None takes the one of an earlier login.

    Returns:
        One file, which may hold several concepts.

    Raises:
        EmbeddingFileError: a folder or repository without embedding files, or a repository that cannot be reached.
    """
    path, name = Path(name_or_path).expanduser(), str(name_or_path)
    if path.is_dir():
        found = _first_of(path, _NAMES_HERE)
        if found is None:
            raise EmbeddingFileError(f"{name} holds none of {', '.join(NAMES)}; name an embedding file in it")
        return [found]
    if path.exists() or not is_hub_name(name):
        return [path]
    return [_cached(name) or _fetched(name, token)]


def is_hub_name(name: str) -> bool:
    """Whether a name that is no path here can be a repository's: not where it looks like a file that is missing."""
    folder = name.partition("/")[0]
    return bool(_HUB_NAME.fullmatch(name)) and not name.endswith(_ENDINGS) and not Path(folder).is_dir()


def _first_of(folder: Path, names: tuple[str, ...] = NAMES) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _cached(name: str) -> Path | None:
    """The file in the cache of huggingface_hub, from an earlier download of any program."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HFValidationError, LocalEntryNotFoundError

    try:
        return _first_of(Path(snapshot_download(name, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _fetched(name: str, token: str | None) -> Path:
    import requests
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import HFValidationError

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise _not_here(name, "HF_HUB_OFFLINE forbids fetching it")
    try:
        siblings = HfApi(token=token).model_info(name, timeout=SECONDS_TO_ANSWER).siblings or ()
        available = {entry.rfilename for entry in siblings}
        chosen = next((candidate for candidate in NAMES if candidate in available), None)
        if chosen is None:
            raise EmbeddingFileError(f"{name} on the hub holds none of {', '.join(NAMES)}; it is no learned word")
        return Path(hf_hub_download(name, chosen, token=token))
    except (requests.RequestException, OSError, HFValidationError) as error:
        raise _not_here(name, _explained(error, name)) from error


def _not_here(name: str, reason: str) -> EmbeddingFileError:
    return EmbeddingFileError(f"{name} is no file or folder here, nor in the cache, and {reason}; give a file instead")


def _explained(error: Exception, name: str) -> str:
    """What kept an embedding from being fetched, to follow "and"."""
    import requests
    from huggingface_hub import utils as hub

    if isinstance(error, hub.GatedRepoError):
        return f"must be asked for at https://huggingface.co/{name}, with a login"
    if isinstance(error, hub.RepositoryNotFoundError):
        return "the hub has no public repository of this name"
    if isinstance(error, hub.LocalEntryNotFoundError | requests.ConnectionError | requests.Timeout):
        return "the hub cannot be reached"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the hub answered {error.response.status_code}"
    return f"fetching it failed ({getattr(error, 'strerror', None) or type(error).__name__})"
