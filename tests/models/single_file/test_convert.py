"""Single-file checkpoints: the same model as the folder they were made from, unpacked once, every weight proved."""

import json

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

import infer
import train_textual_inversion
from helpers.single_files import build_single_file
from helpers.training_runs import draw_images, short_run
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.single_file.convert import unpack
from textual_inversion.system.errors import BaseModelError, OutputError


def outputs(model):
    with paddle.no_grad():
        prompts = model.encode_prompts(["a photo of a toy cat", "snow"], image_size=(16, 16))
        latents = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype("float32"))
        noise = model.unet(latents, paddle.to_tensor([3, 700]), prompts.hidden_states, **prompts.added).sample
        images = model.vae.decode(latents).sample, model.vae.encode(model.vae.decode(latents).sample).latent_dist.mean
    return [prompts.hidden_states.numpy(), noise.numpy(), *(image.numpy() for image in images)]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_it_is_the_same_model_as_the_folder(tmp_path, family):
    base, file = build_single_file(tmp_path, family)
    before = file.read_bytes()

    one, other = load_base_model(base), load_base_model(file, tokenizer_name=base, cache_dir=tmp_path / "cache")

    assert other.prediction_type == one.prediction_type and other.name == str(file)
    assert [t.tokenizer.pad_token_id for t in one.text_encoders] == [
        t.tokenizer.pad_token_id for t in other.text_encoders
    ]
    for ours, theirs in zip(outputs(other), outputs(one), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert file.read_bytes() == before


def test_it_is_unpacked_once(tmp_path):
    _, file = build_single_file(tmp_path, "sd1")
    first = unpack(file, tmp_path / "cache")
    written = (first / "model_index.json").stat().st_mtime_ns

    assert unpack(file, tmp_path / "cache") == first and (first / "model_index.json").stat().st_mtime_ns == written
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    _, file = build_single_file(tmp_path, "sd1")

    with pytest.raises(OutputError, match="cannot unpack .* into .*; choose another --cache_dir"):
        unpack(file, file / "below")


@pytest.mark.slow
def test_the_commands_take_one(tmp_path):
    import ppdiffusers

    base, file = build_single_file(tmp_path, "sdxl")
    draw_images(tmp_path / "pictures")
    source = ["--pretrained_model_name_or_path", str(file), "--tokenizer_name", str(base)]
    source += ["--cache_dir", str(tmp_path / "cache")]

    train_textual_inversion.main(short_run(tmp_path, *source, "--resolution", "16"))
    quick = ["--prompt", "a <cat-toy>", "--num_images", "1", "--num_inference_steps", "1"]
    quick += ["--height", "16", "--width", "16", "--output_dir", str(tmp_path / "drawn")]
    infer.main(["--embeds", str(tmp_path / "out/learned_embeds.safetensors"), *quick])  # all else as recorded

    assert json.loads((tmp_path / "drawn/manifest.json").read_text())["runs"][0]["base_model"] == str(file)
    pipe = ppdiffusers.StableDiffusionXLPipeline.from_pretrained(str(tmp_path / "out"))
    assert "<cat-toy>" in pipe.tokenizer_2.get_vocab()


def test_without_a_tokenizer_it_is_refused(tmp_path):
    _, file = build_single_file(tmp_path, "sd1")

    with pytest.raises(BaseModelError, match="holds no tokenizer.*--tokenizer_name"):
        load_base_model(file, cache_dir=tmp_path / "cache")


def test_a_second_stable_diffusion_must_say_what_it_predicts(tmp_path):
    base, file = build_single_file(tmp_path, "sd2")
    file.with_suffix(".yaml").unlink()
    with pytest.raises(BaseModelError, match="does not say whether it predicts noise or v.*model.yaml"):
        unpack(file, tmp_path / "cache")

    save_file(load_file(file), file, metadata={"modelspec.prediction_type": "epsilon"})
    model = load_base_model(file, tokenizer_name=base, cache_dir=tmp_path / "cache")
    assert model.prediction_type == "epsilon"


def changed(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    "gone, message",
    [
        ("model.diffusion_model.output_blocks.1.0.in_layers.2.weight", "lacks the tensor up_blocks.0.resnets.1.conv1"),
        ("model.diffusion_model.input_blocks.0.0.weight", "lacks the tensor model.diffusion_model.input_blocks.0.0"),
        ("first_stage_model.encoder.mid.attn_1.q.bias", "lacks the tensor encoder.mid_block.attentions.0.to_q.bias"),
        ("cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias", "lacks the tensor text_model.enc"),
    ],
)
def test_a_missing_tensor_is_refused_by_name(tmp_path, gone, message):
    base, file = build_single_file(tmp_path, "sd1")
    changed(file, lambda tensors: tensors.pop(gone))

    with pytest.raises(BaseModelError, match=message):
        load_base_model(file, tokenizer_name=base, cache_dir=tmp_path / "cache")


def test_strange_tensors_and_files_of_another_kind_are_refused(tmp_path):
    _, file = build_single_file(tmp_path, "sd1")
    changed(file, lambda tensors: tensors.update({"control_model.input.weight": np.ones(3, np.float32)}))
    with pytest.raises(BaseModelError, match="holds the tensor control_model.input.weight"):
        unpack(file, tmp_path / "cache")

    save_file({"lora_unet_down.weight": np.ones(3, np.float32)}, file)
    with pytest.raises(BaseModelError, match="holds no whole Stable Diffusion model"):
        unpack(file, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
