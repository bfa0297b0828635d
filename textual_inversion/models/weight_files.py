"""Files of a base model's weights: which one is read, what layout it declares, and its tensors one at a time.

Nothing here is written or unpickled freely: safetensors files are read by their header, pickles by the allow-list of
`formats.read_pickled_tensors`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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

# Where the full-precision file is not there its half-precision copy serves as well, cast to float32.
_VARIANTS = (None, "fp32", "fp16", "bf16")
_LAYOUT_OF_METADATA = {"pd": PPDIFFUSERS, "np": PPDIFFUSERS, "pt": DIFFUSERS}
_LONGEST_HEADER = 100 << 20  # bytes; the safetensors format's own limit
_NUMPY_OF = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of one safetensors file, each read when it is asked for.

    float16 and float64 come as stored, bfloat16 as float32.

    Raises:
        BaseModelError: the file is cut off, not a safetensors file, or holds a data type no model here has.
    """

    def __init__(self, path: Path):
        self.path = path
        self._header, self._data_start = _safetensors_header(path)
        self.metadata: dict[str, str] = self._header.pop("__metadata__", None) or {}

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._header[name]
        data_type, shape = _NUMPY_OF.get(entry["dtype"]), tuple(entry["shape"])
        if data_type is None:
            raise BaseModelError(
                f"{self.path} holds {name} as {entry['dtype']}; take a float32, float16 or bfloat16 copy of the model"
            )
        start, end = entry["data_offsets"]
        count = math.prod(shape)
        if end - start != count * np.dtype(data_type).itemsize:
            raise _damaged(self.path)
        array = np.fromfile(self.path, dtype=data_type, count=count, offset=self._data_start + start)
        if array.size != count:
            raise _damaged(self.path)
        if entry["dtype"] == "BF16":  # bfloat16 is the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.reshape(shape)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return tuple(self._header[name]["shape"])

    @property
    def data_types(self) -> set[str]:
        """Names of the stored number formats, such as "F16"."""
        return {entry["dtype"] for entry in self._header.values()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


def _damaged(path: Path) -> BaseModelError:
    return BaseModelError(f"{path} is cut off or damaged; fetch it again")


def _safetensors_header(path: Path) -> tuple[dict, int]:
    """The header of a safetensors file, checked against the file's length, and where the data begins."""
    length = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise BaseModelError(f"{path} is only a Git LFS pointer; run `git lfs pull` in its repository")
        size = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= size <= min(_LONGEST_HEADER, length - 8):
            raise _damaged(path)
        try:
            header = json.loads(file.read(size))
            entries = [entry for name, entry in header.items() if name != "__metadata__"]
            ends = [entry["data_offsets"][1] for entry in entries]
            metadata = header.get("__metadata__") or {}
            well_formed = all(
                isinstance(number, int) and number >= 0
                for entry in entries
                for number in [*entry["shape"], *entry["data_offsets"]]
            )
            well_formed &= all(isinstance(text, str) for text in [*metadata.values(), *(e["dtype"] for e in entries)])
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise _damaged(path) from error
    if not well_formed or max(ends, default=0) > length - 8 - size:
        raise _damaged(path)
    return header, 8 + size


class StoredState(Mapping[str, np.ndarray]):
    """All tensors of a model part, whether they lie in one file or in several.

    Attributes:
        source: the file that a message should name (the index, where there are several files).
        files: the files that hold tensors.
        declared_layout: what the files say of themselves; None where they are silent.
        is_pickle: whether they were read from pickles (and are in memory already).
    """

    def __init__(self, source: Path, files: list[Path]):
        self.source, self.files = source, files
        self.is_pickle = files[0].suffix != ".safetensors"
        self._part_of: dict[str, Mapping[str, np.ndarray]] = {}
        declared = []
        for path in files:
            part = _read_pickle(path) if self.is_pickle else SafetensorsFile(path)
            declared.append(_declared_layout(path, part))
            self._part_of.update(dict.fromkeys(part, part))
        if len(set(declared)) > 1:
            raise BaseModelError(f"the parts of {source} are of different layouts; fetch the model again")
        self.declared_layout = declared[0]

    @property
    def metadata(self) -> dict[str, str]:
        """What the first safetensors file says of itself."""
        part = next(iter(self._part_of.values()), None)
        return part.metadata if isinstance(part, SafetensorsFile) else {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._part_of[name][name]

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; not read from a safetensors file."""
        part = self._part_of[name]
        return part.shape(name) if isinstance(part, SafetensorsFile) else part[name].shape

    @property
    def data_types(self) -> set[str]:
        """Names of the stored number formats, as safetensors writes them; pickles count as what they were read as."""
        parts = {id(part): part for part in self._part_of.values()}.values()
        return {kind for part in parts for kind in (part.data_types if isinstance(part, SafetensorsFile) else {"F32"})}

    def __iter__(self) -> Iterator[str]:
        return iter(self._part_of)

    def __len__(self) -> int:
        return len(self._part_of)


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    from textual_inversion.formats.embedding_file import read_pickled_tensors

    try:
        return read_pickled_tensors(path)
    except EmbeddingFileError as error:
        raise BaseModelError(str(error)) from error


def _declared_layout(path: Path, part: Mapping[str, np.ndarray]) -> str | None:
    if isinstance(part, SafetensorsFile):
        return _LAYOUT_OF_METADATA.get(part.metadata.get("format", ""))
    return PPDIFFUSERS if path.suffix == ".pdparams" else DIFFUSERS


def write_safetensors(path: Path, tensors: Mapping[str, object], metadata: dict[str, str]) -> None:
    """Write paddle or numpy tensors as float32, one after the other, so that no second copy of a model is in memory.

    Args:
        path: a file that may be overwritten (a temporary one of `atomic.replacing`).
    """
    header: dict[str, object] = {"__metadata__": metadata}
    position = 0
    for name, tensor in tensors.items():
        end = position + 4 * math.prod(tensor.shape)
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)  # the values begin on a multiple of 8
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            array = tensor if isinstance(tensor, np.ndarray) else tensor.astype("float32").numpy()
            file.write(np.ascontiguousarray(array, "<f4").data)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a base model; raises BaseModelError."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BaseModelError(f"{path} is missing; the base model is incomplete, fetch it again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BaseModelError(f"{path} is no readable JSON file; fetch it again") from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{path} holds no JSON object; fetch it again")
    return value


def read_state(folder: Path, names: tuple[str, ...], *, variant: str | None = None) -> StoredState:
    """Open the weights of the model part in `folder`.

    Args:
        names: file names to look for, in this order, each alone or cut into several files with an index.
        variant: look first for `NAME.VARIANT.safetensors` and the like.

    Raises:
        BaseModelError: there is none of these files, one that an index names is missing, or one is damaged.
    """
    for name, is_index in candidates(names, variant):
        path = folder / name
        if path.is_file():
            return StoredState(path, _indexed_files(path) if is_index else [path])
    raise BaseModelError(f"{folder} holds no weights; one of {', '.join(names)} should be there")


def candidates(names: tuple[str, ...], variant: str | None = None) -> Iterator[tuple[str, bool]]:
    """File names to look for, best first, and whether each is the index of a part cut into several files."""
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
    """The files that an index of a part cut into several files names; raises BaseModelError."""
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        # Only the name counts: a file from outside shall not lead out of its folder.
        names = sorted({Path(name).name for name in weight_map.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(index) from error
    if not names:
        raise _damaged(index)
    return names


def _indexed_files(index: Path) -> list[Path]:
    files = [index.parent / name for name in indexed_names(index)]
    for path in files:
        if not path.is_file():
            raise BaseModelError(f"{path}, which {index.name} names, is missing; fetch the model again")
    return files
