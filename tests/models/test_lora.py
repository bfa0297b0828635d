"""LoRA files in a base model: which weights they change, by how much, and what is refused."""

import numpy as np
import paddle
import pytest

from helpers.lora_files import TEXT, UNET, chosen, diffusers, kohya, matrices, transposed, write_lora
from helpers.tiny_models import build_model
from textual_inversion.formats.lora_file import read_lora
from textual_inversion.formats.paddle_file import pdparams_bytes
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.lora import merge_loras, merged_loras
from textual_inversion.system.errors import EmbeddingFileError

SDXL_UNET = [
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "mid_block.attentions.0.transformer_blocks.1.ff.net.2",
    "mid_block.attentions.0.proj_in",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    return {family: build_model(root / family, family) for family in ("sd1", "sd2", "sdxl", "taiyi")}


@pytest.fixture
def sd1(folders):
    return load_base_model(folders["sd1"])


def weights(model) -> dict[str, np.ndarray]:
    parts = {"unet": model.unet, "vae": model.vae} | {one.name: one.layer for one in model.text_encoders}
    return {f"{name}.{key}": value.numpy().copy() for name, part in parts.items()
            for key, value in part.state_dict().items()}  # fmt: skip


def expected(before, layers, factor=1.0) -> dict[str, np.ndarray]:
    """W + factor · up · down of each layer, in float64."""
    after = dict(before)
    for seed, ((part, path), layer) in enumerate(layers.items()):
        down, up = (one.astype(np.float64) for one in matrices(layer, seed))
        product = up.reshape(len(up), -1) @ down.reshape(len(down), -1)  # [out, in]
        name = f"{part}.{path}.weight"
        product = product.reshape(before[name].shape) if before[name].ndim == 4 else product.T
        after[name] = before[name] + factor * product
    return after


def check(model, before, layers, factor=1.0):
    after, wanted = weights(model), expected(before, layers, factor)
    assert after.keys() == wanted.keys()
    changed = {f"{part}.{path}.weight" for part, path in layers}
    for name, value in after.items():
        if name in changed:
            np.testing.assert_allclose(value, wanted[name], rtol=0, atol=1e-6)
            assert np.abs(value - before[name]).max() > 1e-3
        else:
            assert value.tobytes() == before[name].tobytes(), name


@pytest.mark.parametrize("form", ["lora", "processor", "peft"])
def test_names_of_diffusers(tmp_path, sd1, form):
    before, layers = weights(sd1), chosen(sd1)

    merge_loras(sd1, [read_lora(write_lora(tmp_path / "a.safetensors", diffusers(layers, form)))])

    check(sd1, before, layers)


def test_a_unet_without_a_prefix(tmp_path, sd1):
    before, layers = weights(sd1), chosen(sd1, text=[])

    merge_loras(sd1, [read_lora(write_lora(tmp_path / "a.safetensors", diffusers(layers, "bare")))])

    check(sd1, before, layers)


def test_kohyas_names_with_alpha_and_scale(tmp_path, sd1):
    before, layers = weights(sd1), chosen(sd1)
    file = write_lora(tmp_path / "a.safetensors", kohya(layers, alpha=3))

    merge_loras(sd1, [read_lora(f"{file}:-0.5")])

    check(sd1, before, layers, factor=-0.5 * 3 / 2)  # scale · alpha / rank


def test_both_text_encoders_of_sdxl(tmp_path, folders):
    model = load_base_model(folders["sdxl"])
    before, layers = weights(model), chosen(model, SDXL_UNET)
    assert {part for part, _ in layers} == {"unet", "text_encoder", "text_encoder_2"}

    merge_loras(model, [read_lora(write_lora(tmp_path / "a.safetensors", kohya(layers, alpha=None)))])

    check(model, before, layers)


def test_block_numbers_of_original_files(tmp_path, sd1):
    """The names under which kohya's scripts save a LoRA of Stable Diffusion XL; numbers for one layer per block."""
    before = weights(sd1)
    names = {
        "input_blocks_1_1_transformer_blocks_0_attn1_to_q": UNET[0],
        "middle_block_1_transformer_blocks_0_attn2_to_k": UNET[2],
        "output_blocks_2_0_in_layers_2": "up_blocks.1.resnets.0.conv1",
        "output_blocks_0_0_emb_layers_1": "up_blocks.0.resnets.0.time_emb_proj",
        "input_blocks_2_0_op": "down_blocks.0.downsamplers.0.conv",
    }
    layers = chosen(sd1, list(names.values()), [])
    tensors = kohya(layers)
    for original, path in names.items():
        stem = f"lora_unet_{path.replace('.', '_')}."
        own = {key.replace(stem, f"lora_unet_{original}."): v for key, v in tensors.items() if key.startswith(stem)}
        tensors = {key: v for key, v in tensors.items() if not key.startswith(stem)} | own

    merge_loras(sd1, [read_lora(write_lora(tmp_path / "a.safetensors", tensors))])

    check(sd1, before, layers, factor=1 / 2)


@pytest.mark.parametrize("kind", ["safetensors", "pdparams"])
def test_matrices_laid_out_as_paddles(tmp_path, sd1, kind):
    before, layers = weights(sd1), chosen(sd1)
    tensors, path = transposed(diffusers(layers)), tmp_path / f"a.{kind}"
    path.write_bytes(pdparams_bytes(tensors)) if kind == "pdparams" else write_lora(path, tensors, format="pd")

    merge_loras(sd1, [read_lora(str(path))])

    check(sd1, before, layers)


def test_square_matrices_follow_what_the_file_says(tmp_path, sd1):
    """Of rank 32, the matrices of a layer of width 32 fit both layouts."""
    layer = dict(sd1.unet.named_sublayers())[UNET[0]]
    assert layer.weight.shape == [32, 32]
    down, up = np.random.default_rng(0).standard_normal((2, 32, 32)).astype(np.float32)
    tensors = {f"unet.{UNET[0]}.lora.down.weight": down, f"unet.{UNET[0]}.lora.up.weight": up}
    before = layer.weight.numpy().copy()
    for metadata, product in (({"format": "pt"}, (up @ down).T), ({"format": "pd"}, down @ up), ({}, (up @ down).T)):
        with merged_loras(sd1, [read_lora(write_lora(tmp_path / "a.safetensors", tensors, **metadata))]):
            np.testing.assert_allclose(layer.weight.numpy(), before + product, atol=1e-4)


def test_the_unet_gets_what_ppdiffusers_own_loader_gives_it(tmp_path, folders, sd1):
    layers = chosen(sd1, text=[])
    tensors = kohya(layers, alpha=3)
    ours = read_lora(write_lora(tmp_path / "a.safetensors", tensors) + ":0.7")
    theirs = load_base_model(folders["sd1"])
    pipe = theirs.pipeline()
    pipe.load_lora_weights({key: np.array(value) for key, value in tensors.items()}, from_diffusers=True)
    pipe.unet.fuse_lora(0.7)  # the pipeline's own method fails on its deprecation check

    merge_loras(sd1, [ours])

    for name, value in theirs.unet.state_dict().items():
        np.testing.assert_allclose(sd1.unet.state_dict()[name].numpy(), value.numpy(), rtol=0, atol=1e-7, err_msg=name)


def test_several_files_add_up(tmp_path, sd1):
    before, layers = weights(sd1), chosen(sd1)
    file = write_lora(tmp_path / "a.safetensors", diffusers(layers))

    merge_loras(sd1, [read_lora(file), read_lora(f"{file}:0.25")])

    check(sd1, before, layers, factor=1.25)


def test_after_the_block_every_weight_has_its_former_bits(tmp_path, folders, sd1):
    other, layers = load_base_model(folders["sd1"]), chosen(sd1)
    before = weights(sd1)
    file = write_lora(tmp_path / "a.safetensors", diffusers(layers))

    with merged_loras(sd1, [read_lora(file), read_lora(file)]):
        check(sd1, before, layers, factor=2)
        assert all(value.tobytes() == before[name].tobytes() for name, value in weights(other).items())

    assert all(value.tobytes() == before[name].tobytes() for name, value in weights(sd1).items())


def test_the_text_encoder_and_the_unet_compute_with_the_sum(tmp_path, sd1):
    file = read_lora(write_lora(tmp_path / "a.safetensors", diffusers(chosen(sd1)) | {}))
    latents = paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32))

    def outputs():
        with paddle.no_grad():
            states = sd1.encode_prompts(["a cat"]).hidden_states
            return states.numpy(), sd1.unet(latents, 10, encoder_hidden_states=states).sample.numpy()

    plain = outputs()
    with merged_loras(sd1, [file]):
        changed = outputs()
    again = outputs()

    for one, two, three in zip(plain, changed, again, strict=True):
        assert np.abs(one - two).max() > 1e-3 and one.tobytes() == three.tobytes()


