"""Flags that `infer.py` and `score.py` share, and how those left out are settled."""

import argparse

from textual_inversion.cli.machine_arguments import add_precision
from textual_inversion.cli.parser import add_source_flags, demo_defaults
from textual_inversion.settings.bounds import at_once, device_name, number, side, threads
from textual_inversion.settings.choices import SCHEDULERS

# What images are generated with where neither the command line nor the demo's defaults say.
DEFAULTS = {"guidance_scale": 7.5, "num_inference_steps": 50}


def pixels(text: str) -> int:
    """An argparse `type` for a picture's height or width."""
    value = side(text)
    if value % 8:
        raise argparse.ArgumentTypeError(f"must be a multiple of 8, not {text}; try {max(8, round(value / 8) * 8)}")
    return value


def add_base_model_flag(parser) -> None:
    """Which base model, and where it comes from."""
    flag = parser.add_argument_group("base model").add_argument
    flag("--pretrained_model_name_or_path", metavar="MODEL",
         help="folder or hub name; unset: the model that the embedding was learned on, else the demo's")  # fmt: skip
    flag("--tokenizer_name", metavar="NAME", help="a tokenizer other than the base model's")
    add_source_flags(flag)
    flag("--hub_token", metavar="TOKEN", help="access token for gated models; unset: the one you logged in with")


def settle_source(args, files) -> None:
    """Where the base model is not named, take it from where the run beside an embedding took it.

    Args:
        files: the `concept_files.ConceptFile`s.
    """
    if args.pretrained_model_name_or_path is not None:
        return
    recorded = next((file.run["settings"] for file in files if isinstance(file.run.get("settings"), dict)), {})
    for name in ("tokenizer_name", "revision", "variant", "cache_dir"):
        if getattr(args, name) is None:
            setattr(args, name, recorded.get(name))


def add_sampling_flags(parser, *, batch_size: int, several: bool = False) -> None:
    """How images are sampled; `several` lets guidance and steps take more than one value each."""
    flag = parser.add_argument_group("sampling").add_argument
    nargs = "+" if several else None
    flag("--guidance_scale", nargs=nargs, type=number(float, 0.0, 1000.0), metavar="X",
         help="classifier-free guidance; up to 1: none, twice as fast; unset: 7.5, for the demo its own")  # fmt: skip
    flag("--num_inference_steps", nargs=nargs, type=number(int, 1, 1000), metavar="N",
         help="denoising steps, 1 to 1000; unset: 50, for the demo its own")  # fmt: skip
    flag("--scheduler", choices=list(SCHEDULERS), help="how noise is removed; unset: the base model's own")
    flag("--batch_size", type=at_once, default=batch_size, metavar="N",
         help="pictures made together; does not change them")  # fmt: skip


def add_machine_flags(parser) -> None:
    """Where the work is done."""
    flag = parser.add_argument_group("machine").add_argument
    flag("--device", type=device_name, metavar="NAME", help="cpu, gpu or gpu:N; unset: a GPU where there is one")
    flag("--num_threads", type=threads, metavar="N", help="CPU threads; unset: all cores")
    add_precision(flag)


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


def scanned(value) -> list:
    """A setting that may have several values, as a list of them."""
    return value if isinstance(value, list) else [value]
