"""The model card of a run: metadata that the hub understands, examples that work."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

import train_textual_inversion
from helpers.configs import config_of
from helpers.tiny_models import build_model
from helpers.training_runs import short_run
from helpers.written_runs import LOCAL_HASH
from textual_inversion.settings.concept import Concept
from textual_inversion.sharing import model_card
from textual_inversion.sharing.model_card import CardFacts


def facts(base="CompVis/stable-diffusion-v1-4", tokens=("<cat-toy>",), *, is_xl=False, images=False, seed=3, **figures):
    training = config_of(max_train_steps=5, train_batch_size=1, learning_rate=0.1, seed=seed).training
    concepts = tuple(Concept(token, 2, "toy") for token in tokens)
    return CardFacts(base, is_xl, concepts, "en", figures, has_validation_images=images, training=training)


def head(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize(
    ("base", "license_name", "named"),
    [
        ("CompVis/stable-diffusion-v1-4", "creativeml-openrail-m", True),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m", True),
        ("stabilityai/stable-diffusion-2-1", "openrail++", True),
        ("stabilityai/stable-diffusion-xl-base-1.0", "openrail++", True),
        ("somebody/finetune", "other", True),
        ("/home/somebody/models/mine", "other", False),
        ("local:demo", "apache-2.0", False),
        (LOCAL_HASH, "other", False),
    ],
)
def test_the_head_is_what_the_hub_reads(base, license_name, named):
    text = model_card.card(facts(base))

    metadata = head(text)
    assert metadata["license"] == license_name and metadata.get("base_model") == (base if named else None)
    assert {"textual_inversion", "stable-diffusion"} <= set(metadata["tags"])
    assert metadata["library_name"] == "diffusers" and metadata["instance_prompt"] == "<cat-toy>"
    assert "/home/somebody" not in text


def test_concepts_images_settings_and_all_four_programs_are_there():
    best = {"step": 4, "by": "loss on the fixed set", "score": 0.5}
    text = model_card.card(facts(images=True, overview="overview.png", best=best))

    assert "| `<cat-toy>` | object | 2 | `toy` | `a photo of a <cat-toy>` |" in text
    assert "](overview.png)" in text and "](samples/over-time.png)" in text
    assert [title for title in re.findall(r"^### (.*)$", text, re.MULTILINE)] == [
        "ppdiffusers",
        "diffusers",
        "AUTOMATIC1111",
        "ComfyUI",
    ]
    assert "as `cat-toy.safetensors`, written `embedding:cat-toy`" in text
    assert "best step: 4" in text and "`seed`: 3" in text


def test_without_images_none_are_linked():
    assert "![" not in model_card.card(facts())


def test_several_concepts_have_a_file_each():
    text = model_card.card(facts(tokens=("<a b>", "<s>")))

    assert "learned_embeds-a-b.safetensors" in text and "learned_embeds-s.safetensors" in text
    assert head(text)["instance_prompt"] == "<a b> <s>"


def test_both_text_encoders_of_sdxl_get_their_vectors():
    text = model_card.card(facts("stabilityai/stable-diffusion-xl-base-1.0", is_xl=True))

    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2 and "stable-diffusion-xl" in head(text)["tags"]
    for example in examples:
        compile(example, "card", "exec")
        assert "StableDiffusionXLPipeline" in example
        assert "clip_l" in example and "clip_g" in example and "tokenizer=pipe.tokenizer_2" in example


def test_a_readme_of_the_users_own_stays(tmp_path):
    assert model_card.write(tmp_path, facts())
    assert model_card.write(tmp_path, facts(seed=4))  # one of ours is written anew
    assert "`seed`: 4" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")

    assert not model_card.write(tmp_path, facts())
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"),
                                 lambda path: path.symlink_to("absent")])  # fmt: skip
def test_whatever_else_has_the_name_of_the_card_stays_and_is_not_waited_for(tmp_path, put):
    put(tmp_path / "README.md")
    before = (tmp_path / "README.md").lstat()

    assert not model_card.write(tmp_path, facts())
    assert (tmp_path / "README.md").lstat() == before


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["1", "2"])
def test_the_example_for_ppdiffusers_works_as_it_stands(tmp_path, monkeypatch, vectors):
    train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds", "--num_vectors", vectors))
    text = (tmp_path / "out" / "README.md").read_text()
    example = re.search(r"```python\n(from ppdiffusers.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path / "out")

    names = {}
    exec(
        example.replace("FOLDER OF THE BASE MODEL", str(tmp_path / "base")).replace(
            '>")', '>", num_inference_steps=1)'
        ),
        names,
    )

    assert names["image"].size == (16, 16)
    assert f"<cat-toy>{'_1' if vectors == '2' else ''}" in names["pipe"].tokenizer.get_vocab()


@pytest.mark.slow
@pytest.mark.parametrize("vectors", [1, 2])
def test_the_example_for_sdxl_in_ppdiffusers_gives_both_encoders_their_vectors(tmp_path, monkeypatch, vectors):
    from ppdiffusers import StableDiffusionPipeline

    values = {name: np.full((vectors, 32), value, np.float32) for name, value in (("clip_l", 1.0), ("clip_g", 2.0))}
    save_file(values, tmp_path / "learned_embeds.safetensors")
    text = model_card.card(facts("stabilityai/stable-diffusion-xl-base-1.0", is_xl=True))
    example = re.search(r"```python\n(from ppdiffusers.*?)```", text, re.DOTALL)[1]
    pipe, other = (StableDiffusionPipeline.from_pretrained(str(build_model(tmp_path / name))) for name in ("a", "b"))
    names = {"pipe": pipe}
    # The loader looks at no more of a pipeline than its two pairs of encoder and tokenizer.
    pipe.__dict__.update(text_encoder_2=other.text_encoder, tokenizer_2=other.tokenizer)
    monkeypatch.chdir(tmp_path)

    exec("\n".join(line for line in example.splitlines() if not line.startswith(("pipe =", "image ="))), names)

    for part, value in ((pipe, 1.0), (other, 2.0)):
        ids = part.tokenizer.convert_tokens_to_ids(["<cat-toy>", "<cat-toy>_1"][:vectors])
        assert (part.text_encoder.get_input_embeddings().weight.numpy()[ids] == value).all()
