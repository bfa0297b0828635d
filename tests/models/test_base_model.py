"""Base models: both layouts are one model, every oddity loads right or is refused by name, nothing is written."""

import codecs
import json
import logging
import shutil
import warnings

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from helpers.tiny_models import build_model, tree
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.schedulers import sampling_scheduler
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.system.errors import BaseModelError, SettingsError

PROMPTS = ["a photo of a toy cat on the beach", "Zürich, 1234!"]


def outputs(model):
    """What every part makes of fixed inputs."""
    generator = np.random.default_rng(0)
    latents = paddle.to_tensor(generator.standard_normal((2, 4, 8, 8)).astype(np.float32))
    pixels = paddle.to_tensor(generator.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32))
    with paddle.no_grad():
        prompts = model.encode_prompts(PROMPTS)
        predicted = model.unet(latents, paddle.to_tensor([3, 700]), prompts.hidden_states, **prompts.added).sample
        decoded, encoded = model.vae.decode(latents).sample, model.vae.encode(pixels).latent_dist.mean
    return [array.numpy() for array in (prompts.hidden_states, predicted, decoded, encoded)]


def edit(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def edit_tensors(path, change):
    """Rewrite a safetensors file with what `change` makes of its tensors."""
    from textual_inversion.models.weight_files import WeightFile

    metadata, tensors = WeightFile(path).metadata, load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=metadata)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_the_two_layouts_are_the_same_model(tmp_path, family):
    here, torch = (
        load_base_model(build_model(tmp_path / layout, family, layout)) for layout in ("ppdiffusers", "diffusers")
    )

    assert (here.layout, torch.layout) == ("ppdiffusers", "diffusers")
    for one, other in zip(outputs(here), outputs(torch), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all() and one.std() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        dict(text_prefix=False),
        dict(tokenizer_json_only=True),
        dict(old_vae_names=True),
        dict(shards=3),
        dict(variant="fp16"),
        dict(variant="fp16", shards=2),
    ],
)
@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_other_ways_to_store_it_are_the_same_model(tmp_path, layout, options):
    plain = load_base_model(build_model(tmp_path / "plain", "sd1", layout))
    odd = load_base_model(build_model(tmp_path / "odd", "sd1", layout, **options))

    for one, other in zip(outputs(plain), outputs(odd), strict=True):
        np.testing.assert_array_equal(one, other)


def test_models_of_other_seeds_differ(tmp_path):
    one, other = (load_base_model(build_model(tmp_path / str(seed), seed=seed)) for seed in (0, 1))

    assert all(np.abs(a - b).max() > 0.1 for a, b in zip(outputs(one), outputs(other), strict=True))


@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_the_folder_is_read_and_never_written(tmp_path, layout):
    folder = build_model(tmp_path / "base", layout=layout, safety_checker=True)
    before = tree(folder)

    model = load_base_model(folder)
    outputs(model)
    model.pipeline(with_safety_checker=True)

    assert tree(folder) == before


def test_all_is_frozen_in_float32_and_in_evaluation_mode(tmp_path):
    model = load_base_model(build_model(tmp_path / "base", dtype="float16"))

    for layer in (model.unet, model.vae, model.text_encoders[0].layer):
        assert not layer.training and layer.parameters()
        assert all(p.stop_gradient and p.dtype == paddle.float32 for p in layer.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "old", [("text_encoder", "embeddings.LayerNorm.", "embeddings.layer_norm."), ("text_encoder", "", "bert.")]
)
def test_older_names_of_a_bert_are_known(tmp_path, old):
    part, new_name, old_name = old
    folder = build_model(tmp_path / "base", "taiyi", "diffusers")
    expected = load_base_model(folder).encode_prompts(PROMPTS).hidden_states.numpy()

    def rename(tensors):
        for name in [name for name in tensors if name.startswith(new_name)]:
            tensors[old_name + name.removeprefix(new_name)] = tensors.pop(name)
        tensors.pop(next(name for name in tensors if name.endswith("pooler.dense.bias")))  # nothing depends on it

    edit_tensors(folder / part / "model.safetensors", rename)
    np.testing.assert_array_equal(load_base_model(folder).encode_prompts(PROMPTS).hidden_states.numpy(), expected)


