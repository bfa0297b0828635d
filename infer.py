"""Make pictures with learned words: embedding files + prompts -> PNG files, a contact sheet, a manifest."""

import re
import secrets
import sys
import time
from itertools import product

from textual_inversion.cli import config_file
from textual_inversion.cli import generation_arguments as shared
from textual_inversion.cli.parser import OneLineParser, source_of
from textual_inversion.settings.bounds import at_once, number
from textual_inversion.system.environment import prepare_environment, select_device
from textual_inversion.system.errors import run_command
from textual_inversion.system.paths import from_root, is_demo


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(
        prog="infer.py",
        description="Make pictures with learned words. Without arguments: the concept that comes with the demo.",
    )
    config_file.add_flag(parser)
    flag = parser.add_argument_group("what").add_argument
    flag("--embeds", nargs="+", metavar="FILE", default=[from_root("demo/learned_embeds.pdparams")],
         help="embedding files of this and other programs, or hub names; a prompt may hold several words")  # fmt: skip
    flag("--prompt", nargs="+", metavar="PROMPT", help="unset: a handful that show the words off")
    flag("--negative_prompt", default="", metavar="PROMPT", help="what the pictures should not show")
    flag("--num_images", type=at_once, metavar="N", help="pictures per prompt; unset: 4, for the demo its own")
    flag("--seed", type=number(int, 0, 2**64 - 1), metavar="N",
         help="of each prompt's first picture, the next ones count on; unset: one is drawn and shown")  # fmt: skip
    flag("--height", type=shared.pixels, metavar="PIXELS", help="a multiple of 8; unset: the model's own")
    flag("--width", type=shared.pixels, metavar="PIXELS", help="a multiple of 8; unset: the model's own")
    flag("--safety_checker", action="store_true", help="black out what the base model's safety checker objects to")
    shared.add_base_model_flag(parser)
    shared.add_sampling_flags(parser, batch_size=4, several=True)
    flag = parser.add_argument_group("output").add_argument
    flag("--output_dir", default="outputs", metavar="DIR", help="earlier pictures in it stay; numbers count on")
    flag("--num_cols", type=at_once, metavar="N", help="columns of the contact sheet; unset: a row per prompt")
    shared.add_machine_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    from textual_inversion.embeddings.files import base_model_of, read_concept_files

    files = read_concept_files(args.embeds)
    base_model = base_model_of(files, args.pretrained_model_name_or_path)
    shared.settle_source(args, files)
    shared.settle(args, is_demo=is_demo(base_model), num_images=4)
    args.prompt = args.prompt or _showcase(files)
    args.seed = secrets.randbelow(2**32) if args.seed is None else args.seed
    gallery = _open_gallery(args, files, base_model)  # what cannot be written is better told before the wait

    prepare_environment(args.num_threads, allow_tf32=args.allow_tf32)
    from textual_inversion.models.attach import attach_files
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.precision import check_device, lower

    args.device = select_device(args.device)
    check_device(args.mixed_precision, args.device)
    model = load_base_model(base_model, tokenizer_name=args.tokenizer_name, **source_of(args))
    attach_files(model, files)
    lower(model, args.mixed_precision)
    words = [word for file in files for word in file.placeholder_tokens]
    for note in notes(model, words, args.prompt, args.negative_prompt):
        print(f"note: {note}", file=sys.stderr)
    _make_pictures(args, model, gallery)


def _showcase(files) -> list[str]:
    from textual_inversion.data.templates import plain_template
    from textual_inversion.generation.eval_prompts import showcase
    from textual_inversion.settings.choices import PROPERTIES

    words = {word: file.learnable_property(word) for file in files for word in file.placeholder_tokens}
    language = files[0].language
    return showcase(words, {kind: plain_template(kind, language) for kind in PROPERTIES}, language)


