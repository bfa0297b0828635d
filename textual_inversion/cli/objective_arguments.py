"""Flags of `train_textual_inversion.py` that say what is learned from the pictures and how: images, loss, optimizer."""

import math

from textual_inversion.settings.bounds import count, natural, number, positive, positive_int, share, side
from textual_inversion.settings.choices import INTERPOLATIONS, LOSS_TYPES, OPTIMIZERS, RESIZE_MODES, TIMESTEP_SAMPLINGS
from textual_inversion.system.errors import SettingsError

_decay_rate = number(float, 0.0, 0.9999999)

# Two lines a flag.
# fmt: off


def add_images(parser) -> None:
    """The group "images"."""
    flag = parser.add_argument_group("images").add_argument
    flag("--resolution", type=side, metavar="PIXELS",
         help="side of the training pictures; unset: the model's own")
    flag("--height", type=side, metavar="PIXELS", help="height, where it is not --resolution")
    flag("--width", type=side, metavar="PIXELS", help="width, where it is not --resolution")
    flag("--resize_mode", choices=RESIZE_MODES, default="squash",
         help="how pictures of another shape are brought to the model's; bucket: to shapes near their own")
    flag("--center_crop", action="store_true", help="the same as --resize_mode center_crop")
    flag("--interpolation", choices=INTERPOLATIONS, default="bilinear", help="how pictures are resized")
    flag("--flip_p", type=share, default=0.5, metavar="P",
         help="share of mirrored pictures; 0 for text, faces, logos and whatever has a left and a right")
    flag("--mask_dir", nargs="+", metavar="DIR",
         help="folder of masks named as the pictures are; only what is white in them is learned")
    flag("--alpha_mask", action="store_true", help="learn only what is opaque in the pictures")
    flag("--unmasked_weight", type=share, default=0.0, metavar="X", help="weight of what a mask leaves out")
    flag("--dataloader_num_workers", type=count(0, 256), default=0, metavar="N",
         help="threads that read the pictures; 0: one after another")


def add_objective(parser) -> None:
    """The group "objective"."""
    flag = parser.add_argument_group("objective").add_argument
    flag("--loss_type", choices=LOSS_TYPES, default="l2", help="squared error, or one that minds outliers less")
    flag("--huber_c", type=positive, default=0.1, metavar="X",
         help="error from which huber and smooth_l1 go over from a square to a straight line")
    flag("--snr_gamma", type=positive, metavar="X",
         help="min-SNR weighting: nearly clean timesteps count less; 5 in its paper; unset: all count alike")
    flag("--debiased_estimation_loss", action="store_true", help="weighting by which noisy timesteps count more")
    flag("--noise_offset", type=share, default=0.0, metavar="X", help="weight of a noise shared by a whole channel")
    flag("--input_perturbation", type=share, default=0.0, metavar="X",
         help="weight of a noise that the U-Net sees and need not predict; 0.1 in its paper")
    flag("--min_timestep", type=natural, default=0, metavar="N", help="first timestep that is trained on")
    flag("--max_timestep", type=positive_int, metavar="N",
         help="timestep before which training stops; unset: the end of the model's schedule")
    flag("--timestep_sampling", choices=TIMESTEP_SAMPLINGS, default="uniform",
         help="every timestep by itself, or the global batch's spread over equal parts of the schedule")
    flag("--antithetic_noise", action="store_true",
         help="pairs of samples in the global batch get opposite noise, at the same timestep")


