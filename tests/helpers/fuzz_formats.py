"""Read hostile embedding files by the ten thousand: `python tests/helpers/fuzz_formats.py --files 20000 --seed 0`.

    crafted    every attack of `strangers.py`, once
    damaged    valid files and attacks, changed at random at one to four positions
    made up    pickles put together from opcodes, safetensors headers and zip archives, by hypothesis

Each is read by both readers, of embeddings and of a base model's weights. Every file must be read or end in a named
EmbeddingFileError of one line; nothing may be executed, imported or written, which an audit hook watches; memory stays
bounded: by the file's size for each reading, and by RLIMIT_AS for the whole process.
"""

import io
import json
import random
import struct
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

if __name__ == "__main__":
    sys.path[:0] = map(str, Path(__file__).resolve().parents[1:3])  # tests/ and the repository

from benchmarks import runs, tables
from helpers.strangers import ExecutionWatch, attacks_by_global, attacks_by_structure, valid_files, zip_of
from textual_inversion.cli.parser import OneLineParser
from textual_inversion.formats.budget import MOST_STEPS
from textual_inversion.formats.embedding_file import read_embeddings, read_pickled_tensors
from textual_inversion.settings.bounds import positive_int
from textual_inversion.system.errors import EmbeddingFileError, run_command

NAMES = (b"os\nsystem\n", b"builtins\neval\n", b"numpy\nload\n", b"numpy\nndarray\n", b"collections\nOrderedDict\n")
MOST_MEMORY = 200_000_000  # bytes, for one reading of any file
EXTREMES = (b"\xff" * 4, b"\x00" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80")
OPCODES = bytes(range(0x80, 0x99)) + b"(.0125abcdeghijlopqrstuBCFGIJKLMNPQRSTUVX]})"


def most_memory(size: int) -> int:
    """Bytes that reading a file of `size` bytes may take at once: a byte of opcode may make an object of a hundred."""
    return min(5 * size + 100 * min(size, MOST_STEPS) + (1 << 20), MOST_MEMORY)


def damaged(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One to four random changes; in a zip archive they mostly hit the pickle within, under a right check sum."""
    if data[:2] == b"PK" and zipfile.is_zipfile(io.BytesIO(data)) and chance.random() < 0.8:
        return _damaged_archive(data, others, chance)
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        position = chance.randrange(len(content) + 1)
        kind = chance.randrange(8)
        if kind == 0:
            content[position : position + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            content[position : position + 1] = bytes([chance.choice(OPCODES)])
        elif kind == 2:
            content[position:position] = bytes([chance.choice(OPCODES)]) * chance.choice((1, 1, 2, 50))
        elif kind == 3:
            del content[position : position + chance.choice((1, 1, 4, 30))]
        elif kind == 4:
            extreme = chance.choice(EXTREMES)
            content[position : position + len(extreme)] = extreme
        elif kind == 5:
            content[position:position] = b"c" + chance.choice(NAMES) + chance.choice((b"", b")R", b"(NtR"))
        elif kind == 6:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            content[position:position] = other[start : start + chance.randint(1, 60)]
        elif chance.random() < 0.3:
            del content[position:]
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


# --------------------------------------------------------------------------------------------------------- made up


def _number(form: str, low: int, high: int) -> st.SearchStrategy[bytes]:
    return st.integers(low, high).map(lambda value: struct.pack(form, value))


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


MODULES = ("os system", "posix system", "builtins eval", "builtins exec", "builtins getattr", "builtins tuple",
           "nt open", "numpy ndarray", "numpy dtype", "numpy load", "numpy.core.multiarray _reconstruct",
           "_codecs encode",
           "numpy.core.multiarray scalar", "numpy._core.numeric _frombuffer", "collections OrderedDict", "builtins set",
           "torch FloatStorage", "torch._utils _rebuild_tensor_v2", "torch.nn.modules.container ParameterDict",
           "torch Size", "torch.storage _load_from_bytes", "importlib import_module", "subprocess Popen")  # fmt: skip
WORDS = ("<t>", "<t>_1", "clip_l", "clip_g", "string_to_param", "emb_params", "*", "f4", "O8", "<", "storage", "cpu",
         "0", "../../x", "StructuredToParameterName@@", "UnpackBigParamInfor@@", "slices", "OriginShape", "_parameters",
         "rm -rf /", "")  # fmt: skip
_OPERATIONS = st.one_of(
    st.sampled_from(
        [bytes([code]) for code in b"(0125]})lNtdabeosuRQ.\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"]
    ),
    st.sampled_from(MODULES).map(lambda name: b"c" + name.replace(" ", "\n").encode() + b"\n"),
    st.sampled_from(MODULES).map(lambda name: b"(i" + name.replace(" ", "\n").encode() + b"\n"),
    st.sampled_from(WORDS).map(_text),
    st.binary(max_size=16).map(lambda data: b"B" + struct.pack("<I", len(data)) + data),
    st.sampled_from([b"q", b"h", b"K", b"\x82"]).flatmap(lambda code: _number("<B", 0, 255).map(lambda n: code + n)),
    st.sampled_from([b"r", b"j"]).flatmap(lambda code: _number("<I", 0, 2**32 - 1).map(lambda n: code + n)),
    _number("<q", -(2**63), 2**63 - 1).map(lambda value: b"\x8a\x08" + value),
    st.sampled_from([b"\x8d", b"\x8e", b"\x95", b"\x96"]).flatmap(
        lambda c: _number("<Q", 0, 2**64 - 1).map(lambda n: c + n)
    ),
)


def pickles() -> st.SearchStrategy[bytes]:
    """Programs of up to 60 opcodes."""
    versions = st.sampled_from([b"\x80\x02", b"\x80\x04", b"\x80\x05", b""])
    whole = st.tuples(versions, st.lists(_OPERATIONS, max_size=60))
    return whole.map(lambda parts: parts[0] + b"".join(parts[1]) + b".")


def headers() -> st.SearchStrategy[bytes]:
    """safetensors whose headers declare what they like."""
    sizes = st.one_of(st.integers(0, 8), st.integers(-1, 2**63), st.none(), st.just("1"))
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "", None, 5, ["F32"]]),
            "shape": st.one_of(st.lists(sizes, max_size=4), sizes),
            "data_offsets": st.one_of(st.lists(sizes, max_size=3), sizes),
        },
    )
    table = st.dictionaries(
        st.one_of(st.sampled_from(WORDS), st.sampled_from(["__metadata__", "a", "\ud800"])), entry, max_size=4
    )
    return st.tuples(table, st.binary(max_size=64), st.integers(-3, 3)).map(lambda parts: _safetensors(*parts))


def _safetensors(table: dict, values: bytes, off: int) -> bytes:
    head = json.dumps(table).encode()
    return struct.pack("<Q", max(0, len(head) + (off if off in (-3, 3) else 0))) + head + values


def archives() -> st.SearchStrategy[bytes]:
    """Zip archives around made-up pickles, with names that would like to lie elsewhere."""
    names = st.sampled_from(
        ["a/data.pkl", "a/data/0", "a/byteorder", "../../data.pkl", "/etc/passwd", "a/../b", "x" * 300]
    )
    entries = st.lists(st.tuples(names, st.one_of(pickles(), st.binary(max_size=40))), max_size=4)
    methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    return st.tuples(entries, methods).map(lambda parts: zip_of(*dict(parts[0]).items(), compression=parts[1]))


def made_up(count: int, number: int, see) -> None:
    """Hand `count` files that hypothesis puts together to `see`."""

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.one_of(pickles(), headers(), archives()))
    def run(data: bytes) -> None:
        see(data)

    run()


# ------------------------------------------------------------------------------------------------------- the figures


@dataclass
class Figures:
    """What came of all files.

    Attributes:
        outcomes: kind of file -> error's name, or "read" -> readings; each file is read twice.
        files: kind of file -> files.
        executions, unnamed, greedy: what must not happen, a line for each case.
        peak_bytes: the most that one reading took.
    """

    outcomes: dict[str, Counter] = field(default_factory=dict)
    files: Counter = field(default_factory=Counter)
    executions: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    greedy: list[str] = field(default_factory=list)
    peak_bytes: int = 0

    def names(self) -> list[str]:
        """Every outcome that occurred, "read" last."""
        found = {name for counter in self.outcomes.values() for name in counter}
        return sorted(found - {"read"}) + ["read"]

    def table(self) -> str:
        """Readings by kind of file and outcome."""
        names = self.names()
        rows = [(kind, self.files[kind], *(found[name] for name in names)) for kind, found in self.outcomes.items()]
        sums = [sum(found[name] for found in self.outcomes.values()) for name in names]
        head = ("files, each read twice", "number", *names)
        return tables.table(head, [*rows, ("**in all**", sum(self.files.values()), *sums)])

    def targets(self) -> list[tables.Target]:
        """What must not happen, and the most that one reading took."""
        faults = {
            "executed, imported or written": self.executions,
            "errors without a name or of several lines": self.unnamed,
            "readings beyond the memory bound of their file": self.greedy,
        }
        return [tables.Target(what, len(lines), 0) for what, lines in faults.items()]


class Trial:
    """Reads files one after the other, watched."""

    def __init__(self, folder: Path):
        self.figures, self._path, self._mark, self._watch = (
            Figures(),
            folder / "hostile",
            folder / "mark",
            ExecutionWatch(),
        )

    def read(self, kind: str, data: bytes) -> None:
        """Read one file with both readers and note what came of it."""
        figures = self.figures
        figures.files[kind] += 1
        counter = figures.outcomes.setdefault(kind, Counter())
        self._path.write_bytes(data)
        tracemalloc.start()
        with self._watch:
            for read in (read_embeddings, read_pickled_tensors):
                counter[outcome(read, self._path, figures.unnamed)] += 1
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        figures.peak_bytes = max(figures.peak_bytes, taken)
        if taken > most_memory(len(data)):
            figures.greedy.append(f"{kind}: a file of {len(data)} bytes took {taken}")

    def finish(self) -> Figures:
        self.figures.executions = self._watch.seen + (["the mark of an attack"] if self._mark.exists() else [])
        return self.figures


def fuzz(count: int, number: int, folder: Path, made: int | None = None) -> Figures:
    """Read all crafted files, `count` damaged ones and `made` that are made up (a quarter as many, if not said)."""
    chance, trial = random.Random(number), Trial(folder)
    valid = list(valid_files().values())
    crafted = [data for data, _ in attacks_by_global(folder / "mark").values()]
    crafted += [data for data, _ in attacks_by_structure().values()]
    sources = valid + [data for data in crafted if len(data) < 10_000]
    for data in crafted:
        trial.read("crafted", data)
    for index in range(count):
        trial.read("damaged", damaged(chance.choice(valid if index % 4 else sources), sources, chance))
    made_up(count // 4 if made is None else made, number, lambda data: trial.read("made up", data))
    return trial.finish()


def outcome(read, path: Path, unnamed: list[str]) -> str:
    try:
        read(path)
    except EmbeddingFileError as error:
        if not str(error).isprintable() or path.name not in str(error):
            unnamed.append(f"not one line with the file's name: {error!r}")
        return type(error).__name__
    except Exception as error:
        unnamed.append(repr(error))
        return "unnamed"
    return "read"


def limit_memory(more: int) -> None:
    """Let the process take `more` bytes than it has now, where the system can say so."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="fuzz_formats.py", description="Read hostile embedding files.")
    flag = parser.add_argument
    flag("--files", type=positive_int, default=20_000, help="damaged files; a quarter as many are made up")
    flag("--seed", type=int, default=0, help="decides all of them")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the figures; the status is 1 where something happened that must not."""
    args = build_parser().parse_args(argv)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    limit_memory(512 << 20)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        figures = fuzz(args.files, args.seed, Path(folder))
    files, seconds = sum(figures.files.values()), time.monotonic() - started
    said = f"{files} files in {seconds:.0f} s; one reading took {figures.peak_bytes / 1e6:.1f} MB at most."
    print(tables.section("Hostile files", figures.table(), said, tables.targets_table(figures.targets())))
    faults = figures.executions + figures.unnamed + figures.greedy
    for line in faults[:10]:
        runs.say(f"FAULT: {line}")
    return int(bool(faults))


if __name__ == "__main__":
    run_command(main)
