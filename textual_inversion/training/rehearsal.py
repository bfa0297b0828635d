"""A run in small, for `--plan`: each kind of its work is done and timed on the run's own parts, and nothing is kept."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import paddle

from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.formats.embedding_file import pdparams_content
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.generation import image_grid, png_files
from textual_inversion.generation.request import ImageRequest
from textual_inversion.models import export
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system import timing, tracking
from textual_inversion.system.process_memory import peak_memory
from textual_inversion.training import overview, resume
from textual_inversion.training.artifacts import as_learned, file_facts
from textual_inversion.training.assembly import make_losses
from textual_inversion.training.foresight import (
    SAVE_SECONDS,
    Forecast,
    StepTimes,
    Work,
    seconds_of_drawing,
    seconds_of_steps,
    seconds_of_weights,
)
from textual_inversion.training.image_losses import EACH, are_measured
from textual_inversion.training.intervals import Intervals
from textual_inversion.training.resume import TrainingState
from textual_inversion.training.state import Run
from textual_inversion.training.validation import Painter, request_of

_TRIALS = (2, 6)  # denoising steps of the images that are drawn to see what others take
_TRIED_IMAGES = 8
_EXIT_SECONDS = 0.4


class Rehearsal:
    """Rehearses a run; `watch` takes the place of `make_callbacks`, and `forecast` says what the run will take.

    All ranks of the run rehearse together, each on its share, as they train; the first one knows the forecast.

    Args:
        painter: draws as the run does.
        scores: whether the run is scored at its end, as the demo is.
    """

    def __init__(self, config: TrainConfig, run: Run, painter: Painter, *, scores: bool):
        self._config, self._run, self._painter = config, run, painter
        self._plan = None
        if config.validation.overview:
            self._plan = overview.plan_drawings(
                config.validation, config.validation_prompts, run.vectors.concepts, config.base_model.language,
                run.model.text_encoders[0].encode_ids, scores=scores,
            )  # fmt: skip
        self._state: TrainingState | None = None
        self._times = StepTimes(self._before_steps)
        self._start = self._eval_seconds = 0.0
        self._memory = 0

    def watch(self, config: TrainConfig, run: Run, state: TrainingState, *_: object) -> StepTimes:
        """What stands around the steps in the place of the run's callbacks."""
        self._state = state
        return self._times

    def _before_steps(self) -> None:
        """The run is set up: look at the fixed set as it would, and note how long all this took."""
        context, validation = self._run.context, self._config.validation
        if context.ranks.is_main:
            tracking.load(validation.report_to)
        self._start = timing.process_seconds()
        if context.ranks.is_main and validation.eval_steps:
            losses, _ = make_losses(self._config, self._run, tracking.Tracker(), lambda line: None)
            begun = timing.process_seconds()
            losses.look(0)
            self._eval_seconds = timing.process_seconds() - begun
            self._run.record.figures.clear()

    # ------------------------------------------------------------------------------------------------------- forecast

    def forecast(self) -> Forecast:
        """What the run will take; to be called on all ranks, after the steps."""
        config, run = self._config, self._run
        begun = run.record.resumed.step if run.record.resumed else 0
        due = _due(Intervals(config.validation, config.saving, bool(config.validation_prompts), run.plan), begun)
        in_validation = [
            request_of(prompt, prompt.first_seed + i, config.validation)
            for prompt in config.validation_prompts
            for i in range(config.validation.num_validation_images)
        ]
        of_run = self._seconds_of(in_validation, (config.images.height, config.images.width))
        work = {
            "loss on the fixed set": self._losses(len(due["loss on the fixed set"])),
            "validation images": self._samples(len(due["validation images"]), in_validation, of_run),
            "before and after": self._before_and_after(),
            "scores": self._scores(),
            "embeddings": Work(len(due["embeddings"]) + 1, SAVE_SECONDS, self._embedding_bytes()),
            "checkpoints": self._checkpoints(len(due["checkpoints"])),
            "saved pipeline": self._pipeline(),
            "records and the end": Work(1, _EXIT_SECONDS, 24_000),
        }
        steps = seconds_of_steps(self._times.seconds, run.plan.steps - begun)
        first = None
        if in_validation:
            early = self._start + self._eval_seconds + of_run
            first = early if due["validation images"][:1] == [0] else early + seconds_of_steps(
                self._times.seconds, due["validation images"][0] - begun)  # fmt: skip
        return Forecast(self._start, steps, work, first, peak_memory(), _gpu_memory(), due)

    def _losses(self, count: int) -> Work:
        seconds = self._eval_seconds
        if not are_measured(self._run.samples):
            return Work(count, seconds)
        images = EACH * len(self._run.samples.images) / self._config.validation.eval_samples
        return Work(count, seconds * (1 + (2 * images / count if count else 0)))

    def _samples(self, count: int, requests: Sequence[ImageRequest], seconds: float) -> Work:
        if not requests or not count:
            return Work(0)
        prompts, each = self._config.validation_prompts, self._config.validation.num_validation_images
        labels = [prompt.caption for prompt in prompts for _ in range(each)]
        sheet = image_grid.contact_sheet(self._like(len(requests)), columns=each, labels=labels, title="step 0")
        frame = image_grid.strip([(0, self._like(len(prompts)))], prompts=[prompt.caption for prompt in prompts])
        # A sheet at each time; the strip over time is written anew, with one more frame.
        return Work(count, seconds, sum(len(png_files.png_bytes(image)) for image in (sheet, frame)))

    def _before_and_after(self) -> Work:
        if self._plan is None:
            return Work(0)
        size, own = (self._config.images.height, self._config.images.width), (self._run.model.resolution,) * 2
        shown = [*self._plan.before, *self._plan.after]
        scored = [request for requests in self._plan.scored.values() for request in requests]
        seconds = self._seconds_of(shown, size) + self._seconds_of(scored, own)
        captions, like = [prompt.caption for prompt in self._plan.prompts], self._like(len(self._plan.after))
        sheet = image_grid.overview(self._run.data.previews, like, like, captions)
        return Work(1, seconds, len(png_files.png_bytes(sheet)))

    def _like(self, count: int) -> list:
        """So many images, which take about as much as those that will be drawn: training images, over and over."""
        previews = self._run.data.previews
        return [previews[number % len(previews)] for number in range(count)]

    def _scores(self) -> Work:
        run, begun = self._run, timing.process_seconds()
        if self._plan is None or not self._plan.scored or not run.context.ranks.is_main:
            return Work(0)
        scorer = ClipScorer(find_clip(run.model.folder))
        loaded = timing.process_seconds()
        previews = run.data.previews[:_TRIED_IMAGES]
        scorer.image_features(previews)
        each = (timing.process_seconds() - loaded) / len(previews)
        scored = sum(map(len, self._plan.scored.values()))
        return Work(1, loaded - begun + each * (scored + 2 * len(run.data.images)))

    def _embedding_bytes(self) -> int:
        run = self._run
        facts = file_facts(run.model, self._config.training.seed, run.plan.steps)
        learned = as_learned(run.vectors.concepts, run.vectors.values(), facts)
        return 2 * len(pdparams_content(learned))  # once pickled and once as safetensors, which take about as much

    def _checkpoints(self, count: int) -> Work:
        run = self._run
        best = run.vectors.values() if self._config.validation.keep_best else None
        one = resume.capture(
            self._state, run.record, 0, loss=0.0, learning_rate=0.0, processes=run.context.ranks.world_size, best=best
        )
        size = len(safetensors_bytes(one.tensors, {})) + len(json.dumps(one.facts, indent=2))
        return Work(count, SAVE_SECONDS, size, self._config.saving.checkpoints_total_limit)

    def _pipeline(self) -> Work:
        if self._config.saving.only_save_embeds:
            return Work(0)
        size = export.written_bytes(self._run.model)
        return Work(1, seconds_of_weights(size) + SAVE_SECONDS, size)

    # -------------------------------------------------------------------------------------------------------- drawing

    def _seconds_of(self, requests: Sequence[ImageRequest], size: tuple[int, int]) -> float:
        """Seconds of images, each distinct one drawn once, from what a few of them take at few denoising steps."""
        distinct, world = list(dict.fromkeys(requests)), self._run.context.ranks.world_size
        if not distinct:
            return 0.0
        tried = distinct[: _TRIED_IMAGES * world]

        def trial(steps: int) -> tuple[int, float]:
            begun = timing.process_seconds()
            self._painter.draw([replace(request, num_inference_steps=steps) for request in tried], size=size)
            return steps, (timing.process_seconds() - begun) / len(tried)

        trial(_TRIALS[0])  # the first images of a process are dearer
        return seconds_of_drawing(*map(trial, _TRIALS), [request.num_inference_steps for request in distinct])


def _due(intervals: Intervals, begun: int) -> dict[str, list[int]]:
    """What is saved or measured -> after which steps, of those after `begun`; 0 is before the first step."""
    asked: dict[str, Callable[[int], bool]] = {
        "embeddings": intervals.saves,
        "checkpoints": intervals.checkpoints,
        "validation images": intervals.draws,
        "loss on the fixed set": intervals.evaluates,
    }
    steps = range(begun + 1, intervals.plan.steps + 1)
    due = {name: [step for step in steps if is_due(step)] for name, is_due in asked.items()}
    if begun == 0:
        if intervals.has_prompts:
            due["validation images"].insert(0, 0)
        if intervals.validation.eval_steps:
            due["loss on the fixed set"].insert(0, 0)
    return due


def _gpu_memory() -> int:
    if not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
        return 0
    return int(paddle.device.cuda.max_memory_allocated())
