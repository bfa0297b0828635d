"""What is set before paddle is imported, whoever set it before."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT
from textual_inversion.errors import SettingsError
from textual_inversion.runtime import available_cores, select_device

REPORT = """
import os, sys
from textual_inversion import runtime
runtime._import_paddle = lambda: None
runtime._is_amd_with_avx2 = lambda: {amd}
print(runtime.prepare_environment({threads}))
print(os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_DEBUG_CPU_TYPE"))
"""


def prepared(threads=None, amd=True, **environment):
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "PADDLE_"))}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(threads=threads, amd=amd)],
        env=own | environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].split()


def test_all_cores_work_and_amd_gets_the_fast_path():
    assert prepared() == [str(available_cores()), "5"]
    assert prepared(amd=False) == [str(available_cores()), "None"]


def test_what_the_user_set_stays():
    assert prepared(OMP_NUM_THREADS="7", MKL_DEBUG_CPU_TYPE="4") == ["7", "4"]
    assert prepared(OMP_NUM_THREADS="1")[0] == "1"


def test_the_flag_wins_over_the_environment():
    assert prepared(threads=3, OMP_NUM_THREADS="7")[0] == "3"


def test_processes_of_one_machine_share_its_cores():
    share = str(max(1, available_cores() // 2))

    # Under the launcher a 1 is paddle's own doing and not a choice.
    assert prepared(PADDLE_LOCAL_SIZE="2", OMP_NUM_THREADS="1")[0] == share
    assert prepared(PADDLE_LOCAL_SIZE="2", OMP_NUM_THREADS="5")[0] == "5"


def test_a_gpu_that_is_not_there_is_refused_with_the_way_out():
    with pytest.raises(SettingsError, match="use --device cpu or install paddlepaddle-gpu"):
        select_device("gpu:0")


def test_the_cpu_can_always_be_chosen():
    assert select_device("cpu") == "cpu"
    assert select_device(None) == "cpu"


def test_help_and_refusals_come_without_paddle():
    code = (
        "import sys, train_textual_inversion as t, infer, score\n"
        "for module in (t, infer, score):\n"
        "    try: module.main(['--help'])\n"
        "    except SystemExit: pass\n"
        "assert not {'paddle', 'ppdiffusers', 'paddlenlp', 'visualdl'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
