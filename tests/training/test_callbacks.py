"""What is shown, measured and saved around the training steps."""

from types import SimpleNamespace

import numpy as np
import pytest

from textual_inversion.distributed.ranks import Ranks
from textual_inversion.settings.concept import Concept
from textual_inversion.training import callbacks
from textual_inversion.training.artifacts import Saves
from textual_inversion.training.state import ConceptVectors, Record, RunContext


def test_callbacks_that_fail_to_begin_close_their_log_and_their_bar():
    closed = []
    made = callbacks.Callbacks(
        RunContext(Ranks(), None), Record(), None, None, None,
        tracker=SimpleNamespace(close=lambda: closed.append("log")),
        progress=SimpleNamespace(close=lambda: closed.append("bar")),
        losses=SimpleNamespace(look=lambda step: (_ for _ in ()).throw(MemoryError)),
        saves=None, checkpointer=None, movement=None, save_vectors=None, give_up=None, validation=None, best=None,
        image_losses=None, ends_when_settled=False,
    )  # fmt: skip

    with pytest.raises(MemoryError), made:
        pytest.fail("entered")

    assert sorted(closed) == ["bar", "log"]


def test_vectors_that_are_no_longer_finite_never_replace_good_ones(tmp_path):
    values = np.arange(12, dtype="float32").reshape(3, 4)
    embedding = SimpleNamespace(vectors=SimpleNamespace(numpy=lambda: values.copy()))
    vectors = ConceptVectors([Concept("<a>", 2), Concept("<b>", 1)], {"text_encoder": embedding}, {})
    save = callbacks._saver(
        vectors, RunContext(Ranks(), tmp_path), SimpleNamespace(name="m", clip_skip=None, max_token_length=None), seed=3
    )
    saves, latest = Saves(tmp_path), tmp_path / "learned_embeds.pdparams"
    assert saves.attempt(save, 10)
    before = latest.read_bytes()
    values[1, 1] = np.nan

    assert not saves.attempt(save, 20)

    assert "lower --learning_rate" in str(saves.failures[0])
    assert latest.read_bytes() == before and not (tmp_path / "learned_embeds-steps-20.pdparams").exists()