def add_optimizer(parser) -> None:
    """The group "optimizer"."""
    flag = parser.add_argument_group("optimizer").add_argument
    flag("--optimizer", choices=OPTIMIZERS, default="adamw", help="how the rows follow their gradient")
    flag("--adam_beta1", type=_decay_rate, default=0.9, metavar="X", help="Adam's and AdamW's decay of the mean")
    flag("--adam_beta2", type=_decay_rate, default=0.999, metavar="X", help="Adam's and AdamW's decay of the variance")
    flag("--adam_weight_decay", type=number(float, 0.0, 1.0), default=0.02, metavar="X",
         help="weight decay: pulls the new rows, and nothing else, towards zero; 0 for adam and sgd unless given")
    flag("--adam_epsilon", type=positive, default=1e-8, metavar="X", help="Adam's and AdamW's epsilon")
    flag("--sgd_momentum", type=_decay_rate, default=0.9, metavar="X", help="momentum of sgd")
    flag("--max_grad_norm", type=float, default=-1.0, metavar="X", help="largest gradient norm; -1: no clipping")
    flag("--average_last_steps", type=natural, default=0, metavar="N",
         help="the final rows are the mean of those after the last N steps; 0: those after the last one")


# fmt: on


def settle_objective(args) -> None:
    """Fill in what follows from other flags, and refuse what does not go together.

    Raises:
        SettingsError: two flags contradict each other, or one has no effect without another.
    """
    if args.center_crop:
        if args.resize_mode not in ("squash", "center_crop") or {"resize_mode", "center_crop"} <= args.explicit:
            raise SettingsError(f"--center_crop and --resize_mode {args.resize_mode} are two ways; give one of them")
        args.resize_mode = "center_crop"
    if args.optimizer != "adamw" and "adam_weight_decay" not in args.explicit:
        args.adam_weight_decay = 0.0  # as an L2 term in a small gradient, AdamW's usual decay would outweigh it
    _check_masks(args)
    if args.snr_gamma is not None and args.debiased_estimation_loss:
        raise SettingsError("--snr_gamma and --debiased_estimation_loss are two weightings; give one of them")
    if args.max_timestep is not None and args.max_timestep <= args.min_timestep:
        raise SettingsError(f"--max_timestep {args.max_timestep} must be above --min_timestep {args.min_timestep}")
    if args.max_grad_norm == 0 or not math.isfinite(args.max_grad_norm):
        raise SettingsError(
            f"--max_grad_norm {args.max_grad_norm:g}: 0 would stop all learning, and infinity clips nothing; give a "
            "positive norm, or -1 for no clipping"
        )
    _check_effect(args, "huber_c", args.loss_type != "l2", "--loss_type huber or smooth_l1")
    _check_effect(args, "sgd_momentum", args.optimizer == "sgd", "--optimizer sgd")


def check_global_batch(args) -> None:
    """Refuse what one sample per optimizer step leaves without effect, where the user asked for it.

    The demo's own defaults are not asked for: with one sample they do what they do without.

    Raises:
        SettingsError: --timestep_sampling stratified or --antithetic_noise was given for a global batch of 1.
    """
    if args.global_batch > 1:
        return
    for flag, given in (("--timestep_sampling stratified", args.timestep_sampling == "stratified"),
                        ("--antithetic_noise", args.antithetic_noise)):  # fmt: skip
        if given and flag.split()[0].removeprefix("--") in args.explicit:
            raise SettingsError(
                f"{flag} has no effect on one sample per optimizer step; raise --train_batch_size or "
                "--gradient_accumulation_steps, or leave it out"
            )


def _check_masks(args) -> None:
    if args.mask_dir and args.alpha_mask:
        raise SettingsError("--mask_dir and --alpha_mask are two sources of masks; give one of them")
    if args.mask_dir and len(args.mask_dir) != len(args.placeholder_token):
        raise SettingsError(
            f"--mask_dir has {len(args.mask_dir)} values and --placeholder_token {len(args.placeholder_token)}; "
            "give one per concept in the same order"
        )
    _check_effect(args, "unmasked_weight", args.mask_dir or args.alpha_mask, "--mask_dir or --alpha_mask")


def _check_effect(args, name: str, has_effect: object, condition: str) -> None:
    if name in args.explicit and not has_effect:
        raise SettingsError(f"--{name} has no effect without {condition}; add it, or leave --{name} out")
