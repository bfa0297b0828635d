"""Say what a file is that holds no embedding: a LoRA, a checkpoint, an image, text, a pickle that wants code.

One line for any file of any content. As everywhere, the content decides and not the name, and nothing in it is run.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import RefusedFile, UnreadableFile, file_name, naming, quoted
from textual_inversion.formats.pickled_arrays import shape_of
from textual_inversion.formats.reader import container_of, map_whole, read_content
from textual_inversion.formats.safetensors_file import SafetensorsFile, is_safetensors
from textual_inversion.system import user_files
from textual_inversion.system.errors import EmbeddingFileError

_MOST_NAMES = 200_000  # of tensors that are looked at
_CHECKED = 1 << 20  # bytes of a part of an archive whose checksum is verified
_HEAD = 1 << 16  # bytes by which text is told from other bytes
_CONTAINERS = ("state_dict", "model", "module", "params", "params_ema")  # under which programs nest weights
# A kind of model -> a pattern in the name of a tensor; the first kind that fits.
_MODELS = (
    ("a LoRA", r"lora_(up|down|A|B|mid)\b|lora_unet_|lora_te\d?_|\.lora\.(up|down)"),
    ("a LoHa or LoKr (LyCORIS)", r"hada_w[12]|lokr_w[12]"),
    ("a ControlNet", r"^control_model\.|controlnet_cond_embedding|^controlnet_blocks\."),
    ("an IP-Adapter", r"^(image_proj|ip_adapter)\b"),
    ("a whole checkpoint of Stable Diffusion XL", r"^conditioner\.embedders\."),
    ("a whole checkpoint of Stable Diffusion 2.x", r"^cond_stage_model\.model\."),
    ("a whole checkpoint of Stable Diffusion 1.x", r"^cond_stage_model\."),
    ("a model of Flux", r"(^|\.)double_blocks\.0\."),
    ("a model of Stable Diffusion 3", r"(^|\.)joint_blocks\.0\."),
    ("a U-Net in the layout of a checkpoint", r"^model\.diffusion_model\."),
    ("a U-Net", r"^(down_blocks|mid_block)\..*(attentions|resnets)|^time_embedding\.linear_1"),
    ("a VAE", r"(^|\.)(encoder|decoder)\.(down|up|mid|down_blocks|up_blocks|mid_block|conv_in)\b|^quant_conv\."),
    ("a CLIP model with a tower for images", r"^vision_model\.|^visual\."),
    ("a text encoder", r"(text_model\.|^)encoder\.layers?\.0\.|token_embedding|^encoder\.block\.0\.|^shared\.weight$"),
    ("an upscaler", r"RRDB|(^|\.)body\.0\.rdb1\.|^model\.1\.sub\."),
)
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer instead of the file itself"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"GGUF", "a language model or other weights in GGUF"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x1f\x8b", "data compressed with gzip"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program or library of Linux"),
    (b"MZ", "a program or library of Windows"),
    (b"\x89HDF", "an HDF5 file"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound or video file"),
    (b"\x1aE\xdf\xa3", "a video file"),
)


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a file is, as a phrase; raises OSError or UnreadableFile where nothing is there, or it may not be read."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return f"a folder with {sum(1 for _ in os.scandir(path))} entries"
    if not stat.S_ISREG(status.st_mode):
        return "a device, a pipe or a socket"
    if status.st_size == 0:
        return "an empty file"
    size = user_files.size_text(status.st_size)
    with user_files.opened(path, user_files.WEIGHTS) as file:
        head = file.read(_HEAD)
    if (known := _signed(head)) is not None:
        return f"{known}, {_pixels(path, head)}{size}"
    try:
        with naming(path):
            return f"{_tensors_or_text(path, head, status.st_size)}, {size}"
    except UnreadableFile:
        raise
    except RefusedFile as error:
        return f"a pickle that {why_no_embedding(error, path)}; nothing in it was run; {size}"
    except EmbeddingFileError as error:
        return f"a file that {why_no_embedding(error, path)}, {size}"


def _signed(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        return {b"WEBP": "a WebP image", b"WAVE": "a sound file", b"AVI ": "a video file"}[head[8:12]]
    if head[4:8] == b"ftyp":
        return "an AVIF or HEIC image" if head[8:12] in (b"avif", b"heic", b"heix", b"mif1") else "a video file"
    return next((text for signature, text in _SIGNATURES if head.startswith(signature)), None)


def _pixels(path: Any, head: bytes) -> str:
    """The size of a PNG, which stands at a fixed place."""
    if not head.startswith(b"\x89PNG") or head[12:16] != b"IHDR":
        return ""
    width, height = (int.from_bytes(head[begin : begin + 4], "big") for begin in (16, 20))
    return f"{width} x {height} pixels, "


def _tensors_or_text(path: str | os.PathLike[str], head: bytes, size: int) -> str:
    if is_safetensors(memoryview(head), size):
        data = map_whole(path)
        file = SafetensorsFile(len(data), lambda begin, end: data[begin:end])
        return f"{_model({name: file.shape(name) for name in file})} in safetensors"
    if head[:2] == b"PK" or head[0] == 0x80:
        return _pickled(path)
    text = _text(head)
    if text is None:
        return "bytes of no kind that is known here"
    if text.lstrip()[:1] == "<":
        return "a web page or XML, perhaps an error page saved by a download"
    if text.lstrip()[:1] in ("{", "["):
        return "JSON" if Path(path).suffix != ".jsonl" else "lines of JSON"
    return "a text" + (f" of {text.count(chr(10)) + (not text.endswith(chr(10)))} lines" if size <= len(head) else "")


def _text(head: bytes) -> str | None:
    """The beginning of a file as text; None if it is none."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD or error.start < len(head) - 4:  # the last letter may be cut
            return None
        text = head[: error.start].decode("utf-8-sig")
    control = sum(1 for letter in text if ord(letter) < 32 and letter not in "\t\r\n\f\x1b")
    return text if not control else None


def _pickled(path: str | os.PathLike[str]) -> str:
    data = map_whole(path)
    budget = Budget.of_weights(len(data))
    budget.checksums_up_to = _CHECKED  # else a checkpoint would be read as a whole
    content, _ = read_content(data, budget)
    container = container_of(data)
    for name in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        what = "one tensor" if shape_of(content) is not None else f"a {type(content).__name__}"
        return f"{what} in {container}"
    if {"state", "param_groups"} <= set(content):
        return f"the state of an optimizer in {container}"
    return f"{_model(dict(_shapes(content)))} in {container}"


def _shapes(content: Mapping[Any, Any], levels: int = 3, prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    for key, value in content.items():
        shape = shape_of(value)
        if shape is not None:
            yield f"{prefix}{key}", shape
        elif isinstance(value, Mapping) and levels:
            yield from _shapes(value, levels - 1, f"{prefix}{key}.")


def _model(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a dictionary of tensors is."""
    names = list(shapes)[:_MOST_NAMES]
    if not names:
        return "no tensor at all"
    for kind, pattern in _MODELS:
        found = re.compile(pattern)
        if any(found.search(name[:500]) for name in names):
            return f"{kind}, {len(shapes)} tensors"
    first = names[0]
    return f"{len(shapes)} tensors of no kind that is known here, such as {quoted(first, 60)} {list(shapes[first])}"


def why_no_embedding(error: EmbeddingFileError, path: str | os.PathLike[str]) -> str:
    """The reason in an error of a reader, without the name of the file and without the way out."""
    text = str(error).removeprefix(f"{file_name(path)}: ")
    way_out = getattr(type(error), "way_out", "")
    return text.removesuffix(f"; {way_out}") if way_out else text
