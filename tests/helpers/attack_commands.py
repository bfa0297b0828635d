"""Run attacks, each in a process of its own, and say what came of them: `python tests/helpers/attack_commands.py`.

The process that imports the libraries computes nothing; every attack is a fork of it, so that what is measured is the
attack and not the imports. It runs the command's own `main` as the program does. The hubs that it could ask are one
listening socket here, which counts who comes.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = map(str, Path(__file__).absolute().parents[1:3])  # tests/ and the repository

from helpers.attacks.attack import Attack, Kit

RULES = {
    1: "what lies where a run uploads from",
    2: "what published records say",
    3: "small files that cost much",
    4: "files that are none",
    5: "links and locks",
    6: "the port between processes",
    7: "base models that are wrong",
    8: "sizes that are announced",
    9: "checkpoints and records",
    10: "images",
    11: "terminal escapes",
    12: "a machine with limits",
    13: "records that name a hub",
}
MOST_SECONDS = 10
_GIVEN_UP = 60  # seconds on the clock after which an attack is ended
_POLL = 0.005
_SHOWN = 300


@dataclass
class Outcome:
    """What came of one attack.

    Attributes:
        status: the command's exit status; negative: the signal that ended it.
        seconds: of the processor, or on the clock where it had to be ended.
        peak: bytes that it held at most, above the start.
        faults: what must not be, in words; empty where it was held off.
        said: the last line on stderr.
    """

    rule: int
    name: str
    status: int
    seconds: float
    peak: int
    faults: list[str]
    said: str


# ------------------------------------------------------------------------------------------------------ one attack


def run_attack(attack: Attack, kit: Kit, place: Path, hub: socket.socket) -> Outcome:
    """Build an attack in an empty folder, run it in a fork, and judge what it did."""
    place.mkdir()
    argv = attack.build(place)
    before = _contents(kit.folder)
    begin, start = time.monotonic(), _status("RssAnon")
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        _become_command(argv, place, [write for _, write in pipes])
    for _, write in pipes:
        os.close(write)
    printed = [_Reader(read) for read, _ in pipes]
    status, peak, seconds = _wait(child, begin, printed)
    said = printed[1].close().decode("utf-8", errors="replace")
    faults = [*_faults(attack, status, said, printed[0].close() + said.encode()), *attack.look(place, said)]
    if seconds > MOST_SECONDS:
        faults.append(f"took {seconds:.1f} s")
    if peak - start > attack.most_bytes:
        faults.append(f"took {(peak - start) / 1e6:.0f} MB")
    if _contents(kit.folder) != before:
        faults.append("changed what it was given")
    if callers := _callers(hub):
        faults.append(f"asked a hub {callers} times")
    last = (said.strip().splitlines() or [""])[-1]
    return Outcome(attack.rule, attack.name, status, seconds, max(0, peak - start), faults, last[:_SHOWN])


class _Reader:
    """What has come through a pipe; a file would fall under the limits that some attacks set."""

    def __init__(self, end: int):
        self._end, self._data = end, b""
        os.set_blocking(end, False)

    def look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._end, 1 << 16):
                self._data += part

    def close(self) -> bytes:
        """All that came; what a process that was left behind would still say does not count."""
        if self._end >= 0:
            self.look()
            os.close(self._end)
            self._end = -1
        return self._data


def _become_command(argv: list[str], place: Path, outputs: list[int]) -> None:
    """In the child: be the program, with its output in pipes."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = _status("VmSize") + (6 << 30)  # the machine is shared
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.chdir(place)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        for number, end in zip((1, 2), outputs, strict=True):
            os.dup2(end, number)
            os.close(end)
        out, err = (open(n, "w", buffering=1, encoding="utf-8", closefd=False) for n in (1, 2))  # not pytest's
        sys.stdout, sys.stderr = out, err
        import importlib

        from textual_inversion.system.errors import run_command

        main = importlib.import_module(argv[0]).main
        status = 70
        try:
            run_command(lambda: main(argv[1:]))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    finally:
        os._exit(71)


def _wait(child: int, begin: float, outputs: Iterable[_Reader] = ()) -> tuple[int, int, float]:
    """(exit status, bytes that the child held at most, seconds of the processor).

    Anonymous memory is asked for every few milliseconds: the system's own peak would count the pages of libraries,
    which a fork gets back one by one as it uses them.
    """
    peak = 0
    while True:
        peak = max(peak, _status("RssAnon", child))
        for output in outputs:
            output.look()
        ended, status, usage = os.wait4(child, os.WNOHANG)
        elapsed = time.monotonic() - begin
        if ended:
            seconds = usage.ru_utime + usage.ru_stime
            return os.waitstatus_to_exitcode(status), peak, elapsed if elapsed > _GIVEN_UP else seconds
        if elapsed > _GIVEN_UP:
            os.kill(child, 9)
        time.sleep(_POLL)


def _status(name: str, pid: int | str = "self") -> int:
    """Bytes from /proc/PID/status; 0 once it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith(name + ":"):
                return 1024 * int(line.split()[1])
    return 0


def _faults(attack: Attack, status: int, said: str, printed: bytes) -> Iterator[str]:
    """What must not be, whatever the attack."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if status not in attack.right:
        yield f"ended with {status} where {' or '.join(map(str, attack.right))} is right"
    if "Traceback" in said:
        yield "ended in a traceback"
    if status == 2 and (len(errors) != 1 or said.strip().splitlines()[-1] != errors[0]):
        yield f"said {len(errors)} lines of error, or something after it"
    if any(len(line) > 2000 for line in errors):
        yield "said an error of more than 2000 letters"
    # A progress bar returns to the beginning of its line.
    if control := {byte for byte in printed if byte < 32 or byte == 127} - set(b"\n\r\t"):
        yield f"printed the control characters {sorted(control)}"
    if "\u202e" in printed.decode("utf-8", errors="replace"):
        yield "printed letters that turn the line around"


