"""What a figure was measured on: processor, cores, memory, versions, and whether the machine was busy."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What benchmarks and `demo/report.py` write: a part of them changes nothing of the program that the next one measures.
DOCUMENTS = ("benchmarks/RESULTS.md", "demo/FIGURES.md")
WRITTEN = (*DOCUMENTS, "demo/contact_sheet.png")
WEIGHTS = "demo model"  # the fact that tells which weights figures are of; see weights.py
# `all.py` hands its own reading on, since its parts keep the machine busy for one another.
LOAD_VARIABLE = "BENCHMARK_LOAD"
# Read before the benchmark itself is at work.
LOAD = float(os.environ.get(LOAD_VARIABLE) or os.getloadavg()[0])
# Processes running or waiting, on average over the last minute, above which times are worth little.
_BUSY = 0.5


def facts() -> dict[str, str]:
    """What a reader must know about the machine and the program to judge a figure."""
    from textual_inversion.system.environment import available_cores
    from textual_inversion.system.provenance import git_revision, versions

    return {
        "processor": processor(),
        "cores": str(available_cores()),
        "memory": f"{memory_bytes() / 2**30:.0f} GiB",
        "GPU": ", ".join(gpus()) or "none",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name, version in versions().items()),
        WEIGHTS: weights(),
        "revision": git_revision(aside=WRITTEN) or "unknown",
    }


@lru_cache
def weights(folder: Path = ROOT / "demo" / "model") -> str:
    """A hash of a model's files, names and contents: 12 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


def line() -> str:
    """The same on one line, with a warning if other programs were running."""
    parts = [f"{name}: {value}" for name, value in facts().items()]
    return "; ".join(parts) + "." + busy_note(LOAD)


def busy_note(load: float) -> str:
    """A note on a machine with this load average over the last minute before the benchmark began."""
    if load <= _BUSY:
        return ""
    return f" **Busy: {load:.1f} processes were at work when this began, so the times are worth little.**"


def shown_command(argv: list[str] | None = None) -> str:
    """The command as a reader can repeat it: paths relative to the repository, others by their last part."""
    words = sys.argv if argv is None else argv
    return shlex.join(["python", *map(_shown_word, words)])


def _shown_word(word: str) -> str:
    if not os.path.isabs(word):
        return word
    path = Path(word)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpus() -> list[str]:
    """Names of the NVIDIA cards, as their driver gives them; none without a driver."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [name.strip() for name in done.stdout.splitlines() if name.strip()] if done.returncode == 0 else []
