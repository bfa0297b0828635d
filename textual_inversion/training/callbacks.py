"""What a user sees while a run goes on: figures, the loss on a fixed set, sample pictures, saved embeddings."""

from contextlib import nullcontext

import paddle

from textual_inversion.embeddings.file_names import BEST_NAME
from textual_inversion.system.errors import Stopped
from textual_inversion.system.progress import Progress
from textual_inversion.training import best_step, checkpoints, loss, outputs, resume
from textual_inversion.training.best_step import BestStep
from textual_inversion.training.checkpoints import Checkpoint
from textual_inversion.training.divergence import give_up
from textual_inversion.training.movement import MovementCheck
from textual_inversion.training.sample_pictures import SamplePictures, pictures_due
from textual_inversion.training.saving import Saves
from textual_inversion.training.tracking import open_tracker

# Steps between two looks at the loss: reading a number back makes the processor wait for the device.
_LOG_EVERY = 10


class Watch:
    """Everything that happens around the training steps: one call per step.

    Args:
        args: settled settings.
        run: the command's `Run`: model, rows, samples, cache, folder, ranks, figures, stop.
        optimizer: whose state checkpoints hold.
        guard: the `step_guard.StepGuard` that takes the steps.
    """

    def __init__(self, args, run, optimizer, guard):
        self._args, self._run, self._optimizer, self._guard = args, run, optimizer, guard
        main, begun = run.ranks.is_main, run.resumed.step if run.resumed else None
        self._tracker = open_tracker(args.report_to if main else "none", run.folder / args.logging_dir, begun)
        self._progress = Progress(args.max_train_steps, start=begun or 0, enabled=main)
        self._saves = Saves(run.folder, self._progress.write)
        warm_up = 0 if args.lr_scheduler == "constant" else args.lr_warmup_steps
        self._skipped_earlier, self._told = run.figures.get("skipped_steps", 0), 0
        self._movement = MovementCheck(run, warm_up, self._progress.write)
        self._fixed_set = self._pictures = self._best = None
        self._latest: dict[str, float] = {}
        if main and args.eval_steps:
            batches = run.samples.evaluation_batches(args.eval_samples)
            self._fixed_set = FixedSet(run, batches, chunk=args.train_batch_size)
        if args.sample_prompts:
            self._pictures = SamplePictures(args, run, self._tracker, self._saves)
        if main and args.keep_best:
            self._best = BestStep(args, run)
            run.say(f"the best step so far is kept as {BEST_NAME}, judged by the {self._best.by}")

    def __enter__(self) -> "Watch":
        run = self._run
        try:
            if run.resumed is None:
                self._evaluate(0)
                self._draw(0)
                run.ranks.meet(run.stop)
            else:  # its checkpoint was written before anybody looked
                facts = run.resumed.facts
                self._look(run.resumed.step, facts["loss"], facts["learning_rate"])
        except BaseException as error:
            self.__exit__(type(error))  # which Python calls only for what was entered
            raise
        run.stop.wait_for_the_step()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._progress.close()
        self._tracker.close()
        run = self._run
        if kind is None:
            if run.ranks.is_main:
                how = resume.how_to_go_on(run.folder)
                run.stop.advice = f"after the last step, before all results were written; {how}"
            run.stop.wait_no_longer()

    def after_step(self, step: int, training_loss, learning_rate: float) -> None:
        """Log, evaluate, draw and save as far as each is due after optimizer step `step`, counted from 1.

        Args:
            training_loss: scalar tensor; it is read only when a figure is due, so that no step waits for it.
            learning_rate: of this step.

        Raises:
            DivergenceError: too many steps in a row gave no finite numbers; on every rank, the rows saved.
            Stopped: a signal asked for the end; there is a checkpoint of this step.
        """
        args, run = self._args, self._run
        slow = any(self._due(step))
        saves = step % args.checkpointing_steps == 0 or step == args.max_train_steps or run.stop.agreed
        state = None
        if run.ranks.is_main and (saves or slow):
            self._count_skipped()
            rows = self._best.rows if self._best else None
            state = resume.capture(run, self._optimizer, step, float(training_loss), learning_rate, rows)
        if saves:
            self._save_checkpoint(state)
        if run.stop.agreed:
            run.ranks.wait()  # one process that leaves makes the launcher end the others, which may still be saving
            raise run.stop.stopped()
        try:
            with run.stop.at_once() if slow else nullcontext():
                self._look(step, training_loss, learning_rate)
        except Stopped:
            if not saves:
                self._save_checkpoint(state)
            raise run.stop.stopped() from None

    def _save_checkpoint(self, state: Checkpoint | None) -> None:
        """Write it; it is there on the main process only."""
        if state is None:
            return
        run = self._run
        self._tracker.flush()  # first, so that no figure from before the checkpoint can be missing
        is_saved = self._saves.attempt(checkpoints.save, run.folder, state, self._args.checkpoints_total_limit)
        what = f"checkpoint-{state.step} is saved" if is_saved else "no checkpoint of it could be saved"
        last = f"after step {state.step} of {self._args.max_train_steps}; {what}"
        run.stop.advice = f"{last}, {resume.how_to_go_on(run.folder)}"

    def _due(self, step: int) -> tuple[bool, bool]:
        """Whether the loss on the fixed set, and sample pictures, are due after a step."""
        args, is_last = self._args, step == self._args.max_train_steps
        evaluates = bool(args.eval_steps) and (step % args.eval_steps == 0 or is_last)
        return evaluates, bool(args.sample_prompts) and pictures_due(args, step)

    def _look(self, step: int, training_loss, learning_rate: float) -> None:
        """What is shown of a step; it can be done again and changes nothing that training depends on."""
        args, ranks = self._args, self._run.ranks
        evaluates, draws = self._due(step)
        is_last = step == args.max_train_steps
        if ranks.is_main:
            if step % _LOG_EVERY == 0 or step == 1 or is_last:
                self._log(step, float(training_loss), learning_rate)
            if evaluates:
                self._evaluate(step)
            self._progress.update(step, **self._latest)
            if step % args.save_steps == 0:
                self._save(step)
        if draws:
            self._draw(step)
        if self._guard.gives_up():
            self._tell_skipped(step)
            give_up(args, self._run, step, self._guard.in_a_row)
        if evaluates or draws:
            ranks.meet(self._run.stop)

    def _save(self, step: int) -> None:
        run, facts = self._run, outputs.file_facts(self._args, self._run.model, step)
        self._saves.attempt(outputs.save_embeddings, run.folder, run.concepts, run.rows(), facts, step=step)

    def _log(self, step: int, training_loss: float, learning_rate: float) -> None:
        self._latest = {"loss": training_loss, "lr": learning_rate}
        self._tracker.scalar("train/loss", training_loss, step)
        self._tracker.scalar("train/learning_rate", learning_rate, step)
        self._tell_skipped(step)
        self._movement.look(step, learning_rate, self._guard, is_last=step == self._args.max_train_steps)

    def _tell_skipped(self, step: int) -> None:
        """Say that steps were skipped, when there are more of them than were said before."""
        skipped = self._count_skipped()
        if skipped:
            self._latest["skipped"] = skipped
        if skipped > self._told:
            self._progress.write(
                f"warning: step {step}: {skipped - self._told} step(s) were skipped since this was last looked at, "
                "because loss or gradient were no finite numbers"
            )
        self._told = skipped

    def _count_skipped(self) -> int:
        """Look how many steps were skipped since the run was started; the figures count those before it too."""
        self._guard.look()
        self._run.figures["skipped_steps"] = self._skipped_earlier + self._guard.skipped
        return self._guard.skipped

    def _evaluate(self, step: int) -> None:
        """Measure, log and print the loss on the fixed set; step 0 is before any training."""
        if self._fixed_set is None:
            return
        value = self._fixed_set.loss()
        losses = self._run.figures.setdefault("fixed_set_loss", {})
        losses[str(step)] = value
        self._tracker.scalar("eval/fixed_set_loss", value, step)
        first = next(iter(losses.values()))
        change = "" if len(losses) == 1 or not first else f" ({100 * (value / first - 1):+.1f} %)"
        self._progress.write(f"step {step}: loss on the fixed set {value:.4f}{change}")
        if self._best is not None:
            self._judge(self._best.see_loss, step, value)

    def _draw(self, step: int) -> None:
        """Draw and log the sample pictures, and let them be judged; step 0 is before any training.

        All ranks draw, and the first one has the pictures.
        """
        drawn = self._pictures.draw(step) if self._pictures else None
        if drawn is None:
            return
        if drawn.path is not None:
            self._progress.write(f"step {step}: sample pictures in {drawn.path}")
        if self._best is not None:
            self._judge(self._best.see_pictures, step, drawn.prompts, drawn.pictures)
            scores = self._run.figures["best"]["scores"]
            if self._best.by == best_step.BY_PICTURES and str(step) in scores:
                self._tracker.scalar("samples/image_similarity", scores[str(step)], step)

    def _judge(self, see, *seen) -> None:
        """Let the best step so far be found, which it keeps in a file."""
        sentences: list[str | None] = []
        self._saves.attempt(lambda: sentences.append(see(*seen)))
        for sentence in filter(None, sentences):
            self._progress.write(sentence)


