"""The real training command with instruments: start and end of each step and phase, memory, bytes exchanged.

    python benchmarks/instrumented_run.py --record FOLDER [--memory] [--traffic] [--floor] [--only_training] -- FLAGS …

The command is neither changed nor copied: its own `main` runs, and what is measured is wrapped from outside. Each
process writes FOLDER/rank-N.json; `runs.record` starts such a run and reads the files. Times are seconds of the
machine's monotonic clock, which all processes share.
"""

import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_textual_inversion as command  # noqa: E402
from benchmarks import process_memory  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.system import timing  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

# Methods of paddle's process groups that move tensors between processes begin with one of these.
_MOVES = ("all_", "allreduce", "alltoall", "broadcast", "gather", "recv", "reduce", "scatter", "send")


class Recorder:
    """What is measured, and the wrappers that measure it.

    Attributes:
        phases: begin, end and, if wanted, memory of each phase, in order; "" is the time between two phases.
        steps: for each optimizer step (begin, end of its computation, end of the callbacks after it).
        floor, plain_floor: seconds of a forward and backward pass of the bare model, one after each step, with its
            modules as they are and as ppdiffusers ships them.
        bytes: for each optimizer step (during its computation, during the callbacks), over all collective operations.
    """

    def __init__(self, args):
        self.args, self.folder = args, Path(args.record)
        self.phases: list[dict] = []
        self.steps: list[tuple[float, float, float]] = []
        self.floor: list[float] = []
        self.plain_floor: list[float] = []
        self.bytes: list[tuple[int, int]] = []
        self.moved = self.moves = self.moved_before = self.rank = 0
        self.forgets_peak = True  # the peak of a process that has just begun is its own
        self.facts: dict = {"begin": time.monotonic()}
        self._floor = None

    def install(self) -> None:
        """Wrap what can be wrapped before paddle is imported; the wrappers do the rest."""
        timing.Phases.__call__ = self._recorded_phases(timing.Phases.__call__)
        command.prepare_environment = self._after_import(command.prepare_environment)
        command.train = self._recorded_training(command.train)
        command.finish = self._then_write(command.finish)

    # ------------------------------------------------------------------------------------------------------ phases

    def _recorded_phases(self, original):
        @contextmanager
        def phase(phases, name):
            self._close_phase("")
            begin = time.monotonic()
            try:
                with original(phases, name):
                    yield
            finally:
                self._close_phase(name, begin)

        return phase

    def _close_phase(self, name: str, begin: float | None = None) -> None:
        """Record the memory peak since the last call as this phase's, and start a new measurement."""
        now = time.monotonic()
        entry = {"name": name, "begin": now if begin is None else begin, "end": now}
        if self.args.memory:
            entry |= process_memory.now() | {"peak_is_own": self.forgets_peak}
            self.forgets_peak = process_memory.forget_peak()
        self.phases.append(entry)

    # ------------------------------------------------------------------------------------------------------- bytes

    def _after_import(self, original):
        def prepare_environment(*args, **kwargs):
            said = original(*args, **kwargs)
            self.facts["environment"] = {
                name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE") if name in os.environ
            }
            if self.args.traffic:
                self._count_bytes()
            return said

        return prepare_environment

    def _count_bytes(self) -> None:
        """Wrap every method of paddle's process groups, through which all collective operations go."""
        from paddle.base import core

        for name in dir(core.ProcessGroup):
            if name.startswith(_MOVES):
                setattr(core.ProcessGroup, name, self._counted(getattr(core.ProcessGroup, name)))

    def _counted(self, original):
        def collective(*args, **kwargs):
            self.moves += 1
            self.moved += sum(map(tensor_bytes, [*args, *kwargs.values()]))
            return original(*args, **kwargs)

        return collective

    # ---------------------------------------------------------------------------------------------------- training

    def _recorded_training(self, original):
        def train(config, run):
            from textual_inversion.training.callbacks import Callbacks

            self.rank = run.context.ranks.rank
            if self.args.floor:
                from benchmarks.floor import Floor

                self._floor = Floor.of_run(config, run)
            plain = (Callbacks.__enter__, Callbacks.after_step)
            Callbacks.__enter__, Callbacks.after_step = self._begun(plain[0]), self._stepped(plain[1])
            try:
                original(config, run)
            finally:
                Callbacks.__enter__, Callbacks.after_step = plain
            self._note_model(run)

        return train

    def _begun(self, original):
        def enter(callbacks):
            result = original(callbacks)
            self._begin, self._moved = time.monotonic(), self.moved
            self.moved_before = self.moved
            return result

        return enter

    def _stepped(self, original):
        def after_step(callbacks, *args, **kwargs):
            computed, moved = time.monotonic(), self.moved
            result = original(callbacks, *args, **kwargs)
            end = time.monotonic()
            self.steps.append((self._begin, computed, end))
            self.bytes.append((moved - self._moved, self.moved - moved))
            if self._floor is not None:
                self.floor.append(self._floor.seconds())
                self.plain_floor.append(self._floor.plain_seconds())
            self._begin, self._moved = time.monotonic(), self.moved
            return result

        return after_step

    def _note_model(self, run) -> None:
        import paddle

        from textual_inversion.models.concept_embedding import table_of

        tables = [table_of(encoder.layer).shape for encoder in run.model.text_encoders]
        self.facts |= {
            "world_size": run.context.ranks.world_size,
            "numbers": sum(int(part.size) for part in run.vectors.parameters),
            "full_table_bytes": sum(4 * int(rows) * int(width) for rows, width in tables),
        }
        if paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count():
            self.facts["gpu_bytes"] = int(paddle.device.cuda.max_memory_allocated())
        self.write()

    def _then_write(self, original):
        def finish(*args):
            # Where there are several processes they leave without coming back from `main`.
            try:
                original(*args)
            finally:
                self.write()

        return finish

    def write(self) -> None:
        """Write the record so far; a later call replaces it."""
        record = {
            **self.facts,
            "rank": self.rank,
            "phases": self.phases,
            "steps": self.steps,
            "floor": self.floor,
            "plain_floor": self.plain_floor,
            "bytes": self.bytes,
            "bytes_before_training": self.moved_before,
            "collectives": self.moves,
        }
        path = self.folder / f"rank-{self.rank}.json"
        path.with_suffix(".part").write_text(json.dumps(record))
        path.with_suffix(".part").replace(path)


