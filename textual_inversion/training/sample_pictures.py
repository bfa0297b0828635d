"""Sample pictures on the way: when they are due, and what becomes of them."""

from dataclasses import dataclass
from pathlib import Path

from textual_inversion.generation import image_grid
from textual_inversion.training.checkpoints import Checkpoint
from textual_inversion.training.drawing import draw, request_of
from textual_inversion.training.saving import Saves

OVER_TIME = "over-time.png"


def pictures_due(args, step: int) -> bool:
    """Whether sample pictures are wanted after optimizer step `step`, counted from 1: every so often and at the end."""
    if step == args.max_train_steps:
        return True
    if args.validation_steps:
        return step % args.validation_steps == 0
    samples = args.validation_epochs * args.epoch_samples
    return step * args.global_batch // samples > (step - 1) * args.global_batch // samples


@dataclass(frozen=True)
class Drawn:
    """The sample pictures of a step.

    Attributes:
        path: their file; None where it could not be written.
        prompts: of each picture, as it was asked for.
        pictures: RGB PIL images, `--num_validation_images` a prompt.
    """

    path: Path | None
    prompts: list[str]
    pictures: list


class SamplePictures:
    """Pictures of the sample prompts, drawn with the modules in memory every so often, a share of them on each rank.

    Args:
        run: the command's `Run`; pictures go to `samples/step-N.png` in its folder and, as a strip over time, to
            `samples/over-time.png`. Of a run that goes on, the strip begins with what was drawn before.
        tracker: a `tracking.Tracker` that logs them too.
        saves: attempts to write them.
    """

    def __init__(self, args, run, tracker, saves: Saves):
        self._args, self._run, self._tracker, self._saves = args, run, tracker, saves
        earlier = _drawn_before(run.resumed) if run.ranks.is_main else []
        self._over_time = [frame for frame in earlier if len(frame[1]) == len(args.sample_prompts)]

    def draw(self, step: int) -> Drawn | None:
        """Draw, save and log the pictures of a step; to be called on all ranks, and None on all but the first."""
        prompts, each = self._args.sample_prompts, self._args.num_validation_images
        requests = [request_of(prompt, prompt.first_seed + i, self._args) for prompt in prompts for i in range(each)]
        pictures = draw(self._args, self._run, requests)
        if pictures is None:
            return None
        captions = [prompt.caption for prompt in prompts]
        labels = [caption for caption in captions for _ in range(each)]
        sheet = image_grid.contact_sheet(pictures, columns=each, labels=labels, title=f"step {step}")
        self._tracker.image("samples", sheet, step)
        self._tracker.text("samples", "\n\n".join(captions), step)
        self._over_time.append((step, pictures[::each]))
        path = self._run.folder / "samples" / f"step-{step}.png"
        text = {"step": str(step), "prompts": "\n".join(captions)}
        is_saved = self._saves.attempt(self._save, path, sheet, text, captions)
        return Drawn(path if is_saved else None, [request.prompt for request in requests], pictures)

    def _save(self, path: Path, sheet, text: dict[str, str], captions: list[str]) -> None:
        path.parent.mkdir(exist_ok=True)
        image_grid.save_png(sheet, path, text=text)
        strip = image_grid.strip(self._over_time, prompts=captions)
        image_grid.save_png(strip, path.with_name(OVER_TIME), text={"frames": strip.info["frames"]})


def _drawn_before(checkpoint: Checkpoint | None) -> list[tuple[int, list]]:
    """What the strip over time of the run holds that a checkpoint belongs to: (step, first picture of each prompt)."""
    if checkpoint is None:
        return []
    return image_grid.frames_of(checkpoint.folder.parent / "samples" / OVER_TIME, checkpoint.step)