@pytest.mark.parametrize("family, prediction_type", [("sd1", "epsilon"), ("sd2", "v_prediction")])
def test_what_training_needs_to_know(tmp_path, family, prediction_type):
    model = load_base_model(build_model(tmp_path / "base", family, sample_size=16))

    assert (model.resolution, model.vae_scale_factor, model.embedding_width) == (32, 2, 32)
    assert model.prediction_type == prediction_type
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(model.noise_scheduler.alphas_cumprod.numpy(), np.cumprod(1 - betas), rtol=1e-4)
    assert model.encode_prompts(PROMPTS).hidden_states.shape == [2, 77, 32]


def test_the_vae_can_be_freed_and_comes_back(tmp_path):
    model = load_base_model(build_model(tmp_path / "base"))
    before = outputs(model)

    model.free_vae()

    assert model._vae is None
    np.testing.assert_array_equal(outputs(model)[2], before[2])


def test_learned_words_reach_the_prompt_embedding_with_a_gradient(tmp_path):
    from textual_inversion.models.attach import attach_concepts

    model = load_base_model(build_model(tmp_path / "base"))
    plain = model.encode_prompts(["a photo of a cat"]).hidden_states
    rows = attach_concepts(model, {"<cat-toy>": 2}, {"text_encoder": np.ones((2, 32), np.float32)})["text_encoder"]

    model.encode_prompts(["a photo of <cat-toy>"]).hidden_states.square().mean().backward()

    assert (rows.vectors.grad.abs().sum(axis=1) > 0).all()
    assert model.text_encoders[0].embedding_width == 32
    np.testing.assert_array_equal(model.encode_prompts(["a photo of a cat"]).hidden_states.numpy(), plain.numpy())


# ------------------------------------------------------------------------------------------------------- pipelines


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *SCHEDULERS])
def test_a_pipeline_generates_with_every_scheduler(tmp_path, name):
    model = load_base_model(build_model(tmp_path / "base", "sd2"))

    images = model.pipeline(name)("a toy", num_inference_steps=3, height=16, width=16, output_type="np").images

    assert images.shape == (1, 16, 16, 3) and np.isfinite(images).all()


def test_the_pipeline_shares_the_parts_and_says_nothing(tmp_path, caplog):
    model = load_base_model(build_model(tmp_path / "base", scheduler=dict(clip_sample=True, steps_offset=0)))

    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        pipe = model.pipeline()

    assert pipe.unet is model.unet and pipe.vae is model.vae and pipe.text_encoder is model.text_encoders[0].layer
    assert type(pipe.scheduler).__name__ == "PNDMScheduler" and pipe.safety_checker is None
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_the_safety_checker_is_there_when_it_is_asked_for(tmp_path, layout):
    model = load_base_model(build_model(tmp_path / "base", layout=layout, safety_checker=True))

    result = model.pipeline(with_safety_checker=True)("a toy", num_inference_steps=1, height=16, width=16)

    assert result.nsfw_content_detected == [False]
    without = load_base_model(build_model(tmp_path / "without"))
    assert without.load_safety_checker() == (None, None)


def test_pipelines_see_the_zero_terminal_snr_of_a_base(tmp_path):
    changes = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    model = load_base_model(build_model(tmp_path / "base", "sd2", scheduler=changes))

    assert float(model.noise_scheduler.alphas_cumprod[-1]) == pytest.approx(0, abs=1e-6)
    assert sampling_scheduler(model.scheduler_config).config.timestep_spacing == "trailing"


def test_an_unknown_scheduler_name_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no scheduler dmp.*ddim, ddpm"):
        sampling_scheduler({"_class_name": "PNDMScheduler"}, "dmp")


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
@pytest.mark.parametrize(
    "part, tensor",
    [
        ("unet", "mid_block.attentions.0.proj_in.weight"),
        ("vae", "quant_conv.bias"),
        ("text_encoder", "text_model.encoder.layers.1.mlp.fc2.weight"),
    ],
)
def test_a_missing_tensor_is_refused_by_name(tmp_path, layout, part, tensor):
    folder = build_model(tmp_path / "base", layout=layout)
    path = next((folder / part).glob("*.safetensors"))
    edit_tensors(path, lambda tensors: tensors.pop(tensor))

    with pytest.raises(BaseModelError, match=rf"{path.name} lacks the tensor {tensor}"):
        load_base_model(folder)


