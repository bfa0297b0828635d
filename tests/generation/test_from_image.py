"""Drawing from images: by values, for every family, whatever the batch."""

import numpy as np
import paddle
import ppdiffusers
import pytest
from PIL import Image

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.data.images import to_array
from textual_inversion.generation.from_image import drawn_size, start_notes
from textual_inversion.generation.generate import ImageRequest, batches, generate, total_steps
from textual_inversion.generation.noise import draw, noise_generator
from textual_inversion.generation.start_image import StartImage, start_images
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.progress import Progress

DRAWN = [family for family in FAMILIES if family != "ldm"]
HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root, loaded = tmp_path_factory.mktemp("models"), {}

    def model(family):
        if family not in loaded:
            loaded[family] = load_base_model(build_model(root / family, family))
        return loaded[family]

    return model


def noise(seed: int, size=(WIDTH, HEIGHT)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two images and a mask: its upper left is white, one pixel elsewhere is grey."""
    root = tmp_path_factory.mktemp("files")
    for i in (0, 1):
        noise(i).save(root / f"{i}.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:7, :5] = 255
    mask[12, 9] = 128
    Image.fromarray(mask).save(root / "mask.png")
    return root


def start(files, number=0, strength=0.5, masked=False) -> StartImage:
    mask = str(files / "mask.png") if masked else None
    return start_images(str(files / f"{number}.png"), (strength,), mask, lambda line: None)[0]


def request(start, **changes) -> ImageRequest:
    return ImageRequest(**(dict(prompt="a cat", seed=5, num_inference_steps=4, start=start) | changes))


def pixels(model, *requests, **settings) -> list[np.ndarray]:
    size = {} if any(one.height for one in requests) else {"height": HEIGHT, "width": WIDTH}
    return [np.asarray(image).astype(int) for image in generate(model, requests, **size, **settings)]


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "mask"])
@pytest.mark.parametrize("family", DRAWN)
def test_an_image_is_a_function_of_its_request_alone(models, files, family, masked):
    model = models(family)
    requests = [request(start(files, i, masked=masked), seed=7 + i, prompt=prompt)
                for i, prompt in enumerate(("a cat", "dog"))]  # fmt: skip

    together, alone = pixels(model, *requests), [pixels(model, one)[0] for one in reversed(requests)][::-1]

    # Products of matrices of another size may round otherwise.
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(together, alone, strict=True))
    assert np.abs(together[0] - together[1]).max() > 30


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "mask"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_all_that_a_request_says_counts(models, files, family, masked):
    def drawn(number=0, strength=0.5, **changes):
        settings = dict(guidance_scale=50, negative_prompt="dog") | changes
        return pixels(models(family), request(start(files, number, strength, masked), **settings))[0]

    plain = drawn()
    for change in (
        {"seed": 6},
        {"prompt": "photo snow"},
        {"number": 1},
        {"strength": 0.75},
        {"negative_prompt": "snow"},
    ):
        assert np.abs(drawn(**change) - plain).max() > 2, change


@pytest.mark.slow
@pytest.mark.parametrize("family", DRAWN)
def test_outside_the_mask_every_bit_stays(models, files, family):
    source, mask = np.asarray(noise(0)).astype(int), np.asarray(Image.open(files / "mask.png"))

    for strength in (0.5, 1.0):
        drawn, whole = pixels(models(family), request(start(files, strength=strength, masked=True)),
                              request(start(files, strength=strength)))  # fmt: skip
        assert drawn.shape == source.shape and (drawn[mask == 0] == source[mask == 0]).all()
        assert np.abs(drawn[mask == 255] - source[mask == 255]).mean() > 10
        assert np.abs(whole - source)[mask == 0].mean() > 10  # without a mask all is drawn


def test_grey_blends_what_was_drawn_with_what_was_there(models, files):
    """At a mask of 128 the pixel lies half way between the start image and the same pixel under a white mask."""
    model, place = models("sd1"), (12, 9)
    white = np.asarray(Image.open(files / "mask.png")).copy()
    white[place] = 255
    Image.fromarray(white).save(files / "white.png")
    whole = start_images(str(files / "0.png"), (0.5,), str(files / "white.png"), lambda line: None)[0]

    grey, drawn = pixels(model, request(start(files, masked=True)), request(whole))

    source = np.asarray(noise(0)).astype(int)[place]
    assert np.abs(grey[place] - (source + (drawn[place] - source) * 128 / 255)).max() <= 1
    assert np.abs(drawn[place] - source).max() > 10


def test_a_fine_line_of_a_mask_is_drawn(models, files):
    """One white column that no pipeline sees, as it looks at the first pixel of each block."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 5] = 255
    Image.fromarray(mask).save(files / "line.png")
    line = start_images(str(files / "0.png"), (1.0,), str(files / "line.png"), lambda line: None)[0]

    one, other = pixels(models("sd1"), request(line), request(line, seed=6))

    assert (one[:, :5] == other[:, :5]).all() and np.abs(one[:, 5] - other[:, 5]).mean() > 5


def test_image_to_image_by_the_formula(models, files):
    """Two DDIM steps of four, written out: noisy latents of the mean at step 2, then arXiv 2010.02502, equation 12."""
    model = models("sd1")
    drawn = pixels(model, request(start(files), guidance_scale=1.0, scheduler="ddim"))[0]

    scheduler = model.sampling_scheduler("ddim")
    scheduler.set_timesteps(4)
    times = [int(t) for t in scheduler.timesteps][2:]
    alphas = scheduler.alphas_cumprod.numpy().astype(np.float64)
    with paddle.no_grad():
        pixel_values = paddle.to_tensor(to_array(noise(0))[None])
        latents = model.vae.encode(pixel_values).latent_dist.mean.numpy() * model.vae.config.scaling_factor
        added = draw([noise_generator(5)], latents.shape[1:]).numpy()
        latents = np.sqrt(alphas[times[0]]) * latents + np.sqrt(1 - alphas[times[0]]) * added
        states = model.encode_prompts(["a cat"]).hidden_states
        for t in times:
            before = alphas[t - 250] if t >= 250 else float(scheduler.final_alpha_cumprod)
            noise_pred = model.unet(paddle.to_tensor(latents.astype(np.float32)), t, encoder_hidden_states=states)
            eps = noise_pred.sample.numpy()
            clean = (latents - np.sqrt(1 - alphas[t]) * eps) / np.sqrt(alphas[t])
            latents = np.sqrt(before) * clean + np.sqrt(1 - before) * eps
        decoded = model.vae.decode(paddle.to_tensor((latents / model.vae.config.scaling_factor).astype(np.float32)))
    expected = ((decoded.sample.numpy()[0].transpose(1, 2, 0) / 2 + 0.5).clip(0, 1) * 255).round()
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_every_scheduler_draws_from_an_image(models, files, family, scheduler):
    for masked in (False, True):
        for strength, steps in ((0.5, 4), (1.0, 3), (0.34, 3)):
            requests = [request(start(files, i, strength, masked), seed=i, num_inference_steps=steps,
                                scheduler=scheduler) for i in (0, 1)]  # fmt: skip
            together, alone = pixels(models(family), *requests), pixels(models(family), *requests, batch_size=1)
            assert all(
                np.abs(one - other).max() <= 1 and one.std() > 5 for one, other in zip(together, alone, strict=True)
            )


def test_a_learned_word_decides_what_is_drawn(tmp_path, files):
    model = load_base_model(build_model(tmp_path / "sdxl", "sdxl"))
    random = np.random.default_rng(3)
    vectors = {"text_encoder": (2, 32), "text_encoder_2": (2, 40)}
    word = {name: random.standard_normal(shape).astype(np.float32) for name, shape in vectors.items()}
    attach_concepts(model, {"<cat-toy>": 2}, word)

    for masked in (False, True):
        with_word, without = pixels(model, request(start(files, masked=masked), prompt="a <cat-toy>"),
                                    request(start(files, masked=masked), prompt="a cat"))  # fmt: skip
        assert np.abs(with_word - without).max() > 0


def test_beside_other_images_in_one_run(models, files):
    """From noise, from an image, and with a mask: no batch mixes them, and none changes another."""
    model = models("sd1")
    requests = [
        request(None),
        request(start(files)),
        request(start(files, masked=True)),
        request(start(files, 1, 0.75)),
    ]

    together, alone = pixels(model, *requests), [pixels(model, one)[0] for one in requests]

    assert len(batches(requests, 4)) == 4 and total_steps(requests) == 4 + 2 + 2 + 3
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(together, alone, strict=True))


