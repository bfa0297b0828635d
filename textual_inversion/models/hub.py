"""From a folder or a hub name to a folder: as it is, from a cache on this machine, or fetched.

Two hubs are asked for a name like `CompVis/stable-diffusion-v1-4`: the store of ppdiffusers' community models, where
ppdiffusers itself looks, then Hugging Face. Only the files that are used are fetched: of each part one set of weights.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from textual_inversion.models.single_file.convert import unpack
from textual_inversion.models.tokenizers import FILES as TOKENIZER_FILES
from textual_inversion.models.tokenizers import holds_vocabulary
from textual_inversion.models.weight_files import DIFFUSION_FILES, ENCODER_FILES, candidates, indexed_names
from textual_inversion.system.errors import BaseModelError
from textual_inversion.system.paths import is_possible_path, is_single_file

SECONDS_TO_ANSWER = 5  # after which a hub counts as not reachable

_WEIGHTS = {
    "unet": DIFFUSION_FILES,
    "vae": DIFFUSION_FILES,
    "vqvae": DIFFUSION_FILES,
    "text_encoder": ENCODER_FILES,
    "text_encoder_2": ENCODER_FILES,
    "bert": ENCODER_FILES,
    "safety_checker": ENCODER_FILES,
}
_SMALL_FILES = {
    "scheduler": ("scheduler_config.json",),
    "feature_extractor": ("preprocessor_config.json",),
    "tokenizer": TOKENIZER_FILES,
    "tokenizer_2": TOKENIZER_FILES,
}
# Parts without which a model can be trained; all others that its index names are necessary.
_DISPENSABLE = ("safety_checker", "feature_extractor", "image_encoder")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

# Fetches one file of the named model, "unet/config.json", into the folder that it returns; None: there is no such file.
Fetch = Callable[[str], Path | None]


def resolve(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    only_tokenizer: bool = False,
) -> Path:
    """The folder of a base model.

    Args:
        name_or_path: a folder, a single-file checkpoint, or a model's name on a hub.
        revision: branch, tag or commit; Hugging Face is asked then, which alone keeps them.
        variant: weights to prefer, such as "fp16".
        cache_dir: where downloads are kept instead of the usual places.
        token: for Hugging Face.
        only_tokenizer: a tokenizer's files are enough.

    Raises:
        BaseModelError: it is neither here nor, within a few seconds, to be had.
    """
    name, path = str(name_or_path), _path_of(str(name_or_path))
    if path.is_dir():
        return path
    if is_single_file(path):
        return unpack(path, cache_dir)
    if path.is_file():
        raise BaseModelError(
            f"{name} is a file; give the folder of a model in the ppdiffusers or diffusers layout, or a whole model as "
            "one .safetensors"
        )
    if not _HUB_NAME.fullmatch(name):
        raise BaseModelError(f"there is no folder {name}; give a model's folder or its name on the hub")
    is_complete = _holds_tokenizer if only_tokenizer else _holds_model
    for folder in _cached_folders(name, revision, cache_dir):
        if is_complete(folder):
            return folder
    return _fetched(name, revision, variant, cache_dir, token, only_tokenizer)


def _path_of(name: str) -> Path:
    """A name as a path; one that is too long to ask a file system for is a BaseModelError."""
    if not is_possible_path(name):
        raise BaseModelError(f"there is no folder {name[:80]}…; give a model's folder or its name on the hub")
    return Path(name).expanduser()


def needed_files(available: Iterable[str], *, variant: str | None = None, only_tokenizer: bool = False) -> list[str]:
    """Of a repository's files those that are used, each part's weights once.

    Args:
        available: paths such as "unet/diffusion_pytorch_model.safetensors".
    """
    available = set(available)
    if only_tokenizer:
        folders = (TOKENIZER_FILES, *(_in(part, TOKENIZER_FILES) for part in ("tokenizer", "tokenizer_2")))
        return [name for names in folders for name in names if name in available]
    wanted = ["model_index.json", *(f"{part}/config.json" for part in _WEIGHTS)]
    wanted += [file for part, names in _SMALL_FILES.items() for file in _in(part, names)]
    chosen = [name for name in wanted if name in available]
    for part, names in _WEIGHTS.items():
        for name, is_index in candidates(names, variant):
            if f"{part}/{name}" in available:
                chosen.append(f"{part}/{name}")
                chosen += _shards(part, name, available) if is_index else []
                break
    return chosen


def _in(part: str, names: Iterable[str]) -> list[str]:
    return [f"{part}/{name}" for name in names]


def _shards(part: str, index: str, available: set[str]) -> list[str]:
    """Files of a cut part, by the pattern of their names, for the index itself is not here yet."""
    stem, *words = index.split(".")  # "model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"
    ending = next(word for word in words if word in ("safetensors", "bin", "pdparams"))
    variant = "".join(rf"\.{word}" for word in words if word not in (ending, "index", "json"))
    numbers = r"-\d+-of-\d+"
    pattern = re.compile(rf"{part}/{stem}({variant}{numbers}|{numbers}{variant})\.{ending}")
    return sorted(name for name in available if pattern.fullmatch(name))


# ------------------------------------------------------------------------------------------------------ what is here


def _holds_tokenizer(folder: Path) -> bool:
    return any(holds_vocabulary(folder / part) for part in ("", "tokenizer"))


def _holds_model(folder: Path) -> bool:
    """Whether every necessary part is there; an interrupted download leaves some out."""
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    for part in [part for part, entry in index.items() if _is_part(entry) and part not in _DISPENSABLE]:
        if part in _WEIGHTS and not _holds_weights(folder / part, _WEIGHTS[part]):
            return False
        if part in _SMALL_FILES and not any((folder / part / name).is_file() for name in _SMALL_FILES[part]):
            return False
    return True


def _holds_weights(folder: Path, names: tuple[str, ...]) -> bool:
    for name, is_index in candidates(names):
        if (folder / name).is_file():
            return not is_index or all((folder / part).is_file() for part in indexed_names(folder / name))
    return False


def _cached_folders(name: str, revision: str | None, cache_dir: str | Path | None) -> list[Path]:
    """Folders of this model in the caches of ppdiffusers and Hugging Face."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import HFValidationError, LocalEntryNotFoundError

    folders = []
    if revision is None:
        folders.append(Path(cache_dir or _ppdiffusers_cache(), name))
    try:
        folders.append(Path(snapshot_download(name, revision=revision, cache_dir=cache_dir, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    return folders


def _ppdiffusers_cache() -> Path:
    """Where ppdiffusers keeps downloads (its PPDIFFUSERS_CACHE, without the seconds that importing it takes)."""
    home = os.environ.get("PPNLP_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "paddlenlp")
    return Path(home, "ppdiffusers").expanduser().absolute()


# ---------------------------------------------------------------------------------------------------------- fetching


def _fetched(name, revision, variant, cache_dir, token, only_tokenizer) -> Path:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise _not_here(name, "HF_HUB_OFFLINE forbids fetching it")
    if revision is None and not only_tokenizer and _store_has(name):
        return _from_store(name, variant, cache_dir)
    return _from_hugging_face(name, revision, variant, cache_dir, token, only_tokenizer)


def _not_here(name: str, reason: str) -> BaseModelError:
    return BaseModelError(f"the base model {name} is not on this machine and {reason}; give a local folder instead")


def _store_has(name: str) -> bool:
    """Whether ppdiffusers' own store answers and has this model."""
    import requests

    endpoint = os.environ.get("PPNLP_ENDPOINT", "https://bj.bcebos.com/paddlenlp")
    try:
        url = f"{endpoint}/models/community/{name}/model_index.json"
        return requests.head(url, timeout=SECONDS_TO_ANSWER).status_code == requests.codes.ok
    except requests.RequestException:
        return False


def _from_store(name: str, variant: str | None, cache_dir: str | Path | None) -> Path:
    from ppdiffusers.utils import bos_aistudio_hf_download

    cache = str(cache_dir or _ppdiffusers_cache())

    def fetch(file: str) -> Path | None:
        try:
            return Path(bos_aistudio_hf_download(name, file, cache_dir=cache, from_hf_hub=False))
        except OSError:  # what ppdiffusers makes of "no such file", too
            return None

    index = fetch("model_index.json")
    if index is None:
        raise _not_here(name, "its download broke off")
    collect(fetch, [part for part, entry in json.loads(index.read_text("utf-8")).items() if _is_part(entry)], variant)
    if not _holds_model(index.parent):
        raise _not_here(name, "its download broke off or the store holds it in part only")
    return index.parent


def _is_part(entry: object) -> bool:
    return isinstance(entry, list) and entry[0] is not None


def collect(fetch: Fetch, parts: Iterable[str], variant: str | None) -> None:
    """Fetch the used files of some parts from a store that cannot list what it has."""
    for part in parts:
        for file in _in(part, _SMALL_FILES.get(part, ())):
            fetch(file)
        if part in _WEIGHTS and fetch(f"{part}/config.json") is not None:
            _collect_weights(fetch, part, variant)


def _collect_weights(fetch: Fetch, part: str, variant: str | None) -> None:
    for name, is_index in candidates(_WEIGHTS[part], variant):
        path = fetch(f"{part}/{name}")
        if path is None:
            continue
        for shard in indexed_names(path) if is_index else ():
            fetch(f"{part}/{shard}")
        return


def _from_hugging_face(name, revision, variant, cache_dir, token, only_tokenizer) -> Path:
    import requests
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi(token=token).model_info(name, revision=revision, timeout=SECONDS_TO_ANSWER)
        available = [entry.rfilename for entry in info.siblings or ()]
        files = needed_files(available, variant=variant, only_tokenizer=only_tokenizer)
        if not files:
            raise BaseModelError(f"{name} on Hugging Face holds no Stable Diffusion model in the diffusers layout")
        # By the branch's name and not by its commit: only then is the copy found again without a network.
        return Path(snapshot_download(name, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=files))
    except (requests.RequestException, OSError) as error:
        raise _not_here(name, _explained(error, name, revision)) from error


def _explained(error: OSError, name: str, revision: str | None) -> str:
    """What kept a model from being fetched, to follow "is not on this machine and"."""
    import requests
    from huggingface_hub import utils as hub

    if isinstance(error, hub.GatedRepoError):
        return f"must be asked for at https://huggingface.co/{name}; do so and give --hub_token"
    if isinstance(error, hub.RevisionNotFoundError):
        return f"Hugging Face has no revision {revision} of it"
    if isinstance(error, hub.RepositoryNotFoundError):
        return "no hub has a public model of this name (private ones need --hub_token)"
    if isinstance(error, hub.LocalEntryNotFoundError | requests.ConnectionError | requests.Timeout):
        return "no model hub can be reached"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"Hugging Face answered {error.response.status_code}"
    return f"fetching it failed ({error.strerror or type(error).__name__})"
