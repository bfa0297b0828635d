"""Teach a frozen Stable Diffusion model a new word from a few pictures: Textual Inversion, arXiv 2208.01618.

    python -u train_textual_inversion.py                                  the demo, in minutes on a laptop
    python -u train_textual_inversion.py --pretrained_model_name_or_path MODEL --train_data_dir DIR …
    python -u -m paddle.distributed.launch --gpus 0,1,2,3 train_textual_inversion.py …

The new word has N rows of width D in the text encoder's embedding table, and they are the only parameters: everything
else is frozen. `make_denoising_loss` and `train` below are the whole method; `set_up` makes what it needs and `finish`
writes the results.

Imports of the library stand inside the functions, so that `--help` answers at once and threads are set before paddle
is imported.
"""

import importlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textual_inversion.cli.train_arguments import parse_arguments, settle_steps
from textual_inversion.distributed.peers import Peers
from textual_inversion.system.environment import prepare_environment
from textual_inversion.system.errors import run_command
from textual_inversion.system.progress import print_line
from textual_inversion.system.signals import Signals
from textual_inversion.system.timing import Phases


@dataclass
class Run:
    """What a run works with.

    Attributes:
        ranks: this process among its peers.
        folder: where everything is written.
        model: the frozen base model.
        concepts: the new words.
        learned: embeddings that the new words start from.
        start: text encoder name -> what the rows started from, float32 [N, D].
        embeddings: text encoder name -> ConceptEmbedding, whose `rows` are trained.
        images: what each training image shows, and with which sentences; in the order of the concepts.
        shapes: what (height, width) the training images are brought to, by bucket.
        pixels: the training images, float32 [3, H, W] in [-1, 1].
        cache: the VAE's posteriors of the training images.
        masks: which places of the training images count; None: all.
        samples: the stream of training samples.
        phases: seconds per phase.
        figures: what the run measured, for run.json and the last lines.
        stop: whether a signal has asked for the end.
        resumed: the checkpoint that the run goes on from, or None.
        settings: what decides the course of the run, for its checkpoints.
        history: from which steps the run went on, and what had changed.
        kept: what else checkpoints hold, by name: whatever has `state()` and `restore()`.
    """

    ranks: Any
    folder: Path
    model: Any = None
    concepts: list = field(default_factory=list)
    learned: list = field(default_factory=list)
    start: dict = field(default_factory=dict)
    embeddings: dict = field(default_factory=dict)
    images: list = field(default_factory=list)
    shapes: list = field(default_factory=list)
    pixels: list = field(default_factory=list)
    cache: Any = None
    masks: Any = None
    samples: Any = None
    phases: Phases = field(default_factory=Phases)
    figures: dict = field(default_factory=dict)
    stop: Signals = field(default_factory=Signals)
    resumed: Any = None
    settings: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    kept: dict = field(default_factory=dict)

    @property
    def parameters(self) -> list:
        """The rows of all text encoders: for each encoder, one parameter per concept."""
        return [part for embedding in self.embeddings.values() for part in embedding.parts]

    def parameters_of(self, concepts: set[int]) -> list:
        """The rows of some concepts, named by their places, in all text encoders."""
        return [embedding.parts[place] for embedding in self.embeddings.values() for place in sorted(concepts)]

    def rows(self) -> dict:
        """Text encoder name -> the rows as they are now, float32 [N, D]."""
        return {name: embedding.rows.numpy() for name, embedding in self.embeddings.items()}

    def mask(self, batch):
        """float32 [B, 1, H, W], the weight of every place of a batch's latents in the loss; None: all alike."""
        from textual_inversion.system.device import to_device

        return None if self.masks is None else to_device(self.masks.weights(batch))

    def say(self, line: str) -> None:
        """Print a line, on the main process only."""
        if self.ranks.is_main:
            print_line(line)


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    with Signals() as stop, Peers() as peers, ExitStack() as held:
        args = parse_arguments(argv)
        run = set_up(args, stop, peers, held)
        train(args, run)
        finish(args, run)
    run.ranks.leave()