def test_progress_reaches_its_end(models, files, capsys):
    requests = [request(start(files)), request(start(files, 1, 0.75, masked=True)), request(None)]
    shown = []

    class Recorded(Progress):
        def update(self, done):
            shown.append(done)

    with Recorded(total_steps(requests), description="step") as progress:
        pixels(models("sd1"), *requests, progress=progress)

    assert shown == sorted(shown) and shown[-1] == total_steps(requests) == 9


@pytest.mark.parametrize(
    ("size", "asked", "drawn"),
    [
        ((16, 16), (None, None), (16, 16)),
        ((13, 10), (None, None), (16, 8)),
        ((400, 300), (None, None), (16, 16)),  # no more pixels than the model was trained for, and at least one block
        ((400, 100), (None, None), (32, 8)),
        ((400, 100), (64, None), (64, 16)),
        ((400, 100), (None, 40), (160, 40)),
        ((400, 100), (24, 24), (24, 24)),
    ],
)
def test_the_size_that_is_drawn(models, size, asked, drawn):
    model = models("sd1")
    assert (model.resolution, model.side_factor) == (16, 8)
    begun = StartImage("a.png", "", size)

    assert drawn_size(model, begun, *asked) == drawn
    expected = [] if size == drawn else [f"images of {size[1]}x{size[0]} pixels are drawn at {drawn[1]}x{drawn[0]}"]
    made = ImageRequest("a", 1, height=drawn[0], width=drawn[1], start=begun)
    requests = [made, ImageRequest("a", 1, height=16, width=16), made]
    assert [note.split(";")[0] for note in start_notes(model, requests)] == expected


