"""What any file is, in one phrase: models by their tensors, others by their first bytes, text, folders, nothing."""

import gzip
import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from helpers.embedding_samples import stored
from helpers.strangers import attacks_by_global, attacks_by_structure, valid_files, zip_of
from helpers.torch_samples import TORCH_FILES
from textual_inversion.formats.kinds import kind_of
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.formats.torch_writer import torch_bytes

ROW = np.ones((2, 4), np.float32)


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, kind)
    return buffer.getvalue()


def tensors(*names: str) -> bytes:
    return safetensors_bytes({name: ROW for name in names}, {})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tensors("lora_unet_down_blocks_0.lora_up.weight", "lora_unet_down_blocks_0.alpha"), "a LoRA"),
        (tensors("unet.down_blocks.0.attn.to_q.lora_A.weight"), "a LoRA"),
        (tensors("text_encoder.encoder.layers.0.lora_linear_layer.up.weight", "lora_te_text.lora_down.weight"), "LoRA"),
        (tensors("lora_unet_x.hada_w1_a"), "a LoRA"),
        (tensors("lycoris_x.lokr_w1"), "LyCORIS"),
        (tensors("control_model.input_hint_block.0.weight"), "a ControlNet"),
        (tensors("image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight"), "an IP-Adapter"),
        (tensors("model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.x"), "Diffusion XL"),
        (tensors("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.model.ln"), "Diffusion 2.x"),
        (tensors("cond_stage_model.transformer.text_model.x", "first_stage_model.decoder.x"), "Diffusion 1.x"),
        (tensors("model.diffusion_model.out.0.weight"), "a U-Net in the layout of a checkpoint"),
        (tensors("double_blocks.0.img_attn.proj.weight"), "a model of Flux"),
        (tensors("model.diffusion_model.joint_blocks.0.x"), "a model of Stable Diffusion 3"),
        (tensors("down_blocks.0.resnets.0.conv1.weight"), "a U-Net"),
        (tensors("decoder.up_blocks.0.resnets.0.conv1.weight"), "a VAE"),
        (tensors("text_model.encoder.layers.0.mlp.fc1.weight"), "a text encoder"),
        (tensors("vision_model.embeddings.class_embedding"), "a CLIP model"),
        (tensors("body.0.rdb1.conv1.weight"), "an upscaler"),
        (tensors("something"), "1 tensors of no kind that is known here, such as 'something' [2, 4] in safetensors"),
        (torch_bytes({"state_dict": {"lora_unet_a.lora_up.weight": ROW}}), "a LoRA, 1 tensors in PyTorch's archive"),
        (torch_bytes({"state": {}, "param_groups": {}}), "the state of an optimizer"),
        (torch_bytes({"epoch": 3}), "no tensor at all"),
        (pickle.dumps([1, 2]), "a list in a pickle"),
        (TORCH_FILES["whole_model_pt"], "a pickle that asks for torch.nn.modules.linear.Linear, which could run"),
        (zip_of(("readme.txt", b"hello")), "a file that is a zip archive, but not PyTorch's"),
        (image("PNG"), "a PNG image, 30 x 20 pixels"),
        (image("JPEG"), "a JPEG image"),
        (image("WEBP"), "a WebP image"),
        (image("GIF"), "a GIF image"),
        (gzip.compress(b"a", mtime=0), "compressed with gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
        (b"\0\0\0\x18ftypavif", "an AVIF or HEIC image"),
        (b"GGUF\3\0\0\0", "GGUF"),
        (b"hello\nworld\n", "a text of 2 lines"),
        ("猫\n".encode() * 40_000, "a text"),
        ("\ufeffa".encode(), "a text of 1 lines"),
        (b'{"a": 1}', "JSON"),
        (b"<!DOCTYPE html>", "a web page or XML"),
        (b"\0\1\2\3" * 100, "bytes of no kind that is known here"),
        (b"\xff\xfe" + "ab".encode("utf-16-le"), "bytes of no kind"),
        (b"", "an empty file"),
        (b"\x80", "a file that"),
    ],
)  # fmt: skip
def test_a_file_is_told_by_its_content(tmp_path, data, said):
    kind = kind_of(stored(tmp_path, data))

    assert said in kind and kind.isprintable() and len(kind) < 400


@pytest.mark.parametrize("name", attacks_by_global("mark"))
def test_a_pickle_that_wants_code_is_told_by_what_it_asks_for_and_not_run(tmp_path, name):
    data, asked = attacks_by_global(tmp_path / "mark")[name]
    kind = kind_of(stored(tmp_path, data))

    assert kind.isprintable() and not (tmp_path / "mark").exists()
    if data[:1] == b"\x80" or data[:2] == b"PK":  # protocols 0 and 1 look like text
        assert asked in kind and "nothing in it was run" in kind


STRUCTURES = {**attacks_by_structure(), **{name: (data, "") for name, data in valid_files().items()}}


@pytest.mark.parametrize("name", STRUCTURES)
def test_whatever_the_bytes_a_phrase_comes_back(tmp_path, name):
    kind = kind_of(stored(tmp_path, STRUCTURES[name][0]))

    assert kind and kind.isprintable() and len(kind) < 500


def test_what_is_no_regular_file_is_told_too(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()

    assert kind_of(tmp_path / "pipe") == kind_of("/dev/zero") == "a device, a pipe or a socket"
    assert kind_of(tmp_path / "folder") == "a folder with 1 entries"
    with pytest.raises(FileNotFoundError):
        kind_of(tmp_path / "absent")


def test_a_checkpoint_is_told_without_reading_its_values(tmp_path):
    data = bytearray(torch_bytes({"cond_stage_model.x": np.ones((1 << 19,), np.float32), "small": ROW}))
    place = data.index(np.ones(64, np.float32).tobytes())
    data[place + 100] ^= 1  # of which a checksum would tell

    assert "a whole checkpoint of Stable Diffusion 1.x, 2 tensors" in kind_of(stored(tmp_path, bytes(data)))
