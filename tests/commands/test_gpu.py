"""On a CUDA card a run learns what it learns on a CPU, but for rounding. Skipped without a card."""

import numpy as np
import paddle
import pytest

from helpers.training_runs import launch, short_run, vectors_in

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(
        not paddle.is_compiled_with_cuda() or not paddle.device.cuda.device_count(), reason="there is no CUDA card"
    ),
]


def learned(folder, *flags):
    launch(short_run(folder, *flags), processes=1, cwd=folder)
    return vectors_in(folder / "out" / "learned_embeds.pdparams")


def test_a_card_learns_what_a_cpu_learns(tmp_path):
    for name in ("cpu", "gpu"):
        (tmp_path / name).mkdir()
    cpu, gpu = (learned(tmp_path / name, "--device", name) for name in ("cpu", "gpu"))

    np.testing.assert_allclose(gpu, cpu, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_takes_all_steps(tmp_path, precision):
    assert np.isfinite(learned(tmp_path, "--device", "gpu", "--mixed_precision", precision)).all()
