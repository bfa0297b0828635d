"""The command line of `train_textual_inversion.py`: its flags, their defaults, and what does not go together.

A flag keeps the default of the ppdiffusers documentation, or of PaddleMIX's example where that is silent. Both make
sense for real models only, so when the base model is the demo's, `demo/defaults.yaml` takes the place of every default
that it names. A flag on the command line always wins.
"""

import argparse
import math
from importlib.util import find_spec
from pathlib import Path

from textual_inversion.errors import SettingsError
from textual_inversion.options import (
    DEMO_MODEL,
    OneLineParser,
    demo_defaults,
    device_name,
    from_root,
    is_demo,
    natural,
    number,
    positive,
    positive_int,
    seed_number,
    share,
)
from textual_inversion.prompts import LANGUAGES, PROPERTIES

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
POLYNOMIAL_END = 1e-7  # the learning rate at which ppdiffusers' polynomial schedule ends
INTERPOLATIONS = ("nearest", "linear", "bilinear", "bicubic", "lanczos")


def build_parser() -> OneLineParser:
    """The parser, with the defaults for real models."""
    parser = OneLineParser(
        prog="train_textual_inversion.py",
        description="Teach a frozen Stable Diffusion model a new word from pictures. Without arguments: the demo.",
    )
    for add_group in (_base_model, _concept, _images, _training, _optimizer, _watching, _saving, _machine, _hub):
        add_group(parser)
    return parser


# Two lines a flag.
# fmt: off


def _base_model(parser) -> None:
    flag = parser.add_argument_group("base model").add_argument
    flag("--pretrained_model_name_or_path", default=from_root("demo/model"), metavar="MODEL",
         help="a folder or hub name, in the ppdiffusers or the diffusers layout")
    flag("--tokenizer_name", metavar="NAME", help="a tokenizer other than the base model's")
    flag("--language", choices=LANGUAGES, default="en", help="language of the training prompts")


def _concept(parser) -> None:
    flag = parser.add_argument_group("concept").add_argument
    flag("--train_data_dir", default=from_root("cat_toy_images"), metavar="DIR", help="folder of training pictures")
    flag("--placeholder_token", default="<cat-toy>", metavar="WORD", help="the new word")
    flag("--initializer_token", default="toy", metavar="WORD",
         help="a known word or phrase that the new one starts from")
    flag("--learnable_property", choices=PROPERTIES, default="object", help="what of the pictures is learned")
    flag("--num_vectors", type=positive_int, default=1, metavar="N", help="embedding rows of the new word")
    flag("--repeats", type=positive_int, default=100, metavar="N", help="times each picture is seen in an epoch")


def _images(parser) -> None:
    flag = parser.add_argument_group("images").add_argument
    flag("--resolution", type=positive_int, metavar="PIXELS",
         help="side of the training pictures; unset: the model's own")
    flag("--height", type=positive_int, metavar="PIXELS", help="height, where it is not --resolution")
    flag("--width", type=positive_int, metavar="PIXELS", help="width, where it is not --resolution")
    flag("--center_crop", action="store_true", help="cut out the middle instead of squashing the picture")
    flag("--interpolation", choices=INTERPOLATIONS, default="bilinear", help="how pictures are resized")
    flag("--flip_p", type=share, default=0.5, metavar="P",
         help="share of mirrored pictures; 0 for text, faces, logos and whatever has a left and a right")
    flag("--dataloader_num_workers", type=natural, default=0, metavar="N",
         help="threads that read the pictures; 0: one after another")


