"""Damage sound embedding files at random and read them: `python tests/fuzz_formats.py --files 20000 --seed 0`.

Every damaged file must be read or end in a named EmbeddingFileError; nothing may be executed; memory stays bounded.
"""

import argparse
import io
import random
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from strangers import ExecutionWatch, attacks_by_global, attacks_by_structure, sound_files, zip_of
from textual_inversion.errors import EmbeddingFileError
from textual_inversion.formats import read_embeddings, read_pickled_tensors

NAMES = (b"os\nsystem\n", b"builtins\neval\n", b"numpy\nload\n", b"numpy\nndarray\n", b"collections\nOrderedDict\n")
EXTREMES = (b"\xff" * 4, b"\x00" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80")
OPCODES = bytes(range(0x80, 0x99)) + b"(.0125abcdeghijlopqrstuBCFGIJKLMNPQRSTUVX]})"


def most_memory(size: int) -> int:
    """Bytes that reading a file of `size` bytes may take at once, both readers' errors included."""
    return 5 * size + (1 << 20)


def damaged(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One to four random changes; in a zip archive they mostly hit the pickle within, under a right check sum."""
    if data[:2] == b"PK" and zipfile.is_zipfile(io.BytesIO(data)) and chance.random() < 0.8:
        return _damaged_archive(data, others, chance)
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(content) + 1)
        kind = chance.randrange(8)
        if kind == 0:
            content[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            content[place : place + 1] = bytes([chance.choice(OPCODES)])
        elif kind == 2:
            content[place:place] = bytes([chance.choice(OPCODES)]) * chance.choice((1, 1, 2, 50))
        elif kind == 3:
            del content[place : place + chance.choice((1, 1, 4, 30))]
        elif kind == 4:
            extreme = chance.choice(EXTREMES)
            content[place : place + len(extreme)] = extreme
        elif kind == 5:
            content[place:place] = b"c" + chance.choice(NAMES) + chance.choice((b"", b")R", b"(NtR"))
        elif kind == 6:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            content[place:place] = other[start : start + chance.randint(1, 60)]
        elif chance.random() < 0.3:
            del content[place:]
    return bytes(content)


def _damaged_archive(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    if not entries:
        return data
    target = chance.choice([0, 0, 0, chance.randrange(len(entries))])
    pickles = [other for other in others if other[:2] != b"PK"]
    entries[target] = (entries[target][0], damaged(entries[target][1], pickles, chance))
    return zip_of(*entries)


def fuzz(count: int, seed: int, folder: Path) -> dict:
    """Read `count` damaged files with both readers; returns the figures.

    Keys: files, outcomes (error name or "read" -> count), executions, unnamed and greedy (lists), peak_bytes, seconds.
    """
    chance = random.Random(seed)
    sound = list(sound_files().values())
    sources = sound + [data for data, _ in attacks_by_global(folder / "mark").values()]
    sources += [data for data, _ in attacks_by_structure().values() if len(data) < 10_000]
    outcomes: Counter[str] = Counter()
    unnamed: list[str] = []
    greedy: list[str] = []
    peak, started = 0, time.monotonic()
    path = folder / "damaged"
    tracemalloc.start()
    watch = ExecutionWatch()
    for number in range(count):
        data = damaged(chance.choice(sound if number % 4 else sources), sources, chance)
        path.write_bytes(data)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        with watch:
            for read in (read_embeddings, read_pickled_tensors):
                outcomes[outcome(read, path, unnamed)] += 1
        taken = tracemalloc.get_traced_memory()[1] - before
        peak = max(peak, taken)
        if taken > most_memory(len(data)):
            greedy.append(f"file {number} of {len(data)} bytes took {taken}")
    tracemalloc.stop()
    executions = watch.seen + (["mark"] if (folder / "mark").exists() else [])
    seconds = time.monotonic() - started
    return dict(files=count, outcomes=dict(outcomes), executions=executions, unnamed=unnamed, greedy=greedy,
                peak_bytes=peak, seconds=seconds)  # fmt: skip


def outcome(read, path: Path, unnamed: list[str]) -> str:
    try:
        read(path)
    except EmbeddingFileError as error:
        if "\n" in str(error) or path.name not in str(error):
            unnamed.append(f"not one line with the file's name: {error!r}")
        return type(error).__name__
    except Exception as error:
        unnamed.append(repr(error))
        return "unnamed"
    return "read"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Damage embedding files at random and read them.")
    parser.add_argument("--files", type=int, default=20_000, help="number of damaged files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = fuzz(args.files, args.seed, Path(folder))
    print(f"{figures['files']} damaged files read twice in {figures['seconds']:.1f} s")
    for name, number in sorted(figures["outcomes"].items()):
        print(f"  {name:16} {number}")
    print(f"executions {len(figures['executions'])}, unnamed errors {len(figures['unnamed'])}")
    print(f"peak memory of one reading {figures['peak_bytes'] / 1e3:.0f} kB, beyond the bound {len(figures['greedy'])}")
    faults = figures["executions"] + figures["unnamed"] + figures["greedy"]
    for line in faults[:10]:
        print("  " + line)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
