"""What a user sees while a run goes on: figures, the loss on a fixed set, sample pictures, saved embeddings."""

from pathlib import Path

import paddle

from textual_inversion import loss, outputs, sheets
from textual_inversion.generate import ImageRequest, generate
from textual_inversion.progress import Progress
from textual_inversion.tracking import open_tracker

# Seeds of sample pictures: the same at every step, so that a picture changes only because the rows did.
_FIRST_SEED = 0
# Steps between two looks at the loss: reading a number back makes the processor wait for the device.
_LOG_EVERY = 10
# Pixels from which sample pictures are made one by one.
_LARGE_PICTURE = 256 * 256


class Watch:
    """Everything that happens around the training steps: one call per step.

    Args:
        args: settled settings.
        run: the command's `Run`: model, rows, samples, cache, folder, ranks, figures.
    """

    def __init__(self, args, run):
        self._args, self._run = args, run
        main = run.ranks.is_main
        self._tracker = open_tracker(args.report_to if main else "none", run.folder / args.logging_dir)
        self._progress = Progress(args.max_train_steps, enabled=main)
        self._fixed_set = self._pictures = None
        self._latest: dict[str, float] = {}
        if main and args.eval_steps:
            batch = run.samples.evaluation_batch(args.eval_samples)
            self._fixed_set = FixedSet(run.model, run.cache, batch, chunk=args.train_batch_size)
        if main and args.validation_prompt:
            self._pictures = SamplePictures(run.model, args, run.folder, self._tracker)

    def __enter__(self) -> "Watch":
        self._evaluate(0)
        self._run.ranks.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()
        self._tracker.close()

    def after_step(self, step: int, training_loss, learning_rate: float) -> None:
        """Log, evaluate, draw and save as far as each is due after optimizer step `step`, counted from 1.

        Args:
            training_loss: scalar tensor; it is read only when a figure is due, so that no step waits for it.
            learning_rate: of this step.
        """
        args, ranks = self._args, self._run.ranks
        is_last = step == args.max_train_steps
        evaluates = bool(args.eval_steps) and (step % args.eval_steps == 0 or is_last)
        draws = bool(args.validation_prompt) and pictures_due(args, step)
        if ranks.is_main:
            if step % _LOG_EVERY == 0 or step == 1 or is_last:
                self._log(step, float(training_loss), learning_rate)
            if evaluates:
                self._evaluate(step)
            self._progress.update(step, **self._latest)
            if step % args.save_steps == 0:
                facts = outputs.file_facts(args, self._run.model, step)
                outputs.save_embeddings(self._run.folder, self._run.concepts, self._run.rows(), facts, step=step)
            if draws:
                self._progress.write(f"step {step}: sample pictures in {self._pictures.draw(step)}")
        if evaluates or draws:
            ranks.wait()

    def _log(self, step: int, training_loss: float, learning_rate: float) -> None:
        self._latest = {"loss": training_loss, "lr": learning_rate}
        self._tracker.scalar("train/loss", training_loss, step)
        self._tracker.scalar("train/learning_rate", learning_rate, step)

    def _evaluate(self, step: int) -> None:
        """Measure, log and print the loss on the fixed set; step 0 is before any training."""
        if self._fixed_set is None:
            return
        value = self._fixed_set.loss()
        losses = self._run.figures.setdefault("fixed_set_loss", {})
        losses[str(step)] = value
        self._tracker.scalar("eval/fixed_set_loss", value, step)
        first = losses["0"]
        change = "" if step == 0 else f" ({100 * (value / first - 1):+.1f} %)"
        self._progress.write(f"step {step}: loss on the fixed set {value:.4f}{change}")


