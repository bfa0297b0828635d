"""Measure how well a concept was learned: CLIP similarities with a baseline and a ceiling (arXiv 2208.01618)."""

from pathlib import Path

from textual_inversion.cli import config_file
from textual_inversion.cli import generation_arguments as shared
from textual_inversion.cli.parser import OneLineParser, source_of
from textual_inversion.settings.bounds import at_once, seed_number
from textual_inversion.settings.choices import LANGUAGES, PROPERTIES
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import SettingsError, run_command
from textual_inversion.system.paths import ROOT, from_root, is_demo


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(
        prog="score.py",
        description="Measure how well a concept was learned. Without arguments: the concept that comes with the demo.",
    )
    config_file.add_flag(parser)
    flag = parser.add_argument_group("concept").add_argument
    flag(
        "--embeds",
        metavar="FILE",
        default=from_root("demo/learned_embeds.pdparams"),
        help="an embedding file, or a hub name",
    )
    flag("--placeholder_token", metavar="WORD", help="which of the file's words; unset: the only one")
    flag("--train_data_dir", metavar="DIR", help="the pictures it was learned from; unset: as recorded beside the file")
    flag("--learnable_property", choices=PROPERTIES, help="unset: as recorded beside the file, else object")
    flag("--initializer_token", metavar="WORD", help="word of the baseline; unset: as recorded, else toy or style")
    flag("--language", choices=LANGUAGES, help="language of the prompts; unset: as recorded beside the file, else en")
    shared.add_base_model_flag(parser)
    flag = parser.add_argument_group("measuring").add_argument
    flag("--clip_model", metavar="MODEL", help="folder or hub name of a CLIP model; unset: the base model's own clip/")
    flag("--num_images", type=at_once, default=64, metavar="N",
         help="pictures of the plain sentence, and of all edit prompts together")  # fmt: skip
    flag("--images_per_edit_prompt", type=at_once, metavar="N",
         help="pictures of each edit prompt; 64 in the paper; unset: equal shares of --num_images")  # fmt: skip
    flag("--seed", type=seed_number, default=0, metavar="N", help="of the first picture of each prompt")
    shared.add_sampling_flags(parser, batch_size=8)
    parser.add_argument_group("output").add_argument("--output", metavar="FILE", help="write the figures here, as JSON")
    shared.add_machine_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    from textual_inversion.data.images import find_images, load_image
    from textual_inversion.embeddings.files import base_model_of, read_concept_files

    if args.output and not Path(args.output).resolve().parent.is_dir():
        raise SettingsError(f"--output {args.output}: there is no such folder; make it first")
    file = read_concept_files([args.embeds])[0]
    _settle_concept(args, file)
    base_model = base_model_of([file], args.pretrained_model_name_or_path)
    shared.settle_source(args, [file])
    shared.settle(args, is_demo=is_demo(base_model))
    pictures = [load_image(path) for path in find_images(args.train_data_dir)]

    prepare_environment(args.num_threads, allow_tf32=args.allow_tf32)
    from textual_inversion.evaluation.clip import ClipScorer, find_clip
    from textual_inversion.models.attach import attach_files
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.hub import resolve
    from textual_inversion.models.precision import check_device, lower

    args.device = select_device(args.device)
    check_device(args.mixed_precision, args.device)
    scorer = ClipScorer(find_clip(resolve(base_model, **source_of(args)), args.clip_model), name=args.clip_model)
    model = load_base_model(base_model, tokenizer_name=args.tokenizer_name, **source_of(args))
    attach_files(model, [file])
    lower(model, args.mixed_precision)
    _report(args, file, model, scorer, _measure(args, file, model, scorer, pictures))


def _settle_concept(args, file) -> None:
    """Fill in what is not on the command line from what was recorded beside the file."""
    if args.placeholder_token is None and len(file.placeholder_tokens) == 1:
        args.placeholder_token = file.placeholder_tokens[0]
    if args.placeholder_token not in file.placeholder_tokens:
        asked = args.placeholder_token or "no --placeholder_token"
        raise SettingsError(
            f"{file.path} holds the words {', '.join(file.placeholder_tokens)}; choose one of them, not {asked}"
        )
    word = args.placeholder_token
    args.learnable_property = args.learnable_property or file.learnable_property(word)
    args.language = args.language or file.language
    args.initializer_token = args.initializer_token or file.recorded("initializer_token", word)
    args.train_data_dir = args.train_data_dir or _recorded_pictures(file, word)


def _recorded_pictures(file, word: str) -> str:
    """The folder of training pictures that is recorded beside an embedding, if it is still there."""
    settings = file.run.get("settings") or {}
    recorded = settings.get("train_data_dir")
    if isinstance(recorded, list):
        recorded = dict(zip(file.recorded_tokens, recorded, strict=False)).get(word)
    shipped = file.path.resolve() == Path(from_root("demo/learned_embeds.pdparams")).resolve()
    candidates = [Path(recorded), ROOT / recorded] if recorded else []
    for folder in (*candidates, *([ROOT / "cat_toy_images"] if shipped else [])):
        if folder.is_dir():
            return str(folder)
    raise SettingsError(f"{file.path} does not say which pictures it was learned from; add --train_data_dir DIR")


def _measure(args, file, model, scorer, pictures) -> dict:
    from demo.shipped import fresh_drawings
    from textual_inversion.data.resizing import Framing
    from textual_inversion.evaluation.scoring import Protocol, score
    from textual_inversion.generation.generate import side_factor
    from textual_inversion.system.progress import Progress

    protocol = Protocol(
        learnable_property=args.learnable_property,
        language=args.language,
        num_images=args.num_images,
        images_per_edit_prompt=args.images_per_edit_prompt,
        seed=args.seed,
        guidance_scale=args.guidance_scale,
        num_inference_steps=args.num_inference_steps,
        scheduler=args.scheduler,
        batch_size=args.batch_size,
    )
    # As training saw them, so that a squashed picture is compared with a squashed one.
    recorded = file.run.get("settings") or {}
    height, width = (recorded.get(side) or model.resolution for side in ("height", "width"))
    mode = recorded.get("resize_mode") or ("center_crop" if recorded.get("center_crop") else "squash")
    framing = Framing(mode, height, width, recorded.get("interpolation", "bilinear"), side_factor(model))
    with Progress(protocol.steps(2), description="denoising step") as progress:
        return score(
            model,
            scorer,
            word=args.placeholder_token,
            initializer=args.initializer_token,
            training_images=framing.views(pictures),
            fresh_images=fresh_drawings(args.train_data_dir, model.resolution),
            protocol=protocol,
            progress=progress,
        )


def _report(args, file, model, scorer, result: dict) -> None:
    """Print the table and write the JSON file."""
    from textual_inversion.evaluation.scoring import table
    from textual_inversion.system import atomic
    from textual_inversion.system.paths import portable
    from textual_inversion.system.provenance import git_revision, versions

    print(table(result))
    if args.output is None:
        return
    facts = {
        "embeds": {"file": portable(str(file.path)), "sha256": file.sha256},
        "base_model": portable(model.name),
        "clip_model": portable(scorer.name),
        "settings": {
            key: portable(value) if isinstance(value, str) else value
            for key, value in sorted(vars(args).items())
            if key not in ("output", "hub_token")
        },
        "versions": versions(),
        "git_revision": git_revision(),
    }
    atomic.write_json(args.output, {**result, **facts})
    print(args.output)


if __name__ == "__main__":
    run_command(main)
