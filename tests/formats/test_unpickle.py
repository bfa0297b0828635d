import pickle
import time
import tracemalloc
from collections import OrderedDict

import pytest

from textual_inversion.formats.errors import AsksTooMuch, BrokenFile, RefusedFile
from textual_inversion.formats.unpickle import Builder, interpret

BUILDERS = {("collections", "OrderedDict"): Builder("collections.OrderedDict", lambda *_: {})}
SHARED = ["twice"]
VALUE = {
    "text": "猫 \n ü", "empty": "", "long": "x" * 300, "none": None, "flags": [True, False],
    "lists": [[], [[1]], SHARED],
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**63, -(2**70), 0.5, -1e300], "shared": SHARED,
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "ordered": OrderedDict(a=1, b=OrderedDict()),
}  # fmt: skip


def read(data: bytes):
    return interpret(memoryview(data), BUILDERS)[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_agrees_with_python_on_containers(protocol):
    data = pickle.dumps(VALUE, protocol)
    assert read(data) == pickle.loads(data)


def test_sharing_is_kept():
    value = read(pickle.dumps(VALUE))
    assert value["shared"] is value["lists"][2]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes_are_views_of_the_file(protocol):
    data = memoryview(pickle.dumps([b"short", b"y" * 300], protocol))
    short, long = interpret(data, {})[0]
    assert (bytes(short), bytes(long)) == (b"short", b"y" * 300)
    assert long.obj is data.obj


def test_the_end_of_the_pickle_is_returned():
    data = memoryview(pickle.dumps(1) + pickle.dumps(2))
    first, end = interpret(data, {})
    assert (first, interpret(data, {}, start=end)) == (1, (2, len(data)))


def test_every_cut_is_noticed():
    data = pickle.dumps(VALUE, 4)
    for length in range(len(data)):
        with pytest.raises(BrokenFile):
            read(data[:length])


def test_a_builder_is_called_and_nothing_else():
    calls = []
    builders = {("m", "f"): Builder("m.f", lambda *args: calls.append(args))}
    interpret(memoryview(b"\x80\x02cm\nf\nK\x01K\x02\x86R."), builders)
    assert calls == [(1, 2)]
    with pytest.raises(RefusedFile, match="asks for m.g,"):
        interpret(memoryview(b"\x80\x02cm\ng\nK\x01\x85R."), builders)


def test_an_unknown_global_is_refused_before_anything_is_called():
    with pytest.raises(RefusedFile, match="asks for os.system"):
        read(b"cos\nsystem\n(S'x'\ntR.")


@pytest.mark.slow
@pytest.mark.parametrize("unit", [b"}\x94", b"\x8f", b"(", b"N\x85\x94", b"}K\x01K\x02s"])
def test_memory_and_time_are_bounded_whatever_is_piled_up(unit):
    data = b"\x80\x04" + unit * (2_000_000 // len(unit))
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(AsksTooMuch):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6
    assert time.monotonic() - started < 20


def test_calls_count_what_they_walk_over():
    pairs = b"](" + b"NN\x86" * 1000 + b"eq\x00"
    data = b"\x80\x02" + pairs + b"0" + b"ccollections\nOrderedDict\nh\x00\x85R0" * 1000 + b"N."
    with pytest.raises(AsksTooMuch, match="steps"):
        read(data)