class FixedSet:
    """The loss on samples that never change.

    The training loss says mostly which timesteps were drawn; on fixed images, timesteps and noises what is left is
    whether the rows learn.

    Args:
        run: the command's `Run`: model, cache, masks.
        batches: the samples, `sampler.Batch`es of one bucket each.
        chunk: samples per pass through the U-Net.
    """

    def __init__(self, run, batches: list, chunk: int):
        self._model, self._alphas = run.model, run.model.noise_scheduler.alphas_cumprod
        self._parts = []  # (prompts, size, latents, noise, timesteps, mask) of at most `chunk` samples each
        for batch in batches:
            size = run.shapes[batch.bucket]
            latents, mask = run.cache.sample(batch), run.mask(batch)
            noise, timesteps = paddle.to_tensor(batch.noise), paddle.to_tensor(batch.timesteps)
            for first in range(0, len(batch.prompts), chunk):
                part = slice(first, first + chunk)
                masked = None if mask is None else mask[part]
                self._parts.append((batch.prompts[part], size, latents[part], noise[part], timesteps[part], masked))

    @paddle.no_grad()
    def loss(self) -> float:
        """Mean squared error of the prediction over the whole set, of what the masks let through."""
        total, count = 0.0, 0
        for sentences, size, latents, noise, timesteps, mask in self._parts:
            noisy_latents = loss.add_noise(latents, noise, self._alphas, timesteps)
            prompts = self._model.encode_prompts(sentences, image_size=size)
            prediction = self._model.unet(noisy_latents, timesteps, prompts.hidden_states, **prompts.added).sample
            target = loss.training_target(self._model.prediction_type, latents, noise, self._alphas, timesteps)
            total += float(loss.diffusion_loss(prediction, target, mask=mask)) * len(sentences)
            count += len(sentences)
        return total / count