def test_misshapen_and_surplus_tensors_are_refused_by_name(tmp_path):
    folder = build_model(tmp_path / "base")
    path = folder / "unet/diffusion_paddle_model.safetensors"
    edit_tensors(path, lambda tensors: tensors.update({"extra.weight": np.zeros(3, np.float32)}))
    with pytest.raises(BaseModelError, match="the tensor extra.weight, which its config.json"):
        load_base_model(folder)

    edit_tensors(path, lambda tensors: tensors.update({"extra.weight": tensors.pop("conv_in.weight")[:5]}))
    with pytest.raises(BaseModelError, match="lacks the tensor conv_in.weight"):
        load_base_model(folder)

    edit_tensors(path, lambda tensors: tensors.update({"conv_in.weight": tensors.pop("extra.weight")}))
    with pytest.raises(BaseModelError, match=r"conv_in.weight with shape \[5, 4, 3, 3\].*\[32, 4, 3, 3\]"):
        load_base_model(folder)


def test_position_ids_of_older_files_are_harmless(tmp_path):
    folder = build_model(tmp_path / "base", layout="diffusers")
    ids = {"text_model.embeddings.position_ids": np.arange(77)[None]}
    edit_tensors(folder / "text_encoder/model.safetensors", lambda tensors: tensors.update(ids))

    assert load_base_model(folder).embedding_width == 32


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(unet=dict(in_channels=9)), "an inpainting model"),
        (dict(unet=dict(in_channels=5, out_channels=5)), "not a plain text-to-image model"),
        (dict(unet=dict(cross_attention_dim=48)), "gives vectors of width 32, and its U-Net takes width 48"),
        (dict(pipeline_class="StableDiffusionInpaintPipeline"), "StableDiffusionInpaintPipeline.*also takes a mask"),
        (dict(pipeline_class="StableDiffusionXLInpaintPipeline"), "which cannot be trained: its U-Net also takes a m"),
        (dict(pipeline_class="StableDiffusionControlNetPipeline"), "another network controls its U-Net"),
        (dict(pipeline_class="StableUnCLIPPipeline"), "takes an image's embedding"),
        (dict(pipeline_class="KandinskyV22Pipeline"), "takes an image's embedding"),
        (dict(pipeline_class="StableDiffusion3Pipeline"), "a transformer in place of the U-Net"),
        (dict(pipeline_class="FluxPipeline"), "a transformer in place of the U-Net"),
        (dict(pipeline_class="PixArtAlphaPipeline"), "a transformer in place of the U-Net"),
        (dict(pipeline_class="HunyuanDiTPipeline"), "a transformer in place of the U-Net"),
        (dict(pipeline_class="SomethingNewPipeline"), "SomethingNewPipeline, which cannot be trained: take a text-to-"),
        (dict(family="sdxl", pipeline_class="StableDiffusionPipeline"), "has addition_embed_type text_time"),
        (dict(pipeline_class="StableDiffusionXLPipeline"), "names nothing as text_encoder_2"),
        (dict(family="sdxl", unet=dict(projection_class_embeddings_input_dim=64)), "takes a pooled input of width 64"),
        (dict(unet=dict(class_embed_type="timestep")), "has class_embed_type timestep"),
        (dict(scheduler=dict(prediction_type="sample")), "prediction_type sample"),
        (dict(scheduler=dict(_class_name="FlowMatchEulerDiscreteScheduler")), "has no DDPM noise"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_sentence(tmp_path, options, message):
    folder = build_model(tmp_path / "base", **options)

    with pytest.raises(BaseModelError, match=message) as refusal:
        load_base_model(folder)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("entries", [dict(requires_aesthetics_score=True), dict(text_encoder=[None, None])])
def test_the_refiner_is_refused(tmp_path, entries):
    folder = build_model(tmp_path / "base", "sdxl")
    edit(folder / "model_index.json", _class_name="StableDiffusionXLImg2ImgPipeline", **entries)

    with pytest.raises(BaseModelError, match="is the refiner of Stable Diffusion XL.*take the base model"):
        load_base_model(folder)


def test_a_part_alone_is_called_by_its_name(tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": "ControlNetModel"}')

    with pytest.raises(BaseModelError, match="no model_index.json and is a ControlNetModel alone; give the folder of"):
        load_base_model(tmp_path)


@pytest.mark.parametrize("gone", ["model_index.json", "unet", "vae/config.json", "scheduler", "tokenizer/merges.txt"])
def test_an_incomplete_folder_is_explained(tmp_path, gone):
    folder = build_model(tmp_path / "base")
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    with pytest.raises(BaseModelError, match=gone.split("/")[-1]):
        load_base_model(folder)


def test_another_text_encoder_class_and_a_damaged_index_are_refused(tmp_path):
    folder = build_model(tmp_path / "base")
    edit(folder / "model_index.json", text_encoder=["ppdiffusers.transformers", "T5EncoderModel"])
    with pytest.raises(BaseModelError, match="names T5EncoderModel as text_encoder; only models with CLIPTextModel or"):
        load_base_model(folder)

    (folder / "model_index.json").write_text("{")
    with pytest.raises(BaseModelError, match="no readable JSON"):
        load_base_model(folder)


def test_a_tokenizer_of_another_model_is_refused_and_a_fitting_one_taken(tmp_path):
    folder = build_model(tmp_path / "base")
    plain = load_base_model(folder).encode_prompts(PROMPTS).hidden_states.numpy()
    other = build_model(tmp_path / "other", seed=3)
    same = load_base_model(folder, tokenizer_name=other).encode_prompts(PROMPTS).hidden_states.numpy()
    np.testing.assert_array_equal(same, plain)

    vocabulary = json.loads((other / "tokenizer/vocab.json").read_text())
    (other / "tokenizer/vocab.json").write_text(json.dumps(vocabulary | {"beyond": len(vocabulary)}))
    with pytest.raises(BaseModelError, match="different models"):
        load_base_model(folder, tokenizer_name=other / "tokenizer")


def test_a_text_encoder_stored_as_a_whole_clip_model_finds_its_configuration(tmp_path):
    folder = build_model(tmp_path / "base")
    expected = load_base_model(folder).encode_prompts(PROMPTS).hidden_states.numpy()
    path = folder / "text_encoder/config.json"
    path.write_text(json.dumps({"model_type": "clip", "text_config": json.loads(path.read_text())}))

    np.testing.assert_array_equal(load_base_model(folder).encode_prompts(PROMPTS).hidden_states.numpy(), expected)


def test_byte_order_marks_in_json_files_are_passed_over(tmp_path):
    folder = build_model(tmp_path / "plain")
    marked = shutil.copytree(folder, tmp_path / "marked")
    found = list(marked.rglob("*.json"))
    for path in found:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())

    assert len(found) > 5
    for one, other in zip(outputs(load_base_model(str(folder))), outputs(load_base_model(str(marked))), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("safety_checker/config.json", {"vision_config": 7}),
        ("safety_checker/config.json", {"text_config": "x"}),
        ("feature_extractor/preprocessor_config.json", {"size": 10**9}),
        ("feature_extractor/preprocessor_config.json", {"image_mean": "x"}),
        ("scheduler/scheduler_config.json", {"timestep_spacing": -1}),
        ("unet/config.json", {"dropout": None}),
    ],
)
def test_what_is_found_only_in_use_is_one_line_too(tmp_path, file, entries):
    from textual_inversion.generation.generate import ImageRequest, generate

    folder = build_model(tmp_path / "base", safety_checker=True)
    edit(folder / file, **entries)

    with pytest.raises(BaseModelError) as refusal:
        model = load_base_model(folder)
        generate(
            model,
            [ImageRequest("a toy", 1, num_inference_steps=1)],
            pipeline=model.pipeline(with_safety_checker=True),
        )

    assert str(folder) in str(refusal.value) and "\n" not in str(refusal.value)
