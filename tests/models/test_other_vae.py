"""Another VAE in the place of the base model's own: from a folder, a file in both layouts, or a hub."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers.single_files import build_single_file
from helpers.tiny_models import build_model, tree
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.models import hub
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.export import save_pipeline
from textual_inversion.models.identity import content_hash
from textual_inversion.system.errors import BaseModelError


def weights(model):
    return {name: value.numpy() for name, value in model.vae.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("other") / "other", layout="diffusers", seed=5)


@pytest.mark.parametrize("part", ["", "vae"])
def test_a_folder_of_a_model_or_of_a_vae_gives_its_weights_and_no_other_part(base, other, part):
    model, plain = load_base_model(base, vae=other / part), load_base_model(base)

    assert same(weights(model), weights(load_base_model(other))) and not same(weights(model), weights(plain))
    assert np.array_equal(model.unet.conv_in.weight.numpy(), plain.unet.conv_in.weight.numpy())
    assert content_hash(model.vae_folder) == content_hash(other / "vae")


def test_a_file_in_diffusers_layout_is_unpacked_once(base, other, tmp_path):
    file = tmp_path / "fine.safetensors"
    save_file(load_file(next((other / "vae").glob("*.safetensors"))), file)

    model = load_base_model(base, vae=file, cache_dir=tmp_path / "cache")
    before = tree(tmp_path / "cache")
    load_base_model(base, vae=file, cache_dir=tmp_path / "cache")

    assert same(weights(model), weights(load_base_model(other)))
    assert tree(tmp_path / "cache") == before and len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("keeps_prefix", [True, False])
def test_a_file_in_the_original_layout_gives_the_same_weights(tmp_path, keeps_prefix):
    folder, whole = build_single_file(tmp_path / "theirs", "sd1")
    tensors = {name: value for name, value in load_file(whole).items() if name.startswith("first_stage_model.")}
    if not keeps_prefix:
        tensors = {name.removeprefix("first_stage_model."): value for name, value in tensors.items()}
        tensors["loss.logvar"] = np.zeros(1, np.float32)  # what training programs leave in such files
    save_file(tensors, tmp_path / "vae.safetensors")
    vae = dict(block_out_channels=[32, 64], norm_num_groups=32)
    base = build_model(tmp_path / "base", vae=vae, seed=3)

    model = load_base_model(base, vae=tmp_path / "vae.safetensors", cache_dir=tmp_path / "cache")

    assert same(weights(model), weights(load_base_model(folder)))


def test_a_file_of_other_latents_is_refused(base, other, tmp_path):
    tensors = load_file(next((other / "vae").glob("*.safetensors")))
    name = "decoder.conv_in.weight"
    tensors[name] = np.zeros((tensors[name].shape[0], 16, 3, 3), np.float32)
    save_file(tensors, tmp_path / "sixteen.safetensors")

    with pytest.raises(BaseModelError, match="makes latents of 16 channels, and the U-Net takes 4"):
        load_base_model(base, vae=tmp_path / "sixteen.safetensors", cache_dir=tmp_path)
    deep = dict(block_out_channels=[16, 16, 32], down_block_types=["DownEncoderBlock2D"] * 3,
                up_block_types=["UpDecoderBlock2D"] * 3)  # fmt: skip
    with pytest.raises(BaseModelError, match="a latent of 4 x 4 pixels, and the U-Net's are of 2 x 2"):
        load_base_model(base, vae=build_model(tmp_path / "deep", vae=deep))


def test_the_saved_pipeline_holds_it(base, other, tmp_path):
    model = load_base_model(base, vae=other)
    concept = LearnedEmbedding("<t>", {"text_encoder": np.ones((1, 32), np.float32)})

    save_pipeline(model, [concept], tmp_path / "saved")

    assert same(weights(load_base_model(tmp_path / "saved")), weights(load_base_model(other)))
    from ppdiffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "saved"))
    loaded = {name: value.numpy() for name, value in pipe.vae.state_dict().items()}
    assert same(loaded, weights(load_base_model(other)))


def test_what_a_repository_needs_for_its_vae():
    weights = ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"]
    assert hub.vae_files(["config.json", *weights, "README.md"]) == ["config.json", weights[0]]
    whole = ["model_index.json", "vae/config.json", *(f"vae/{name}" for name in weights), "unet/config.json"]
    assert hub.vae_files(whole) == ["vae/config.json", f"vae/{weights[0]}"]
    assert hub.vae_files(["config.json", "model.safetensors"]) == []


def test_a_strangers_record_does_not_decide_what_the_hub_is_asked_for(base, tmp_path):
    with pytest.raises(BaseModelError, match=r"run.json names the VAE evil/vae.*say --vae evil/vae"):
        load_base_model(base, vae="evil/vae", vae_recorded_in=tmp_path / "run.json")


def test_a_damaged_configuration_is_named(base, other, tmp_path):
    import shutil

    shutil.copytree(other / "vae", tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(BaseModelError, match="does not say how many channels"):
        load_base_model(base, vae=tmp_path / "vae")
