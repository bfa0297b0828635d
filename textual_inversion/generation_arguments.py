"""Flags that `infer.py` and `score.py` share, and how those left out are settled."""

import argparse

from textual_inversion.options import demo_defaults, device_name, number, positive_int
from textual_inversion.schedulers import SCHEDULERS

# What images are generated with where neither the command line nor the demo's defaults say.
DEFAULTS = {"guidance_scale": 7.5, "num_inference_steps": 50}


def pixels(text: str) -> int:
    """An argparse `type` for a picture's height or width."""
    value = positive_int(text)
    if value % 8:
        raise argparse.ArgumentTypeError(f"must be a multiple of 8, not {text}; try {max(8, round(value / 8) * 8)}")
    return value


def add_base_model_flag(parser) -> None:
    """--pretrained_model_name_or_path."""
    parser.add_argument_group("base model").add_argument(
        "--pretrained_model_name_or_path", metavar="MODEL",
        help="folder or hub name; unset: the model that the embedding was learned on, else the demo's")  # fmt: skip


def add_sampling_flags(parser, *, batch_size: int) -> None:
    """How images are sampled."""
    flag = parser.add_argument_group("sampling").add_argument
    flag("--guidance_scale", type=number(float, 0.0, 1000.0), metavar="X",
         help="classifier-free guidance; up to 1: none, twice as fast; unset: 7.5, for the demo its own")  # fmt: skip
    flag("--num_inference_steps", type=number(int, 1, 1000), metavar="N",
         help="denoising steps, 1 to 1000; unset: 50, for the demo its own")  # fmt: skip
    flag("--scheduler", choices=list(SCHEDULERS), help="how noise is removed; unset: the base model's own")
    flag("--batch_size", type=positive_int, default=batch_size, metavar="N",
         help="pictures made together; does not change them")  # fmt: skip


def add_machine_flags(parser) -> None:
    """Where the work is done."""
    flag = parser.add_argument_group("machine").add_argument
    flag("--device", type=device_name, metavar="NAME", help="cpu, gpu or gpu:N; unset: a GPU where there is one")
    flag("--num_threads", type=positive_int, metavar="N", help="CPU threads; unset: all cores")


def settle(args, *, is_demo: bool, **defaults) -> None:
    """Fill in the settings that are None: from the demo's defaults where its model is used, else from here.

    Args:
        defaults: further settings with their value outside the demo.
    """
    chosen = DEFAULTS | defaults
    if is_demo:
        chosen |= {key: value for key, value in demo_defaults().items() if key in chosen}
    for key, value in chosen.items():
        if getattr(args, key) is None:
            setattr(args, key, value)
