"""Teach a frozen Stable Diffusion model a concept from a few images: Textual Inversion, arXiv 2208.01618.

    python -u train_textual_inversion.py                                  the demo, in minutes on a laptop
    python -u train_textual_inversion.py --pretrained_model_name_or_path MODEL --train_data_dir DIR …
    python -u -m paddle.distributed.launch --gpus 0,1,2,3 train_textual_inversion.py …

The concept has N embedding vectors of width D beside the text encoder's embedding table. They are the only trainable
parameters: everything else is frozen. `make_denoising_loss` and `train` below are the whole method; `set_up` makes what
it needs and `finish` writes the results.

Imports of the library stand inside the functions, so that `--help` answers at once and threads are set before paddle
is imported.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from textual_inversion.cli.train import build_parser, parse
from textual_inversion.distributed.peers import Peers
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system import home
from textual_inversion.system.addresses import for_uploading_child
from textual_inversion.system.environment import prepare_environment
from textual_inversion.system.errors import run_command
from textual_inversion.system.signals import Signals
from textual_inversion.system.timing import Phases

if TYPE_CHECKING:
    from textual_inversion.data.read_images import ReadImages
    from textual_inversion.training.state import Record, Run, RunContext

__all__ = ["build_parser", "main", "make_denoising_loss", "run", "train"]


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; `argv` without the program's name. Returns its exit status; None is 0."""
    config = parse(argv)
    if config.saving.max_restarts:
        return keep_running(config, sys.argv[1:] if argv is None else argv)
    run(config).context.ranks.leave()
    return None


def run(config: TrainConfig) -> "Run":
    """Train as the settings say, and write the results."""
    with Signals() as stop, Peers() as peers, ExitStack() as held:
        config, made = set_up(config, stop, peers, held)
        if config.saving.plan:
            foresee(config, made)
        else:
            train(config, made)
            finish(config, made)
    return made


def keep_running(config: TrainConfig, argv: list[str]) -> int:
    """Run the command as a child, and start it again when it dies; returns the exit status."""
    from textual_inversion.training.supervisor import Supervisor, command_of

    output = Path(config.saving.output_dir)
    return Supervisor(command_of(__file__, argv, for_uploading_child(output)), output, config.saving.max_restarts).run()


# ------------------------------------------------------------------------------------------------------- set-up


def set_up(config: TrainConfig, stop: Signals, peers: Peers, held: ExitStack) -> tuple[TrainConfig, "Run"]:
    """Load the base model, give it the concepts, and encode the training images.

    Args:
        held: takes what is to be given back at the end of the run.

    Returns:
        The settings, with everything filled in that was drawn or counted, and the run.
    """
    phases = Phases()
    with phases("starting"):
        context = start(config, stop, peers, held, phases)

        from textual_inversion.training import assembly, fingerprint, finish, resume
        from textual_inversion.training.state import Run
        from textual_inversion.training.step_plan import plan_steps

        record = resume.find(config.saving, context)
        if not config.saving.plan:
            resume.keep_list(record, context, held)
    with phases("images"):
        config = assembly.with_images(config, context)
        read, held_out = assembly.read_all(config, context)
    config, plan = plan_steps(config, read.epoch_samples, context.ranks.world_size)
    config = assembly.with_seed(config, record, context)
    allow = {"allow_changes": config.saving.allow_changed_settings}
    resume.compare(
        record, fingerprint.of_settings(config, plan) | fingerprint.of_data(read, held_out), context, **allow
    )
    resume.check_length(record, plan.steps)
    with phases("base model"):
        config, model, vectors, learned = taught_model(config, context, read, record)
        size = (config.images.height, config.images.width)
        own = fingerprint.of_model(model, learned, size, read.distinct_prompts)
        resume.compare(record, own, context, **allow)
        record.fingerprint["--seed"] = config.training.seed
    with phases("images"):
        assembly.check_images(config, context, record, model, read)
        data, validation = assembly.encode_all(config, context, model, read, held_out)
        samples = assembly.plan_samples(config, model, vectors, data, plan.global_batch)
    run = Run(context, record, model, vectors, data, samples, plan, validation)
    if not config.saving.plan:
        finish.begin(config, run)
    return config, run


def taught_model(config: TrainConfig, context: "RunContext", read: "ReadImages", record: "Record") -> tuple:
    """(settings, base model, new vectors, learned embeddings that they begin with): the model with its concepts."""
    from textual_inversion.training import assembly

    config, model = assembly.load_model(config, context)
    config, vectors, learned = assembly.teach(config, context, model, read, record)
    assembly.spare(config, context, model)
    numbers = sum(int(parameter.size) for parameter in vectors.parameters)
    context.say(f"{numbers} trainable parameters, seed {config.training.seed}")
    return config, model, vectors, learned


