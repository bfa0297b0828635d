"""What is set before paddle is imported, whoever set it before."""

import os
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from textual_inversion.system.environment import available_cores, select_device
from textual_inversion.system.errors import SettingsError

REPORT = """
import os, sys
from textual_inversion.system import environment
environment._import_paddle = lambda: None
environment._is_amd_with_avx2 = lambda: {amd}
print(environment.prepare_environment({threads}, allow_tf32={tf32}))
print(os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_DEBUG_CPU_TYPE"), os.environ.get("NVIDIA_TF32_OVERRIDE"))
"""


def prepared(threads=None, amd=True, tf32=False, **environment):
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "PADDLE_", "NVIDIA_"))}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(threads=threads, amd=amd, tf32=tf32)],
        env=own | environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].split()


def test_all_cores_work_and_amd_gets_the_fast_path():
    assert prepared()[:2] == [str(available_cores()), "5"]
    assert prepared(amd=False)[:2] == [str(available_cores()), "None"]


def test_what_the_user_set_stays():
    assert prepared(OMP_NUM_THREADS="7", MKL_DEBUG_CPU_TYPE="4")[:2] == ["7", "4"]
    assert prepared(OMP_NUM_THREADS="1")[0] == "1"


@pytest.mark.parametrize(("value", "threads"), [("4,2", "4"), (" 3 ", "3"), ("4,", "4")])
def test_threads_by_nesting_level_count_by_their_first(value, threads):
    assert prepared(OMP_NUM_THREADS=value)[0] == threads


@pytest.mark.parametrize("value", ["many", "0", "-2", "", "99999999999", "1.5"])
def test_what_is_no_number_of_threads_counts_as_unset(value):
    assert prepared(OMP_NUM_THREADS=value)[0] == str(available_cores())
    assert prepared(PADDLE_LOCAL_SIZE=value)[0] == str(available_cores())


def machine(root, groups, **files):
    """A root folder with the control groups of a process."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("", {}, 8),
        ("0::/\n", {"cpu_max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu_max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu_max": "150000 100000\n"}, 2),  # one and a half
        ("0::/\n", {"cpu_max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu_max": "6400000 100000\n"}, 8),  # more than there are
        ("0::/jobs/one\n", {"jobs__one__cpu_max": "max 100000\n", "jobs__cpu_max": "300000 100000\n"}, 3),
        ("0::/machines/own/group\n", {"cpu_max": "400000 100000\n"}, 4),  # as a container sees itself
        ("4:cpu,cpuacct:/job\n", {"cpu__job__cpu_cfs_quota_us": "250000", "cpu__job__cpu_cfs_period_us": "100000"}, 3),
        ("4:cpu,cpuacct:/job\n", {"cpu__job__cpu_cfs_quota_us": "-1", "cpu__job__cpu_cfs_period_us": "100000"}, 8),
        ("4:cpu,cpuacct:/x\n", {"cpu__cpu_cfs_quota_us": "100000", "cpu__cpu_cfs_period_us": "100000"}, 1),
        ("3:memory:/\n", {"cpu_max": "100000 100000"}, 8),
        ("nonsense\n::\n", {"cpu_max": "one two three"}, 8),
    ],
)
def test_a_control_groups_share_of_the_cores_counts(tmp_path, monkeypatch, groups, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores(machine(tmp_path, groups, **files)) == cores


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


def test_products_keep_all_their_bits_unless_tf32_is_allowed_or_the_user_says():
    assert prepared()[2] == "0"
    assert prepared(tf32=True)[2] == "None"
    assert prepared(NVIDIA_TF32_OVERRIDE="1")[2] == "1"


def test_help_and_refusals_come_without_paddle():
    code = (
        "import sys, train_textual_inversion as t, infer, score\n"
        "for module in (t, infer, score):\n"
        "    try: module.main(['--help'])\n"
        "    except SystemExit: pass\n"
        "assert not {'paddle', 'ppdiffusers', 'paddlenlp', 'visualdl'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_what_paddlenlp_logs_of_a_file_is_kept_back_and_its_errors_are_harmless():
    program = (
        "from textual_inversion.system.environment import prepare_environment\n"
        "prepare_environment()\n"
        "from paddlenlp.utils.log import logger\n"
        "logger.info('got \\x1b[2J'); logger.warning('got \\x1b[2J'); logger.error('got \\x1b[2J\\nerror: forged')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)

    (line,) = done.stderr.splitlines()
    assert "got \ufffd[2J error: forged" in line
