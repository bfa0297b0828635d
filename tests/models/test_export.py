"""Saved pipelines: ppdiffusers loads them without a flag, the new words act, the base model stays as it was."""

import json
import os

import numpy as np
import paddle
import pytest
from ppdiffusers import StableDiffusionPipeline
from safetensors.numpy import load_file, save_file

from helpers.tiny_models import build_model, tree
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.export import save_pipeline
from textual_inversion.system.errors import ConceptError, EmbeddingFileError, OutputError

STEPS = dict(num_inference_steps=2, height=16, width=16, guidance_scale=3.0, output_type="np")


def concept(word="<cat-toy>", vectors=1, width=32, seed=1):
    rows = np.random.default_rng(seed).standard_normal((vectors, width)).astype(np.float32)
    return LearnedEmbedding(word, {"text_encoder": rows})


def saved(tmp_path, *concepts, **options):
    base = build_model(tmp_path / "base", **options)
    model = load_base_model(base)
    save_pipeline(model, concepts, tmp_path / "out")
    return model, base, tmp_path / "out"


def draw(pipe, prompt):
    paddle.seed(3)
    return pipe(prompt, **STEPS).images


def states(pipe, prompt):
    return pipe.encode_prompt(prompt, 1, False)[0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_the_documented_use_works_on_what_was_saved(tmp_path, family, layout):
    model, _, output = saved(tmp_path, concept(), family=family, layout=layout, safety_checker=True)

    pipe = StableDiffusionPipeline.from_pretrained(str(output))
    image = pipe("A <cat-toy> backpack", **STEPS).images[0]

    assert image.shape == (16, 16, 3) and np.isfinite(image).all()
    plain = model.pipeline()
    np.testing.assert_allclose(draw(pipe, "a red cat"), draw(plain, "a red cat"), atol=2e-5)
    assert np.abs(states(pipe, "A <cat-toy> backpack") - states(pipe, "A cat backpack")).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_every_vector_of_every_concept_stands_where_its_token_points(tmp_path, layout):
    cat, art = concept(vectors=3), concept("det-logo", vectors=2, seed=2)
    _, _, output = saved(tmp_path, cat, art, layout=layout)

    pipe = StableDiffusionPipeline.from_pretrained(str(output))

    tokens = ["<cat-toy>", "<cat-toy>_1", "<cat-toy>_2", "det-logo", "det-logo_1"]
    ids = pipe.tokenizer.convert_tokens_to_ids(tokens)
    rows = pipe.text_encoder.get_input_embeddings().weight[ids].numpy()
    np.testing.assert_array_equal(rows, np.concatenate([cat.vectors["text_encoder"], art.vectors["text_encoder"]]))
    expanded = pipe.maybe_convert_prompt("a photo of <cat-toy>", pipe.tokenizer)
    assert pipe.tokenizer.tokenize(expanded)[-3:] == tokens[:3]


@pytest.mark.slow
def test_a_saved_word_means_what_it_meant_in_training(tmp_path):
    from textual_inversion.models.attach import attach_concepts

    one = concept(vectors=3)
    model, _, output = saved(tmp_path, one)
    attach_concepts(model, {"<cat-toy>": 3}, dict(one.vectors))
    expected = model.encode_prompts(["a photo of <cat-toy> on the beach"]).hidden_states.numpy()

    pipe = StableDiffusionPipeline.from_pretrained(str(output))

    np.testing.assert_allclose(states(pipe, "a photo of <cat-toy> on the beach"), expected, atol=1e-5)


def test_saving_with_rows_attached_writes_the_plain_encoder(tmp_path):
    from textual_inversion.models.attach import attach_concepts

    one = concept()
    model, _, output = saved(tmp_path, one)
    before = tree(output)
    attach_concepts(model, {"<cat-toy>": 1}, dict(one.vectors))

    save_pipeline(model, [one], output)

    assert tree(output) == before


@pytest.mark.slow
def test_the_saved_tokenizer_reads_text_as_the_base_models_does(tmp_path):
    model, _, output = saved(tmp_path, concept("<Cat-Toy>"), layout="diffusers", tokenizer_json_only=True)
    pipe = StableDiffusionPipeline.from_pretrained(str(output))
    text = "A photo of THE cat, zürich 猫 it's 1234!"

    assert pipe.tokenizer(text)["input_ids"] == model.text_encoders[0].tokenizer(text)["input_ids"]
    assert pipe.tokenizer.model_max_length == 77
    assert "<Cat-Toy>" in pipe.tokenizer.tokenize("a <Cat-Toy> on the beach")
    assert pipe.tokenizer.pad_token_id == model.text_encoders[0].tokenizer.pad_token_id


def test_the_base_model_stays_as_it_was(tmp_path):
    base = build_model(tmp_path / "base", layout="diffusers", safety_checker=True)
    before = tree(base)
    model = load_base_model(base)

    for vectors in (1, 2):  # the second run replaces files that are names of the base model's own
        save_pipeline(model, [concept(vectors=vectors)], tmp_path / "out")
    (tmp_path / "out/unet/config.json").write_text("{}")

    assert tree(base) == before


@pytest.mark.parametrize("layout, file", [("ppdiffusers", "paddle"), ("diffusers", "pytorch")])
def test_unchanged_weights_are_links_and_not_copies(tmp_path, layout, file):
    _, base, output = saved(tmp_path, concept(), layout=layout, safety_checker=True)

    for part in ("unet", "vae"):
        source = base / part / f"diffusion_{file}_model.safetensors"
        assert (output / part / "diffusion_paddle_model.safetensors").samefile(source)
    same = (output / "safety_checker/model.safetensors").samefile(base / "safety_checker/model.safetensors")
    assert same == (layout == "ppdiffusers")  # paddlenlp does not turn the other layout round
    assert not list(output.rglob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        dict(dtype="float16", variant="fp16"),
        dict(shards=2),
        dict(shards=2, dtype="float16", layout="diffusers", variant="fp16"),
        dict(old_vae_names=True, layout="diffusers"),
        dict(text_prefix=False, tokenizer_json_only=True, layout="diffusers"),
    ],
)
def test_unusual_bases_are_linked_or_converted(tmp_path, options):
    model, base, output = saved(tmp_path, concept(), safety_checker=True, **options)
    before = tree(base)

    pipe = StableDiffusionPipeline.from_pretrained(str(output))

    np.testing.assert_allclose(draw(pipe, "a toy"), draw(model.pipeline(), "a toy"), atol=2e-5)
    assert all(any(path.stat().st_nlink > 1 for path in (output / part).iterdir()) for part in ("unet", "vae"))
    assert tree(base) == before


