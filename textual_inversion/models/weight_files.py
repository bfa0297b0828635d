"""Files of a base model's weights: which one to read, the layout that it declares, and its tensors one at a time.

`formats` reads and writes them: safetensors by their header, pickles by an allow-list that can build arrays only.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from textual_inversion.formats.embedding_file import read_pickled_tensors
from textual_inversion.formats.errors import NotAnEmbedding, WrongValues, naming
from textual_inversion.formats.safetensors_file import SafetensorsFile, write_tensors
from textual_inversion.system import user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json
from textual_inversion.system.errors import BaseModelError, EmbeddingFileError

PPDIFFUSERS, DIFFUSERS = "ppdiffusers", "diffusers"

# File names of a part, in the order in which they are looked for: safetensors before pickles.
DIFFUSION_FILES = (
    "diffusion_paddle_model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "model_state.pdparams",
    "diffusion_pytorch_model.bin",
)
ENCODER_FILES = ("model.safetensors", "model_state.pdparams", "pytorch_model.bin")

# Where there is no full-precision file, its half-precision copy is cast to float32.
_VARIANTS = (None, "fp32", "fp16", "bf16")
_LAYOUT_OF_METADATA = {"pd": PPDIFFUSERS, "np": PPDIFFUSERS, "pt": DIFFUSERS}
_LONGEST_HEADER = 8 << 20  # bytes; 60,000 tensors, where the largest model here has 3,000. The format allows 100 MB
LARGEST_CONFIG = 16 << 20  # bytes; the largest known have some thousand
LARGEST_LIST = 32 << 20  # of words or of tensors; AltDiffusion's tokenizer.json has 17 MB
_AGAIN = "download the model again"


class _Index(TypedDict):
    """The index of a part in several files: the name of a tensor -> the file that holds it."""

    weight_map: dict[str, str]


_WAYS_OUT = {
    NotAnEmbedding: "choose a file of weights, best a .safetensors",
    WrongValues: "take a float32, float16 or bfloat16 copy of the model",
}


class WeightFile(SafetensorsFile):
    """The tensors of one safetensors file of a base model, each read from the disk on access.

    Arrays have the data type of the file, except that bfloat16 becomes float32.

    Raises:
        BaseModelError: the file is cut short, of another kind, or holds a type that no model here has.
    """

    def __init__(self, path: Path):
        self.path = path
        with _as_base_model_error(path):
            user_files.check(path, user_files.WEIGHTS)
            super().__init__(path.stat().st_size, self._bytes, _LONGEST_HEADER)

    def _bytes(self, begin: int, end: int) -> memoryview:
        # Not mapped: pages of a mapped file would count as memory of the process until they are released.
        with user_files.opened(self.path, user_files.WEIGHTS) as file:
            return np.fromfile(file, np.uint8, count=end - begin, offset=begin).data

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self:
            raise KeyError(name)
        with _as_base_model_error(self.path):
            return super().__getitem__(name)


@contextlib.contextmanager
def _as_base_model_error(path: Path) -> Iterator[None]:
    """Turn errors about a file of weights into a BaseModelError of one line that names the file."""
    try:
        with naming(path, _WAYS_OUT):
            yield
    except EmbeddingFileError as error:
        raise BaseModelError(str(error)) from error


class StoredState(Mapping[str, np.ndarray]):
    """All tensors of a model part, in one file or in several.

    Attributes:
        source: the file that a message should name (the index, where there are several files).
        files: the files that hold tensors.
        declared_layout: the layout that the files declare; None where they declare none.
        is_pickle: whether they were read from pickles (and are in memory already).
    """

    def __init__(self, source: Path, files: list[Path]):
        self.source, self.files = source, files
        self.is_pickle = files[0].suffix != ".safetensors"
        self._part_of: dict[str, Mapping[str, np.ndarray]] = {}
        declared = []
        for path in files:
            part = _read_pickle(path) if self.is_pickle else WeightFile(path)
            declared.append(_declared_layout(path, part))
            self._part_of.update(dict.fromkeys(part, part))
        if len(set(declared)) > 1:
            raise BaseModelError(f"the parts of {source} have different layouts; {_AGAIN}")
        self.declared_layout = declared[0]

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the first safetensors file."""
        part = next(iter(self._part_of.values()), None)
        return part.metadata if isinstance(part, WeightFile) else {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._part_of[name][name]

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; of a safetensors file only the header is read for it."""
        part = self._part_of[name]
        return part.shape(name) if isinstance(part, WeightFile) else part[name].shape

    @property
    def largest_dimension(self) -> int:
        """The largest size of any axis of any tensor; 0 where there is none."""
        return max((size for name in self for size in self.shape(name)), default=0)

    @property
    def data_types(self) -> set[str]:
        """The stored types, as safetensors names them; pickles count as the float32 that they were read as."""
        parts = {id(part): part for part in self._part_of.values()}.values()
        return {kind for part in parts for kind in (part.data_types if isinstance(part, WeightFile) else {"F32"})}

    def __iter__(self) -> Iterator[str]:
        return iter(self._part_of)

    def __len__(self) -> int:
        return len(self._part_of)


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_pickled_tensors(path)
    except EmbeddingFileError as error:
        raise BaseModelError(str(error)) from error


def _declared_layout(path: Path, part: Mapping[str, np.ndarray]) -> str | None:
    if isinstance(part, WeightFile):
        return _LAYOUT_OF_METADATA.get(part.metadata.get("format", ""))
    return PPDIFFUSERS if path.suffix == ".pdparams" else DIFFUSERS


def write_weights(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write paddle or numpy tensors as float32, one after the other, so that no second copy of a model is in memory.

    Args:
        path: a file that may be overwritten (a temporary one of `atomic.replacing`).
    """

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        return tensor if isinstance(tensor, np.ndarray) else tensor.astype("float32").numpy()

    with open(path, "wb") as file:
        write_tensors(file, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, read, metadata)


def read_bytes(path: Path, most: int = LARGEST_CONFIG) -> bytes:
    """The contents of a small file of a base model.

    Raises:
        BaseModelError: there is no such file, it cannot be read, or it is larger than `most` bytes.
    """
    try:
        return user_files.read_bytes(path, most)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BaseModelError(f"{path} is missing, so the base model is incomplete; {_AGAIN}") from error
    except user_files.UnusableFile as error:
        raise BaseModelError(f"{path} cannot be read ({error.strerror}); {_AGAIN}") from error
    except OSError as error:
        raise BaseModelError(f"{path} cannot be read ({error.strerror}); change its permissions") from error


def read_json(path: Path, most: int = LARGEST_CONFIG, schema: Any = dict[str, Any]) -> dict[str, Any]:
    """A JSON object from a file of a base model.

    Args:
        schema: what is asked of its entries.

    Raises:
        BaseModelError: as `read_bytes`, or it is another object than the schema's.
    """
    content = read_bytes(path, most)
    try:
        # Infinity is the default of an entry that diffusers saves, and a number of 31 digits the usual length of texts.
        return checked(parse_json(content, allows_nan=True), schema)
    except UnusableJson as error:
        raise BaseModelError(f"{path} {error}; {_AGAIN}") from error


def read_state(folder: Path, names: tuple[str, ...], *, variant: str | None = None) -> StoredState:
    """Open the weights of the model part in `folder`.

    Args:
        names: file names to look for, in this order, each as one file or as several with an index.
        variant: look first for `NAME.VARIANT.safetensors` and the like.

    Raises:
        BaseModelError: there is none of these files, one that an index names is missing, or one is damaged.
    """
    for name, is_index in candidates(names, variant):
        path = folder / name
        if path.is_file():
            return StoredState(path, _indexed_files(path) if is_index else [path])
    raise BaseModelError(f"{folder} holds no weights; it should hold one of {', '.join(names)}")


def candidates(names: tuple[str, ...], variant: str | None = None) -> Iterator[tuple[str, bool]]:
    """File names to look for, best first, and whether each is the index of a part in several files."""
    for chosen in dict.fromkeys((variant, *_VARIANTS)):
        for name in names:
            whole = _with_variant(name, chosen)
            yield whole, False
            for index in dict.fromkeys((_with_variant(f"{name}.index.json", chosen), f"{whole}.index.json")):
                yield index, True


def _with_variant(name: str, variant: str | None) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{variant}{dot}{ending}" if variant else name


def indexed_names(index: Path) -> list[str]:
    """The files that the index of a part in several files names; raises BaseModelError."""
    # Only the name counts: a file from outside must not lead out of its folder.
    names = sorted({Path(name).name for name in read_json(index, LARGEST_LIST, _Index)["weight_map"].values()})
    if not names:
        raise BaseModelError(f"{index} names no files; {_AGAIN}")
    return names


def _indexed_files(index: Path) -> list[Path]:
    files = [index.parent / name for name in indexed_names(index)]
    for path in files:
        if not path.is_file():
            raise BaseModelError(f"{path}, which {index.name} names, is missing; {_AGAIN}")
    return files
