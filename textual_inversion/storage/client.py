"""The requests that are made of a service of object storage, by obstore, and what its answers mean.

Answers of a service may quote keys, and those of its library the whole request: no word of them is ever shown. What
went wrong is said by the kind of the error, and by the code that the service gives.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, BinaryIO

from textual_inversion.storage import credentials
from textual_inversion.system.addresses import Address
from textual_inversion.system.errors import StorageError

INSTALL = "pip install -r requirements-storage.txt, or pip install 'textual-inversion-paddle[storage]'"
_WAITS = {"connect_timeout": "10s", "timeout": "120s"}
_TRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
MOST = 100_000  # objects below an address; a run has hundreds, and a bucket may have billions
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,40})\s*</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_OF_MACHINES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")  # where machines in a cloud ask


class NotThere(StorageError):
    """There is no such object."""


@dataclass(frozen=True)
class Stored:
    """An object as its service lists it.

    Attributes:
        size: in bytes.
        tag: changes with its content; "" where the service gives none.
    """

    size: int
    tag: str


class Client:
    """Reads and writes objects of a bucket.

    Raises:
        StorageError: obstore is not installed, or no client can be made.
    """

    def __init__(self, address: Address):
        if find_spec("obstore") is None:
            raise StorageError(f"{address} needs the package obstore: {INSTALL}")
        self._address = address
        with self._explained():
            self._store = _store(address)

    def listed(self, key: str) -> dict[str, Stored]:
        """The objects below a key, by their keys; {} where there are none.

        Raises:
            StorageError: it cannot be asked, or there are more than `MOST`.
        """
        import obstore

        found: dict[str, Stored] = {}
        with self._explained():
            for chunk in obstore.list(self._store, prefix=key or None):
                found |= {one["path"]: _stored(one) for one in chunk}
                if len(found) > MOST:
                    raise StorageError(f"{self._address} has more than {MOST:,} objects; name a smaller folder")
        return found

    def look(self, key: str) -> Stored | None:
        """What is known of an object; None where there is none."""
        import obstore

        try:
            with self._explained():
                return _stored(obstore.head(self._store, key))
        except NotThere:
            return None

    def parts(self, key: str) -> Iterator[bytes]:
        """The content of an object, in parts."""
        import obstore

        with self._explained():
            for part in obstore.get(self._store, key).stream():
                yield bytes(part)

    def put(self, key: str, content: bytes | BinaryIO) -> str:
        """Write an object, which is there when all of it is, and not before; returns its tag."""
        import obstore

        with self._explained():
            return _tag(obstore.put(self._store, key, content).get("e_tag"))

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        import obstore

        try:
            with self._explained():
                obstore.delete(self._store, key)
        except NotThere:
            pass

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except StorageError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise _meaning(self._address, error) from None  # its text may quote a key


def _store(address: Address) -> Any:
    from obstore import store

    if address.scheme == "gs":
        return store.GCSStore(address.bucket, client_options=_WAITS, retry_config=_TRIES)
    if address.scheme == "az":
        return store.AzureStore(address.bucket, client_options=_WAITS, retry_config=_TRIES)
    settings = credentials.bos_settings() if address.scheme == "bos" else credentials.s3_settings()
    # Not all services of this kind know the request that removes many objects at once.
    config = {**settings, "virtual_hosted_style_request": False, "disable_bulk_delete": True}
    # Keys are never sent, only signatures: whoever names an endpoint without encryption wants it.
    endpoint = settings["endpoint"] if address.scheme == "bos" else credentials.s3_endpoint(settings)
    options = {**_WAITS, **({"allow_http": True} if endpoint.startswith("http://") else {})}
    return store.S3Store(address.bucket, config=config, client_options=options, retry_config=_TRIES)


def _stored(found: Any) -> Stored:
    return Stored(found["size"], _tag(found.get("e_tag")) or str(found.get("last_modified") or ""))


def _tag(text: str | None) -> str:
    return (text or "").strip('"')  # some services quote it in one answer, and not in another


def _meaning(address: Address, error: Exception) -> StorageError:
    """The error of a library as one of ours, in words that hold nothing of its text but a code."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    number, word = int(status[1]) if status else 0, f" ({code[1]})" if code else ""
    bucket, how = f"{address.scheme}://{address.bucket}", credentials.HOW[address.scheme]
    if any(name in text for name in _OF_MACHINES) or "Account must be specified" in text:
        return StorageError(f"{bucket}: no credentials are found; {how}")
    if "NoSuchBucket" in text or "ContainerNotFound" in text or (number == 404 and "list" in text.partition("in")[0]):
        return StorageError(f"{bucket}: there is no such bucket; make it, or correct the name")
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError") or number in (401, 403):
        return StorageError(f"{bucket}: the credentials are refused{word}; {how}")
    if isinstance(error, FileNotFoundError) or number == 404:
        return NotThere(f"{address}: there is nothing under that name")
    if number in (400, 405, 411, 412, 501) or type(error).__name__ == "UnknownConfigurationKeyError":
        return StorageError(f"{bucket}: the service refuses the request{word or f' ({number})'}")
    if number in (301, 307):
        return StorageError(f"{bucket}: it is of another region; set AWS_REGION")
    what = f"answers with status {number}" if number else "cannot be reached"
    return StorageError(f"{bucket} {what}; look at the network and the endpoint, and try again", is_lasting=False)
