"""Starts programs as separate processes, and reads what they measured."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT
from textual_inversion.system.errors import TextualInversionError

INSTRUMENTED = ROOT / "benchmarks" / "instrumented_run.py"
WORK = ROOT / "benchmarks" / "work"
# What decides a CPU's speed here, and what a user's shell does not hold unless the user put it there.
SPEED_VARIABLES = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")
_POLL_SECONDS = 0.05
_LATEST_WORDS = 1500


class BenchmarkError(TextualInversionError):
    """A measured program failed; the message ends with its last output."""


def default_environment() -> dict[str, str]:
    """The environment of a user who has set nothing about speed."""
    return {name: value for name, value in os.environ.items() if name not in SPEED_VARIABLES}


def add_work_dir(flag: Callable) -> None:
    """The flag --work_dir; `flag` adds an argument. Programs are called from other folders, so it is made absolute."""
    kept = "where models, images and records are kept"
    flag("--work_dir", type=lambda text: Path(text).resolve(), default=WORK, metavar="DIR", help=kept)


def say(line: str) -> None:
    """Report progress on stderr; stdout holds nothing but the section."""
    print(line, file=sys.stderr, flush=True)


def flags(settings: Mapping[str, object]) -> list[str]:
    """Settings as words of a command line: True is a switch, None and False are left out, lists are spread."""
    words = []
    for name, value in settings.items():
        if value is None or value is False:
            continue
        words.append(f"--{name}")
        if isinstance(value, list | tuple):
            words += map(str, value)
        elif value is not True:
            words.append(str(value))
    return words


def quiet_training(model: Path | str, pictures: Path | str, output: Path, steps: int, **settings) -> list[str]:
    """Flags of a training run in which nothing but training happens; `settings` add to them or replace them."""
    plain = {
        "pretrained_model_name_or_path": model,
        "train_data_dir": pictures,
        "output_dir": output,
        "max_train_steps": steps,
        "train_batch_size": 1,
        "learning_rate": 5e-4,
        "lr_warmup_steps": 0,
        "initializer_token": "toy",
        "eval_steps": 0,
        "save_steps": 10**6,
        "only_save_embeds": True,
        "report_to": "none",
        "seed": 42,
    }
    return flags(plain | settings)


def draw_images(folder: Path, count: int = 4, side: int = 512, *, seed: int = 0) -> Path:
    """A folder of training images: coloured blocks, which cost as much as photographs. Those of other seeds differ."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        blocks = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((side, side)).save(folder / f"{number}.png")
    return folder


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    log: Path | None = None,
    watch: Callable[[int], str | None] | None = None,
) -> float:
    """Run a command to its end.

    Args:
        environment: None: that of a user who has set nothing about speed.
        log: where its output goes; None: kept for the error message alone.
        watch: called with its process number every so often; what it returns ends the command, as the reason.

    Returns:
        Seconds on the clock.

    Raises:
        BenchmarkError: it failed, or `watch` ended it.
    """
    log = log or WORK / "last-command.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment, words = environment or default_environment(), [str(word) for word in command]
    begin = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=cwd)
        try:
            reason = _wait(process, watch)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if reason or process.returncode:
        reason = reason or f"ended with status {process.returncode}"
        raise BenchmarkError(
            f"{Path(command[-1] if len(command) < 2 else command[1]).name} {reason}: {last_words(log)}"
        )
    return time.monotonic() - begin


def program(words: Sequence[str]) -> str:
    """What a command line runs: its first script or, where it has none, its first word."""
    return next((Path(word).name for word in words if word.endswith(".py")), Path(words[0]).name)


def _wait(process: subprocess.Popen, watch: Callable[[int], str | None] | None) -> str | None:
    if watch is None:
        process.wait()
        return None
    while process.poll() is None:
        reason = watch(process.pid)
        if reason:
            return reason
        time.sleep(_POLL_SECONDS)
    return None


def last_words(log: Path) -> str:
    """The end of a log, for an error message."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    return text[-_LATEST_WORDS:].strip() or "it said nothing"


def record(
    arguments: Sequence[str],
    folder: Path,
    *,
    processes: int = 1,
    instruments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    watch: Callable[[int], str | None] | None = None,
) -> list[dict]:
    """Run the training command with instruments; see `instrumented_run`.

    Args:
        arguments: of the training command.
        folder: for records and logs; an earlier run's are removed.
        instruments: flags of `instrumented_run.py`.

        environment: as in `run`.

    Returns:
        The record of each process, with "launched", when the command was started.

    Raises:
        BenchmarkError: it failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = [sys.executable]
    if processes > 1:
        launcher = ["-u", "-m", "paddle.distributed.launch", "--nproc_per_node", str(processes)]
        python += [*launcher, "--log_dir", str(folder / "log")]
    command = [*python, INSTRUMENTED, "--record", folder, *instruments, "--", *arguments]
    launched = time.monotonic()
    try:
        run(command, environment=environment, log=folder / "output.log", watch=watch)
    except BenchmarkError as error:
        workers = [last_words(path) for path in sorted(folder.glob("log/workerlog.*"))]
        raise BenchmarkError(" ".join([str(error), *workers])) from None
    return [json.loads(path.read_text()) | {"launched": launched} for path in sorted(folder.glob("rank-*.json"))]


def step_seconds(record: Mapping, warm_up: int = 1) -> list[float]:
    """Seconds of each optimizer step, with what is watched after it, without the first ones."""
    return [end - begin for begin, _, end in record["steps"][warm_up:]]
