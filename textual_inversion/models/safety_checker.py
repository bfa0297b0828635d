"""The safety checker that some base models have beside their parts."""

from pathlib import Path
from typing import Any

from paddle import nn

from textual_inversion.models.config_checks import check_announced, check_image_sizes, explained
from textual_inversion.models.layers.frozen_layer_norm import freeze
from textual_inversion.models.precision import cast_inputs
from textual_inversion.models.text_encoders import for_float32
from textual_inversion.models.weight_files import ENCODER_FILES, read_json, read_state
from textual_inversion.models.weights import build_unset, load_weights


def load(model: Path, variant: str | None) -> tuple[nn.Layer | None, Any]:
    """The safety checker and feature extractor in a base model's folder; (None, None) where it has none.

    Raises:
        BaseModelError: it is there and damaged.
    """
    with explained(model):
        return _load(model, variant)


def _load(model: Path, variant: str | None) -> tuple[nn.Layer | None, Any]:
    layer = unset(model, variant)
    if layer is None:
        return None, None
    from ppdiffusers.transformers import CLIPImageProcessor

    load_weights(layer, read_state(model / "safety_checker", ENCODER_FILES, variant=variant))
    cast_inputs(layer, "float32")  # pipelines give it images in the text encoder's type
    path = model / "feature_extractor" / "preprocessor_config.json"
    extractor = read_json(path)
    check_image_sizes(extractor, path)
    with explained(path):
        return freeze(layer), CLIPImageProcessor.from_dict(sizes_written_out(extractor))


def unset(model: Path, variant: str | None) -> nn.Layer | None:
    """A safety checker of the base model's shape, its weights not set; None where the base model has none."""
    folder = model / "safety_checker"
    if (
        not (folder / "config.json").is_file()
        or not (model / "feature_extractor" / "preprocessor_config.json").is_file()
    ):
        return None
    from ppdiffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from ppdiffusers.transformers import CLIPConfig

    config = read_json(folder / "config.json")
    state = read_state(folder, ENCODER_FILES, variant=variant)
    check_announced(config, len(state), folder, state.largest_dimension)
    with explained(folder):
        return build_unset(lambda: StableDiffusionSafetyChecker(CLIPConfig.from_dict(for_float32(config))))


def sizes_written_out(config: dict[str, Any]) -> dict[str, Any]:
    """An image processor's configuration with named sizes, where older files have plain numbers."""
    size, crop = config.get("size"), config.get("crop_size")
    longhand = {"size": {"shortest_edge": size}} if isinstance(size, int) else {}
    if isinstance(crop, int):
        longhand["crop_size"] = {"height": crop, "width": crop}
    return config | longhand
