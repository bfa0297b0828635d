"""U-Nets and VAEs from the folder of a part."""

import inspect
from pathlib import Path
from typing import Any

from paddle import nn

from textual_inversion.models.config_checks import check_announced
from textual_inversion.models.layers.frozen_layer_norm import freeze
from textual_inversion.models.weight_files import DIFFUSION_FILES, read_state
from textual_inversion.models.weights import build_unset, load_weights


def load_diffusion_part(
    class_name: str, folder: Path, config: dict[str, Any], variant: str | None
) -> tuple[nn.Layer, str]:
    """A frozen U-Net or VAE with the weights of a folder, and the layout of its file.

    Raises:
        BaseModelError: a weight is missing, of another shape, or surplus.
    """
    import ppdiffusers

    from textual_inversion.models.layers.attention import work_in_blocks
    from textual_inversion.models.layers.convolution import convolve_in_blocks

    cls = getattr(ppdiffusers, class_name)
    known = set(inspect.signature(cls.__init__).parameters)
    state = read_state(folder, DIFFUSION_FILES, variant=variant)
    check_announced(config, len(state), folder, state.largest_dimension)
    layer = build_unset(lambda: cls(**{key: value for key, value in config.items() if key in known}))
    layout = load_weights(layer, state)
    work_in_blocks(layer)
    convolve_in_blocks(layer)
    return freeze(layer), layout
