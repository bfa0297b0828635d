"""Teach a frozen Stable Diffusion model a new word from a few pictures: Textual Inversion, arXiv 2208.01618.

    python -u train_textual_inversion.py                                  the demo, in minutes on a laptop
    python -u train_textual_inversion.py --pretrained_model_name_or_path MODEL --train_data_dir DIR …
    python -u -m paddle.distributed.launch --gpus 0,1,2,3 train_textual_inversion.py …

The new word has N rows of width D in the text encoder's embedding table, and they are the only parameters: everything
else is frozen. `train` below is the whole method; `set_up` makes what it needs and `finish` writes the results.

Imports of the library stand inside the functions, so that `--help` answers at once and threads are set before paddle
is imported.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual_inversion.arguments import parse_arguments, settle_steps
from textual_inversion.errors import run_command
from textual_inversion.runtime import prepare_environment
from textual_inversion.timing import Phases


@dataclass
class Run:
    """What a run works with.

    Attributes:
        ranks: this process among its peers.
        folder: where everything is written.
        model: the frozen base model.
        concepts: the new words.
        embeddings: text encoder name -> ConceptEmbedding, whose `rows` are trained.
        pixels: the training images, float32 [3, H, W] in [-1, 1].
        cache: the VAE's posteriors of the training images.
        samples: the stream of training samples.
        phases: seconds per phase.
        figures: what the run measured, for run.json and the last lines.
    """

    ranks: Any
    folder: Path
    model: Any = None
    concepts: list = field(default_factory=list)
    embeddings: dict = field(default_factory=dict)
    pixels: list = field(default_factory=list)
    cache: Any = None
    samples: Any = None
    phases: Phases = field(default_factory=Phases)
    figures: dict = field(default_factory=dict)

    @property
    def parameters(self) -> list:
        """The rows of all text encoders."""
        return [embedding.rows for embedding in self.embeddings.values()]

    def rows(self) -> dict:
        """Text encoder name -> the rows as they are now, float32 [N, D]."""
        return {name: embedding.rows.numpy() for name, embedding in self.embeddings.items()}

    def say(self, line: str) -> None:
        """Print a line, on the main process only."""
        if self.ranks.is_main:
            print(line, flush=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    args = parse_arguments(argv)
    run = set_up(args)
    before = look_before(args, run)
    train(args, run)
    finish(args, run, before)


# ------------------------------------------------------------------------------------------------------- set-up


def set_up(args) -> Run:
    """Load the base model, add the new word to it, and encode the training images."""
    phases = Phases()
    with phases("starting"):
        environment = prepare_environment(args.num_threads)

        from textual_inversion import distributed, outputs, publishing
        from textual_inversion.runtime import select_device

        ranks = distributed.start()
        device = select_device(args.device)
        folder = outputs.make_output_folder(args.output_dir) if ranks.is_main else Path(args.output_dir)
        run = Run(ranks, folder, phases=phases)
        run.say(f"device {device}, {environment}, {ranks.world_size} process(es)")
        if args.push_to_hub and ranks.is_main:
            publishing.check_login(args.hub_token)
        if args.demo and args.demo_defaults:
            settings = " ".join(f"--{name} {value}" for name, value in args.demo_defaults.items())
            run.say(f"the demo's own defaults: {settings}")
    with phases("images"):
        pictures = read_images(args, run)
    settle_steps(args, len(pictures), ranks.world_size)
    with phases("base model"):
        load_model(args, run)
    with phases("images"):
        encode_images(args, run, pictures)
    return run


def read_images(args, run: Run) -> list:
    """Find and read the training pictures, before anything slow is loaded."""
    from concurrent.futures import ThreadPoolExecutor

    from textual_inversion import images
    from textual_inversion.outputs import portable

    paths = images.find_images(args.train_data_dir, note=run.say)
    with ThreadPoolExecutor(max_workers=max(1, args.dataloader_num_workers)) as pool:
        pictures = list(pool.map(lambda path: images.load_image(path, note=run.say), paths))
    run.say(f"{len(pictures)} training image(s) in {portable(args.train_data_dir)}")
    return pictures


def load_model(args, run: Run) -> None:
    """Load and freeze the base model, then attach the new word's rows to its text encoders."""
    from textual_inversion import concepts, sampler
    from textual_inversion.generate import image_size
    from textual_inversion.hub import resolve
    from textual_inversion.memory import save_memory
    from textual_inversion.models import load_base_model
    from textual_inversion.outputs import portable

    if run.ranks.is_main:
        resolve(args.pretrained_model_name_or_path, token=args.hub_token)  # one process fetches, the others find it
    run.ranks.wait()
    model = load_base_model(
        args.pretrained_model_name_or_path, tokenizer_name=args.tokenizer_name, token=args.hub_token
    )
    args.height, args.width = image_size(model, args.height or args.resolution, args.width or args.resolution)
    args.seed = run.ranks.broadcast(sampler.draw_seed() if args.seed is None else args.seed)
    concept = concepts.Concept(args.placeholder_token, args.num_vectors, args.initializer_token)
    rows = concepts.start_rows(model, [concept], sampler.initial_rows_generator(args.seed))
    run.model, run.concepts = model, [concept]
    run.embeddings = concepts.attach_concepts(model, {concept.placeholder_token: concept.num_vectors}, rows)
    save_memory(
        model,
        gradient_checkpointing=args.gradient_checkpointing,
        efficient_attention=args.enable_xformers_memory_efficient_attention,
    )
    size = f"{args.width}x{args.height} pixels"
    run.say(f"base model {portable(model.name)}: {model.prediction_type}, {size}, all of it frozen")
    run.say(
        f"{sum(int(rows.size) for rows in run.parameters)} numbers to train: {concept.placeholder_token} as "
        f"{concept.num_vectors} vector(s), starting from {concept.initializer_token!r}, seed {args.seed}"
    )
    for prompt in args.validation_prompt or ():
        if not model.towers[0].encode_ids.holds_placeholder(prompt):
            run.say(f"note: --validation_prompt {prompt!r} does not hold {concept.placeholder_token}")