# ------------------------------------------------------------------------------------------------------- set-up


def set_up(args, stop: Signals, peers: Peers, held: ExitStack) -> Run:
    """Load the base model, add the new word to it, and encode the training images.

    Args:
        held: takes what is to be given back at the end of the run.
    """
    phases = Phases()
    with phases("starting"):
        run = start(args, stop, peers, held, phases)

        from textual_inversion.data.dataset import encode_images, read_images
        from textual_inversion.training import results, resume

        resume.find(args, run)
    with phases("images"):
        pictures, masks = read_images(args, run)
    settle_steps(args, len(pictures), run.ranks.world_size)
    resume.compare_data(args, run, pictures, masks)
    with phases("base model"):
        load_model(args, run, pictures)
        resume.compare_model(args, run)
    with phases("images"):
        encode_images(args, run, pictures, masks)
        plan_samples(args, run)
    results.begin(args, run)
    return run


def start(args, stop: Signals, peers: Peers, held: ExitStack, phases: Phases) -> Run:
    """Import paddle, meet the other processes, take the output folder, and say how the run begins."""
    with stop.held_back():
        environment = prepare_environment(args.num_threads, allow_tf32=args.allow_tf32)

    from textual_inversion.distributed import consistency, ranks
    from textual_inversion.models import precision
    from textual_inversion.sharing import upload
    from textual_inversion.system.environment import select_device
    from textual_inversion.system.output_lock import locked
    from textual_inversion.training import outputs

    peers.wait_for_all()
    with stop.held_back():
        settings = {name: value for name, value in vars(args).items() if name not in consistency.MAY_DIFFER}
        ranks = ranks.start(peers, consistency.of_program(settings, args.resume_from_checkpoint is not None))
    device = select_device(args.device)
    precision.check_device(args.mixed_precision, device)
    folder = Path(args.output_dir)
    if ranks.is_main:
        held.enter_context(locked(outputs.make_output_folder(args.output_dir)))
    else:
        stop.advice = None  # one process tells
    run = Run(ranks, folder, phases=phases, stop=stop)
    run.say(f"device {device}, {environment}, {ranks.world_size} process(es)")
    if args.push_to_hub and ranks.is_main:
        upload.check_login(args.hub_token)
    if args.config and "output_dir" not in args.explicit:
        run.say(f"settings of {args.config}; this run is written to {folder}")
    if args.demo and args.demo_defaults:
        settings = " ".join(f"--{name} {value}" for name, value in args.demo_defaults.items())
        run.say(f"the demo's own defaults: {settings}")
    return run


def load_model(args, run: Run, pictures: list) -> None:
    """Load and freeze the base model, and add the new words to it."""
    from textual_inversion.cli.parser import source_of
    from textual_inversion.data import sampler
    from textual_inversion.generation.generate import image_size
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.hub import resolve
    from textual_inversion.models.memory import low_memory_line, save_memory, work_in_parts
    from textual_inversion.models.precision import lower
    from textual_inversion.system.paths import portable
    from textual_inversion.training.best_step import check_judge
    from textual_inversion.training.new_words import add_words, find_initializers

    if run.ranks.is_main:
        resolve(args.pretrained_model_name_or_path, **source_of(args))  # one process fetches, the others find it
    run.ranks.wait()
    with run.stop.held_back():
        importlib.import_module("ppdiffusers")
    model = load_base_model(args.pretrained_model_name_or_path, tokenizer_name=args.tokenizer_name, **source_of(args))
    args.height, args.width = image_size(model, args.height or args.resolution, args.width or args.resolution)
    args.seed = run.ranks.broadcast(sampler.draw_seed() if args.seed is None else args.seed)
    run.model = model
    find_initializers(args, run, pictures)
    add_words(args, run)
    check_judge(args, run)
    lower(model, args.mixed_precision)
    efficient = args.enable_xformers_memory_efficient_attention
    save_memory(model, gradient_checkpointing=args.gradient_checkpointing, efficient_attention=efficient)
    if args.low_memory:
        run.say(low_memory_line(args, work_in_parts(model, has_efficient_attention=efficient)))
    size = f"{args.width}x{args.height} pixels"
    in_type = "" if args.mixed_precision == "no" else f", U-Net and text encoders in {args.mixed_precision}"
    run.say(f"base model {portable(model.name)}: {model.prediction_type}, {size}, all of it frozen{in_type}")
    run.say(f"{sum(int(rows.size) for rows in run.parameters)} numbers to train, seed {args.seed}")


