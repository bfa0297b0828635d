"""Messages between the processes of a run: which there are, how they are read, and how a process proves itself.

A message is a JSON object on one line. Whoever can reach the port can send anything, so a line counts only if it is
short and each of its entries is one of `_ENTRIES`, of the right type and size. A process proves that it knows the run's
secret without sending it: by an HMAC over numbers that both ends have just drawn (RFC 2104).
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
MAX_BYTES = 16_384  # of a line
MAX_REASON = 500  # characters of a process's error that others repeat
MAX_PATH = 1000
LEAST_SECRET = 16  # characters
_MOST_RANKS = 1 << 20


def _text(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) <= most


def _number(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_true(value: Any) -> bool:
    return value is True


_is_hex = _text(64)
_is_status = _number(-255, 255)
# Entry -> whether a value is one that it can have.
_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "run": _text(64),  # which run, for strays
    "rank": _number(0, _MOST_RANKS),
    "host": _text(255),
    "log": _text(MAX_PATH),
    "nonce": _is_hex,  # drawn by the sender, for the other's proof
    "proof": _is_hex,
    "ready": _is_true,
    "start": _is_true,
    "status": lambda value: value is None or _is_status(value),  # exit status; null: lost
    "reason": _text(MAX_REASON),
}
_OF_AN_END = {"rank", "host", "log"}


def read(line: bytes) -> Message:
    """The message on a line; raises ValueError where it is none."""
    if len(line) > MAX_BYTES:
        raise ValueError("too long")
    try:
        message = json.loads(line)
    except RecursionError as error:  # thousands of brackets
        raise ValueError("nested too deep") from error
    if not isinstance(message, dict) or not all(_is_entry(key, value) for key, value in message.items()):
        raise ValueError("not a message")
    if "status" in message and not message.keys() >= _OF_AN_END:
        raise ValueError("an end of nobody")
    return message


def _is_entry(key: str, value: Any) -> bool:
    return key in _ENTRIES and _ENTRIES[key](value)


def written(message: Message) -> bytes:
    """A message as its line."""
    return json.dumps(message).encode() + b"\n"


def nonce() -> str:
    """A number that nobody has used before."""
    return secrets.token_hex(32)


def draw_secret() -> str:
    """A secret that nobody can guess."""
    return secrets.token_hex(32)


def proof(secret: str, sender: int, rank: int, of_rank: str, of_hub: str) -> str:
    """What only who knows the secret can say.

    Args:
        sender: who says it, `rank` or 0.
        rank: of the process that has connected to rank 0.
        of_rank, of_hub: the numbers that both have drawn for this connection.
    """
    text = json.dumps([sender, rank, of_rank, of_hub])
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def is_proof(value: Any, secret: str, sender: int, rank: int, of_rank: str, of_hub: str) -> bool:
    """Whether a value is what `proof` gives."""
    expected = proof(secret, sender, rank, of_rank, of_hub)
    return isinstance(value, str) and hmac.compare_digest(value.encode("utf-8", "replace"), expected.encode())
