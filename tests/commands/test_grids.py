"""Grids and comparisons of infer.py."""

import json

import numpy as np
import pytest
from PIL import Image

import infer
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model
from helpers.training_runs import draw_images
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.generation.plan_notes import MOST_NOTED


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("base") / "sd1")


def learned(path, base, seed=1, vectors=1, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(seed).standard_normal((vectors, 32)).astype(np.float32)
    write_pdparams(path, [LearnedEmbedding("<cat-toy>", {"text_encoder": rows})])
    record = {"base_model": str(base), "placeholder_token": "<cat-toy>", "settings": settings}
    (path.parent / "run.json").write_text(json.dumps(record))
    return str(path)


def images_of(folder):
    (run,) = json.loads((folder / "manifest.json").read_text())["runs"]
    return run["images"]


def pixels(folder, entry):
    with Image.open(folder / entry["file"]) as image:
        return np.asarray(image)


@pytest.mark.slow
def test_schedulers_eta_sizes_and_prompts_of_a_file_are_axes(tmp_path, base, capsys):
    file, out = learned(tmp_path / "run/learned_embeds.pdparams", base), tmp_path / "out"
    (tmp_path / "prompts.txt").write_text("a {red|blue} <cat-toy>\nthe <cat-toy> --size 16 --scheduler lms --d 1\n")

    infer.main(["--embeds", file, "--prompts_file", str(tmp_path / "prompts.txt"), "--num_inference_steps", "1",
                "--scheduler", "ddim", "euler-a", "--eta", "0", "1", "--size", "32x24", "--negative_prompt", "", "dog",
                "--num_images", "1", "--seed", "7", "--output_dir", str(out)])  # fmt: skip

    images, error = images_of(out), capsys.readouterr().err
    keys = ("prompt", "negative_prompt", "scheduler", "eta", "width", "height", "seed")
    classes = ("DDIMScheduler", "EulerAncestralDiscreteScheduler")
    assert [tuple(image[key] for key in keys) for image in images] == [
        *((f"a {color} <cat-toy>", negative, scheduler, eta, 32, 24, 7) for color in ("red", "blue")
          for negative in ("", "dog") for scheduler in classes for eta in (0, 1)),
        *(("the <cat-toy>", negative, "LMSDiscreteScheduler", eta, 16, 16, 1) for negative in ("", "dog")
          for eta in (0, 1)),
    ]  # fmt: skip
    assert {pixels(out, image).shape for image in images[:16]} == {(24, 32, 3)}
    assert "--eta has no effect on EulerAncestralDiscreteScheduler, LMSDiscreteScheduler; only ddim adds" in error
    by_eta = [[pixels(out, image) for image in images if image["eta"] == eta and image["scheduler"] == name]
              for name in classes for eta in (0, 1)]  # fmt: skip
    assert not np.array_equal(by_eta[0], by_eta[1]) and np.array_equal(by_eta[2], by_eta[3])


@pytest.mark.slow
def test_random_samples_of_a_smaller_run_are_the_first_of_a_larger_one(tmp_path, base):
    file = learned(tmp_path / "run/learned_embeds.pdparams", base)
    argv = ["--embeds", file, "--prompt", "a {red|blue} <cat-toy>", "--guidance_scale", "1:9:2",
            "--num_inference_steps", "1:2:2", "--seed", "7", "--batch_size", "1"]  # fmt: skip

    for count in ("2", "4"):
        infer.main([*argv, "--random_samples", count, "--output_dir", str(tmp_path / count)])

    few, many = (images_of(tmp_path / count) for count in ("2", "4"))
    assert few == many[:2] and [image["seed"] for image in many] == [7, 8, 9, 10]
    assert all(1 <= image["guidance_scale"] <= 9 for image in many)
    for one, other in zip(few, many, strict=False):
        assert np.array_equal(pixels(tmp_path / "2", one), pixels(tmp_path / "4", other))


@pytest.mark.slow
def test_steps_of_a_run_are_compared_and_scored(tmp_path, capsys):
    base = build_model(tmp_path / "sd1")
    build_clip(base / "clip")
    pictures = draw_images(tmp_path / "pictures")
    for step, vectors in ((5, 1), (10, 3)):
        learned(
            tmp_path / f"run/learned_embeds-steps-{step}.pdparams", base, step, vectors, train_data_dir=str(pictures)
        )
    other, out = learned(tmp_path / "other/learned_embeds.pdparams", base, 3), tmp_path / "out"
    argv = ["--prompt", "a <cat-toy>", "a photo of <cat-toy>", "--num_inference_steps", "1", "--num_images", "2",
            "--seed", "7"]  # fmt: skip

    infer.main(["--compare", str(tmp_path / "run"), other, *argv, "--output_dir", str(out)])

    said = capsys.readouterr()
    labels, images = ["steps-5", "steps-10", "final"], images_of(out)
    assert [(image["prompt"], image["seed"], image["embeds"]) for image in images] == [
        (prompt, seed, label)
        for prompt in ("a <cat-toy>", "a photo of <cat-toy>")
        for seed in (7, 8)
        for label in labels
    ]
    scores = {image["embeds"]: set(image["score"]) for image in images}
    assert scores == {"steps-5": {"text_similarity", "image_similarity"},
                      "steps-10": {"text_similarity", "image_similarity"}, "final": {"text_similarity"}}  # fmt: skip
    rows = [line.split()[0] for line in said.out.splitlines()]
    assert rows[:4] == ["column", *labels] and said.out.count("*") == 2
    assert "does not say which images it was learned from; its column is scored by its prompts alone" in said.err
    with Image.open(out / images[2]["file"]) as image:
        (own,) = json.loads(image.text["embeds"])
    assert own["column"] == "final" and own["file"] == other

    infer.main(["--embeds", other, *argv, "--output_dir", str(tmp_path / "alone")])
    for one, alone in zip(images[2::3], images_of(tmp_path / "alone"), strict=True):
        assert np.array_equal(pixels(out, one), pixels(tmp_path / "alone", alone))


@pytest.mark.slow
def test_without_a_clip_model_columns_are_compared_and_not_scored(tmp_path, base, capsys):
    files = [learned(tmp_path / f"{seed}/learned_embeds.pdparams", base, seed) for seed in (1, 2)]
    argv = ["--compare", *files, "--prompt", "a <cat-toy>", "--num_inference_steps", "1", "--num_images", "1"]

    infer.main([*argv, "--output_dir", str(tmp_path / "out")])

    said = capsys.readouterr()
    assert "the columns are not scored: " in said.err and "--clip_model" in said.err and "column" not in said.out
    assert ["score" in image for image in images_of(tmp_path / "out")] == [False, False]


def test_of_many_prompts_few_are_told(tmp_path, base, capsys):
    file = learned(tmp_path / "run/learned_embeds.pdparams", base)
    argv = ["--embeds", file, "--prompt", "{1|2|3|4|5} {1|2|3|4|5|6} dogs", "--num_inference_steps", "1"]

    infer.main([*argv, "--num_images", "1", "--batch_size", "30", "--output_dir", str(tmp_path / "out")])

    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert len(notes) == MOST_NOTED + 1 and notes[-1] == "note: and 10 more such notes on other prompts"
