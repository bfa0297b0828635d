"""The command line of `train_textual_inversion.py`: its flags, their defaults, and what each concept is given.

A flag keeps the default of the ppdiffusers documentation, or of PaddleMIX's example where that is silent. Both make
sense for real models only, so when the base model is the demo's, `demo/defaults.yaml` takes the place of every default
that it names. A flag on the command line always wins, and one in a
configuration file over all but the command line.
"""

import argparse
import math

from textual_inversion.cli import config_file
from textual_inversion.cli.argument_checks import check_together
from textual_inversion.cli.machine_arguments import add_machine, settle_machine
from textual_inversion.cli.objective_arguments import (
    add_images,
    add_objective,
    add_optimizer,
    check_global_batch,
    settle_objective,
)
from textual_inversion.cli.parser import OneLineParser, add_source_flags, demo_defaults
from textual_inversion.generation.prompt_file import sample_prompts
from textual_inversion.models.prompt_encoder import Concept
from textual_inversion.settings.bounds import (
    at_once,
    natural,
    not_negative,
    number,
    positive,
    positive_int,
    seed_number,
    vector_count,
)
from textual_inversion.settings.choices import (
    GENERIC_WORDS,
    HALF_OF_THE_RUN,
    LANGUAGES,
    PER_CONCEPT,
    POLYNOMIAL_END,
    PROPERTIES,
    SCHEDULES,
)
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import from_root, is_demo


def build_parser() -> OneLineParser:
    """The parser, with the defaults for real models."""
    parser = OneLineParser(
        prog="train_textual_inversion.py",
        description="Teach a frozen Stable Diffusion model a new word from pictures. Without arguments: the demo.",
    )
    config_file.add_flag(parser)
    for add_group in (
        _base_model,
        _concept,
        add_images,
        _training,
        add_objective,
        add_optimizer,
        _regularizers,
        _watching,
        _saving,
        add_machine,
        _hub,
    ):
        add_group(parser)
    return parser


# Two lines a flag.
# fmt: off


def _base_model(parser) -> None:
    flag = parser.add_argument_group("base model").add_argument
    flag("--pretrained_model_name_or_path", default=from_root("demo/model"), metavar="MODEL",
         help="a folder or hub name, in the ppdiffusers or the diffusers layout")
    flag("--tokenizer_name", metavar="MODEL", help="a tokenizer other than the base model's")
    add_source_flags(flag)
    flag("--language", choices=LANGUAGES, default="en", help="language of the training prompts")


def _concept(parser) -> None:
    flag = parser.add_argument_group("concepts").add_argument
    flag("--train_data_dir", nargs="+", default=[from_root("cat_toy_images")], metavar="DIR",
         help="folder of training pictures")
    flag("--placeholder_token", nargs="+", default=["<cat-toy>"], metavar="WORD", help="the new word, one per concept")
    flag("--initializer_token", nargs="+", metavar="WORD",
         help="a known word or phrase that the new one starts from; auto: the word nearest to its pictures; "
              "unset: random numbers, for the demo toy or style")
    flag("--initializer_embeds", nargs="+", metavar="FILE", help="embedding files whose rows the new words start from")
    flag("--learnable_property", nargs="+", choices=PROPERTIES, default=["object"],
         help="what of the pictures is learned")
    flag("--num_vectors", nargs="+", type=vector_count, default=[1], metavar="N",
         help="embedding rows of the new word; auto: one per token of the initializer")
    flag("--repeats", type=positive_int, default=100, metavar="N", help="times each picture is seen in an epoch")
    flag = parser.add_argument_group("sentences").add_argument
    flag("--template_file", nargs="+", metavar="FILE",
         help="training sentences of your own, one a line, {} where the word goes")
    flag("--no_captions", action="store_true", help="ignore .txt captions beside the pictures")
    flag("--append_file_name_to_text", action="store_true", help="put the words of the file name after the sentence")
    flag("--file_name_split_char", default="_", metavar="C", help="what stands between words in file names")
    flag("--vector_shuffle", action="store_true", help="put a word's vectors in random order in every sample")
    flag("--token_dropout", type=number(float, 0.0, 0.99), default=0.0, metavar="P",
         help="probability that a vector is left out of a sample; one always stays")
    flag("--progressive_vectors", type=natural, nargs="?", const=HALF_OF_THE_RUN, default=0, metavar="STEPS",
         help="bring a word's vectors in one by one over so many steps; without a number half of the run")


