"""Messages between processes, and the proof that one belongs to the run; `tests/security/test_port.py` attacks both."""

import pytest

from textual_inversion.distributed import messages

END = {"status": 2, "rank": 1, "host": "h", "log": ""}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"ready": True},
        {"start": True},
        END,
        END | {"status": None, "reason": "猫" * 500},
        {"rank": 0, "host": "h" * 255},
    ],
)
def test_a_message_is_read_as_it_was_written(message):
    line = messages.written(message)
    assert line.endswith(b"\n") and messages.read(line[:-1]) == message


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"{", b"[" * 16_000, b'{"ready": 1}', b'{"ready": false}', b'{"rank": true}', b'{"rank": 1.0}',
     b'{"status": 1}', b'{"x": 1}', b'{"host": "' + b"h" * 256 + b'"}', b" " * 17_000, b'{"rank": -1}'],
)  # fmt: skip
def test_anything_else_is_refused(line):
    with pytest.raises(ValueError):
        messages.read(line)


def test_a_proof_holds_for_one_secret_sender_rank_and_connection():
    own = ("s" * 32, 1, 1, "a", "b")
    proof = messages.proof(*own)
    assert messages.is_proof(proof, *own)
    for other in [("t" * 32, 1, 1, "a", "b"), ("s" * 32, 0, 1, "a", "b"), ("s" * 32, 1, 2, "a", "b"),
                  ("s" * 32, 1, 1, "x", "b"), ("s" * 32, 1, 1, "b", "a")]:  # fmt: skip
        assert not messages.is_proof(proof, *other)
    assert not any(messages.is_proof(value, *own) for value in (None, "", 3, proof[:-1], "\ud800"))
