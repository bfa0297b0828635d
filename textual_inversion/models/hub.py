"""Find the folder of a base model: a local one as it is, else from a cache on this machine, else from a hub.

Two hubs are asked for a repository id such as `CompVis/stable-diffusion-v1-4`: the store of ppdiffusers' community
models, then Hugging Face. For `aistudio:owner/name` it is AI Studio, and nobody else. Only files that are used are
fetched: one set of weights for each part.
"""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from textual_inversion.formats.errors import file_name
from textual_inversion.hub import aistudio, paddle_store, repositories
from textual_inversion.models.single_file.convert import unpack
from textual_inversion.models.tokenizer_kinds import FILES as TOKENIZER_FILES
from textual_inversion.models.tokenizers import holds_vocabulary
from textual_inversion.models.weight_files import DIFFUSION_FILES, ENCODER_FILES, candidates, indexed_names, read_json
from textual_inversion.storage import reading
from textual_inversion.system.addresses import Address, is_address
from textual_inversion.system.errors import BaseModelError
from textual_inversion.system.paths import is_possible_path, is_single_file

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
# Parts that training does without; all others that a model's index names are necessary.
_DISPENSABLE = ("safety_checker", "feature_extractor", "image_encoder")
_VAE_FOLDERS = ("", "vae", "vqvae")  # where a repository or a folder may hold a VAE
_BASE_MODEL = "pretrained_model_name_or_path"
# In the store of ppdiffusers some ids have no owner.
_REPOSITORY_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

# Fetches one file of a model, such as "unet/config.json", and returns its path; None where there is no such file.
Fetch = Callable[[str], Path | None]


def resolve(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    only_tokenizer: bool = False,
    recorded_in: str | Path | None = None,
) -> Path:
    """The folder of a base model.

    Args:
        name_or_path: a folder, a single-file checkpoint, or a repository id.
        revision: branch, tag or commit; the store of ppdiffusers keeps none, so it is not asked then.
        variant: weights to prefer, such as "fp16".
        cache_dir: where downloads are kept, instead of the hubs' own folders.
        token: for Hugging Face; None: the one of an earlier login.
        only_tokenizer: the files of a tokenizer are enough.
        recorded_in: the record of a stranger that names the model; no hub is asked for it then.

    Raises:
        BaseModelError: the model is not on this machine and cannot be fetched from a hub, or must not be.
    """
    name = str(name_or_path)
    if is_address(name):
        if recorded_in is not None:
            raise _not_to_be_asked_for(name, recorded_in, "tokenizer_name" if only_tokenizer else _BASE_MODEL, "model")
        found = at_address(reading.address(name), variant=variant, only_tokenizer=only_tokenizer)
        return unpack(found, cache_dir) if found.is_file() else found
    local = _local(name, cache_dir, recorded_in)
    if local is not None:
        return local
    is_complete = _holds_tokenizer if only_tokenizer else _holds_model
    found = next(filter(is_complete, _cached_folders(name, revision, cache_dir)), None)
    if found is not None:
        return found
    if recorded_in is not None:
        flag, what = ("tokenizer_name", "tokenizer") if only_tokenizer else (_BASE_MODEL, "base model")
        raise _not_to_be_asked_for(name, recorded_in, flag, what)
    return _fetched(name, revision, variant, cache_dir, token, only_tokenizer)


def at_address(
    source: Address, *, variant: str | None = None, only_tokenizer: bool = False, is_vae: bool = False
) -> Path:
    """The folder, or the file, that stands for a model at an address of object storage: what is used of it is fetched.

    Raises:
        StorageError: it cannot be read, or there is nothing.
    """

    def inside(names: Collection[str]) -> list[str]:
        if is_vae:
            return vae_files(names, variant) or list(names)
        clip = [name for name in names if name.startswith("clip/")]  # the demo's, with which it is scored
        chosen = needed_files(names, variant=variant, only_tokenizer=only_tokenizer)
        return [*chosen, *clip] if "model_index.json" in names else list(names)

    return reading.file(source, (), inside)


def resolve_vae(
    name: str,
    *,
    variant: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    recorded_in: str | Path | None = None,
) -> Path:
    """The folder of a VAE that a repository id names, of Hugging Face or AI Studio: the repository's own, or its `vae`.

    The arguments are those of `resolve`, which raises the same.
    """
    if is_address(name) and recorded_in is None:
        return at_address(reading.address(name), variant=variant, is_vae=True)
    if not (_REPOSITORY_ID.fullmatch(name) or aistudio.is_name(name)):
        raise BaseModelError(f"there is no folder {name[:80]} for --vae; give a folder, a file, or a repository id")
    snapshot = repositories.cached(name, cache_dir=cache_dir)
    found = None if snapshot is None else vae_within(snapshot)
    if found is not None:
        return found
    if recorded_in is not None:
        raise _not_to_be_asked_for(name, recorded_in, "vae", "VAE")
    try:
        files = vae_files(repositories.files_of(name, token=token), variant)
        found = vae_within(repositories.fetch(name, files, cache_dir=cache_dir, token=token)) if files else None
    except repositories.HubError as error:
        raise BaseModelError(f"the VAE {name} is not on this machine, and {error}; give a local folder") from error
    if found is None:
        raise BaseModelError(f"{name} on the hub holds no VAE in the diffusers layout; choose another for --vae")
    return found


def vae_within(folder: Path) -> Path | None:
    """The folder of a VAE: the given one, or the part of a whole model; None where there is none."""
    parts = (folder / part for part in _VAE_FOLDERS)
    return next((p for p in parts if (p / "config.json").is_file() and _holds_weights(p, DIFFUSION_FILES)), None)