def _training(parser) -> None:
    flag = parser.add_argument_group("training").add_argument
    flag("--max_train_steps", type=positive_int, default=5000, metavar="N", help="optimizer steps")
    flag("--num_train_epochs", type=positive_int, default=100, metavar="N",
         help="epochs; decides the steps when --max_train_steps is not given")
    flag("--train_batch_size", type=at_once, default=16, metavar="N", help="samples per process and micro-batch")
    flag("--gradient_accumulation_steps", type=at_once, default=1, metavar="N",
         help="micro-batches per optimizer step")
    flag("--learning_rate", type=positive, default=1e-4, metavar="RATE", help="peak learning rate")
    flag("--scale_lr", action="store_true", help="multiply the learning rate by batch size x accumulation x processes")
    flag("--lr_scheduler", choices=SCHEDULES, default="constant", help="learning-rate schedule over optimizer steps")
    flag("--lr_warmup_steps", type=natural, default=500, metavar="N",
         help="optimizer steps of linear warm-up (all schedules but constant)")
    flag("--lr_num_cycles", type=positive_int, default=1, metavar="N", help="restarts of cosine_with_restarts")
    flag("--lr_power", type=positive, default=1.0, metavar="X", help="exponent of polynomial")
    flag("--max_skipped_steps", type=positive_int, default=20, metavar="N",
         help="steps in a row without a finite loss and gradient, each of them skipped, after which the run stops")
    flag("--seed", type=seed_number, metavar="N", help="decides every sample; unset: one is drawn and recorded")


def _regularizers(parser) -> None:
    flag = parser.add_argument_group("regularizers").add_argument
    flag("--norm_reg_weight", type=not_negative, default=0.0, metavar="X",
         help="weight of the rows' distance in norm from the mean norm of the table's rows")
    flag("--initial_reg_weight", type=not_negative, default=0.0, metavar="X",
         help="weight of the rows' squared distance from their initial values")
    flag("--hidden_reg_weight", type=not_negative, default=0.0, metavar="X",
         help="weight of the text encoder's distance from its output for the initializer")


def _watching(parser) -> None:
    flag = parser.add_argument_group("watching").add_argument
    flag("--eval_steps", type=natural, default=100, metavar="N",
         help="optimizer steps between losses on a fixed set; 0: never")
    flag("--eval_samples", type=at_once, default=16, metavar="N", help="samples in the fixed set")
    flag("--validation_prompt", nargs="+", metavar="PROMPT", help="prompts that sample pictures are made from")
    flag("--validation_prompts_file", metavar="FILE",
         help="a text file of further prompts, one a line, each with options: --seed --guidance --steps --negative")
    flag("--validation_epochs", type=positive_int, default=50, metavar="N", help="epochs between sample pictures")
    flag("--validation_steps", type=positive_int, metavar="N",
         help="optimizer steps between sample pictures; replaces --validation_epochs")
    flag("--num_validation_images", type=at_once, default=4, metavar="N", help="pictures per prompt")
    flag("--keep_best", action="store_true",
         help="keep the best step so far, by CLIP similarity of the sample pictures, else by the loss on the fixed set")
    flag("--clip_model", metavar="MODEL",
         help="folder or hub name of the CLIP model for --keep_best and --initializer_token auto; "
              "unset: the base model's own clip/ folder")
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
    flag("--checkpointing_steps", type=positive_int, metavar="N",
         help="optimizer steps between checkpoints, from which a run can go on; unset: as --save_steps")
    flag("--checkpoints_total_limit", type=positive_int, metavar="N", help="newest checkpoints to keep; unset: all")
    flag("--resume_from_checkpoint", metavar="DIR",
         help="go on from a checkpoint; latest: the newest in --output_dir, or from the beginning where there is none")
    flag("--allow_changed_settings", action="store_true",
         help="go on from the checkpoint although settings have changed that decide the run")
    flag("--only_save_embeds", action="store_true", help="do not save the whole pipeline at the end")


def _hub(parser) -> None:
    flag = parser.add_argument_group("hub").add_argument
    flag("--push_to_hub", action="store_true", help="upload words, records and pictures to the Hugging Face hub")
    flag("--hub_whole_pipeline", action="store_true", help="upload the saved pipeline too, which is gigabytes")
    flag("--hub_token", metavar="TOKEN",
         help="access token, for uploads and gated models; unset: the one you logged in with")
    flag("--hub_model_id", metavar="NAME", help="name of the repository; unset: the output folder's name")