@pytest.mark.parametrize(
    ("family", "spoil", "message"),
    [
        ("sd2", lambda t: t, "take a LoRA that was made for this kind of base model"),
        ("taiyi", lambda t: t, "changes 'lora_te_text_model_encoder_layers_0_self_attn_q_proj' and 1 other"),
        ("sdxl", lambda t: t, "does not have; take a LoRA"),
        ("sd1", lambda t: t | {"lora_unet_nowhere.lora_down.weight": np.ones((2, 32), np.float32),
                               "lora_unet_nowhere.lora_up.weight": np.ones((32, 2), np.float32)},
         "changes 'lora_unet_nowhere', which"),
        ("sd1", lambda t: t | {"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight":
                               np.ones((33, 2), np.float32)}, "with matrices [2, 32] and [33, 2], and the weights of"),
        ("sd1", lambda t: t | {"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight":
                               np.ones((32, 3), np.float32)}, "are [32, 32] there"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_and_changes_nothing(tmp_path, folders, sd1, family, spoil, message):
    tensors = spoil(kohya(chosen(sd1)))
    good = read_lora(write_lora(tmp_path / "good.safetensors", kohya(chosen(sd1))))
    bad = read_lora(write_lora(tmp_path / "bad.safetensors", tensors))
    model = load_base_model(folders[family])
    before = weights(model)

    with pytest.raises(EmbeddingFileError) as refusal:
        merge_loras(model, [good, bad] if family == "sd1" else [bad])

    assert message in str(refusal.value) and str(refusal.value).startswith(str(tmp_path / "bad.safetensors"))
    assert all(value.tobytes() == before[name].tobytes() for name, value in weights(model).items())


def test_names_of_original_blocks_that_are_none_are_told(tmp_path, sd1):
    for name in ("lora_unet_input_blocks_99_1_proj_in", "lora_unet_input_blocks_x", "lora_unet_middle_block_7_x"):
        tensors = {f"{name}.lora_down.weight": np.ones((2, 32), np.float32),
                   f"{name}.lora_up.weight": np.ones((32, 2), np.float32)}  # fmt: skip
        with pytest.raises(EmbeddingFileError, match=f"changes '{name}', which"):
            merge_loras(sd1, [read_lora(write_lora(tmp_path / "a.safetensors", tensors))])


def test_the_layers_of_the_samples_are_there(sd1):
    assert len(chosen(sd1)) == len(UNET) + len(TEXT)
