"""When sample pictures are due, and what becomes of them."""

from types import SimpleNamespace

import pytest
from PIL import Image
from textual_inversion.training.sample_pictures import SamplePictures, pictures_due
from textual_inversion.training.saving import Saves

from textual_inversion.distributed.ranks import Ranks
from textual_inversion.generation.generate import ImageRequest
from textual_inversion.generation.prompt_file import SamplePrompt
from textual_inversion.training import drawing
from textual_inversion.training.tracking import Tracker


def settings_of(**settings):
    usual = dict( validation_steps=None, validation_epochs=2, epoch_samples=10, global_batch=4,
                 max_train_steps=15)  # fmt: skip
    return SimpleNamespace(**usual | settings)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"validation_steps": 4}, [4, 8, 12, 15]),
        # Two epochs of ten samples are over during steps 5, 10 and 15, whatever the batch leaves over.
        ({}, [5, 10, 15]),
        ({"global_batch": 6}, [4, 7, 10, 14, 15]),
        ({"validation_epochs": 1000}, [15]),
        ({"global_batch": 40}, list(range(1, 16))),
    ],
)
def test_pictures_are_due_by_steps_or_by_samples_and_at_the_end(settings, steps):
    args = settings_of(**settings)

    assert [step for step in range(1, 16) if pictures_due(args, step)] == steps


class Log:
    """A writer that remembers pictures and texts."""

    def __init__(self):
        self.images, self.texts = [], []

    def add_image(self, tag, pixels, step, **_):
        self.images.append((tag, step))

    def add_text(self, tag, text, step):
        self.texts.append((tag, text, step))


def test_sample_pictures_take_each_prompts_own_options_and_are_logged_with_captions(tmp_path, monkeypatch):
    asked, log = [], Log()

    def generate(model, requests, **how):
        asked.append((requests, how))
        return [Image.new("RGB", (8, 8), "red") for _ in requests]

    monkeypatch.setattr(drawing, "generate", generate)
    prompts = [SamplePrompt("a <w>"), SamplePrompt("a <w> here", 9, 3.0, 7, "blurry")]
    args = SimpleNamespace(sample_prompts=prompts, num_validation_images=2, guidance_scale=7.5, num_inference_steps=50,
                           height=8, width=8, low_memory=False, resize_mode="squash")  # fmt: skip
    run = SimpleNamespace(model=SimpleNamespace(free_vae=lambda: None), ranks=Ranks(), folder=tmp_path, resumed=None)
    pictures = SamplePictures(args, run, Tracker(log), Saves(tmp_path))

    for step in (0, 5):
        drawn = pictures.draw(step)

    assert (
        asked[0][0]
        == asked[1][0]
        == [
            ImageRequest("a <w>", 0, "", 7.5, 50),
            ImageRequest("a <w>", 1, "", 7.5, 50),
            ImageRequest("a <w> here", 9, "blurry", 3.0, 7),
            ImageRequest("a <w> here", 10, "blurry", 3.0, 7),
        ]
    )
    assert asked[0][1].items() >= {"height": 8, "width": 8, "batch_size": 8}.items()
    assert drawn.prompts == ["a <w>", "a <w>", "a <w> here", "a <w> here"] and len(drawn.pictures) == 4
    captions = "a <w>\n\na <w> here (seed 9, guidance 3, steps 7, without blurry)"
    assert log.images == [("samples", 0), ("samples", 5)]
    assert log.texts == [("samples", captions, 0), ("samples", captions, 5)]
    with Image.open(drawn.path) as sheet:
        assert sheet.text["step"] == "5" and "without blurry" in sheet.text["prompts"]
    assert sorted(p.name for p in drawn.path.parent.iterdir()) == ["over-time.png", "step-0.png", "step-5.png"]