@pytest.mark.slow
def test_files_without_a_declared_layout_are_written_anew(tmp_path):
    base = build_model(tmp_path / "base")
    path = base / "unet/diffusion_paddle_model.safetensors"
    save_file(load_file(path), path)
    model = load_base_model(base)

    save_pipeline(model, [concept()], tmp_path / "out")

    assert not (tmp_path / "out/unet/diffusion_paddle_model.safetensors").samefile(path)
    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "out"))
    np.testing.assert_allclose(draw(pipe, "a toy"), draw(model.pipeline(), "a toy"), atol=2e-5)


def test_where_links_are_impossible_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    _, base, output = saved(tmp_path, concept())

    copy, source = (folder / "unet/diffusion_paddle_model.safetensors" for folder in (output, base))
    assert copy.read_bytes() == source.read_bytes() and not copy.samefile(source)


@pytest.mark.slow
def test_another_runs_weights_do_not_survive(tmp_path):
    save_pipeline(load_base_model(build_model(tmp_path / "cut", shards=2, seed=5)), [concept()], tmp_path / "out")
    model = load_base_model(build_model(tmp_path / "whole"))

    save_pipeline(model, [concept()], tmp_path / "out")

    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "out"))
    np.testing.assert_allclose(draw(pipe, "a toy"), draw(model.pipeline(), "a toy"), atol=2e-5)