def start(config: TrainConfig, stop: Signals, peers: Peers, held: ExitStack, phases: Phases) -> "RunContext":
    """Import paddle, meet the other processes, lock the output folder, and say how the run begins."""
    machine, saving = config.machine, config.saving
    if machine.compile:
        held.enter_context(home.taking(*home.OF_COMPILER))
    with stop.held_back():
        environment = prepare_environment(machine.num_threads, allow_tf32=machine.allow_tf32)

    from textual_inversion.distributed import consistency, ranks
    from textual_inversion.models import precision
    from textual_inversion.sharing import upload
    from textual_inversion.system.environment import select_device
    from textual_inversion.system.output_folder import make_output_folder
    from textual_inversion.system.output_lock import locked
    from textual_inversion.training.state import RunContext

    peers.wait_for_all()
    with stop.held_back():
        joined = ranks.start(peers, consistency.of_program(consistency.settings_to_agree_on(config)))
    device = select_device(machine.device)
    precision.check_device(machine.mixed_precision, device)
    if joined.is_main and not saving.plan:
        held.enter_context(locked(make_output_folder(saving.output_dir)))
    elif not joined.is_main:
        stop.advice = None  # the main process prints it
    context = RunContext(joined, Path(saving.output_dir), stop, phases)
    context.say(f"device {device}, {environment}, {joined.world_size} process(es)")
    if config.hub.uploads_to is not None and joined.is_main and not saving.plan:
        upload.check_login(config.hub.hub_token, config.hub.uploads_to)
    if config.file.config and "output_dir" not in config.given:
        context.say(f"settings of {config.file.config}; this run is written to {context.folder}")
    for note in config.notes:
        context.say(f"note: {note}")
    if config.demo and config.demo_defaults:
        settings = " ".join(f"--{name} {value}" for name, value in config.demo_defaults.items())
        context.say(f"the demo's own defaults: {settings}")
    return context


# ------------------------------------------------------------------------------------------------------ training


def make_denoising_loss(config: TrainConfig, run: "Run") -> Callable:
    """What training minimises: a function of a micro-batch of B samples that returns a scalar."""
    from textual_inversion.models.unet_forward import make_predictor
    from textual_inversion.system.device import to_device
    from textual_inversion.training import loss as objective
    from textual_inversion.training.contrast import make_contrast
    from textual_inversion.training.regularizers import make_regularizer

    model, data, settings = run.model, run.data, config.objective
    alphas_cumprod, kind = model.noise_scheduler.alphas_cumprod, model.prediction_type  # (T,)
    weighting = (settings.snr_gamma, settings.debiased_estimation_loss)
    huber = (settings.huber_schedule, settings.huber_c, settings.huber_scale)
    regularizer = make_regularizer(config.regularizers, model, run.vectors)
    contrast = make_contrast(model, data, run.vectors.tokens, config.regularizers.contrast_weight)
    predict = make_predictor(model, compiled=config.machine.compile)

    def denoising_loss(batch):
        latents = data.latents.sample(batch)  # (B, C, H, W)
        timesteps = to_device(batch.timesteps)  # (B,)
        noise, shift, perturbation = map(
            to_device, (batch.noise, batch.offset_noise, batch.perturbation)
        )  # (B, C, H, W), (B, C, 1, 1), (B, C, H, W)
        noise = objective.offset_noise(noise, shift, settings.noise_offset)
        input_noise = objective.perturbed_noise(noise, perturbation, settings.input_perturbation)
        noisy_latents = objective.add_noise(latents, input_noise, alphas_cumprod, timesteps)  # (B, C, H, W)

        # The only path by which the vectors act: prompt -> vectors -> text encoder -> U-Net.
        size = data.shapes[batch.bucket]  # (height, width), which SDXL is told
        prompts = model.encode_prompts(batch.prompts, batch.readings, size)  # hidden states (B, L, D)
        prediction = predict(noisy_latents, timesteps, prompts)  # the U-Net's, (B, C, H, W)

        target = objective.training_target(kind, latents, noise, alphas_cumprod, timesteps)  # (B, C, H, W)
        weights = objective.sample_weights(alphas_cumprod, timesteps, kind, *weighting)  # (B,), or None
        huber_c = objective.huber_thresholds(alphas_cumprod, timesteps, *huber)  # (B, 1, 1, 1), or one for all
        kind_of_loss = (settings.loss_type, huber_c)
        if contrast is not None:  # good images, which a word for what is not wanted leads to from the other side
            target, weights = contrast.mirrored(target, noisy_latents, batch), contrast.weights(batch, weights)
        loss = objective.diffusion_loss(prediction, target, *kind_of_loss, weights=weights, mask=data.mask(batch))
        return loss + regularizer.penalty(batch.prompts, batch.readings, prompts.hidden_states)

    return denoising_loss


