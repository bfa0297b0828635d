"""Where this project's files are, how a user calls its commands, and how a record names a path."""

import errno
import os
import shlex
from pathlib import Path

from textual_inversion.system.addresses import address_of

# The top of a checkout. In an installed package it is the folder that packages are installed into, where neither the
# demo nor the example images are.
ROOT = Path(__file__).resolve().parents[2]
DEMO_MODEL = ROOT / "demo" / "model"
# The files of --preset: at the top of a checkout, inside the package where it is installed.
_PACKAGED = Path(__file__).resolve().parents[1] / "presets"
PRESET_FOLDER = _PACKAGED if _PACKAGED.is_dir() else ROOT / "presets"
# Name of a command in an installed package -> its script at the top of a checkout.
SCRIPTS = {
    "train": "train_textual_inversion.py",
    "infer": "infer.py",
    "score": "score.py",
    "convert": "convert.py",
    "compare": "compare.py",
    "verify": "verify.py",
    "sweep": "sweep.py",
    "teach": "teach.py",
    "studio": "apps/studio.py",
}
# What published records call a base model that came from no hub: this and a hash of it (see `models.identity`), or the
# demo's. No repository id has a colon.
LOCAL, LOCAL_DEMO = "local:", "local:demo"
_MAX_NAME, _MAX_PATH = 255, 4096  # bytes, of common file systems and of Linux


def has_demo() -> bool:
    """Whether the demo's base model is there: in a checkout it is, in an installed package it is not."""
    return (DEMO_MODEL / "model_index.json").is_file()


def is_demo(name_or_path: str) -> bool:
    """Whether a base model is the one that comes with this project."""
    path = Path(name_or_path)
    return path.is_dir() and path.resolve() == DEMO_MODEL.resolve()


def from_root(path: str) -> str:
    """The absolute form of a path that is relative to the project's top; for defaults, in any working directory."""
    return str(ROOT / path)


def script_file(command: str) -> Path:
    """The file of a command, one of `SCRIPTS`: at the top of a checkout, or the copy in an installed package."""
    installed = Path(__file__).resolve().parents[1] / "commands" / Path(SCRIPTS[command]).name
    return installed if installed.is_file() else ROOT / SCRIPTS[command]


def how_to_call(script: str) -> str:
    """How a user calls a command: `python infer.py` in a checkout, `textual-inversion infer` where it is installed.

    Args:
        script: its file, such as "infer.py", and the subcommand where it has one: "convert.py inspect".
    """
    file, *subcommand = script.split()
    name = next((name for name, own in SCRIPTS.items() if own == file), None)
    if name is None or (ROOT / file).is_file():
        return f"python {script}"
    return " ".join(["textual-inversion", name, *subcommand])


def in_shell(path: str | Path) -> str:
    """A path as a part of a command line that a user may copy: quoted where need be, and never taken for a flag.

    What stands for an address of object storage is that address.
    """
    text = address_of(path) or str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def is_possible_path(text: str) -> bool:
    """Whether a file system could hold this path at all: it has no NUL, and neither it nor a part of it is too long."""
    parts = [os.fsencode(part) for part in text.replace(os.sep, "/").split("/")]
    is_short = max(map(len, parts)) <= _MAX_NAME and sum(len(part) + 1 for part in parts) < _MAX_PATH
    return "\0" not in text and is_short


def leads_in_circles(path: str) -> bool:
    """Whether symbolic links on a path lead back to themselves, on which Path.resolve ends in a RuntimeError."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def portable(path: str) -> str:
    """A path in the form that a record should hold.

    Inside this project it is relative to the project's top, so that the record is valid in another clone. Elsewhere it
    is absolute, so that the record is valid in another working directory. Text that is not the path of anything here,
    such as a repository id, is returned unchanged. What stands for an address of object storage is that address.
    """
    if (address := address_of(path)) is not None:
        return address
    if not Path(path).exists():
        return path
    resolved = Path(path).resolve()
    return resolved.relative_to(ROOT).as_posix() if resolved.is_relative_to(ROOT) else str(resolved)


def located(recorded: str) -> Path | None:
    """Where the path of a record is now, the inverse of `portable`; None where nothing is there that can be seen."""
    # Path.exists would raise for what lies in a folder that may not be searched.
    return next((path for path in (Path(recorded), ROOT / recorded) if os.path.exists(path)), None)


def is_single_file(path: Path) -> bool:
    """Whether a path is a base model in one safetensors file, which is unpacked before it is loaded."""
    return path.suffix == ".safetensors" and path.is_file()
