"""Textual Inversion on PaddlePaddle: teach a frozen Stable Diffusion model a concept from a few images.

Everything public is in `textual_inversion.api` and can be imported from here; it is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual_inversion.api import *  # noqa: F403

PUBLIC = (
    "LearnedEmbedding",
    "TextualInversionError",
    "TrainConfig",
    "TrainedRun",
    "attach_embeddings",
    "contact_sheet",
    "convert_embeddings",
    "curves",
    "detach_embeddings",
    "generate",
    "inspect_embeddings",
    "load_base_model",
    "read_embeddings",
    "train",
    "train_config",
    "words",
)


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(import_module("textual_inversion.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
