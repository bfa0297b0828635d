"""Runs the training script of another program that takes the flags of the ppdiffusers and diffusers examples.

The script is neither wrapped nor changed. Its steps are timed by its own progress bar, or by the times of the files
that it saves.
"""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import process_memory, runs

_LOOK_SECONDS = 0.1
CLOCKS = ("progress", "files")
_FILES = re.compile(r"learned_embeds-steps-(\d+)\.")


@dataclass
class PeerRun:
    """What a peer's run showed.

    Attributes:
        arrivals: (seconds of the monotonic clock, optimizer steps done by then), in order.
        peak: peak memory of its processes together, bytes.
    """

    arrivals: list[tuple[float, int]] = field(default_factory=list)
    peak: int = 0

    def step_seconds(self, warm_up: int = 1) -> list[float]:
        """Seconds per step between two signs of progress, from step `warm_up` on."""
        kept = [(when, step) for when, step in self.arrivals if step >= warm_up]
        return [
            (later - earlier) / (more - fewer)
            for (earlier, fewer), (later, more) in zip(kept, kept[1:], strict=False)
            if more > fewer
        ]


def arguments(model: Path, pictures: Path, output: Path, steps: int, *, resolution: int, batch_size: int, **more):
    """Flags that both examples take."""
    return runs.flags(
        {
            "pretrained_model_name_or_path": model,
            "train_data_dir": pictures,
            "output_dir": output,
            "placeholder_token": "<new-toy>",
            "initializer_token": "toy",
            "learnable_property": "object",
            "resolution": resolution,
            "train_batch_size": batch_size,
            "gradient_accumulation_steps": 1,
            "max_train_steps": steps,
            "learning_rate": 5e-4,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 0,
            "seed": 42,
            "save_steps": 10**6,
        }
        | more
    )


def run_peer(
    script: Path,
    words: Sequence[str],
    *,
    output: Path,
    steps: int,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    clock: str = "progress",
) -> PeerRun:
    """Run a peer to its end.

    Args:
        words: its flags; with the clock "files" it must save each step.
        output: its folder, emptied before.
        steps: optimizer steps that it makes, the total of its progress bar.
        environment: None: that of a user who has set nothing about speed.

    Raises:
        BenchmarkError: it failed, or showed nothing of its steps.
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    log, command = output.with_suffix(".log"), [python, str(script), *words]
    status, result = _follow(command, environment or runs.default_environment(), output, log, steps)
    if status:
        raise runs.BenchmarkError(f"{script.name} ended with status {status}: {runs.last_words(log)}")
    if clock == "files":
        result.arrivals = saved_steps(output)
    if not result.step_seconds():
        raise runs.BenchmarkError(f"{script.name} told nothing of its steps by its {clock}: {runs.last_words(log)}")
    return result


def _follow(command: list[str], environment, cwd: Path, log: Path, steps: int) -> tuple[int, PeerRun]:
    """Run a command, listen to its progress and look at its memory; returns its status and what was seen."""
    result = PeerRun()
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=cwd)
        reader = threading.Thread(target=_read, args=(process, file, steps, result.arrivals))
        reader.start()
        try:
            while process.poll() is None:
                held = sum(map(process_memory.resident, process_memory.tree(process.pid)))
                result.peak = max(result.peak, held)
                time.sleep(_LOOK_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
            reader.join()
    return process.returncode, result


def _read(process: subprocess.Popen, log, steps: int, arrivals: list) -> None:
    """Note when each count of the progress bar arrives; the bar redraws its line, so lines are not waited for."""
    text = ""
    while chunk := process.stdout.read1(1 << 16):
        now = time.monotonic()
        log.write(chunk)
        text = (text + chunk.decode(errors="replace"))[-400:]
        done = newest_count(text, steps)
        if done is not None and (not arrivals or done > arrivals[-1][1]):
            arrivals.append((now, done))


def newest_count(text: str, total: int) -> int | None:
    """The last `n/total` of a tqdm bar in a text; None where there is none."""
    found = re.findall(rf"(?<![\d/])(\d+)/{total} \[", text)
    return int(found[-1]) if found else None


def saved_steps(folder: Path) -> list[tuple[float, int]]:
    """(time of modification, N) of every `learned_embeds-steps-N.*` below a folder, in the order of N."""
    found = [(path, _FILES.match(path.name)) for path in folder.rglob("learned_embeds-steps-*")]
    return sorted(((path.stat().st_mtime, int(match[1])) for path, match in found if match), key=lambda pair: pair[1])
