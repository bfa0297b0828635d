"""What is shown, measured and saved around the training steps."""

from types import SimpleNamespace

import pytest

from textual_inversion.training import callbacks


def test_a_watch_that_fails_to_begin_closes_its_log_and_its_bar():
    closed = []
    watch = object.__new__(callbacks.Watch)
    watch._run = SimpleNamespace(resumed=None)
    watch._tracker = SimpleNamespace(close=lambda: closed.append("log"))
    watch._progress = SimpleNamespace(close=lambda: closed.append("bar"))
    watch._evaluate = lambda step: (_ for _ in ()).throw(MemoryError)

    with pytest.raises(MemoryError), watch:
        pytest.fail("entered")

    assert sorted(closed) == ["bar", "log"]