def tensor_bytes(value) -> int:
    """Bytes of a paddle tensor or of all in a list; 0 for anything else."""
    if isinstance(value, list | tuple):
        return sum(map(tensor_bytes, value))
    if hasattr(value, "element_size") and hasattr(value, "shape"):
        size = value.element_size()
        for side in value.shape:
            size *= int(side)
        return size
    return 0


def build_parser() -> OneLineParser:
    """The flags before `--`."""
    parser = OneLineParser(prog="instrumented_run.py", description="The training command with instruments.")
    parser.add_argument("--record", required=True, metavar="FOLDER", help="where each process writes its record")
    parser.add_argument("--memory", action="store_true", help="note each phase's memory")
    parser.add_argument("--traffic", action="store_true", help="count the bytes of collective operations")
    parser.add_argument("--floor", action="store_true", help="after each step time the bare model's passes")
    parser.add_argument("--only_training", action="store_true", help="draw and score nothing at the end")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the training command with the flags after `--`."""
    words = sys.argv[1:] if argv is None else argv
    cut = words.index("--") if "--" in words else len(words)
    recorder = Recorder(build_parser().parse_args(words[:cut]))
    recorder.folder.mkdir(parents=True, exist_ok=True)
    recorder.install()
    nothing_drawn = ["--overview", "false"] if recorder.args.only_training else []
    command.main([*words[cut + 1 :], *nothing_drawn])


if __name__ == "__main__":
    run_command(main)
