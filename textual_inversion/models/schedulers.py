"""Noise schedulers: the one for training, and those for generation, by their short names."""

import inspect
from typing import Any

from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.system.errors import BaseModelError, SettingsError

# ppdiffusers 0.29's UniPC fails on Paddle 3 (it mixes float32 and float64 in a linear system), and its SDE solver needs
# a further package. For a base model that names one of them, the most similar other one is used.
_INSTEAD_OF = {
    "UniPCMultistepScheduler": "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler": "DPMSolverMultistepScheduler",
}

# Possible schedulers of a base model: all of these define the noise level of step t by a table of betas.
_KNOWN_CLASSES = {*SCHEDULERS.values(), *_INSTEAD_OF, "DDIMParallelScheduler", "DDPMParallelScheduler"}

# Latents are not images in [-1, 1], so nothing is clipped; ppdiffusers' pipeline would set both, with a warning.
_FORCED = {"clip_sample": False, "steps_offset": 1}
# Entries that Stable Diffusion's schedulers have, for a base model whose own scheduler is of a class without them.
_CUSTOMARY = {"skip_prk_steps": True, "set_alpha_to_one": False}


def training_scheduler(config: dict[str, Any], source: object) -> Any:
    """The DDPM scheduler, whose `alphas_cumprod` float32 [T] and `config.prediction_type` training needs.

    Args:
        config: contents of a scheduler_config.json of any class.
        source: its file or folder, for messages.

    Raises:
        BaseModelError: the base model was trained with another kind of noise, or predicts something else.
    """
    name = config.get("_class_name")
    if name not in _KNOWN_CLASSES:
        raise BaseModelError(
            f"{source} names the scheduler {name}, which has no DDPM noise; take a Stable Diffusion 1.x or 2.x model"
        )
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in ("epsilon", "v_prediction"):
        raise BaseModelError(
            f"{source} says prediction_type {prediction_type}; only epsilon and v_prediction can be trained"
        )
    return _build("DDPMScheduler", config, {"clip_sample": False})


def sampling_scheduler(config: dict[str, Any], name: str | None = None) -> Any:
    """A new scheduler for generation: of the base model's own class, or of the class that `name` stands for.

    Raises:
        SettingsError: no scheduler has this name.
    """
    if name is not None and name not in SCHEDULERS:
        raise SettingsError(f"there is no scheduler {name}; take one of {', '.join(SCHEDULERS)}")
    class_name = SCHEDULERS[name] if name else _INSTEAD_OF.get(config["_class_name"], config["_class_name"])
    same_class = class_name == config.get("_class_name")
    return _build(class_name, config, {**({} if same_class else _customary(config)), **_FORCED})


def _customary(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _CUSTOMARY.items() if key not in config}


def _build(class_name: str, config: dict[str, Any], changes: dict[str, Any]) -> Any:
    """A scheduler from those entries of a configuration that its class has."""
    import ppdiffusers

    cls = getattr(ppdiffusers, class_name)
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
    # A file lists its entries that are defaults of its class; another class has its own defaults.
    defaults = set(config.get("_use_default_values", ())) if class_name != config.get("_class_name") else set()
    entries = {key: value for key, value in config.items() if key not in defaults} | changes
    return cls(**{key: value for key, value in entries.items() if key in known})
