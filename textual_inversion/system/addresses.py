"""Addresses of object storage, such as s3://bucket/run, and the folders of this machine that stand for them.

The program reads and writes files. What it is to read from an address, or to write there, lies in a folder of this
machine (`storage` fetches and uploads it). Records and messages name the address: the folder is of no use elsewhere.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

# What a command tells its children of the folder that they write into: the address, a line's end, the folder.
VARIABLE = "TEXTUAL_INVERSION_OUTPUT_ADDRESS"
SCHEMES = ("s3", "gs", "az", "bos")
FORMS = "s3://BUCKET/NAME (also gs://, az:// and bos://)"
_ADDRESS = re.compile(r"([a-z][a-z0-9]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_END_OF_NAME = r"(?![\w-]|\.\w)"
_LONGEST_KEY = 1024  # bytes, of S3


@dataclass(frozen=True)
class Address:
    """A place in object storage.

    Attributes:
        scheme: one of `SCHEMES`.
        key: names with slashes between them, without one at either end; "" for the whole bucket.
    """

    scheme: str
    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

    @property
    def name(self) -> str:
        """The last of its names."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> "Address":
        """The address that this one is in."""
        return replace(self, key=self.key.rpartition("/")[0])

    def key_of(self, name: str) -> str:
        """The key of a file below this address."""
        return f"{self.key}/{name}" if self.key else name


def is_address(text: object) -> bool:
    """Whether a text is an address of object storage, if perhaps a wrong one."""
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    return match is not None and match[1] in SCHEMES


def parsed(text: str) -> Address:
    """The parts of an address.

    Raises:
        ValueError: it is none; the message is a phrase such as "has no bucket", and holds nothing of it.
    """
    scheme, rest = _ADDRESS.fullmatch(text).groups()
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise ValueError("holds credentials or a port; they belong in the environment or the files of the service")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"names no bucket; write {FORMS}")
    key = key[:-1] if key.endswith("/") else key
    if "?" in key or "#" in key:
        raise ValueError("has a ? or a #, after which no name goes on; leave it out")
    if key and not is_name(key):
        raise ValueError("has an empty name, a dot alone or a control character in it, or is too long")
    return Address(scheme, bucket, key)


def is_name(name: str) -> bool:
    """Whether a name, with slashes, is one that can lie below a folder of this machine."""
    parts = name.split("/")
    is_plain = not any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 255 for part in parts)
    is_text = not any(letter < " " or letter in "\x7f\\" or "\ud800" <= letter <= "\udfff" for letter in name)
    return is_plain and is_text and len(name.encode("utf-8", "replace")) <= _LONGEST_KEY


# ----------------------------------------------------------------------------------------- folders that stand for them


def _of_parent(text: str) -> dict[str, str]:
    address, _, folder = text.partition("\n")
    return {folder: address} if is_address(address) and os.path.isabs(folder) else {}


_folders = _of_parent(os.environ.get(VARIABLE, ""))  # absolute path -> the address that it stands for


def stand_for(folder: Path, address: Address) -> None:
    """Note that a folder of this machine, or a file, stands for an address."""
    _folders[os.path.abspath(folder)] = str(address)


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The address that a path stands for; None for any other path."""
    absolute = os.path.abspath(path)
    for folder, address in _folders.items():
        if absolute == folder or absolute.startswith(folder + os.sep):
            return address + absolute[len(folder) :].replace(os.sep, "/")
    return None


def path_of(text: str) -> str:
    """The folder of this machine that stands for an address, where one is known by now; any other text stays."""
    return next((folder for folder, address in _folders.items() if address == text), text)


def for_child(folder: str | os.PathLike[str]) -> str:
    """`VARIABLE` for a child that writes into a folder which this process uploads: so its records name the address."""
    address = address_of(folder)
    return f"{address}\n{os.path.abspath(folder)}" if address else ""


def for_uploading_child(folder: str | os.PathLike[str]) -> str:
    """What a child is told that writes in this process's place: the address that it is to upload to, if any."""
    above = _of_parent(os.environ.get(VARIABLE, ""))
    is_uploaded_above = any(os.path.abspath(folder).startswith(top + os.sep) for top in above)
    return str(folder) if is_uploaded_above else address_of(folder) or str(folder)


def shown(text: str) -> str:
    """A text with the addresses in place of the folders that stand for them."""
    for folder, address in sorted(_folders.items(), reverse=True):  # of two, the one inside the other first
        if folder in text:
            text = re.sub(re.escape(folder) + _END_OF_NAME, address.replace("\\", r"\\"), text)
    return text