def encode_images(args, run: Run, pictures: list) -> None:
    """Let the VAE see every training image once, and say what each training sample will be."""
    from textual_inversion import images
    from textual_inversion.latents import encode_posteriors
    from textual_inversion.prompts import templates
    from textual_inversion.sampler import SampleStream

    fit = {"center_crop": args.center_crop, "interpolation": args.interpolation}
    run.pixels = [images.to_array(images.fit(picture, args.height, args.width, **fit)) for picture in pictures]
    run.cache = encode_posteriors(run.model.vae, run.pixels, mirrored=args.flip_p > 0)
    if not args.validation_prompt:  # else sample pictures will want it again
        run.model.free_vae()
    run.samples = SampleStream(
        seed=args.seed,
        num_images=len(run.pixels),
        templates=templates(args.learnable_property, args.language),
        placeholder=args.placeholder_token,
        latent_shape=run.cache.shape,
        global_batch=args.global_batch,
        num_train_timesteps=run.model.noise_scheduler.config.num_train_timesteps,
        flip_p=args.flip_p,
    )


# ------------------------------------------------------------------------------------------------------ training


def train(args, run: Run) -> None:
    """Textual Inversion: minimise the denoising loss over the new rows, everything else held still."""
    import paddle

    from textual_inversion.loss import add_noise, diffusion_loss, offset_noise, training_target
    from textual_inversion.optimizer import make_optimizer
    from textual_inversion.watching import Watch

    model, ranks = run.model, run.ranks
    alphas_cumprod = model.noise_scheduler.alphas_cumprod  # (T,)
    optimizer, schedule = make_optimizer(args, run.parameters)
    with run.phases("training"), Watch(args, run) as watch:
        for step in range(args.max_train_steps):
            loss_sum = paddle.zeros([])
            # This rank's share of the step's global batch, in micro-batches of B samples.
            for batch in run.samples.micro_batches(
                step, ranks.rank, ranks.world_size, args.gradient_accumulation_steps
            ):
                latents = run.cache.sample(batch.images, batch.flips, batch.posterior_noise)  # (B, C, H, W)
                noise = offset_noise(
                    paddle.to_tensor(batch.noise), paddle.to_tensor(batch.offset_noise), args.noise_offset
                )  # (B, C, H, W)
                timesteps = paddle.to_tensor(batch.timesteps)  # (B,)
                noisy_latents = add_noise(latents, noise, alphas_cumprod, timesteps)  # (B, C, H, W)

                # The only path by which the rows act: prompt -> rows -> text encoder -> U-Net.
                prompts = model.encode_prompts(batch.prompts)  # hidden states (B, L, D)
                prediction = model.unet(noisy_latents, timesteps, prompts.hidden_states, **prompts.added).sample

                target = training_target(model.prediction_type, latents, noise, alphas_cumprod, timesteps)
                loss = diffusion_loss(prediction, target) / args.gradient_accumulation_steps
                loss.backward()
                loss_sum = loss_sum + loss.detach()

            ranks.mean_gradients(run.parameters)
            optimizer.step()
            optimizer.clear_grad()
            watch.after_step(step + 1, loss_sum, optimizer.get_lr())
            schedule.step()


# ---------------------------------------------------------------------------------------------- before and after


def look_before(args, run: Run) -> dict:
    """Draw and score the word before it is trained, to compare with."""
    from textual_inversion import before_after, outputs

    before = {}
    if not run.ranks.is_main:
        return before
    outputs.write_run_record(run.folder, args, run.model, run.figures)
    with run.phases("pictures and scores"):
        if args.overview or args.demo:
            before["pictures"] = before_after.draw_overview(run.model, args)
        if args.demo:
            from demo.shipped import fresh_drawings

            fresh = fresh_drawings(args.train_data_dir, args.width)
            before["score"] = before_after.DemoScore(run.model, args, run.pixels, fresh)
    return before


def finish(args, run: Run, before: dict) -> None:
    """Write the final files, the saved pipeline and the overview, and say what was made."""
    from textual_inversion import before_after, outputs, pipelines, publishing

    if run.ranks.is_main:
        with run.phases("saving"):
            facts = outputs.file_facts(args, run.model, args.max_train_steps)
            learned = outputs.save_final(run.folder, run.concepts, run.rows(), facts)
            if not args.only_save_embeds:
                pipelines.save_pipeline(run.model, learned, run.folder)
        with run.phases("pictures and scores"):
            if "pictures" in before:
                after = before_after.draw_overview(run.model, args)
                run.figures["overview"] = "overview.png"
                before_after.save_overview(run.folder / "overview.png", args, run.pixels, before["pictures"], after)
            if "score" in before:
                run.figures["score"] = before["score"].report()
        run.figures["seconds"] = {name: round(seconds, 1) for name, seconds in run.phases.seconds.items()}
        outputs.write_run_record(run.folder, args, run.model, run.figures)
        if args.push_to_hub:
            run.say(f"uploaded to {publishing.upload(run.folder, args.hub_model_id, args.hub_token)}")
        for line in outputs.closing_lines(args, run):
            run.say(line)
    run.ranks.wait()


if __name__ == "__main__":
    run_command(main)
