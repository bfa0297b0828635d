"""What is missing of a plan is drawn, whatever share, and the progress is that of all processes."""

import pytest

from helpers.tiny_models import build_model
from textual_inversion.generation import run_plan as module
from textual_inversion.generation.draw_plan import plan_batches
from textual_inversion.generation.gallery import Gallery, PlannedImages
from textual_inversion.generation.plan import Plan
from textual_inversion.generation.request import ImageRequest
from textual_inversion.generation.run_plan import WholeProgress, run_plan
from textual_inversion.models.base_model import load_base_model
from textual_inversion.system.process_share import ProcessShare
from textual_inversion.system.signals import Signals

PLAN = Plan(
    [
        ImageRequest(prompt, seed, guidance_scale=scale, num_inference_steps=1)
        for prompt in ("a cat", "a dog in the snow")
        for scale in (1.0, 3.0)
        for seed in range(3)
    ]
)
KEYS = [f"k{position}" for position in range(12)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base") / "sd1"))


def draw(model, folder, share=ProcessShare(), stop=None, only=None):  # noqa: B008
    """One process's share, or the first of its batches; how many images it saved."""
    folder.mkdir(exist_ok=True)
    gallery = Gallery(folder, {})
    done = gallery.begin(PlannedImages(KEYS, [one.seed for one in PLAN.requests], is_grid=True), share)
    missing = [batch for batch in share.of(plan_batches(PLAN, 4)) if not done.issuperset(batch)][:only]
    saved, blank = run_plan(model, PLAN, missing, gallery, done, stop or Signals(), pipeline=model.pipeline("ddim"))
    state = gallery.finish()
    gallery.close()
    assert blank == 0 and {image["scheduler"] for image in state.images} <= {"DDIMScheduler"}
    return saved


def images(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*-seed*.png")}


def test_batches_are_cut_from_the_whole_plan_in_the_order_of_their_first_images():
    assert plan_batches(PLAN, 4) == [[0, 1, 2, 6], [3, 4, 5, 9], [7, 8], [10, 11]]
    assert sorted(position for batch in plan_batches(PLAN, 5) for position in batch) == list(range(12))


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The images that one process draws without an interruption."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert draw(model, folder) == 12
    return images(folder)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_bytes_do_not_depend_on_the_number_of_processes(model, tmp_path, whole, world_size):
    saved = [draw(model, tmp_path, ProcessShare(rank, world_size, "s")) for rank in reversed(range(world_size))]

    assert sum(saved) == 12 and images(tmp_path) == whole


@pytest.mark.parametrize("lost", [[0], [6], [1, 2, 8], list(range(12))])
def test_the_bytes_do_not_depend_on_which_images_were_left(model, tmp_path, whole, lost):
    draw(model, tmp_path)
    names = sorted(whole)
    kept = {name: (tmp_path / name).stat().st_mtime_ns for i, name in enumerate(names) if i not in lost}
    for position in lost:
        (tmp_path / names[position]).unlink()

    assert draw(model, tmp_path, ProcessShare(0, 2, "s")) + draw(model, tmp_path, ProcessShare(1, 2, "s")) == len(lost)

    assert images(tmp_path) == whole
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in kept} == kept


def test_the_way_out_names_what_is_there(model, tmp_path):
    stop = Signals()
    draw(model, tmp_path, only=1)
    draw(model, tmp_path, stop=stop, only=1)

    assert stop.advice == f"after 8 of 12 images, which are in {tmp_path}"


class Shown:
    def __init__(self):
        self.said = []

    def update(self, step, **figures):
        self.said.append((step, figures))


def test_the_progress_counts_the_images_of_all_processes():
    there, now, shown = {0, 1, 2}, [0.0], Shown()  # images 0 to 5 have 1 step each, and so on
    progress = WholeProgress(shown, PLAN.requests, {0, 3, 4}, lambda: set(there), clock=lambda: now[0])

    progress.update(1)
    now[0] = 10.0
    there |= {3, 6, 7, 8}
    progress.update(2)
    now[0] = 10.5  # too soon for another look
    there |= {9}
    progress.update(3)

    assert shown.said[0] == (2 + 1, {})
    assert shown.said[1] == (5 + 2, {"images/s": pytest.approx(4 / 10)}) and shown.said[2][0] == 5 + 3


def test_looking_takes_a_small_share_of_the_time():
    now, looks = [0.0], []

    def slow_look():
        looks.append(now[0])
        now[0] += 1.0
        return set()

    progress = WholeProgress(Shown(), PLAN.requests, set(), slow_look, clock=lambda: now[0])
    for _ in range(200):
        now[0] += 1.0
        progress.update(0)

    assert 3 <= len(looks) <= 6 and module._LOOK_SHARE == 50