def _open_gallery(args, files, base_model: str):
    from textual_inversion.generation.gallery import Gallery
    from textual_inversion.system.paths import portable
    from textual_inversion.system.provenance import git_revision, versions
    from textual_inversion.training.outputs import make_output_folder

    embeds = [
        {"file": portable(str(file.path)), "words": file.placeholder_tokens, "sha256": file.sha256} for file in files
    ]
    settings = {
        "base_model": portable(base_model),
        "embeds": embeds,
        "versions": versions(),
        "git_revision": git_revision(),
    }
    return Gallery(make_output_folder(args.output_dir), settings)


def notes(model, words: list[str], prompts: list[str], negative_prompt: str) -> list[str]:
    """What the user should know before the pictures are made: words that are not there, text that is not read."""
    from textual_inversion.models.prompt_encoder import cut_notes

    encode_ids = model.text_encoders[0].encode_ids
    listed, found = ", ".join(words), []
    for prompt in dict.fromkeys(prompts):
        unknown = [word for word in re.findall(r"<[^<>\s]+>", prompt) if word not in encode_ids.placeholders]
        bare = [word for word in words if word.strip("<>") in prompt.split() and word not in prompt]
        if unknown:
            found.append(f"no file holds {', '.join(unknown)}, which {prompt!r} names; learned words: {listed}")
        elif bare:
            found.append(f"{prompt!r} lacks the brackets of {', '.join(bare)}")
        elif not encode_ids.holds_placeholder(prompt):
            found.append(f"{prompt!r} holds no learned word; there are: {listed}")
    return found + cut_notes(encode_ids, [*prompts, negative_prompt])


def _requests(args) -> list:
    """The pictures to make: for each prompt, each guidance and each number of steps, `num_images` seeds."""
    from textual_inversion.generation.generate import ImageRequest

    scales, steps = shared.scanned(args.guidance_scale), shared.scanned(args.num_inference_steps)
    return [
        ImageRequest(prompt, (args.seed + i) % 2**64, args.negative_prompt, scale, count)
        for prompt, scale, count in product(args.prompt, scales, steps)
        for i in range(args.num_images)
    ]


def _make_pictures(args, model, gallery) -> None:
    """Generate, save each picture as soon as it is there, and write sheet and manifest even when interrupted."""
    from textual_inversion.generation.generate import generate_each, total_steps
    from textual_inversion.system.progress import Progress, duration

    requests = _requests(args)
    begun, made = time.monotonic(), {}
    pipeline = model.pipeline(args.scheduler, with_safety_checker=args.safety_checker)
    if args.safety_checker and getattr(pipeline, "safety_checker", None) is None:
        print("note: this base model comes without a safety checker; nothing is checked", file=sys.stderr)
    size = dict(height=args.height, width=args.width)
    try:
        with Progress(total_steps(requests), description="denoising step") as progress:
            for position, image in generate_each(
                model, requests, batch_size=args.batch_size, progress=progress, pipeline=pipeline, **size
            ):
                gallery.save(position, image, _facts(requests[position], model, pipeline, image))
                made[position] = image
    finally:
        images = [made[position] for position in sorted(made)]
        if images:  # else nothing is there to list, and the last run's sheet stays
            gallery.finish(images, args.num_cols or _columns(args.num_images, len(requests)))
    print(
        f"{len(images)} pictures in {duration(time.monotonic() - begun)} min, seeds from {args.seed}: "
        f"{gallery.folder / 'contact_sheet.png'}"
    )


def _columns(num_images: int, num_requests: int) -> int:
    """A row for each prompt and setting; where each has one picture only, a rectangle."""
    return num_images if num_images > 1 else max(1, round(num_requests**0.5 + 0.5))


def _facts(request, model, pipeline, image) -> dict:
    """What one picture was made with."""
    from textual_inversion.system.paths import portable

    facts = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "guidance_scale": request.guidance_scale,
        "num_inference_steps": request.num_inference_steps,
        "scheduler": type(pipeline.scheduler).__name__,
        "base_model": portable(model.name),
    }
    if "safety_checker" in image.info:
        facts["safety_checker"] = image.info["safety_checker"]
    return facts


if __name__ == "__main__":
    run_command(main)