def plan_samples(args, run: Run) -> None:
    """Say what each training sample will be."""
    from textual_inversion.data.sampler import SampleStream
    from textual_inversion.data.vector_augmentation import make_plan
    from textual_inversion.training.loss import timestep_range

    alphas_cumprod = run.model.noise_scheduler.alphas_cumprod
    plan = make_plan(args, {concept.placeholder_token: concept.num_vectors for concept in run.concepts})
    # Where a caption names another new word too, that word is read and not learned from.
    held_still, words = run.model.text_encoders[0].encode_ids.held_still, [c.placeholder_token for c in run.concepts]
    prompts = [tuple(held_still(prompt, words[image.concept]) for prompt in image.prompts) for image in run.images]
    images = tuple(replace(image, prompts=own) for image, own in zip(run.images, prompts, strict=True))
    buckets = [image.bucket for image in run.images]
    run.samples = SampleStream(
        seed=args.seed,
        images=images,
        latent_shapes=tuple(run.cache.shape_of(buckets.index(bucket)) for bucket in range(len(run.shapes))),
        global_batch=args.global_batch,
        num_train_timesteps=len(alphas_cumprod),
        timestep_range=timestep_range(alphas_cumprod, run.model.prediction_type, args.min_timestep, args.max_timestep),
        flip_p=args.flip_p,
        vary=plan if plan.varies else None,
        stratified=args.timestep_sampling == "stratified",
        antithetic=args.antithetic_noise,
    )


# ------------------------------------------------------------------------------------------------------ training


def make_denoising_loss(args, run: Run) -> Callable:
    """What training minimises: a function of a micro-batch of B samples that returns a scalar."""
    from textual_inversion.models.unet_forward import make_predictor
    from textual_inversion.system.device import to_device
    from textual_inversion.training import loss as objective
    from textual_inversion.training.regularizers import make_regularizer

    model = run.model
    alphas_cumprod, kind = model.noise_scheduler.alphas_cumprod, model.prediction_type  # (T,)
    weighting, loss_kind = (args.snr_gamma, args.debiased_estimation_loss), (args.loss_type, args.huber_c)
    regularizer = make_regularizer(args, model, run.embeddings, run.concepts)
    predict = make_predictor(model, compiled=args.compile)

    def denoising_loss(batch):
        latents = run.cache.sample(batch)  # (B, C, H, W)
        timesteps = to_device(batch.timesteps)  # (B,)
        noise, shift, perturbation = map(
            to_device, (batch.noise, batch.offset_noise, batch.perturbation)
        )  # (B, C, H, W), (B, C, 1, 1), (B, C, H, W)
        noise = objective.offset_noise(noise, shift, args.noise_offset)
        input_noise = objective.perturbed_noise(noise, perturbation, args.input_perturbation)
        noisy_latents = objective.add_noise(latents, input_noise, alphas_cumprod, timesteps)  # (B, C, H, W)

        # The only path by which the rows act: prompt -> rows -> text encoder -> U-Net.
        size = run.shapes[batch.bucket]  # (height, width), of which SDXL is told
        prompts = model.encode_prompts(batch.prompts, batch.vectors, size)  # hidden states (B, L, D)
        prediction = predict(noisy_latents, timesteps, prompts)  # the U-Net's, (B, C, H, W)

        target = objective.training_target(kind, latents, noise, alphas_cumprod, timesteps)  # (B, C, H, W)
        weights = objective.sample_weights(alphas_cumprod, timesteps, kind, *weighting)  # (B,), or None
        loss = objective.diffusion_loss(prediction, target, *loss_kind, weights=weights, mask=run.mask(batch))
        return loss + regularizer.penalty(batch.prompts, batch.vectors, prompts.hidden_states)

    return denoising_loss


