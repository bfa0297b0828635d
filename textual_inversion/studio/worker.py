"""The process that draws: `python -m textual_inversion.studio.worker`.

It reads a line of JSON with the arguments of `infer.py`, runs that command with them, answers with its exit status in a
line of JSON, and goes on until its input ends. The base model of the last request stays loaded for the next one, if
that needs the same. What the command prints goes to stderr.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual_inversion import commands
from textual_inversion.system import streams
from textual_inversion.system.checked_json import parse_json
from textual_inversion.system.errors import OutputError, Stopped, TextualInversionError
from textual_inversion.system.terminal_text import one_line


class KeptModel:
    """Keeps one base model in memory.

    Attributes:
        loads: how often a model was loaded.
    """

    def __init__(self) -> None:
        self._key: Any = None
        self._model: Any = None
        self.loads = 0

    def __call__(self, key: Any, load: Callable[[], Any]) -> Any:
        """The kept model if it is the one of this key, and its files are as they were; else what `load` gives."""
        key = (key, _files(key[0]))
        if self._model is None or key != self._key:
            self._model = self._key = None  # before the next one takes room
            self._model = load()
            self._key, self.loads = key, self.loads + 1
        return self._model


def _files(name: str) -> list[tuple[str, int, int]]:
    """What tells whether a base model on this machine has changed: names, sizes and times of its files."""
    top = Path(name)
    paths = sorted(top.rglob("*")) if top.is_dir() else [top]
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]


def serve(requests: Any, answer: Callable[[int], None], keep: KeptModel) -> None:
    """Run the commands of some lines, one after the other."""
    for line in requests:
        answer(run(parse_json(line)["words"], keep))


def run(words: list[str], keep: KeptModel) -> int:
    """Run `infer.py` with some arguments; its exit status. What it would end with is printed."""
    try:
        commands.load("infer").main(words, keep)
    except TextualInversionError as error:
        streams.print_error(f"error: {one_line(error)}")
        return 2
    except Stopped as stop:
        streams.print_error(str(stop))
        return stop.status
    except MemoryError:
        streams.print_error("error: there is not enough memory for this; ask for fewer or smaller images")
        return 2
    except OSError as error:
        streams.print_error(f"error: {one_line(OutputError(f'{error.filename or error}: {error.strerror or error}'))}")
        return 2
    return 0


def main() -> None:
    """Serve until the input ends."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    streams.prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, lambda status: channel.write(json.dumps({"status": status}).encode() + b"\n"), KeptModel())


if __name__ == "__main__":
    main()
