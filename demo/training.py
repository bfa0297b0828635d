"""The part that the stages of the pretraining share: one resumable run with a budget, a schedule and an average."""

from __future__ import annotations

import contextlib
import math
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

SAVE_EVERY_S, LOG_EVERY_STEPS = 120, 100
WARM_UP_STEPS = 100
FINAL_RATE = 0.02  # of the peak learning rate


def learning_rate_factor(step: int, progress: float, hold: float) -> float:
    """Return the learning rate relative to its peak: warm-up, constant until `hold`, then half a cosine."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    decayed = max(0.0, (progress - hold) / (1 - hold))
    return warm_up * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, decayed))))


@contextlib.contextmanager
def reduced_precision(device: torch.device):
    """Compute products in bfloat16; on a CPU with the attention that is a third faster there than the default."""
    kernels = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()
    with torch.autocast(device.type, dtype=torch.bfloat16), kernels:
        yield


class Run:
    """Trains some modules for a number of steps or minutes, whichever ends first, and survives being killed.

    Progress is the larger of the fractions of steps and minutes used, so a run always ends with a small learning
    rate. Modules, optimizer, average, random numbers, step and time used are saved together every
    `SAVE_EVERY_S` seconds.

    Args:
        work_dir: where the state lives, as `<stage>.pt`.
        stage: the name of the run.
        modules: what is trained, by name, on the device it is trained on.
        rate: peak learning rate of AdamW.
        steps: the most optimizer steps.
        minutes: the most minutes, restarts counted together.
        hold: fraction of the run at the peak learning rate.
        decay: of the exponential moving average of the weights.
    """

    def __init__(
        self,
        work_dir: Path,
        stage: str,
        modules: dict[str, nn.Module],
        rate: float,
        steps: int,
        minutes: float,
        hold: float = 0.3,
        decay: float = 0.998,
        weight_decay: float = 1e-2,
    ):
        self.path, self.stage, self.modules = work_dir / f"{stage}.pt", stage, modules
        self.rate, self.max_steps, self.max_seconds, self.hold, self.decay = rate, steps, minutes * 60, hold, decay
        self.parameters = [p for module in modules.values() for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.device = self.parameters[0].device
        self.step, self.used, self.samples, self.smoothed = 0, 0.0, 0, None
        if self.path.exists():
            self._resume()
        self._since = self._saved_at = time.monotonic()
        self._used_before = self.used

    def _resume(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        for name, weights in state["modules"].items():
            self.modules[name].load_state_dict(weights)
        if "optimizer" not in state:  # weights that were adopted
            self.average = [p.detach().clone() for p in self.parameters]
            return
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        torch.set_rng_state(state["random"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_on_gpu"].cpu())
        self.step, self.used, self.samples = state["step"], state["used"], state["samples"]
        print(f"{self.stage}: resumed at step {self.step}, {self.used / 60:.1f} min used", flush=True)

    @property
    def progress(self) -> float:
        """Fraction of the budget used, 0 to 1."""
        return min(1.0, max(self.step / self.max_steps, self.used / self.max_seconds))

    def __iter__(self):
        """Yield the step until the budget is used, then save."""
        while self.progress < 1:
            yield self.step
        self.save()

    def update(self, loss: torch.Tensor, batch: int, **figures: torch.Tensor) -> None:
        """Take one optimizer step on a loss over `batch` samples; log it with the figures, and save, now and then."""
        factor = learning_rate_factor(self.step, self.progress, self.hold)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * factor
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        value = loss.detach()  # read when it is logged: a GPU need not wait for that
        self.smoothed = value if self.smoothed is None else self.smoothed.lerp(value, 0.02)
        self.step += 1
        self.samples += batch
        self.used = self._used_before + time.monotonic() - self._since
        if self.step % LOG_EVERY_STEPS == 0:
            shown = "".join(f" {name} {figure.item():.3f}" for name, figure in figures.items())
            print(
                f"{self.stage}: step {self.step} min {self.used / 60:.1f} done {self.progress:.2f}"
                f" loss {self.smoothed:.4f}{shown} lr {self.rate * factor:.2e} samples {self.samples}",
                flush=True,
            )
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write everything the next step needs beside the last state, then rename."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "random": torch.get_rng_state(),
            "random_on_gpu": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "step": self.step,
            "used": self.used,
            "samples": self.samples,
        }
        aside = self.path.with_suffix(".tmp")
        torch.save(state, aside)
        os.replace(aside, self.path)
        self._saved_at = time.monotonic()


def adopt(work_dir: Path, stage: str, weights: dict[str, dict[str, torch.Tensor]]) -> None:
    """Write weights, by module, as what a run starts from instead of from nothing."""
    torch.save({"modules": weights}, work_dir / f"{stage}.pt")


def load_average(work_dir: Path, stage: str, modules: dict[str, nn.Module]) -> dict:
    """Fill modules with the averaged weights of a run; return its step, samples and minutes used."""
    state = torch.load(work_dir / f"{stage}.pt", weights_only=True, map_location="cpu")
    for name, weights in state["modules"].items():
        modules[name].load_state_dict(weights)
    if "average" not in state:
        return {}
    parameters = [p for module in modules.values() for p in module.parameters()]
    with torch.no_grad():
        for parameter, average in zip(parameters, state["average"], strict=True):
            parameter.copy_(average)
    return {"steps": state["step"], "samples": state["samples"], "minutes": round(state["used"] / 60, 1)}
