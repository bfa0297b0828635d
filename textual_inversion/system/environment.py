"""The environment of the process: variables that must be set before `import paddle`, and the device afterwards.

Two variables decide the speed on a CPU, and both are read when paddle is imported: `OMP_NUM_THREADS`, which paddle sets
to 1 if it is unset, and `MKL_DEBUG_CPU_TYPE=5`, without which the MKL in paddle's wheels takes a slow path on AMD
processors.
"""

import contextlib
import importlib
import io
import logging
import math
import os
import re
import sys
import warnings
from pathlib import Path

from textual_inversion.system import home, streams
from textual_inversion.system.errors import SettingsError, one_line
from textual_inversion.system.former_names import provide_former_names

_THREADS = "OMP_NUM_THREADS"
_MKL = "MKL_DEBUG_CPU_TYPE"
# It overrides all other settings of NVIDIA's libraries. Without it, Paddle lets them use TF32 on every GPU that has it.
_TF32 = "NVIDIA_TF32_OVERRIDE"
_PADDLENLP_HOME = "PPNLP_HOME"  # replaces ~/.paddlenlp
# paddle writes OMP_NUM_THREADS=1 into its own environment, so the launcher's children inherit a 1 that no user chose.
# Under the launcher, the variable counts only if it has another value.
_LAUNCHED = "PADDLE_LOCAL_SIZE"
# What paddle's libraries and their threads map before anything is computed, measured; with less they end in a crash.
_LEAST_ADDRESS_SPACE = 3 << 30  # bytes
_NO_ROOM = re.compile("failed to map segment|cannot allocate memory", re.IGNORECASE)  # of the dynamic linker


