"""What a base model is called where others read it: a repository id, or a hash of what it consists of.

The path of a local model means nothing on another machine, and a relative one such as `models/sd15` even reads like a
repository id, under which a stranger could publish another model. So a local model is named by its content.
"""

import functools
import hashlib
import os
from pathlib import Path

from textual_inversion.system import user_files
from textual_inversion.system.paths import LOCAL, LOCAL_DEMO, is_demo

_ENDINGS = (".json", ".safetensors", ".bin", ".pdparams")
_WHOLE = 16 << 20  # bytes up to which a file is hashed whole
_PIECES, _PIECE = 256, 1 << 16  # of a larger file, evenly spread: reading gigabytes would take longer than many a run


def public_name(name: str, folder: Path) -> str:
    """The name of a base model for others.

    Args:
        name: as the user gave it.
        folder: where its files are.

    Returns:
        The repository id of a model that came from a hub; `LOCAL_DEMO` for the demo's; else `LOCAL` and 64 hexadecimal
        digits, from the names, sizes and contents of the model's files (of large ones, from parts of them).
    """
    if is_demo(name):
        return LOCAL_DEMO
    return LOCAL + content_hash(folder) if Path(name).expanduser().exists() else name


def content_hash(folder: Path) -> str:
    """64 hexadecimal digits of a model's files: of their names, sizes and contents (of large ones, from parts)."""
    return _hash_of(folder.resolve())


@functools.lru_cache(maxsize=8)
def _hash_of(folder: Path) -> str:
    whole = hashlib.sha256()
    paths = [*folder.glob("*"), *folder.glob("*/*")]
    for path in sorted(path for path in paths if path.suffix in _ENDINGS and path.is_file()):
        size = path.stat().st_size
        whole.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode("utf-8", "surrogateescape"))
        with user_files.opened(path, user_files.WEIGHTS) as file:
            for start in [0] if size <= _WHOLE else range(0, size, -(-size // _PIECES)):
                file.seek(start, os.SEEK_SET)
                whole.update(file.read(_WHOLE if size <= _WHOLE else _PIECE))
    return whole.hexdigest()