@pytest.mark.slow
def test_a_saved_pipeline_is_a_base_model_again(tmp_path):
    one = concept(vectors=2)
    _, _, output = saved(tmp_path, one, layout="diffusers")

    model = load_base_model(output)
    save_pipeline(model, [concept("<second>", seed=9)], tmp_path / "third")

    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "third"))
    row = pipe.text_encoder.get_input_embeddings().weight[pipe.tokenizer.convert_tokens_to_ids("<cat-toy>_1")]
    np.testing.assert_array_equal(row.numpy(), one.vectors["text_encoder"][1])
    assert "<second>" in pipe.tokenizer.get_vocab()


@pytest.mark.parametrize("name", ["TCDScheduler", None])
def test_a_scheduler_that_ppdiffusers_does_not_have_is_saved_as_the_one_that_draws(tmp_path, name):
    model, _, output = saved(tmp_path, concept(), scheduler={"_class_name": name, "gamma_of_tomorrow": 1})

    pipe = StableDiffusionPipeline.from_pretrained(str(output))

    assert type(pipe.scheduler).__name__ == type(model.pipeline().scheduler).__name__ == "DDIMScheduler"
    np.testing.assert_allclose(draw(pipe, "a toy"), draw(model.pipeline(), "a toy"), atol=2e-5)
    np.testing.assert_array_equal(pipe.scheduler.alphas_cumprod, model.noise_scheduler.alphas_cumprod)


@pytest.mark.slow
def test_the_safety_checker_comes_along_if_the_base_has_one(tmp_path):
    _, _, output = saved(tmp_path, concept(), layout="diffusers", safety_checker=True)
    (tmp_path / "other").mkdir()
    _, _, without = saved(tmp_path / "other", concept())

    assert StableDiffusionPipeline.from_pretrained(str(output)).safety_checker is not None
    assert json.loads((without / "model_index.json").read_text())["safety_checker"] == [None, None]


@pytest.mark.slow
def test_a_pooled_output_is_taken_at_the_end_token(tmp_path):
    base = build_model(tmp_path / "base")
    path = base / "text_encoder/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 2}))

    save_pipeline(load_base_model(base), [concept()], tmp_path / "out")

    encoder = StableDiffusionPipeline.from_pretrained(str(tmp_path / "out")).text_encoder
    assert encoder.text_model.eos_token_id == len(json.loads((base / "tokenizer/vocab.json").read_text())) - 1


@pytest.mark.parametrize("where", ["base", "base/unet", "base/new/folder", "link", "out_with_link"])
def test_the_base_models_folder_is_refused_as_output(tmp_path, where):
    model = load_base_model(build_model(tmp_path / "base"))
    (tmp_path / "link").symlink_to(tmp_path / "base")
    (tmp_path / "out_with_link").mkdir()
    (tmp_path / "out_with_link/unet").symlink_to(tmp_path / "base/unet")
    before = tree(tmp_path / "base")

    with pytest.raises(OutputError, match="base model"):
        save_pipeline(model, [concept()], tmp_path / where)

    assert tree(tmp_path / "base") == before


def test_words_that_are_taken_or_do_not_fit_are_refused(tmp_path):
    model = load_base_model(build_model(tmp_path / "base"))

    for wrong in (concept("cat</w>"), concept("two words"), concept(width=48)):
        with pytest.raises(EmbeddingFileError):
            save_pipeline(model, [wrong], tmp_path / "out")
    with pytest.raises(ConceptError, match="<a>_1"):
        save_pipeline(model, [concept("<a>", vectors=2), concept("<a>_1")], tmp_path / "out")
    assert not (tmp_path / "out").exists()
