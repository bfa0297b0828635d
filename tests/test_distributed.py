"""What processes exchange, and that they wait for one another."""

import subprocess
import sys

import numpy as np
import paddle

from conftest import ROOT
from textual_inversion import distributed
from textual_inversion.distributed import Ranks


def parameter(gradient):
    values = np.array(gradient, dtype="float32")
    p = paddle.create_parameter(list(values.shape), "float32")
    (p * paddle.to_tensor(values)).sum().backward()
    return p


def test_one_all_reduce_carries_the_rows_of_all_encoders_and_nothing_else(monkeypatch):
    sent = []

    def all_reduce(flat):
        sent.append(list(flat.shape))
        flat.set_value(flat + 10.0)  # what the other rank has

    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    rows = [parameter([[2.0, 4.0]]), parameter([[6.0, 8.0, 10.0], [1.0, 2.0, 3.0]])]

    Ranks(0, 2).mean_gradients(rows)

    assert sent == [[1 * 2 + 2 * 3]]
    np.testing.assert_allclose(rows[0].grad.numpy(), [[6.0, 7.0]])
    np.testing.assert_allclose(rows[1].grad.numpy(), [[8.0, 9.0, 10.0], [5.5, 6.0, 6.5]])


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.setattr(distributed.dist, "all_reduce", None)
    rows = [parameter([[2.0, 4.0]])]

    Ranks().mean_gradients(rows)
    Ranks().wait()

    np.testing.assert_array_equal(rows[0].grad.numpy(), [[2.0, 4.0]])
    assert Ranks().broadcast("seed") == "seed"


SLOW_RANK = """
import sys, time
sys.path.insert(0, {root!r})
from textual_inversion import distributed
ranks = distributed.start()
assert ranks.broadcast(ranks.rank + 5) == 5
if ranks.is_main:
    time.sleep(34)  # gloo gives up after 30
ranks.wait()
import paddle
sum_ = paddle.ones([3])
distributed.dist.all_reduce(sum_)
assert sum_.tolist() == [2.0] * 3
ranks.wait()
open(sys.argv[1] + str(ranks.rank), "w").close()
"""


def test_ranks_wait_for_a_slow_one_longer_than_gloo_would(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW_RANK.format(root=str(ROOT)))

    done = subprocess.run(
        [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", str(script), f"{tmp_path}/done-"],
        capture_output=True, text=True, timeout=200, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert sorted(p.name for p in tmp_path.glob("done-*")) == ["done-0", "done-1"]
