"""What a process holds in memory, from Linux's /proc.

Resident memory is anonymous (the program's own) plus mapped files. The proportional size counts a page that several
processes map by its share. All figures are bytes.
"""

import os
from pathlib import Path

_STATUS = {"VmHWM": "peak", "VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "mapped"}


def now(pid: int | str = "self") -> dict[str, int]:
    """`peak`, `resident`, `anonymous`, `mapped`, `proportional` of a process; without what its system hides."""
    found = read_fields(Path(f"/proc/{pid}/status"), _STATUS)
    return found | read_fields(Path(f"/proc/{pid}/smaps_rollup"), {"Pss": "proportional"})


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 once it has ended."""
    return read_fields(Path(f"/proc/{pid}/status"), {"VmRSS": "resident"}).get("resident", 0)


def peak(pid: int) -> int:
    """The most that a process has been resident so far; 0 once it has ended."""
    return read_fields(Path(f"/proc/{pid}/status"), {"VmHWM": "peak"}).get("peak", 0)


def forget_peak() -> bool:
    """Let this process's peak begin again at what is resident now; False where its system does not allow that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def read_fields(path: Path, wanted: dict[str, str]) -> dict[str, int]:
    """The wanted lines `Name:   123 kB` of a file in /proc under their new names, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in lines)
    return {wanted[name]: 1024 * int(text.split()[0]) for name, text in pairs if name in wanted}


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            # The name in brackets may hold blanks; the parent stands second behind it.
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found