def train(config: TrainConfig, run: "Run", make_callbacks: Callable | None = None) -> None:
    """Textual Inversion: minimise the denoising loss over the new vectors, with everything else frozen.

    Args:
        make_callbacks: what stands around the steps, in the place of `callbacks.make_callbacks`.
    """
    import paddle

    from textual_inversion.training import callbacks as usual
    from textual_inversion.training.averaging import VectorAverage
    from textual_inversion.training.gradient_sum import GradientSum
    from textual_inversion.training.loss_scale import LossScale
    from textual_inversion.training.moving_average import MovingAverage
    from textual_inversion.training.optimizer import make_optimizer, make_schedule
    from textual_inversion.training.resume import TrainingState
    from textual_inversion.training.step_guard import StepGuard

    context, parameters, samples, steps = run.context, run.vectors.parameters, run.samples, run.plan.steps
    ranks, accumulation = context.ranks, config.training.gradient_accumulation_steps
    schedule = make_schedule(config.training, steps, run.plan.peak_learning_rate, run.plan.rates)
    optimizer = make_optimizer(config.optimizer, schedule, parameters)
    denoising_loss = make_denoising_loss(config, run)
    loss_scale = LossScale(enabled=config.machine.mixed_precision == "fp16")
    guard = StepGuard(optimizer, parameters, config.training.max_skipped_steps, loss_scale)
    average = VectorAverage(parameters, config.optimizer.average_last_steps, steps)
    ema = MovingAverage(parameters, config.optimizer.ema_decay if config.optimizer.use_ema else None)
    gradients = GradientSum(parameters, ranks, accumulation)
    kept = {"loss_scale": loss_scale, "average": average, "ema": ema, "gradients": gradients}
    state = TrainingState(run.vectors, optimizer, kept)
    first_step = state.restore(run.record.resumed, schedule)
    if run.record.resumed is not None:
        context.say(f"resuming {run.record.resumed.folder}, after step {first_step}")
    with context.phases("training"):  # where sums are to be made exact, a look at how large gradients are
        first = samples.micro_batches(0, 0, ranks.world_size, accumulation)
        gradients.begin(lambda: loss_scale.scaled(denoising_loss(next(iter(first)))).backward())
    around = make_callbacks or usual.make_callbacks
    with context.phases("training"), around(config, run, state, guard, ema) as callbacks:
        for step in range(first_step, steps):
            if callbacks.has_settled:
                break
            loss_sum = paddle.zeros([])
            # This rank's share of the step's global batch, in micro-batches.
            for batch in samples.micro_batches(step, ranks.rank, ranks.world_size, accumulation):
                loss = denoising_loss(batch)
                loss_scale.scaled(loss).backward()
                gradients.collect()
                loss_sum = loss_sum + loss.detach() / accumulation

            gradients.add_up()  # to the same bits, whichever ranks the micro-batches are on
            guard.spoil(loss_sum)  # a loss that is not finite shows in the gradient, which all ranks will see
            gradients.exchange(context.stop)
            guard.step(run.vectors.parameters_of(samples.concepts_in(step)))  # or skips it
            average.after_step(step + 1)
            ema.after_step(step + 1)
            callbacks.after_step(step + 1, loss_sum, optimizer.get_lr())
            schedule.step()
        ema.put()
        callbacks.take_best()


# ---------------------------------------------------------------------------------------------------------- plan


def foresee(config: TrainConfig, run: "Run") -> None:
    """Take a few steps and draw a few images, on all ranks, and say what the run will take; nothing is written."""
    from textual_inversion.training.assembly import make_painter
    from textual_inversion.training.foresight import forecast_lines
    from textual_inversion.training.rehearsal import Rehearsal

    rehearsal = Rehearsal(config, run, make_painter(config, run), scores=config.demo)
    train(config, run, rehearsal.watch)
    for line in forecast_lines(rehearsal.forecast(), run.plan.steps):
        run.context.say(line)


# ------------------------------------------------------------------------------------------------------- results


def fresh_drawings(train_data_dir: str, size: int) -> list:
    """Other images of the concept that a folder shows, for the demo's own folders."""
    from demo.shipped import fresh_drawings as draw

    return draw(train_data_dir, size)


def finish(config: TrainConfig, run: "Run") -> None:
    """Write the final files, the saved pipeline and the overview, which all ranks draw, and say what was made.

    Raises:
        OutputError: something could not be written. All the rest is, and the vectors are, if need be elsewhere.
    """
    from textual_inversion.embeddings.file_names import FINAL_NAME
    from textual_inversion.sharing import upload
    from textual_inversion.training.artifacts import unsaved
    from textual_inversion.training.assembly import make_painter
    from textual_inversion.training.finish import write_results

    context, hub = run.context, config.hub
    failures = write_results(config, run, make_painter(config, run), fresh_drawings if config.demo else None)
    context.ranks.wait()
    if failures:
        raise unsaved(failures, context.folder / FINAL_NAME)
    # Last of all: an upload that fails ends the command, and nobody waits for it.
    if hub.uploads_to is not None and context.ranks.is_main:
        options = {"hub": hub.uploads_to, "whole_pipeline": hub.hub_whole_pipeline, "say": context.say}
        context.say(f"uploaded to {upload.upload(context.files, hub.hub_model_id, hub.hub_token, **options)}")


if __name__ == "__main__":
    run_command(main)
