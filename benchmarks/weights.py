"""Which recorded figures were measured on other weights of the demo model than those that are in `demo/model` now.

    python benchmarks/weights.py            lists them; the status is 1 where there are any
    python benchmarks/weights.py --hash     prints the hash of demo/model

Every section that a benchmark or `demo/report.py` writes names this hash beside processor and packages. Recorded output
has it in a file of its own, notebooks in their metadata; a page may name it in its text. Sections about models of other
sizes depend on no weights of the demo's.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

TRANSCRIPTS, NOTEBOOKS = "docs/transcripts", "notebooks"
HASH_FILE = "demo-model.txt"  # beside the transcripts
_UNKNOWN = "unknown"
# Parts that measure no model, or one of random weights.
_OTHER_MODELS = ("step_time", "memory", "traffic", "fuzz_formats", "gpu")
_PART = re.compile(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", re.DOTALL)
_SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
_HASH = re.compile(rf"; {machine.WEIGHTS}: ([0-9a-f]+)")
_IN_TEXT = re.compile(rf"{machine.WEIGHTS} ([0-9a-f]{{12}})\b")  # of a page that quotes figures


@dataclass(frozen=True)
class Measured:
    """Where figures stand, and which weights they are of.

    Attributes:
        place: document and section.
        weights: the hash that `machine.weights` gave; "unknown" where none is named.
    """

    place: str
    weights: str


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="weights.py", description="Lists figures of other weights than those of demo/model.")
    parser.add_argument("--hash", action="store_true", help="print the hash of demo/model instead")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its status."""
    now = machine.weights()
    if build_parser().parse_args(argv).hash:
        print(now)
        return 0
    found = stale(now)
    for one in found:
        print(f"{one.place}: measured on {one.weights}, now {now}")
    return 1 if found else 0


def stale(now: str, root: Path = machine.ROOT) -> list[Measured]:
    """All figures of the demo model that are of other weights than `now`."""
    return [one for one in measured(root) if one.weights != now]


def measured(root: Path) -> Iterator[Measured]:
    """All figures of the demo model."""
    for document in machine.DOCUMENTS:
        for part, body in _PART.findall((root / document).read_text(encoding="utf-8")):
            yield from _sections(document, part, body)
    for notebook in sorted((root / NOTEBOOKS).glob("*.ipynb")):
        named = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("demo_model", _UNKNOWN)
        yield Measured(f"{NOTEBOOKS}/{notebook.name}", named)
    for page in sorted([*(root / "docs").rglob("*.md"), *root.glob("*.md"), *root.glob("*/README*.md")]):
        for named in _IN_TEXT.findall(page.read_text(encoding="utf-8")):
            yield Measured(page.relative_to(root).as_posix(), named)
    recorded = root / TRANSCRIPTS / HASH_FILE
    yield Measured(TRANSCRIPTS, recorded.read_text(encoding="utf-8").strip() if recorded.is_file() else _UNKNOWN)


def _sections(document: str, part: str, body: str) -> Iterator[Measured]:
    """The sections of one part; a benchmark that was run for several models has one for each."""
    _, *pieces = _SECTION.split(body)
    for title, text in zip(pieces[::2], pieces[1::2], strict=True):
        if part not in _OTHER_MODELS and "full model" not in title:
            named = _HASH.search(text)
            yield Measured(f"{document}, {title}", named[1] if named else _UNKNOWN)


if __name__ == "__main__":
    run_command(main)
