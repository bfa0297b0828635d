"""The public Python API gives what the commands give, and its example runs."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

import textual_inversion as ti
from helpers.paths import ROOT
from helpers.tiny_models import build_model
from helpers.training_runs import draw_images
from textual_inversion import api
from textual_inversion.formats.embedding_file import write_pdparams
from textual_inversion.system.errors import SettingsError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny base model, images, and a run of two steps through the API."""
    root = tmp_path_factory.mktemp("api")
    build_model(root / "base")
    draw_images(root / "images")
    run = ti.train(
        pretrained_model_name_or_path=root / "base", train_data_dir=root / "images", output_dir=root / "out",
        max_train_steps=2, train_batch_size=2, lr_warmup_steps=0, seed=3, report_to="none", num_inference_steps=2,
        only_save_embeds=True,
    )  # fmt: skip
    return root, run


@pytest.mark.slow
def test_training_through_the_api_is_the_commands_training(world, tmp_path):
    import train_textual_inversion

    root, run = world
    train_textual_inversion.main(
        ["--pretrained_model_name_or_path", str(root / "base"), "--train_data_dir", str(root / "images"),
         "--output_dir", str(tmp_path / "out"), "--max_train_steps", "2", "--train_batch_size", "2",
         "--lr_warmup_steps", "0", "--seed", "3", "--report_to", "none", "--num_inference_steps", "2",
         "--only_save_embeds"]
    )  # fmt: skip

    name = "learned_embeds.pdparams"
    assert (root / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert run.folder == root / "out" and [e.placeholder_token for e in run.embeddings] == ["<cat-toy>"]
    assert (
        run.figures["fixed_set_loss"] == json.loads((run.folder / "run.json").read_text())["figures"]["fixed_set_loss"]
    )


def test_an_embedding_file_is_read_attached_and_drawn_with(world):
    root, run = world
    model = ti.load_base_model(root / "base")
    assert ti.attach_embeddings(model, run.folder, rename={"<cat-toy>": "<new>"}) == ["<new>"]
    assert ti.attach_embeddings(model, run.folder) == ["<cat-toy>"]

    images = ti.generate(model, ["a <cat-toy>", "a cat"], seed=5, num_images=2, num_inference_steps=2)
    alone = ti.generate(model, "a cat", seed=6, num_inference_steps=2)
    weighted = ti.generate(model, "a (cat:1.9)", seed=6, num_inference_steps=2, prompt_weights=True)

    assert len(images) == 4 and np.array_equal(images[3], alone[0]) and not np.array_equal(weighted[0], alone[0])
    (embedding,) = ti.read_embeddings(run.folder / "learned_embeds.safetensors")
    np.testing.assert_array_equal(embedding.vectors["text_encoder"], run.embeddings[0].vectors["text_encoder"])


def test_words_are_listed_replaced_and_taken_from_one_of_two_models(world, tmp_path):
    root, run = world
    one, other = (ti.load_base_model(root / "base") for _ in range(2))
    settings = dict(seed=5, num_inference_steps=2)
    plain = np.array(ti.generate(one, "a cat", **settings)[0])
    assert ti.words(one) == {}

    ti.attach_embeddings(one, run.folder)
    ti.attach_embeddings(one, run.folder, rename={"<cat-toy>": "<twin>"})
    ti.attach_embeddings(other, run.folder, rename={"<cat-toy>": "<other>"})
    assert ti.words(one) == {"<cat-toy>": 1, "<twin>": 1} and ti.words(other) == {"<other>": 1}
    drawn = [np.array(ti.generate(one, f"a {word}", **settings)[0]) for word in ti.words(one)]
    np.testing.assert_array_equal(*drawn)

    (learned,) = run.embeddings
    write_pdparams(
        tmp_path / "far.pdparams", [replace(learned, vectors={"text_encoder": learned.vectors["text_encoder"] * -9})]
    )
    ti.attach_embeddings(one, tmp_path / "far.pdparams")
    again = [np.array(ti.generate(one, f"a {word}", **settings)[0]) for word in ("<cat-toy>", "<twin>")]
    assert not np.array_equal(again[0], drawn[0]) and np.array_equal(again[1], drawn[1])

    ti.detach_embeddings(one, "<twin>")
    assert list(ti.words(one)) == ["<cat-toy>"]
    with pytest.raises(ti.TextualInversionError, match="<twin> is not attached to this model; attached: <cat-toy>"):
        ti.detach_embeddings(one, "<twin>")
    ti.detach_embeddings(one)
    assert ti.words(one) == {} and ti.words(other) == {"<other>": 1}
    np.testing.assert_array_equal(np.array(ti.generate(one, "a cat", **settings)[0]), plain)


@pytest.mark.slow
def test_two_models_in_one_process_draw_at_once_on_two_threads(world):
    root, run = world
    models = [ti.load_base_model(root / "base") for _ in range(2)]
    ti.attach_embeddings(models[0], run.folder)
    settings = [
        dict(prompts="a <cat-toy>", seed=1, scheduler="euler-a", num_inference_steps=4),
        dict(prompts="a cat", seed=2, scheduler="ddpm", num_inference_steps=3),
    ]
    one_after_the_other = [np.array(ti.generate(m, **s)[0]) for m, s in zip(models, settings, strict=True)]
    drawn = {}

    def draw(index):
        drawn[index] = [np.array(ti.generate(models[index], **settings[index])[0]) for _ in range(3)]

    threads = [threading.Thread(target=draw, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for index in range(2):
        for image in drawn[index]:
            np.testing.assert_array_equal(image, one_after_the_other[index])


def test_settings_are_checked_like_flags():
    assert ti.train_config(placeholder_token=["<a>"], scale_lr=True).training.scale_lr
    with pytest.raises(SettingsError, match="learning_rat is not a flag"):
        ti.train_config(learning_rat=1)
    with pytest.raises(SettingsError, match="--learning_rate: must be greater than 0"):
        ti.train_config(learning_rate=0)
    with pytest.raises(SettingsError, match="not both"):
        ti.train(ti.train_config(), seed=3)


def test_what_is_public_is_named_in_one_place_and_loaded_when_it_is_used():
    assert all(getattr(ti, name) is getattr(api, name) for name in ti.PUBLIC) and set(ti.PUBLIC) <= set(dir(ti))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ti.nothing
    code = "import sys, textual_inversion; sys.exit(bool({'paddle', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.slow
def test_the_example_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    examples = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/guides/python-api.md").read_text(), re.M | re.S)
    first, second = (
        one.replace("max_train_steps=100,", "max_train_steps=2, num_inference_steps=2,") for one in examples
    )

    exec(compile(first, "the guide", "exec"), {})

    assert (tmp_path / "snow.png").is_file() and capsys.readouterr().out.endswith("<cat-toy> 1 {'text_encoder': 128}\n")

    exec(compile(second, "the guide", "exec"), {})

    assert capsys.readouterr().out.splitlines()[-2:] == re.findall(
        r"^print.*# (\{.*?)(?:: the words.*)?$", second, re.M
    )


def test_the_example_of_the_api_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = [line[4:] for line in api.__doc__.splitlines() if line.startswith("    ") or not line]
    example = re.sub(r"seed=3\)", "seed=3, num_inference_steps=2)", "\n".join(lines))
    names = {}

    exec(compile(example, "the example", "exec"), names)

    assert names["image"].size == (128, 128)