def train(args, run: Run) -> None:
    """Textual Inversion: minimise the denoising loss over the new rows, everything else held still."""
    import paddle

    from textual_inversion.training import resume
    from textual_inversion.training.averaging import VectorAverage
    from textual_inversion.training.callbacks import Watch
    from textual_inversion.training.gradient_sum import GradientSum
    from textual_inversion.training.loss_scale import LossScale
    from textual_inversion.training.optimizer import make_optimizer
    from textual_inversion.training.step_guard import StepGuard

    ranks, accumulation = run.ranks, args.gradient_accumulation_steps
    optimizer, schedule = make_optimizer(args, run.parameters)
    denoising_loss = make_denoising_loss(args, run)
    loss_scale = LossScale(enabled=args.mixed_precision == "fp16")
    guard = StepGuard(optimizer, run.parameters, args.max_skipped_steps, loss_scale)
    average = VectorAverage(run.parameters, args.average_last_steps, args.max_train_steps)
    gradients = GradientSum(run.parameters, ranks, accumulation)
    run.kept = {"loss_scale": loss_scale, "average": average, "gradients": gradients}
    first_step = resume.restore(run, optimizer, schedule)
    with run.phases("training"):  # where sums are to be made exact, a look at how large gradients are
        first = run.samples.micro_batches(0, 0, ranks.world_size, accumulation)
        gradients.begin(lambda: loss_scale.scaled(denoising_loss(next(iter(first)))).backward())
    with run.phases("training"), Watch(args, run, optimizer, guard) as watch:
        for step in range(first_step, args.max_train_steps):
            loss_sum = paddle.zeros([])
            # This rank's share of the step's global batch, in micro-batches.
            for batch in run.samples.micro_batches(step, ranks.rank, ranks.world_size, accumulation):
                loss = denoising_loss(batch)
                loss_scale.scaled(loss).backward()
                gradients.collect()
                loss_sum = loss_sum + loss.detach() / accumulation

            gradients.add_up()  # to the same bits, whichever ranks the micro-batches are on
            guard.spoil(loss_sum)  # a loss that is no number shows in the gradient, which all ranks will see
            gradients.exchange(run.stop)
            guard.step(run.parameters_of(run.samples.words_in(step)))  # or skips it
            average.after_step(step + 1)
            watch.after_step(step + 1, loss_sum, optimizer.get_lr())
            schedule.step()


# ------------------------------------------------------------------------------------------------------- results


def finish(args, run: Run) -> None:
    """Write the final files, the saved pipeline and the overview, which all ranks draw, and say what was made.

    Raises:
        OutputError: something could not be written. All the rest is, and the rows are, if need be elsewhere.
    """
    from textual_inversion.embeddings.file_names import FINAL_NAME
    from textual_inversion.sharing import upload
    from textual_inversion.training.results import write_results
    from textual_inversion.training.saving import unsaved

    failures = write_results(args, run)
    run.ranks.wait()
    if failures:
        raise unsaved(failures, run.folder / FINAL_NAME)
    # Last of all: an upload that fails ends the command, and nobody waits for it.
    if args.push_to_hub and run.ranks.is_main:
        whole = {"whole_pipeline": args.hub_whole_pipeline}
        run.say(f"uploaded to {upload.upload(run.folder, args.hub_model_id, args.hub_token, **whole)}")


if __name__ == "__main__":
    run_command(main)
