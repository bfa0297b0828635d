"""Flags of `train_textual_inversion.py` that say what a run is computed with: device, precision, memory."""

from textual_inversion.settings.bounds import device_name, threads
from textual_inversion.settings.choices import PRECISIONS
from textual_inversion.system.errors import SettingsError

# Two lines a flag.
# fmt: off


def add_precision(flag) -> None:
    """What the frozen modules are computed in; for all commands."""
    flag("--mixed_precision", choices=PRECISIONS, default="no",
         help="what U-Net and text encoders are computed in; fp16 and bf16 need a GPU")
    flag("--allow_tf32", action="store_true", help="let a GPU round the factors of float32 products to 10 bits: faster")


def add_machine(parser) -> None:
    """The group "machine"."""
    flag = parser.add_argument_group("machine").add_argument
    flag("--device", type=device_name, metavar="NAME", help="cpu, gpu or gpu:N; unset: a GPU where there is one")
    flag("--num_threads", type=threads, metavar="N", help="CPU threads of this process; unset: cores / processes")
    add_precision(flag)
    flag("--gradient_checkpointing", action="store_true", help="recompute activations: less memory, slower steps")
    flag("--enable_xformers_memory_efficient_attention", action="store_true",
         help="memory-efficient attention; needs a GPU")
    flag("--compile", action="store_true", help="run the U-Net's part of a step as one compiled program")
    flag("--low_memory", action="store_true",
         help="choose what saves memory: micro-batches of one, checkpointing, attention and VAE in parts")


# fmt: on


def settle_machine(args) -> None:
    """Fill in what `--low_memory` chooses; whatever the user said stays.

    Raises:
        SettingsError: the device that was named cannot compute in the precision that was named, or a compiled step is
            to recompute its activations.
    """
    check_precision(args)
    if args.compile and (args.gradient_checkpointing or args.low_memory):
        other = "--low_memory" if args.low_memory else "--gradient_checkpointing"
        raise SettingsError(f"--compile and {other} do not go together: a compiled step keeps its own activations")
    if not args.low_memory:
        return
    args.gradient_checkpointing = True
    if "train_batch_size" not in args.explicit:
        if "gradient_accumulation_steps" not in args.explicit:
            args.gradient_accumulation_steps *= args.train_batch_size  # the global batch stays
        args.train_batch_size = 1


def check_precision(args) -> None:
    """Refuse half precision on a CPU that was asked for by name; raises SettingsError."""
    if args.mixed_precision != "no" and args.device == "cpu":
        raise SettingsError(
            f"--mixed_precision {args.mixed_precision} does not go with --device cpu, whose kernels know no half "
            "precision; leave one of the two out"
        )