def _training(parser) -> None:
    flag = parser.add_argument_group("training").add_argument
    flag("--max_train_steps", type=positive_int, default=5000, metavar="N", help="optimizer steps")
    flag("--num_train_epochs", type=positive_int, default=100, metavar="N",
         help="epochs; decides the steps when --max_train_steps is not given")
    flag("--train_batch_size", type=positive_int, default=16, metavar="N", help="samples per process and micro-batch")
    flag("--gradient_accumulation_steps", type=positive_int, default=1, metavar="N",
         help="micro-batches per optimizer step")
    flag("--learning_rate", type=positive, default=1e-4, metavar="RATE", help="peak learning rate")
    flag("--scale_lr", action="store_true", help="multiply the learning rate by batch size x accumulation x processes")
    flag("--lr_scheduler", choices=SCHEDULES, default="constant", help="learning-rate schedule over optimizer steps")
    flag("--lr_warmup_steps", type=natural, default=500, metavar="N",
         help="optimizer steps of linear warm-up (all schedules but constant)")
    flag("--lr_num_cycles", type=positive_int, default=1, metavar="N", help="restarts of cosine_with_restarts")
    flag("--lr_power", type=positive, default=1.0, metavar="X", help="exponent of polynomial")
    flag("--noise_offset", type=number(float, 0.0, 1.0), default=0.0, metavar="X",
         help="weight of a noise shared by a whole channel")
    flag("--seed", type=seed_number, metavar="N", help="decides every sample; unset: one is drawn and recorded")


def _optimizer(parser) -> None:
    flag = parser.add_argument_group("optimizer").add_argument
    flag("--adam_beta1", type=number(float, 0.0, 0.9999999), default=0.9, metavar="X", help="AdamW's decay of the mean")
    flag("--adam_beta2", type=number(float, 0.0, 0.9999999), default=0.999, metavar="X",
         help="AdamW's decay of the variance")
    flag("--adam_weight_decay", type=number(float, 0.0, 1.0), default=0.02, metavar="X",
         help="AdamW's weight decay; acts on the new rows only")
    flag("--adam_epsilon", type=positive, default=1e-8, metavar="X", help="AdamW's epsilon")
    flag("--max_grad_norm", type=float, default=-1.0, metavar="X", help="largest gradient norm; -1: no clipping")


def _watching(parser) -> None:
    flag = parser.add_argument_group("watching").add_argument
    flag("--eval_steps", type=natural, default=100, metavar="N",
         help="optimizer steps between losses on a fixed set; 0: never")
    flag("--eval_samples", type=positive_int, default=16, metavar="N", help="samples in the fixed set")
    flag("--validation_prompt", nargs="+", metavar="PROMPT", help="prompts that sample pictures are made from")
    flag("--validation_epochs", type=positive_int, default=50, metavar="N", help="epochs between sample pictures")
    flag("--validation_steps", type=positive_int, metavar="N",
         help="optimizer steps between sample pictures; replaces --validation_epochs")
    flag("--num_validation_images", type=positive_int, default=4, metavar="N", help="pictures per prompt")
    flag("--guidance_scale", type=number(float, 0.0, 1000.0), default=7.5, metavar="X",
         help="classifier-free guidance of sample pictures")
    flag("--num_inference_steps", type=number(int, 1, 1000), default=50, metavar="N",
         help="denoising steps of sample pictures")
    flag("--overview", action="store_true",
         help="make overview.png (training pictures, before, after); always made for the demo")
    flag("--report_to", choices=("visualdl", "tensorboard", "none"), default="visualdl",
         help="where figures are logged")
    flag("--logging_dir", default="logs", metavar="DIR", help="folder of the logs, inside --output_dir")


def _saving(parser) -> None:
    flag = parser.add_argument_group("saving").add_argument
    flag("--output_dir", default="text-inversion-model", metavar="DIR", help="where everything is written")
    flag("--save_steps", type=positive_int, default=500, metavar="N", help="optimizer steps between saved embeddings")
    flag("--only_save_embeds", action="store_true", help="do not save the whole pipeline at the end")


def _machine(parser) -> None:
    flag = parser.add_argument_group("machine").add_argument
    flag("--device", type=device_name, metavar="NAME", help="cpu, gpu or gpu:N; unset: a GPU where there is one")
    flag("--num_threads", type=positive_int, metavar="N", help="CPU threads of this process; unset: cores / processes")
    flag("--gradient_checkpointing", action="store_true", help="recompute activations: less memory, slower steps")
    flag("--enable_xformers_memory_efficient_attention", action="store_true",
         help="memory-efficient attention; needs a GPU")


