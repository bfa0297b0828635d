"""How much memory reading images takes above the start, in a process of its own."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from helpers.paths import ROOT

_PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from textual_inversion.data import images
from textual_inversion.system.errors import ImageError

def resident(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) << 10

images.load_image({small!r})
before = resident("VmRSS")
for {name} in {values}:
    open("/proc/self/clear_refs", "w").write("5")  # the highest is now what there is
{body}
    print(resident("VmHWM") - before)
"""


def peaks(folder: Path, name: str, values: str, body: str, timeout: int = 120) -> list[int]:
    """Bytes above the start at the highest, for each of some values.

    Args:
        folder: where a small image may be written, which is read before the measure.
        name, values, body: Python: for NAME in VALUES, what is done with it; `images` and `ImageError` are there.
    """
    small = folder / "small-before.png"
    Image.new("RGB", (64, 64)).save(small)
    body = "\n".join(f"    {line}" for line in body.strip().splitlines())
    program = _PROGRAM.format(root=str(ROOT), small=str(small), name=name, values=values, body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout)
    assert not done.returncode, done.stderr
    return [int(line) for line in done.stdout.split()]
