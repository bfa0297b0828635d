"""Noise schedulers: the one for training, and those for generation, by their short names."""

import inspect
from typing import Any

import numpy as np

from textual_inversion.formats.errors import printable
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.system.errors import BaseModelError, SettingsError

# ppdiffusers 0.29's UniPC fails on Paddle 3 (it mixes float32 and float64 in a linear system), and its SDE solver needs
# a further package. For a base model that names one of them, the most similar other one is used.
_INSTEAD_OF = {
    "UniPCMultistepScheduler": "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler": "DPMSolverMultistepScheduler",
}

# Schedulers that images are drawn with here. A model of any other is drawn with `_OTHERWISE`, which needs no more than
# the noise and is deterministic.
_DRAWING_CLASSES = {*SCHEDULERS.values(), "DDIMParallelScheduler", "DDPMParallelScheduler"}
_OTHERWISE = SCHEDULERS["ddim"]

# What was added to the latents in training. It belongs to the model and not to a class, so it is never left to the
# defaults of another class.
_NOISE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "prediction_type",
)  # fmt: skip
_BETAS = ("beta_start", "beta_end", "beta_schedule")
_MOST_TIMESTEPS = 100_000  # Stable Diffusion has 1,000

# Latents are not images in [-1, 1], so nothing is clipped; ppdiffusers' pipeline would set both, with a warning.
_FORCED = {"clip_sample": False, "steps_offset": 1}
# Entries that Stable Diffusion's schedulers have, for a base model whose own scheduler is of a class without them.
_CUSTOMARY = {"skip_prk_steps": True, "set_alpha_to_one": False}


def training_scheduler(config: dict[str, Any], source: object) -> Any:
    """The DDPM scheduler, whose `alphas_cumprod` float32 [T] and `config.prediction_type` training needs.

    Args:
        config: contents of a scheduler_config.json. Its class matters only where the file does not say its betas.
        source: its file or folder, for messages.

    Raises:
        BaseModelError: the base model was trained with another kind of noise, or predicts something else.
    """
    _refuse_other_noise(config, source)
    noise = _noise(config)
    if noise.get("trained_betas") is None and any(noise.get(key) is None for key in _BETAS):
        raise BaseModelError(
            f"{source} names {_named(config)} and does not say {', '.join(_BETAS)}, so the noise that the model was "
            "trained with is not known; take a Stable Diffusion 1.x, 2.x or XL model, or download it again"
        )
    prediction_type = noise.get("prediction_type", "epsilon")
    if prediction_type not in ("epsilon", "v_prediction"):
        raise BaseModelError(
            f"{source} says prediction_type {prediction_type}; only epsilon and v_prediction can be trained"
        )
    _check_timesteps(noise, source)
    scheduler = _build("DDPMScheduler", config, {"clip_sample": False})
    betas = np.asarray(scheduler.betas)
    if betas.ndim != 1 or not ((betas >= 0) & (betas <= 1)).all():  # neither holds for NaN
        raise BaseModelError(f"{source} has betas that are no noise schedule; download the model again")
    return scheduler


def sampling_scheduler(config: dict[str, Any], name: str | None = None) -> Any:
    """A new scheduler for generation: of the class that `name` stands for, else the one of `drawing_class`.

    Raises:
        SettingsError: no scheduler has this name.
    """
    if name is not None and name not in SCHEDULERS:
        raise SettingsError(f"there is no scheduler {name}; take one of {', '.join(SCHEDULERS)}")
    class_name = SCHEDULERS[name] if name else drawing_class(config)
    same_class = class_name == config.get("_class_name")
    return _build(class_name, config, {**({} if same_class else _customary(config)), **_FORCED})


def drawing_class(config: dict[str, Any]) -> str:
    """The class that draws a base model's images where the user names none: its own, or what stands in for it."""
    own = str(config.get("_class_name"))
    return own if own in _DRAWING_CLASSES else _INSTEAD_OF.get(own, _OTHERWISE)


def drawing_notes(config: dict[str, Any], name: str | None = None) -> list[str]:
    """A line where images are drawn with another scheduler than the base model's own, and the user named none."""
    chosen = drawing_class(config)
    if name is not None or chosen == config.get("_class_name"):
        return []
    return [
        f"the base model names {_named(config)}, which is not drawn with here; images are drawn with {chosen} "
        "(infer.py and score.py take another with --scheduler)"
    ]


def saved_scheduler(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a scheduler for a saved pipeline, of a class that ppdiffusers has."""
    if _class_of(config) is not None:
        return dict(config)
    scheduler = sampling_scheduler(config)
    return dict(scheduler.config) | {"_class_name": type(scheduler).__name__}


def _class_of(config: dict[str, Any]) -> type | None:
    """The class of ppdiffusers that a configuration names; None where ppdiffusers does not have it."""
    import ppdiffusers

    name = str(config.get("_class_name"))
    return getattr(ppdiffusers, name, None) if name.endswith("Scheduler") else None


def _named(config: dict[str, Any]) -> str:
    name = config.get("_class_name")
    return f"the scheduler {printable(name, 60)}" if name else "no scheduler"


def _refuse_other_noise(config: dict[str, Any], source: object) -> None:
    """Refuse a model that learned to remove another noise than DDPM's (arXiv 2006.11239); raises BaseModelError."""
    name, predicts = str(config.get("_class_name")), str(config.get("prediction_type"))
    if "FlowMatch" in name or config.get("use_flow_sigmas") or predicts.startswith("flow"):
        kind = "a model of flow matching"
    elif name.startswith("EDM"):
        kind = "a model whose noise is given by sigmas (EDM)"
    else:
        return
    raise BaseModelError(
        f"{source} names {_named(config)}: this is {kind}, which has no DDPM noise; take a Stable Diffusion "
        "1.x, 2.x or XL model"
    )


def _noise(config: dict[str, Any]) -> dict[str, Any]:
    """The entries that describe the noise; those that are left out are the defaults of the class, where it is known."""
    own = _class_of(config)
    usual = {} if own is None else inspect.signature(own.__init__).parameters
    noise = {key: usual[key].default for key in _NOISE if key in usual}
    noise |= {key: config[key] for key in _NOISE if key in config}
    if isinstance(betas := noise.get("trained_betas"), list):
        noise["num_train_timesteps"] = len(betas)
    return noise


def _check_timesteps(noise: dict[str, Any], source: object) -> None:
    steps = noise.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 0 < steps <= _MOST_TIMESTEPS:
        raise BaseModelError(
            f"{source} says num_train_timesteps {printable(repr(steps), 40)}, which no model has; download it again"
        )


def _customary(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _CUSTOMARY.items() if key not in config}


def _build(class_name: str, config: dict[str, Any], changes: dict[str, Any]) -> Any:
    """A scheduler from those entries of a configuration that its class has."""
    import ppdiffusers

    cls = getattr(ppdiffusers, class_name)
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
    # A file lists its entries that are defaults of its class; another class has its own defaults.
    defaults = set(config.get("_use_default_values", ())) if class_name != config.get("_class_name") else set()
    entries = {key: value for key, value in config.items() if key not in defaults} | _noise(config) | changes
    return cls(**{key: value for key, value in entries.items() if key in known})