def prepare_environment(num_threads: int | None = None, *, allow_tf32: bool = False) -> str:
    """Set the variables for threads and processor, then import paddle, which reads them when it is imported.

    Variables that the user has set are kept; `num_threads` overrides them.

    Args:
        num_threads: threads of this process; None: the cores divided among the processes of this machine.
        allow_tf32: let cuBLAS and cuDNN round the factors of float32 products; otherwise they keep all their bits.

    Returns:
        One line that says what was set.

    Raises:
        SettingsError: paddle cannot be imported under the limits and switches of this process.
        OutputError: neither the home folder nor a temporary one can be written, and paddle needs one.
    """
    if "paddle" not in sys.modules:
        check_process()
        local_processes = _first_number(os.environ.get(_LAUNCHED)) or 1
        inherited = os.environ.get(_THREADS)
        if num_threads is None and inherited and not (inherited == "1" and _LAUNCHED in os.environ):
            num_threads = _first_number(inherited)
        if num_threads is None:
            num_threads = max(1, available_cores() // local_processes)
        os.environ[_THREADS] = str(num_threads)
        if _is_amd_with_avx2():
            os.environ.setdefault(_MKL, "5")
        if not allow_tf32:
            os.environ.setdefault(_TF32, "0")
        _quiet_dependencies()
        _import_libraries()
    else:
        provide_former_names()
    mkl = f", {_MKL}={os.environ[_MKL]}" if _MKL in os.environ else ""
    return f"{os.environ.get(_THREADS, '1')} threads{mkl}"


def _first_number(text: str | None) -> int | None:
    """The first number of "4" or "4,2" (OpenMP's threads by nesting level); None if there is none."""
    match = re.match(r"\s*0*([1-9]\d{0,5})\s*(,|$)", text or "")
    return int(match[1]) if match else None


def available_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least 1. In a container or a batch job that is its share of the machine.

    Args:
        root: the folder that contains /proc and /sys.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _cpu_quota(root: Path) -> float | None:
    """The cores that Linux control groups allow this process: the lowest quota of its group and the groups above it.

    Version 2 keeps "QUOTA PERIOD" in `cpu.max`; version 1 keeps each in a file of its own
    (https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/scheduler/sched-bwc.html).
    """
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = ("cgroup/cpu", "cgroup/cpu,cpuacct") if controllers else ("cgroup", "cgroup/unified")
        for mount in (root / "sys/fs" / mount for mount in mounts):
            # Inside a container, `path` is that on the host, and the container's own group is mounted at the top.
            folder = mount / path.lstrip("/")
            for group in [folder, *folder.parents]:
                quotas += _quota_of(group)
                if group == mount:
                    break
    return min(quotas, default=None)


def _quota_of(folder: Path) -> list[float]:
    fields = _read(folder / "cpu.max").split()
    fields = fields or [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    if len(fields) == 2 and all(field.isdigit() and int(field) > 0 for field in fields):  # else "max" or -1: no limit
        return [int(fields[0]) / int(fields[1])]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def select_device(name: str | None) -> str:
    """Make `name` ("cpu", "gpu", "gpu:1") paddle's device; None: a GPU if this paddle and this machine have one.

    Returns:
        The device's name as paddle writes it.

    Raises:
        SettingsError: the device doesn't exist or cannot be used.
    """
    import paddle

    if name is None:
        # The launcher has put each process on its own card; an explicit device here would undo that.
        return paddle.device.get_device()
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1") or 1) > 1 and paddle.is_compiled_with_cuda():
        raise SettingsError(f"--device {name}: under the launcher its --gpus decides; leave --device out")
    if name.startswith("gpu") and not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
        raise SettingsError(f"--device {name}: this paddle sees no GPU; use --device cpu or install paddlepaddle-gpu")
    if name.startswith("gpu:") and int(name[4:]) >= paddle.device.cuda.device_count():
        raise SettingsError(f"--device {name}: there are {paddle.device.cuda.device_count()} GPUs, counted from 0")
    try:
        return str(paddle.set_device(name)).replace("Place(", "").rstrip(")")
    except (ValueError, RuntimeError) as error:
        raise SettingsError(f"--device {name} cannot be used ({error}); use cpu, gpu or gpu:N") from None


def _is_amd_with_avx2() -> bool:
    text = _read(Path("/proc/cpuinfo"))
    return "AuthenticAMD" in text and " avx2 " in text


def check_process() -> None:
    """Check what paddle and its libraries would only end in a crash or a traceback for; raises SettingsError."""
    if sys.flags.optimize >= 2:
        raise SettingsError(
            "python -OO, or PYTHONOPTIMIZE=2, removes texts that paddle needs; unset PYTHONOPTIMIZE or set it to 1"
        )
    limit = _address_space()
    if limit is not None and limit < _LEAST_ADDRESS_SPACE:
        raise SettingsError(
            f"this process may use {limit / 2**30:.1f} GiB of address space (ulimit -v), and paddle alone takes "
            f"{_LEAST_ADDRESS_SPACE / 2**30:.0f} GiB; raise that limit, or lift it: ulimit -v unlimited"
        )


def _address_space() -> int | None:
    """The most bytes of address space that this process may use; None: no limit, or none that can be known."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _import_libraries() -> None:
    """Import paddle, and paddlenlp where it would make folders that cannot be made.

    Raises:
        OutputError: neither the home folder nor a temporary one can be written.
    """
    home.prepare()
    provide_former_names()  # its imports, too, make folders at home
    with home.taking(*home.OF_PADDLE):
        _import_paddle()
    own = os.environ.get(_PADDLENLP_HOME)
    if own and home.can_make(Path(own, "models")):
        return
    importlib.import_module("huggingface_hub.constants")  # which are to name the real home folder
    with home.taking(*home.OF_PADDLENLP) as takes_it:
        if own or not takes_it:
            os.environ.pop(_PADDLENLP_HOME, None)
            importlib.import_module("paddlenlp")
    if own:
        os.environ[_PADDLENLP_HOME] = own


def _import_paddle() -> None:
    """Import paddle without its warning about the number of threads; pass on everything else that it prints."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            importlib.import_module("paddle")
    except ImportError as error:
        if _NO_ROOM.search(str(error)):
            raise SettingsError(f"paddle cannot be loaded ({one_line(error)}); there is not enough memory") from error
        raise
    finally:
        for line in printed.getvalue().splitlines():
            if _THREADS not in line:
                streams.print_error(line)


def _is_error_in_one_line(record: logging.LogRecord) -> bool:
    """A filter of a logger: errors only, on one line without what a terminal would obey."""
    record.msg, record.args = one_line(record.getMessage()), ()
    return record.levelno >= logging.ERROR


def _quiet_dependencies() -> None:
    """Silence what the packages print at import, so that users see the lines that matter."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("PPDIFFUSERS_VERBOSITY", "error")
    # paddlenlp reads no such variable, and colours its lines, in which it quotes what files say.
    logging.getLogger("PaddleNLP").addFilter(_is_error_in_one_line)
    for category in (DeprecationWarning, FutureWarning, UserWarning, SyntaxWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(?!textual_inversion).*")
