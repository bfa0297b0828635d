"""Weights & Biases, MLflow and SwanLab, through their own packages; runs in a process of its own.

Each of them has `run`, its own name for the run, and the methods of a writer: `add_scalar`, `add_image`, `add_text`,
`flush`, `close`. Their variables say where to: `WANDB_MODE`, `MLFLOW_TRACKING_URI`, `SWANLAB_MODE` and so on. What they
would find out by themselves about the machine, its packages and the source code is switched off.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_PROJECT = "textual-inversion"
_LONGEST_VALUE = 500  # letters of a setting: MLflow takes no more everywhere


class WandB:
    """A run of Weights & Biases. Resumed, it goes on; of a step that it has, it keeps what it has.

    Args:
        logdir: for what is to be sent, or was not.
        title: of the run.
        run: of an earlier part of the same run; None: a new one.
        settings: of the run.
    """

    def __init__(self, logdir: str, title: str, run: str | None, settings: Mapping[str, Any]):
        import wandb

        self._wandb = wandb
        own = wandb.Settings(
            console="off", silent=True, init_timeout=30, disable_git=True, disable_code=True,
            disable_job_creation=True, x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
        )  # fmt: skip
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), name=os.environ.get("WANDB_NAME", title), dir=logdir,
            id=run, resume="allow" if run else None, config=dict(settings), settings=own,
        )  # fmt: skip
        self.run = self._run.id

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to a curve."""
        self._run.log({tag: value}, step=step)

    def add_image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Add one image (H, W, 3) of uint8."""
        self._run.log({tag: self._wandb.Image(pixels)}, step=step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Add one text."""
        self._run.log({f"{tag}/text": text}, step=step)

    def flush(self) -> None:
        """Nothing: its own service takes each call at once, and outlives a run that is killed."""

    def close(self, *, failed: bool = False) -> None:
        """End the run; returns when all is written, and sent where it is sent."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow, in files in the log folder where no server is named. Resumed, it skips the steps that it has.

    Args:
        logdir, title, run, settings: as of `WandB`.
    """

    def __init__(self, logdir: str, title: str, run: str | None, settings: Mapping[str, Any]):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the only store that needs no database
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"file:{logdir}/mlruns")
        if run is not None:
            self._client.update_run(run, status="RUNNING")
        else:
            experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or _PROJECT)
            run = self._client.create_run(experiment, run_name=title).info.run_id
            values = {name: str(value)[:_LONGEST_VALUE] for name, value in settings.items()}
            self._client.log_batch(run, params=[Param(*one) for one in values.items()])
        self.run = run
        self._done: dict[str, int] = {}

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to a curve, unless an earlier part of the run has it."""
        key = _plain(tag)
        if key not in self._done:
            points = self._client.get_metric_history(self.run, key)
            self._done[key] = max((point.step for point in points), default=-1)
        if step > self._done[key]:
            self._client.log_metric(self.run, key, value, step=step)

    def add_image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Add one image (H, W, 3) of uint8."""
        self._client.log_image(self.run, pixels, key=_plain(tag), step=step, synchronous=True)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Add one text, as a file."""
        self._client.log_text(self.run, text, f"{_plain(tag)}/step-{step}.txt")

    def flush(self) -> None:
        """Nothing: each call is written when it returns."""

    def close(self, *, failed: bool = False) -> None:
        """Say that the run has ended, and how."""
        self._client.set_terminated(self.run, status="FAILED" if failed else "FINISHED")


class SwanLab:
    """A run of SwanLab. Resumed online it goes on; offline and local, SwanLab begins another part of the same name.

    Args:
        logdir, title, run, settings: as of `WandB`.
    """

    def __init__(self, logdir: str, title: str, run: str | None, settings: Mapping[str, Any]):
        import swanlab

        self._swanlab = swanlab
        mode = os.environ.get("SWANLAB_MODE", "online").replace("cloud", "online")
        resumed = {"id": run, "resume": "allow"} if run and mode == "online" else {}
        probe = dict.fromkeys(("hardware", "runtime", "requirements", "git", "swanlab", "monitor"), False)
        self._run = swanlab.init(
            project=os.environ.get("SWANLAB_PROJ_NAME", _PROJECT), name=os.environ.get("SWANLAB_EXP_NAME", title),
            log_dir=f"{logdir}/swanlog", mode=mode, config=dict(settings), **resumed,
            settings=swanlab.Settings(interactive=False, probe=probe, terminal={"proxy_type": "none"}),
        )  # fmt: skip
        self.run = str(self._run.id)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to a curve."""
        self._swanlab.log({tag: value}, step=step)

    def add_image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Add one image (H, W, 3) of uint8."""
        self._swanlab.log({tag: self._swanlab.Image(pixels)}, step=step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Add one text."""
        self._swanlab.log({f"{tag}/text": self._swanlab.Text(text)}, step=step)

    def flush(self) -> None:
        """Nothing: SwanLab writes in a thread of its own, within seconds."""

    def close(self, *, failed: bool = False) -> None:
        """End the run; returns when all is written, and sent where it is sent."""
        self._swanlab.finish(state="crashed" if failed else "success", error="the run died" if failed else None)


TRACKERS = {"wandb": WandB, "mlflow": MLflow, "swanlab": SwanLab}


def _plain(tag: str) -> str:
    """A tag in the letters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", tag, flags=re.ASCII).strip("/ ") or "_"