def _callers(hub: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            hub.accept()[0].close()
            count += 1
    return count


def _contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


# ----------------------------------------------------------------------------------------------------- all attacks


def in_a_child(work: Callable[[], None]) -> None:
    """Do in a fork what starts threads or fills memory."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("what the attacks are made from could not be made")


def build_kit(folder: Path) -> Kit:
    """Write the harmless things."""
    kit = Kit(folder)

    def build() -> None:
        import train_textual_inversion
        from helpers.tiny_clip import build_clip
        from helpers.tiny_models import build_model
        from helpers.training_runs import draw_images

        build_model(folder / "base", safety_checker=True)
        build_clip(folder / "clip")
        draw_images(folder / "images", count=2)
        steps = dict(max_train_steps=2, checkpointing_steps=1, save_steps=1, output_dir=folder / "run")
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            train_textual_inversion.main(kit.train(folder, **steps)[1:])

    folder.mkdir()
    in_a_child(build)
    return kit


def all_attacks(kit: Kit, chance: random.Random) -> list[Attack]:
    """Every attack of every kind."""
    from helpers.attacks import base_models, conversions, embeddings, inputs, limits, links, port, records, uploads

    modules = (uploads, embeddings, links, port, base_models, records, inputs, limits, conversions)
    return [attack for module in modules for attack in module.attacks(kit, chance)]


def prepare() -> None:
    """Import what the commands import, without computing anything."""
    os.environ |= dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", HF_HUB_DISABLE_TELEMETRY="1")
    os.environ.pop("HF_HUB_OFFLINE", None)
    from textual_inversion.system.environment import prepare_environment

    prepare_environment(1)
    import ppdiffusers
    from ppdiffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker  # noqa: F401
    from ppdiffusers.transformers import CLIPModel, CLIPTextModel, CLIPTokenizer  # noqa: F401

    import convert  # noqa: F401
    import infer  # noqa: F401
    import score  # noqa: F401
    import textual_inversion.api  # noqa: F401
    import train_textual_inversion  # noqa: F401

    _ = ppdiffusers.StableDiffusionPipeline, ppdiffusers.UNet2DConditionModel, ppdiffusers.AutoencoderKL


@contextlib.contextmanager
def listening_hub(put: Callable[[str, str], Any] = os.environ.__setitem__) -> Iterator[socket.socket]:
    """A socket in place of every hub; to be there before huggingface_hub reads its environment, which `put` changes."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("HF_ENDPOINT", "PPNLP_ENDPOINT"):
            put(name, address)
        yield server


def run_all(
    wanted: Callable[[list[Attack]], Iterable[Attack]], seed: int, folder: Path, see: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the attacks that `wanted` chooses."""
    outcomes = []
    os.environ |= dict(HF_HOME=str(folder / "cache"), PPNLP_HOME=str(folder / "store"))
    with listening_hub() as hub:
        prepare()
        kit = build_kit(folder / "kit")
        _callers(hub)
        for number, attack in enumerate(wanted(all_attacks(kit, random.Random(seed)))):
            outcome = run_attack(attack, kit, folder / f"{number}", hub)
            shutil.rmtree(folder / f"{number}", ignore_errors=True)
            outcomes.append(outcome)
            see(outcome)
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """What came of the attacks, a line for each rule."""
    from benchmarks import tables

    rows = []
    for rule, what in RULES.items():
        found = [outcome for outcome in outcomes if outcome.rule == rule]
        if found:
            held = sum(not outcome.faults for outcome in found)
            worst = max(outcome.peak for outcome in found) / 1e6, max(outcome.seconds for outcome in found)
            rows.append((what, len(found), held, f"{worst[0]:.0f} MB", f"{worst[1]:.1f} s"))
    number, held = len(outcomes), sum(not outcome.faults for outcome in outcomes)
    head = ("attacks by", "number", "held off", "most memory above the start", "most processor time")
    return tables.table(head, [*rows, ("**in all**", number, held, "", "")])


def build_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(description="Attack the commands.")
    parser.add_argument("--rules", type=int, nargs="+", default=sorted(RULES), choices=sorted(RULES))
    parser.add_argument("--number", type=int, help="only so many, of every rule as many")
    parser.add_argument("--match", default="", help="only those whose name holds this")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    parser.add_argument("--json", type=Path, help="write all outcomes into this file")
    parser.add_argument("--work_dir", type=Path, help="for copies; unset: a temporary folder")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run attacks, print their table, and what came of each; the status is 1 where one was not held off."""
    args = build_parser().parse_args(argv)

    def wanted(attacks: list[Attack]) -> list[Attack]:
        chance, chosen = random.Random(args.seed), []
        for rule in args.rules:
            of_rule = [attack for attack in attacks if attack.rule == rule and args.match in attack.name]
            number = len(of_rule) if args.number is None else math.ceil(args.number / len(args.rules))
            chosen += chance.sample(of_rule, min(number, len(of_rule)))
        return chosen

    def see(outcome: Outcome) -> None:
        verdict = "held" if not outcome.faults else f"NOT HELD: {'; '.join(outcome.faults)}"
        figures = f"{outcome.status} {outcome.seconds:.2f} s {outcome.peak / 1e6:.0f} MB"
        print(f"{outcome.rule} {outcome.name}: {verdict} ({figures}) {outcome.said!a}", file=sys.stderr, flush=True)

    if args.work_dir:
        args.work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        outcomes = run_all(wanted, args.seed, Path(folder), see)
    if args.json:
        args.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    from benchmarks import tables

    print(tables.section("Attacks on the commands", table(outcomes)))
    return int(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
