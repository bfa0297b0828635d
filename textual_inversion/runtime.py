"""The process's environment: what must be set before `import paddle`, and the device afterwards.

Two settings decide a CPU's speed here, and both are read when paddle is imported:
`OMP_NUM_THREADS` (paddle sets it to 1 when nobody did), and `MKL_DEBUG_CPU_TYPE=5`, without which the MKL that
paddle's wheels carry takes a slow path on AMD processors.
"""

import contextlib
import importlib
import io
import os
import sys
import warnings
from pathlib import Path

from textual_inversion.errors import SettingsError

_THREADS = "OMP_NUM_THREADS"
_MKL = "MKL_DEBUG_CPU_TYPE"
# paddle writes OMP_NUM_THREADS=1 into its own environment, so what the launcher's children inherit was not chosen by
# anybody; under the launcher the variable counts only where it says something else.
_LAUNCHED = "PADDLE_LOCAL_SIZE"


def prepare_environment(num_threads: int | None = None) -> str:
    """Set thread count and processor variables, then import paddle, which reads them only then.

    What the user put into the environment stays; `num_threads` overrides it.

    Args:
        num_threads: threads of this process; None divides the cores among the processes of this machine.

    Returns:
        One line that says what is set.
    """
    if "paddle" not in sys.modules:
        local_processes = int(os.environ.get(_LAUNCHED, "1") or 1)
        inherited = os.environ.get(_THREADS)
        if num_threads is None and inherited and not (inherited == "1" and _LAUNCHED in os.environ):
            num_threads = int(inherited) if inherited.isdigit() else None
        if num_threads is None:
            num_threads = max(1, available_cores() // local_processes)
        os.environ[_THREADS] = str(num_threads)
        if _is_amd_with_avx2():
            os.environ.setdefault(_MKL, "5")
        _quiet_dependencies()
        _import_paddle()
    mkl = f", {_MKL}={os.environ[_MKL]}" if _MKL in os.environ else ""
    return f"{os.environ.get(_THREADS, '1')} threads{mkl}"


def available_cores() -> int:
    """Cores this process may run on (a container's or a batch system's share, not the machine's)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def select_device(name: str | None):
    """Make `name` ("cpu", "gpu", "gpu:1") paddle's device; None takes a GPU where this paddle and machine have one.

    Returns:
        The device's name as paddle writes it.

    Raises:
        SettingsError: the device is not there.
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
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    return "AuthenticAMD" in text and " avx2 " in text


def _import_paddle() -> None:
    """Import paddle without its advice against the thread count that was chosen above; pass on what else it says."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            importlib.import_module("paddle")
    finally:
        lines = [line for line in said.getvalue().splitlines(keepends=True) if _THREADS not in line]
        sys.stderr.write("".join(lines))


def _quiet_dependencies() -> None:
    """Keep the stack's own import chatter away from the lines that users should read."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("PPDIFFUSERS_VERBOSITY", "error")
    for category in (DeprecationWarning, FutureWarning, UserWarning, SyntaxWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(?!textual_inversion).*")