# fmt: on


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and settle a command line.

    Returns:
        All settings; `args.explicit` names those given by the user, on the command line or in a configuration file,
        `args.demo` says whether the base model is the demo's, `args.concepts` lists the concepts, and what is said per
        concept is a list of their length.

    Raises:
        SettingsError: a flag is unknown, out of range, or does not go with another.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    args.explicit = parser.explicit(argv)
    if args.config and "output_dir" not in args.explicit:
        args.output_dir = config_file.free_folder(args.config) or args.output_dir
    args.sample_prompts = sample_prompts(args.validation_prompt, args.validation_prompts_file)
    args.demo = is_demo(args.pretrained_model_name_or_path)
    if args.demo:
        _take_demo_defaults(args)
    _settle_concepts(args)
    settle_objective(args)
    settle_machine(args)
    args.checkpointing_steps = args.checkpointing_steps or args.save_steps
    check_together(args)
    return args


def _settle_concepts(args) -> None:
    """Give every concept a value of each flag that is said per concept, and make `args.concepts`."""
    words = args.placeholder_token
    repeated = next((word for word in words if words.count(word) > 1), None)
    if repeated is not None:
        raise SettingsError(f"--placeholder_token names {repeated} twice; give every concept a word of its own")
    if len(words) > 1 and "train_data_dir" not in args.explicit:
        raise SettingsError(
            f"{len(words)} concepts need pictures of their own; give --train_data_dir a folder for each"
        )
    for name in PER_CONCEPT:
        values = getattr(args, name)
        if values is not None and len(values) not in (1, len(words)):
            hint = " (put a phrase into quotes)" if name == "initializer_token" else ""
            raise SettingsError(
                f"--{name} has {len(values)} values and --placeholder_token {len(words)}; give one for all, or one per "
                f"concept in the same order{hint}"
            )
        if values is not None and len(values) == 1:
            setattr(args, name, values * len(words))
    if args.initializer_token is None and args.demo and not args.initializer_embeds:
        args.initializer_token = [GENERIC_WORDS[kind] for kind in args.learnable_property]
    counts = [None if count == "auto" else count for count in args.num_vectors]
    initializers = args.initializer_token or [None] * len(words)
    args.concepts = [
        Concept(*settings)
        for settings in zip(words, counts, initializers, args.learnable_property, args.train_data_dir, strict=True)
    ]


def _take_demo_defaults(args) -> None:
    args.demo_defaults = {k: v for k, v in demo_defaults().items() if hasattr(args, k) and k not in args.explicit}
    if {"validation_epochs", "validation_prompt", "validation_prompts_file"} & args.explicit:
        args.demo_defaults.pop("validation_steps", None)
    vars(args).update(args.demo_defaults)


def settle_steps(args, num_images: int, world_size: int) -> None:
    """Fill in what depends on the pictures and the processes: `args.global_batch`, steps, the learning rate.

    An epoch is `num_images * repeats` samples; epochs become steps by counting samples, so none is lost to rounding
    per process. The steps decide unless only `--num_train_epochs` was given.

    Raises:
        SettingsError: the learning rate would still be warming up at the end, more last steps are averaged than there
            are, or a flag about the global batch has no effect.
    """
    args.global_batch = args.train_batch_size * args.gradient_accumulation_steps * world_size
    check_global_batch(args)
    args.epoch_samples = num_images * args.repeats
    if "num_train_epochs" in args.explicit and "max_train_steps" not in args.explicit:
        args.max_train_steps = math.ceil(args.num_train_epochs * args.epoch_samples / args.global_batch)
    if args.average_last_steps > args.max_train_steps:
        raise SettingsError(
            f"--average_last_steps {args.average_last_steps} is more than the {args.max_train_steps} training steps"
        )
    if args.progressive_vectors == HALF_OF_THE_RUN:
        args.progressive_vectors = args.max_train_steps // 2
    args.num_train_epochs = math.ceil(args.max_train_steps * args.global_batch / args.epoch_samples)
    args.peak_learning_rate = args.learning_rate * (args.global_batch if args.scale_lr else 1)
    if args.lr_scheduler == "polynomial" and args.peak_learning_rate <= POLYNOMIAL_END:
        raise SettingsError(f"--lr_scheduler polynomial ends at {POLYNOMIAL_END}; --learning_rate must be above that")
    if args.lr_scheduler != "constant" and args.lr_warmup_steps >= args.max_train_steps:
        raise SettingsError(
            f"--lr_warmup_steps {args.lr_warmup_steps} leaves nothing of the {args.max_train_steps} training steps; "
            "make the warm-up shorter"
        )
