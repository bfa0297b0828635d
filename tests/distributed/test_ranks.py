"""What processes exchange, and that they wait for one another."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from helpers.paths import ROOT
from textual_inversion.distributed import ranks
from textual_inversion.distributed.ranks import Ranks
from textual_inversion.system.signals import Signals


def parameter(gradient):
    values = np.array(gradient, dtype="float32")
    p = paddle.create_parameter(list(values.shape), "float32")
    (p * paddle.to_tensor(values)).sum().backward()
    return p


@pytest.mark.parametrize(("told", "others"), [(None, 0.0), (15, 0.0), (None, 1.0)])
def test_one_all_reduce_carries_the_rows_of_all_encoders_and_whether_to_end(monkeypatch, told, others):
    sent, stop = [], Signals()
    stop.received = told

    def all_reduce(flat):
        sent.append(list(flat.shape))
        flat.set_value(flat + paddle.to_tensor([10.0] * (flat.shape[0] - 1) + [others]))  # what the other rank has

    monkeypatch.setattr(ranks.dist, "all_reduce", all_reduce)
    rows = [parameter([[2.0, 4.0]]), parameter([[6.0, 8.0, 10.0], [1.0, 2.0, 3.0]])]

    Ranks(0, 2).mean_gradients(rows, stop)

    assert sent == [[1 * 2 + 2 * 3 + 1]]
    assert stop.agreed == bool(told or others)
    np.testing.assert_allclose(rows[0].grad.numpy(), [[6.0, 7.0]])
    np.testing.assert_allclose(rows[1].grad.numpy(), [[8.0, 9.0, 10.0], [5.5, 6.0, 6.5]])


class OnGpu:
    """A number that would have to be waited for."""

    def __init__(self, value):
        self.place, self.value = SimpleNamespace(is_cpu_place=lambda: False), value

    def __float__(self):
        return self.value


def test_on_a_gpu_all_end_a_step_later_and_no_step_waits_for_its_own_answer():
    ranks = Ranks(0, 2)
    assert [ranks._is_any_stopping(OnGpu(value)) for value in (0.0, 1.0, 1.0)] == [False, False, True]


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.setattr(ranks.dist, "all_reduce", None)
    rows = [parameter([[2.0, 4.0]])]

    stop = Signals()
    Ranks().mean_gradients(rows, stop)
    Ranks().wait()
    Ranks().leave()
    assert not stop.agreed

    np.testing.assert_array_equal(rows[0].grad.numpy(), [[2.0, 4.0]])
    assert Ranks().broadcast("seed") == "seed"


SLOW_RANK = """
import sys, time
sys.path.insert(0, {root!r})
from textual_inversion.distributed import ranks as module
ranks = module.start(module.Peers(), {{"flags": {{"--seed": 1}}}})
assert ranks.broadcast(ranks.rank + 5) == 5
if ranks.is_main:
    time.sleep(34)  # gloo gives up after 30
ranks.wait()
import paddle
sum_ = paddle.ones([3])
module.dist.all_reduce(sum_)
assert sum_.tolist() == [2.0] * 3
ranks.wait()
open(sys.argv[1] + str(ranks.rank), "w").close()
print("done")  # in a buffer, as stdout is a file here
ranks.leave()
sys.exit("still here")
"""


@pytest.mark.slow
@pytest.mark.multiprocess
def test_ranks_wait_for_a_slow_one_longer_than_gloo_would(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW_RANK.format(root=str(ROOT)))

    done = subprocess.run(
        [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", str(script), f"{tmp_path}/done-"],
        capture_output=True, text=True, timeout=200, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert sorted(p.name for p in tmp_path.glob("done-*")) == ["done-0", "done-1"]
    logs = [path.read_text() for path in tmp_path.glob("log/workerlog.*")]
    assert len(logs) == 2 and all("done" in log and "still here" not in log for log in logs)


def test_rows_that_nothing_led_to_take_no_part(monkeypatch):
    monkeypatch.setattr(ranks.dist, "all_reduce", lambda flat: flat.set_value(flat * 2.0))
    led_to, left_out = parameter([[2.0, 4.0]]), paddle.create_parameter([1, 3], "float32")

    Ranks(0, 2).mean_gradients([left_out, led_to])
    Ranks(0, 2).mean_gradients([left_out])

    assert left_out.grad is None
    np.testing.assert_array_equal(led_to.grad.numpy(), [[2.0, 4.0]])