def _hub(parser) -> None:
    flag = parser.add_argument_group("hub").add_argument
    flag("--push_to_hub", action="store_true", help="upload the output folder to the Hugging Face hub at the end")
    flag("--hub_token", metavar="TOKEN",
         help="access token, for uploads and gated models; unset: the one you logged in with")
    flag("--hub_model_id", metavar="NAME", help="name of the repository; unset: the output folder's name")


# fmt: on


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and settle a command line.

    Returns:
        All settings; `args.explicit` names those given by the user, `args.demo` says whether the base model is the
        demo's.

    Raises:
        SettingsError: a flag is unknown, out of range, or does not go with another.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    args.explicit = parser.explicit(argv)
    args.demo = is_demo(args.pretrained_model_name_or_path)
    if args.demo:
        _take_demo_defaults(args)
    _check(args)
    return args


def _take_demo_defaults(args) -> None:
    args.demo_defaults = {k: v for k, v in demo_defaults().items() if hasattr(args, k) and k not in args.explicit}
    if {"validation_epochs", "validation_prompt"} & args.explicit:
        args.demo_defaults.pop("validation_steps", None)
    vars(args).update(args.demo_defaults)


def _check(args) -> None:
    _check_output_folder(args)
    if args.report_to == "tensorboard" and find_spec("tensorboardX") is None:
        raise SettingsError("--report_to tensorboard needs a package; install it with pip install tensorboardX")
    if args.max_grad_norm == 0 or math.isnan(args.max_grad_norm):
        raise SettingsError("--max_grad_norm 0 would stop all learning; give a positive norm, or -1 for no clipping")
    if args.hub_model_id and not args.push_to_hub:
        raise SettingsError("--hub_model_id has no effect without --push_to_hub; add it, or leave --hub_model_id out")
    for flag in ("validation_epochs", "validation_steps"):
        if flag in args.explicit and not args.validation_prompt:
            raise SettingsError(f"--{flag} has no effect without --validation_prompt; say what to draw")


def _check_output_folder(args) -> None:
    base, output = Path(args.pretrained_model_name_or_path).resolve(), Path(args.output_dir).resolve()
    for model in (base, DEMO_MODEL.resolve()):
        if model.is_dir() and (output == model or model in output.parents):
            raise SettingsError(
                f"--output_dir {args.output_dir} is inside the base model {model}, which stays as it is; choose another"
            )
    if (output / "model_index.json").exists() and not (output / "run.json").exists():
        raise SettingsError(f"--output_dir {args.output_dir} holds another model; choose a folder of its own")
    if output == Path(args.train_data_dir).resolve():
        raise SettingsError("--output_dir and --train_data_dir are the same folder; choose another for the results")


def settle_steps(args, num_images: int, world_size: int) -> None:
    """Fill in what depends on the pictures and the processes: `args.global_batch`, steps, the learning rate.

    An epoch is `num_images * repeats` samples; epochs become steps by counting samples, so none is lost to rounding
    per process. The steps decide unless only `--num_train_epochs` was given.

    Raises:
        SettingsError: the learning rate would still be warming up at the end.
    """
    args.global_batch = args.train_batch_size * args.gradient_accumulation_steps * world_size
    args.epoch_samples = num_images * args.repeats
    if "num_train_epochs" in args.explicit and "max_train_steps" not in args.explicit:
        args.max_train_steps = math.ceil(args.num_train_epochs * args.epoch_samples / args.global_batch)
    args.num_train_epochs = math.ceil(args.max_train_steps * args.global_batch / args.epoch_samples)
    args.peak_learning_rate = args.learning_rate * (args.global_batch if args.scale_lr else 1)
    if args.lr_scheduler == "polynomial" and args.peak_learning_rate <= POLYNOMIAL_END:
        raise SettingsError(f"--lr_scheduler polynomial ends at {POLYNOMIAL_END}; --learning_rate must be above that")
    if args.lr_scheduler != "constant" and args.lr_warmup_steps >= args.max_train_steps:
        raise SettingsError(
            f"--lr_warmup_steps {args.lr_warmup_steps} leaves nothing of the {args.max_train_steps} training steps; "
            "make the warm-up shorter"
        )