def vae_files(available: Iterable[str], variant: str | None = None) -> list[str]:
    """The files of a repository that its VAE needs: its configuration and one set of weights; [] where it has none."""
    available = set(available)
    for prefix in (f"{part}/" if part else "" for part in _VAE_FOLDERS):
        for name, is_index in candidates(DIFFUSION_FILES, variant) if f"{prefix}config.json" in available else ():
            if f"{prefix}{name}" in available:
                shards = _shards(prefix, name, available) if is_index else []
                return [f"{prefix}config.json", f"{prefix}{name}", *shards]
    return []


def _local(name: str, cache_dir: str | Path | None, recorded_in: str | Path | None) -> Path | None:
    """The folder of a model that a path names; None for a repository id. Raises BaseModelError for anything else."""
    path = _path_of(name)
    if path.is_dir():
        return path
    if is_single_file(path):
        return unpack(path, cache_dir)
    if path.is_file():
        raise BaseModelError(
            f"{name} is a file; give the folder of a model in the ppdiffusers or diffusers layout, or a whole model as "
            "one .safetensors file"
        )
    if not (_REPOSITORY_ID.fullmatch(name) or aistudio.is_name(name)):
        by = "" if recorded_in is None else f", which {file_name(recorded_in)} names"
        raise BaseModelError(f"there is no folder {name}{by}; give the folder of a model or its repository id")
    return None


def _not_to_be_asked_for(name: str, recorded_in: str | Path, flag: str, what: str) -> BaseModelError:
    return BaseModelError(
        f"{file_name(recorded_in)} names the {what} {name}, which is not on this machine; no hub is asked for what a "
        f"record names: say --{flag} {name}, or trust the record with --trust_record"
    )


def _path_of(name: str) -> Path:
    """A name as a path; raises BaseModelError for one that no file system can hold."""
    if not is_possible_path(name):
        raise BaseModelError(f"there is no folder {name[:80]}…; give the folder of a model or its repository id")
    return Path(name).expanduser()


def needed_files(available: Iterable[str], *, variant: str | None = None, only_tokenizer: bool = False) -> list[str]:
    """The files of a repository that are used, with one set of weights for each part.

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
                chosen += _shards(f"{part}/", name, available) if is_index else []
                break
    return chosen


def _in(part: str, names: Iterable[str]) -> list[str]:
    return [f"{part}/{name}" for name in names]


def _shards(prefix: str, index: str, available: set[str]) -> list[str]:
    """The files of a part that is stored in several, found by their names: the index is not fetched yet."""
    stem, *endings = index.split(".")  # "model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"
    ending = next(name for name in endings if name in ("safetensors", "bin", "pdparams"))
    variant = "".join(rf"\.{name}" for name in endings if name not in (ending, "index", "json"))
    numbers = r"-\d+-of-\d+"
    pattern = re.compile(rf"{prefix}{stem}({variant}{numbers}|{numbers}{variant})\.{ending}")
    return sorted(name for name in available if pattern.fullmatch(name))


# ------------------------------------------------------------------------------------------- on this machine


def _holds_tokenizer(folder: Path) -> bool:
    return any(holds_vocabulary(folder / part) for part in ("", "tokenizer"))


def _holds_model(folder: Path) -> bool:
    """Whether a folder holds every necessary part; after an interrupted download some are missing."""
    try:
        index = read_json(folder / "model_index.json")
    except BaseModelError:
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
    """Folders of this model in the caches of the hubs."""
    in_store = revision is None and not aistudio.is_name(name)
    folders = [Path(cache_dir or paddle_store.cache_folder(), name)] if in_store else []
    snapshot = repositories.cached(name, revision=revision, cache_dir=cache_dir)
    return folders if snapshot is None else [*folders, snapshot]


# ---------------------------------------------------------------------------------------------------------- fetching


def _fetched(
    name: str,
    revision: str | None,
    variant: str | None,
    cache_dir: str | Path | None,
    token: str | None,
    only_tokenizer: bool,
) -> Path:
    in_store = revision is None and not only_tokenizer and not aistudio.is_name(name)
    if in_store and paddle_store.has_model(name):
        return _from_store(name, variant, cache_dir)
    try:
        available = repositories.files_of(name, revision=revision, token=token)
        files = needed_files(available, variant=variant, only_tokenizer=only_tokenizer)
        if not files:
            raise BaseModelError(
                f"{name} on the hub holds no Stable Diffusion model in the diffusers layout; choose another base model"
            )
        return repositories.fetch(name, files, revision=revision, cache_dir=cache_dir, token=token)
    except repositories.HubError as error:
        raise _not_here(name, str(error)) from error


def _not_here(name: str, reason: str) -> BaseModelError:
    return BaseModelError(f"the base model {name} is not on this machine, and {reason}; give a local folder instead")


def _from_store(name: str, variant: str | None, cache_dir: str | Path | None) -> Path:
    def fetch(file: str) -> Path | None:
        return paddle_store.fetch_file(name, file, cache_dir)

    index = fetch("model_index.json")
    if index is None:
        raise _not_here(name, "its download was interrupted")
    collect(fetch, [part for part, entry in read_json(index).items() if _is_part(entry)], variant)
    if not _holds_model(index.parent):
        raise _not_here(name, "its download was interrupted, or the store holds only a part of it")
    return index.parent


def _is_part(entry: object) -> bool:
    return isinstance(entry, list) and entry[0] is not None


def collect(fetch: Fetch, parts: Iterable[str], variant: str | None) -> None:
    """Fetch the needed files of some parts from a store that cannot list its files."""
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