def test_another_shape_is_cropped_at_the_centre(models, tmp_path):
    """Of 20 x 12 pixels, 16 x 12 are asked for: what the mask keeps are the middle columns of the image, unscaled."""
    noise(3, (24, 16)).save(tmp_path / "wide.png")
    mask = np.zeros((16, 24), np.uint8)
    mask[4:8, 8:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    begun = start_images(str(tmp_path / "wide.png"), (0.5,), str(tmp_path / "mask.png"), lambda line: None)[0]

    (drawn,) = pixels(models("sd1"), request(begun, height=16, width=16))

    middle, kept = np.asarray(noise(3, (24, 16)))[:, 4:20], mask[:, 4:20] == 0
    assert drawn.shape == (16, 16, 3) and (drawn[kept] == middle[kept]).all() and (drawn[~kept] != middle[~kept]).any()


def test_less_than_a_step_is_refused_when_it_is_asked_for(files):
    with pytest.raises(SettingsError, match="--strength 0.2 of 4 denoising steps is less than one step"):
        request(start(files, strength=0.2))


def test_a_family_without_such_a_pipeline_is_refused_by_name(models, files):
    for masked in (False, True):
        with pytest.raises(SettingsError, match="^--image: .* is a model for LDMTextToImagePipeline, and ppdiffusers"):
            generate(models("ldm"), [request(start(files, masked=masked))])


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_mask_does_what_ppdiffusers_own_inpainting_pipeline_does(models, files, family):
    """Pixels well inside the mask; outside it that pipeline lets them change."""
    model = models(family)
    noise_of_pixels = draw([noise_generator(5)], (4, HEIGHT // 2, WIDTH // 2))
    ours = pixels(model, request(start(files, masked=True), guidance_scale=3.0, scheduler="ddim"))[0]

    pipe, masked = model.pipeline("ddim"), np.asarray(Image.open(files / "mask.png"))
    name = "StableDiffusionXLInpaintPipeline" if family == "sdxl" else "StableDiffusionInpaintPipeline"
    settings = {} if family == "sdxl" else {"requires_safety_checker": False}
    theirs = getattr(ppdiffusers, name)(**pipe.components, **settings)
    own = theirs.prepare_latents
    drawn = pytest.MonkeyPatch()
    drawn.setitem(own.__func__.__globals__, "randn_tensor", lambda *_, **__: noise_of_pixels)
    try:
        prompts = model.encode_prompts(["a cat", ""]).for_pipeline()
        arguments = dict(prompts[0]) | {f"negative_{key}": value for key, value in prompts[1].items()}
        if model.zeroes_empty_prompt:
            arguments |= {key: paddle.zeros_like(v) for key, v in arguments.items() if key.startswith("negative")}
        with paddle.no_grad():
            posterior = model.vae.encode(paddle.to_tensor(to_array(noise(0))[None])).latent_dist
        latents = posterior.mean * model.vae.config.scaling_factor
        blocks = (masked > 0).reshape(HEIGHT // 2, 2, WIDTH // 2, 2).any(axis=(1, 3)).repeat(2, 0).repeat(2, 1)
        result = theirs(
            image=latents, mask_image=Image.fromarray((blocks * 255).astype(np.uint8)), masked_image_latents=latents,
            height=HEIGHT, width=WIDTH, strength=0.5, num_inference_steps=4, guidance_scale=3.0,
            **{key: value[None] for key, value in arguments.items()},
        ).images[0]  # fmt: skip
    finally:
        drawn.undo()

    expected = np.asarray(result).astype(int)
    assert np.abs(ours - expected)[masked == 255].max() <= 1


def test_latents_of_other_depths(tmp_path, files):
    """The demo's have 16 channels; ppdiffusers' own inpainting pipelines take four."""
    model = load_base_model(build_model(tmp_path / "wide", unet=dict(in_channels=8, out_channels=8),
                                        vae=dict(latent_channels=8)))  # fmt: skip
    mask = np.asarray(Image.open(files / "mask.png"))

    whole, masked = pixels(model, request(start(files)), request(start(files, masked=True)))

    source = np.asarray(noise(0)).astype(int)
    assert np.abs(whole - source).mean() > 10 and (masked[mask == 0] == source[mask == 0]).all()


def test_what_a_safety_checker_objects_to_is_black_all_over(tmp_path, files):
    model = load_base_model(build_model(tmp_path / "checked", safety_checker=True))
    pipe = model.pipeline(with_safety_checker=True)
    pipe.safety_checker.concept_embeds_weights.set_value(
        paddle.full_like(pipe.safety_checker.concept_embeds_weights, -9)
    )

    (image,) = generate(model, [request(start(files, masked=True))], height=HEIGHT, width=WIDTH, pipeline=pipe)

    assert image.info["safety_checker"] == "blacked out" and not np.asarray(image).any()


def test_a_run_changes_neither_the_pipeline_nor_its_scheduler(models, files):
    model = models("sd1")
    pipe = model.pipeline("pndm")
    before = dict(pipe.scheduler.config), type(pipe), pipe.scheduler

    pixels(model, request(start(files)), request(start(files, masked=True)), pipeline=pipe)

    assert (dict(pipe.scheduler.config), type(pipe), pipe.scheduler) == before
    assert "prepare_latents" not in vars(pipe)
