"""Arrays reach the device without a wait, and nothing in the training loop reads the device between figures."""

import contextlib
import traceback

import numpy as np
import paddle
import pytest

from helpers.training_runs import short_run
from textual_inversion.system import device
from train_textual_inversion import main

READS = ("numpy", "item", "tolist", "__bool__", "__float__", "__int__", "__index__", "__array__", "cpu")


def test_on_a_cpu_it_is_a_plain_copy():
    array = np.arange(6, dtype=np.int64).reshape(2, 3)

    tensor = device.to_device(array)

    assert tensor.dtype == paddle.int64 and tensor.tolist() == array.tolist() and tensor.place.is_cpu_place()
    assert not device._in_flight


class Event:
    def __init__(self):
        self.has_come = False

    def query(self):
        return self.has_come


def test_is_on_gpu_pinned_copies_are_kept_until_the_card_has_read_them(monkeypatch):
    calls, events = [], []
    monkeypatch.setattr(device, "_in_flight", device.deque())
    monkeypatch.setattr(device, "_is_on_gpu", lambda: True)
    monkeypatch.setattr(device, "_pin", lambda array: calls.append("pin") or ["pinned", array])
    monkeypatch.setattr(device, "_send", lambda pinned: calls.append("send") or ["sent", pinned])
    monkeypatch.setattr(device, "_mark", lambda: calls.append("mark") or events.append(Event()) or events[-1])

    for number in range(3):
        assert device.to_device(number) == ["sent", ["pinned", number]]
    assert calls == ["pin", "send", "mark"] * 3  # the event stands behind the copy in the queue
    assert [pinned[1] for _, pinned in device._in_flight] == [0, 1, 2]

    events[0].has_come = events[2].has_come = True  # the second is still under way
    device.to_device(3)
    assert [pinned[1] for _, pinned in device._in_flight] == [1, 2, 3]


@contextlib.contextmanager
def reads_of_tensors(monkeypatch):
    """A list of (method, where it was called from) of all reads of a tensor's values."""
    seen = []

    def counted(name, usual):
        def read(self, *inputs, **options):
            frames = [f"{f.filename.rpartition('/')[2]}:{f.name}" for f in traceback.extract_stack()[:-1]]
            # ppdiffusers reshapes by what paddle.shape gives, which is on the processor wherever the tensor is.
            if not (name == "item" and frames[-1] == "manipulation.py:reshape"):
                seen.append((name, frames))
            return usual(self, *inputs, **options)

        return read

    with monkeypatch.context() as patch:
        for name in READS:
            if hasattr(paddle.Tensor, name):
                patch.setattr(paddle.Tensor, name, counted(name, getattr(paddle.Tensor, name)))
        yield seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("sd1", ()),
        ("sdxl", ("--gradient_checkpointing", "--average_last_steps", "4", "--timestep_sampling", "stratified")),
        ("alt", ("--optimizer", "sgd", "--snr_gamma", "5", "--loss_type", "huber", "--antithetic_noise")),
    ],
)
def test_no_number_is_read_in_the_loop_between_figures(tmp_path, monkeypatch, family, more):
    """Steps 1, 10 and 20 print figures; the first steps look at the guard's flag; all else must not wait."""
    from textual_inversion.training import callbacks

    argv = short_run(
        tmp_path, "--max_train_steps", "20", "--eval_steps", "0", "--only_save_embeds", *more, family=family
    )
    reads = []
    usual = callbacks.Callbacks.after_step

    with reads_of_tensors(monkeypatch) as seen:

        def after_step(self, step, *figures):
            before = len(seen)
            usual(self, step, *figures)
            reads.append((step, seen[start[0] : before], seen[before:]))
            start[0] = len(seen)

        start = [0]
        enter = callbacks.Callbacks.__enter__

        def begin(self):
            start[0] = len(seen)
            return enter(self)

        monkeypatch.setattr(callbacks.Callbacks, "after_step", after_step)
        monkeypatch.setattr(callbacks.Callbacks, "__enter__", begin)
        main(argv)

    assert [step for step, _, _ in reads] == list(range(1, 21))
    steps = {step: (in_step, after) for step, in_step, after in reads}
    assert any(after for _, after in steps.values())  # figures are read, so the counting works
    quiet = [step for step in steps if step not in (1, 10, 20)]
    found = {step: [name for part in steps[step] for name, _ in part] for step in quiet if any(steps[step])}
    assert found == {}, [frames[-6:] for step in found for part in steps[step] for _, frames in part][:3]
    assert {name for name, _ in steps[10][0]} == set()  # and in step 10 nothing before its figures