class FixedSet:
    """The loss on samples that never change.

    The training loss says mostly which timesteps were drawn; on fixed images, timesteps and noises what is left is
    whether the rows learn.

    Args:
        model: a `models.BaseModel`; cache: its `latents.LatentCache`.
        batch: the samples, a `sampler.Batch`, with one prompt for all.
        chunk: samples per pass through the U-Net.
    """

    def __init__(self, model, cache, batch, chunk: int):
        self._model, self._chunk, self._prompt = model, chunk, batch.prompts[0]
        self._alphas = model.noise_scheduler.alphas_cumprod
        self._latents = cache.sample(batch.images, batch.flips, batch.posterior_noise)  # (n, C, H, W)
        self._noise = paddle.to_tensor(batch.noise)
        self._timesteps = paddle.to_tensor(batch.timesteps)

    @paddle.no_grad()
    def loss(self) -> float:
        """Mean squared error of the prediction over the whole set."""
        conditioning = self._model.encode_prompts([self._prompt])
        total, count = 0.0, self._timesteps.shape[0]
        for first in range(0, count, self._chunk):
            part = slice(first, first + self._chunk)
            latents, noise, timesteps = self._latents[part], self._noise[part], self._timesteps[part]
            size = timesteps.shape[0]
            noisy_latents = loss.add_noise(latents, noise, self._alphas, timesteps)
            hidden_states = conditioning.hidden_states.expand([size, -1, -1])
            prediction = self._model.unet(noisy_latents, timesteps, hidden_states, **conditioning.added).sample
            target = loss.training_target(self._model.prediction_type, latents, noise, self._alphas, timesteps)
            total += float(loss.diffusion_loss(prediction, target)) * size
        return total / count


def pictures_due(args, step: int) -> bool:
    """Whether sample pictures are wanted after optimizer step `step`, counted from 1: every so often and at the end."""
    if step == args.max_train_steps:
        return True
    if args.validation_steps:
        return step % args.validation_steps == 0
    samples = args.validation_epochs * args.epoch_samples
    return step * args.global_batch // samples > (step - 1) * args.global_batch // samples


class SamplePictures:
    """Pictures of the validation prompts, drawn with the modules in memory every so often.

    Args:
        folder: the run's output folder; pictures go to `samples/step-N.png` and, as a strip over time, to
            `samples/over-time.png`.
        tracker: a `tracking.Tracker` that logs them too.
    """

    def __init__(self, model, args, folder: Path, tracker):
        self._model, self._args, self._folder, self._tracker = model, args, folder, tracker
        self._over_time: list[tuple[int, list]] = []

    def draw(self, step: int) -> Path:
        """Draw, save and log the pictures of a step; returns the file."""
        args = self._args
        prompts = [p for p in args.validation_prompt for _ in range(args.num_validation_images)]
        seeds = [_FIRST_SEED + i for _ in args.validation_prompt for i in range(args.num_validation_images)]
        pictures = draw(self._model, args, prompts, seeds)
        path = self._folder / "samples" / f"step-{step}.png"
        path.parent.mkdir(exist_ok=True)
        sheet = sheets.contact_sheet(pictures, columns=args.num_validation_images, labels=prompts, title=f"step {step}")
        sheets.save_png(sheet, path, text={"step": str(step)})
        self._tracker.image("samples", sheet, step)
        self._over_time.append((step, pictures[:: args.num_validation_images]))
        strip = sheets.strip(self._over_time, prompts=args.validation_prompt)
        sheets.save_png(strip, path.with_name("over-time.png"))
        return path


def draw(model, args, prompts: list[str], seeds: list[int]) -> list:
    """One picture per prompt and seed, in the training pictures' size.

    The VAE stays in memory where sample pictures will want it again; else it leaves until the end.
    """
    requests = [
        ImageRequest(
            prompt=prompt,
            seed=seed,
            guidance_scale=args.guidance_scale,
            num_inference_steps=args.num_inference_steps,
        )
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    # A large picture's attention alone fills gigabytes; small ones are made quickest together.
    batch_size = 8 if args.height * args.width < _LARGE_PICTURE else 1
    pictures = generate(model, requests, height=args.height, width=args.width, batch_size=batch_size)
    if not args.validation_prompt:
        model.free_vae()
    return pictures
