"""Stand-ins for wandb, mlflow and swanlab with the part of their documented interface that is used here.

Each writes what it is told as lines of JSON into the file that `DOUBLE_LOG` names. `DOUBLE_DOES` names a method that
fails, or with a dash before it one that never returns; a process that it has started then outlives it.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

_COMMON = """
import json, os, subprocess, sys, time

def told(what, **facts):
    with open(os.environ["DOUBLE_LOG"], "a") as file:
        file.write(json.dumps({"what": what, "argv": sys.argv, **facts}, default=str) + "\\n")
    does = os.environ.get("DOUBLE_DOES", "")
    if does == what:
        raise RuntimeError(f"the server refuses to {what}\\nsecond line")
    if does == "-" + what:
        service = subprocess.Popen(["sleep", "600"])
        with open(os.environ["DOUBLE_LOG"], "a") as file:
            file.write(json.dumps({"what": "service", "pid": service.pid}) + "\\n")
        time.sleep(600)

def shape(pixels):
    return [*pixels.shape, pixels[0, 0].tolist()]
"""
_WANDB = """
from doubles import shape, told

class Settings:
    def __init__(self, **values):
        self.values = values

class Image:
    def __init__(self, pixels):
        self.shape = shape(pixels)

def plain(value):
    return value.shape if isinstance(value, Image) else value

class Run:
    def __init__(self, id):
        self.id = id

    def log(self, values, step):
        ((tag, value),) = values.items()
        told("log", tag=tag, value=plain(value), step=step)

    def finish(self, exit_code):
        told("finish", failed=bool(exit_code))

def init(*, project, name, dir, id, resume, config, settings):
    told("init", name=name, run=id, settings=config)
    return Run(id or "run-1")
"""
_MLFLOW = """
from doubles import shape, told

class Param:
    def __init__(self, key, value):
        self.key, self.value = key, value

class Info:
    run_id = "run-1"

class Experiment:
    experiment_id = "7"

class MlflowClient:
    def __init__(self, uri):
        self.info, self.run, self.begun = Info(), None, False

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "7"

    def create_run(self, experiment, run_name):
        self.name = run_name
        return self

    def update_run(self, run, status):
        told("init", name=None, run=run, settings=None)

    def log_batch(self, run, params):
        told("init", name=self.name, run=None, settings={param.key: param.value for param in params})

    def get_metric_history(self, run, key):
        return []

    def log_metric(self, run, key, value, step):
        told("log", tag=key, value=value, step=step)

    def log_image(self, run, pixels, key, step, synchronous):
        told("log", tag=key, value=shape(pixels), step=step)

    def log_text(self, run, text, path):
        told("log", tag=path, value=text, step=int(path.rpartition("-")[2].removesuffix(".txt")))

    def set_terminated(self, run, status):
        told("finish", failed=status == "FAILED")
"""
_SWANLAB = """
from doubles import shape, told

class Settings:
    def __init__(self, **values):
        self.values = values

class Image:
    def __init__(self, pixels):
        self.shape = shape(pixels)

class Text:
    def __init__(self, text):
        self.shape = text

class Run:
    id = "run-1"

def init(*, project, name, log_dir, mode, config, settings, id=None, resume=None):
    told("init", name=name, run=id, settings=config)
    return Run()

def log(values, step):
    ((tag, value),) = values.items()
    told("log", tag=tag, value=getattr(value, "shape", value), step=step)

def finish(state, error):
    told("finish", failed=state != "success")
"""


class Doubles:
    """The stand-ins in a folder, which is put first on the path of this process and of its children.

    Args:
        folder: of this test alone.
        monkeypatch: of the test.
    """

    def __init__(self, folder: Path, monkeypatch: Any):
        packages = folder / "packages"
        packages.mkdir()
        for name, text in {"doubles": _COMMON, "wandb": _WANDB, "swanlab": _SWANLAB}.items():
            (packages / f"{name}.py").write_text(text)
        (packages / "mlflow").mkdir()
        (packages / "mlflow" / "__init__.py").write_text("")
        (packages / "mlflow" / "entities.py").write_text("from mlflow.tracking import Param\n")
        (packages / "mlflow" / "tracking.py").write_text(_MLFLOW)
        monkeypatch.syspath_prepend(str(packages))
        monkeypatch.setenv("PYTHONPATH", str(packages))
        monkeypatch.setenv("DOUBLE_LOG", str(folder / "told.jsonl"))
        monkeypatch.setenv("SWANLAB_MODE", "online")
        self._log, self._monkeypatch = folder / "told.jsonl", monkeypatch

    def let(self, does: str) -> None:
        """Let a method fail, or hang with a dash before its name."""
        self._monkeypatch.setenv("DOUBLE_DOES", does)

    def told(self, what: str | None = None) -> list[dict[str, Any]]:
        """What they were told so far, of one kind or all."""
        if not self._log.exists():
            return []
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if what in (None, line["what"])]

    def logged(self) -> list[tuple]:
        """(tag, value, step) of everything logged."""
        return [(one["tag"], one["value"], one["step"]) for one in self.told("log")]

    def wait_for(self, what: str, seconds: float = 30.0) -> dict[str, Any]:
        """The first thing of a kind that they are told, once they are."""
        end = time.monotonic() + seconds
        while not (found := self.told(what)) and time.monotonic() < end:
            time.sleep(0.05)
        return found[0]

    def services_that_live(self) -> list[int]:
        """Processes that hanging methods have started and that are still there; one that was killed needs a moment."""
        pids, until = [one["pid"] for one in self.told("service")], time.monotonic() + 5
        while any(map(_lives, pids)) and time.monotonic() < until:
            time.sleep(0.05)
        return list(filter(_lives, pids))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False if os.path.isdir("/proc/self") else True
