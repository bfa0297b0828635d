"""A concept that was learned with another layer, in chunks, or with another VAE is drawn and scored the same way."""

import json

import numpy as np
import pytest
from PIL import Image

import infer
import score
import train_textual_inversion
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model
from helpers.training_runs import short_run, vectors_in
from textual_inversion import api

READ = ("--clip_skip", "2", "--max_token_length", "150")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The folder of a run with another way to read prompts and another VAE."""
    root = tmp_path_factory.mktemp("read")
    vae = build_model(root / "vae", seed=5)
    train_textual_inversion.main(short_run(root, *READ, "--vae", str(vae)))
    build_clip(root / "base" / "clip")
    return root


def drawn(root, name, *flags):
    """(image, its facts) that `infer.py` makes with the run's vectors."""
    argv = ["--embeds", str(root / "out" / "learned_embeds.safetensors"), "--prompt", "a <cat-toy> in the snow"]
    out = root / name
    infer.main(
        [*argv, "--num_images", "1", "--num_inference_steps", "2", "--seed", "1", "--output_dir", str(out), *flags]
    )
    manifest = json.loads((out / "manifest.json").read_text())
    return np.asarray(Image.open(next(out.glob("0*.png")))), manifest["runs"][0]["images"][0]


@pytest.mark.slow
def test_images_are_drawn_as_the_run_read_prompts_with_its_vae(learned):
    same, facts = drawn(learned, "as-recorded")
    said, _ = drawn(learned, "said", *READ, "--vae", str(learned / "vae"))
    others = [drawn(learned, flags[0], *flags)[0] for flags in (
        ("--clip_skip", "1"), ("--max_token_length", "75"), ("--vae", str(learned / "base")))]  # fmt: skip

    np.testing.assert_array_equal(same, said)
    assert all((other != same).any() for other in others)
    assert (facts["clip_skip"], facts["max_token_length"]) == (2, 150) and len(facts["vae_sha256"]) == 64
    text = Image.open(next((learned / "as-recorded").glob("0*.png"))).text["parameters"]
    assert "Clip skip: 2" in text and "VAE: vae" in text


@pytest.mark.slow
def test_the_record_names_the_vae_by_its_hash_and_a_changed_one_is_said(learned, capsys):
    record = json.loads((learned / "out" / "run.json").read_text())
    assert record["vae"].startswith("local:") and record["vae"].endswith(record["vae_sha256"])
    assert record["settings"]["clip_skip"] == 2 and record["settings"]["max_token_length"] == 150

    drawn(learned, "another", "--vae", str(learned / "base"))

    assert "is another than the one that the embedding was learned with" in capsys.readouterr().err


@pytest.mark.slow
def test_scores_and_the_python_interface_read_prompts_the_same_way(learned, monkeypatch):
    monkeypatch.chdir(learned)
    argv = ["--embeds", "out/learned_embeds.safetensors", "--num_images", "1", "--num_inference_steps", "1"]
    figures = {}
    for name, flags in {"recorded": (), "said": READ, "other": ("--clip_skip", "1")}.items():
        score.main([*argv, "--output", f"{name}.json", *flags])
        figures[name] = json.loads((learned / f"{name}.json").read_text())
    assert figures["recorded"]["concept"] == figures["said"]["concept"] != figures["other"]["concept"]
    assert figures["recorded"]["settings"]["clip_skip"] == 2

    model = api.load_base_model(learned / "base", vae=learned / "vae")
    api.attach_embeddings(model, learned / "out")
    (image,) = api.generate(model, "a <cat-toy> in the snow", seed=1, num_inference_steps=2)
    np.testing.assert_array_equal(np.asarray(image), drawn(learned, "as-the-api")[0])


@pytest.mark.slow
def test_the_card_says_how_each_program_reads_prompts_so(learned):
    card = (learned / "out" / "README.md").read_text()

    assert card.count(".images[0]") == card.count(", clip_skip=1).images[0]") == 2
    for words in ("set Clip skip to 2", "CLIP Set Last Layer with -2", "`--clip_skip 2`", "- `max_token_length`: 150"):
        assert words in card
    assert f"- VAE: a local one, hash `{json.loads((learned / 'out' / 'run.json').read_text())['vae_sha256']}`" in card


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--clip_skip", "2"), ("--max_token_length", "150"), ("--vae", "{other}")])
def test_each_of_them_changes_what_is_learned(learned, tmp_path, flags):
    flags = [word.replace("{other}", str(learned / "vae")) for word in flags]
    plain, changed = (short_run(learned, "--only_save_embeds", "--output_dir", str(tmp_path / n)) for n in "ab")
    train_textual_inversion.main(plain)
    train_textual_inversion.main([*changed, *flags])

    one, other = (vectors_in(tmp_path / name / "learned_embeds.pdparams") for name in "ab")
    assert np.abs(one - other).max() > 1e-6


@pytest.mark.slow
def test_validation_images_and_overview_are_drawn_with_the_scheduler_that_was_asked_for(learned, tmp_path):
    watched = ["--validation_prompt", "a <cat-toy>", "--validation_steps", "2", "--overview", "--only_save_embeds"]
    for name, flags in {"own": (), "lms": ("--scheduler", "lms")}.items():
        train_textual_inversion.main(short_run(learned, *watched, *flags, "--output_dir", str(tmp_path / name)))

    def pixels(name, file):
        return np.asarray(Image.open(tmp_path / name / file))

    for file in ("samples/step-2.png", "overview.png"):
        assert (pixels("own", file) != pixels("lms", file)).any()
    vectors = [vectors_in(tmp_path / name / "learned_embeds.pdparams") for name in ("own", "lms")]
    np.testing.assert_array_equal(*vectors)
