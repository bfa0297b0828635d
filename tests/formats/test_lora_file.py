"""Reading LoRA files: names, scales, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from helpers.lora_files import write_lora
from helpers.strangers import attacks_by_global
from helpers.torch_samples import TORCH_FILES
from textual_inversion.formats.errors import BrokenFile, NotAnEmbedding, RefusedFile, UnreadableFile, WrongValues
from textual_inversion.formats.lora_file import read_lora, split_scale
from textual_inversion.formats.paddle_file import pdparams_bytes
from textual_inversion.system.errors import SettingsError

DOWN, UP = np.ones((2, 8), np.float32), np.full((6, 2), 2, np.float32)


def pair(stem: str, down=DOWN, up=UP, joint: str = ".lora") -> dict[str, np.ndarray]:
    return {f"{stem}{joint}.down.weight": down, f"{stem}{joint}.up.weight": up}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.5", ("a.safetensors", 0.5)),
        ("a:b.safetensors:-2", ("a:b.safetensors", -2.0)),
        ("C:\\loras\\a.safetensors", ("C:\\loras\\a.safetensors", 1.0)),
        ("dir:1/a.pt", ("dir:1/a.pt", 1.0)),
        ("a:0", ("a", 0.0)),
    ],
)
def test_a_scale_stands_behind_the_last_colon(text, expected):
    assert split_scale(text) == expected


def test_a_file_of_exactly_this_name_wins(tmp_path):
    (tmp_path / "a:2").write_bytes(b"x")

    assert split_scale(f"{tmp_path}/a:2") == (f"{tmp_path}/a:2", 1.0)


@pytest.mark.parametrize("scale", ["", "x", "nan", "inf", "101", "-100.5"])
def test_other_scales_are_refused(scale):
    with pytest.raises(SettingsError, match="^--lora a.safetensors:.*write FILE:SCALE, such as style.safetensors:0.8"):
        read_lora(f"a.safetensors:{scale}")


@pytest.mark.parametrize(
    ("tensors", "layer"),
    [
        (pair("unet.a.attn1.to_q"), "unet.a.attn1.to_q"),
        (pair("unet.a.attn1.processor", joint=".to_q_lora"), "unet.a.attn1.to_q"),
        (pair("a.attn1.processor", joint=".to_out_lora"), "a.attn1.to_out.0"),
        (pair("text_encoder.b.self_attn", joint=".to_out_lora"), "text_encoder.b.self_attn.out_proj"),
        (pair("text_encoder_2.b.mlp.fc1", joint=".lora_linear_layer"), "text_encoder_2.b.mlp.fc1"),
        ({"unet.a.lora_A.weight": DOWN, "unet.a.lora_B.weight": UP}, "unet.a"),
        ({"unet.a.lora_A.default.weight": DOWN, "unet.a.lora_B.default.weight": UP}, "unet.a"),
        ({"lora_unet_a_b.lora_down.weight": DOWN, "lora_unet_a_b.lora_up.weight": UP}, "lora_unet_a_b"),
    ],
)
def test_names_of_layers(tmp_path, tensors, layer):
    file = read_lora(write_lora(tmp_path / "a.safetensors", tensors) + ":0.5")

    assert list(file.changes) == [layer] and file.scale == 0.5 and len(file.sha256) == 64
    change = file.changes[layer]
    assert change.alpha is None and change.down.tolist() == DOWN.tolist() and change.up.tolist() == UP.tolist()
    assert file.facts == {"file": str(tmp_path / "a.safetensors"), "scale": 0.5, "sha256": file.sha256}


@pytest.mark.parametrize("name", ["unet.a.to_q.alpha", "unet.a.to_q.lora.alpha", "unet.a.to_q.lora.down.weight.alpha"])
def test_alpha_belongs_to_its_layer(tmp_path, name):
    tensors = pair("unet.a.to_q") | {name: np.float32(4).reshape(())}

    assert read_lora(write_lora(tmp_path / "a.safetensors", tensors)).changes["unet.a.to_q"].alpha == 4


def test_who_wrote_a_file_says_how_its_matrices_lie(tmp_path):
    assert not read_lora(write_lora(tmp_path / "a.safetensors", pair("unet.a"), format="pt")).is_paddle
    assert read_lora(write_lora(tmp_path / "a.safetensors", pair("unet.a"), format="np")).is_paddle
    (tmp_path / "a.pdparams").write_bytes(pdparams_bytes(pair("unet.a")))
    assert read_lora(str(tmp_path / "a.pdparams")).is_paddle


HALF = {"unet.a.lora.down.weight": DOWN}
EVIL, _ = attacks_by_global(Path("never"))["os.system"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (pair("unet.a", down=DOWN * np.nan), WrongValues, "'unet.a' holds NaN or infinite values; it is broken"),
        (pair("unet.a", up=UP[None]), WrongValues, r"matrices of the shapes \[2, 8\] and \[1, 6, 2\]"),
        (pair("unet.a", down=DOWN[:0]), WrongValues, "matrices of the shapes"),
        (pair("unet.a") | {"unet.a.alpha": np.ones(2, np.float32)}, WrongValues, "an alpha of 2 values"),
        (HALF, NotAnEmbedding, "'unet.a' has no up matrix"),
        ({"unet.a.alpha": np.ones(1, np.float32)}, NotAnEmbedding, "'unet.a' has no down matrix"),
        (pair("unet.a") | {"unet.a.lora_A.weight": DOWN}, NotAnEmbedding, "holds two matrices for 'unet.a'"),
        ({"conv.weight": DOWN}, NotAnEmbedding, "is no LoRA, since it holds 'conv.weight'"),
        ({"lora_unet_a.hada_w1_a": DOWN}, NotAnEmbedding, "is a LoHa"),
        ({"lora_unet_a.lokr_w1": DOWN}, NotAnEmbedding, "is a LoKr"),
        (pair("unet.a") | {"unet.a.dora_scale": DOWN}, NotAnEmbedding, "is a DoRA"),
        (b"", BrokenFile, "is empty"),
        (b"no such thing", NotAnEmbedding, "choose a LoRA, preferably a .safetensors"),
        (EVIL, RefusedFile, "nothing in it was run"),
    ],
)
def test_what_is_refused(tmp_path, content, error, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content) if isinstance(content, bytes) else write_lora(path, content)

    with pytest.raises(error, match=message) as refusal:
        read_lora(str(path))

    assert str(refusal.value).startswith(str(path)) and "\n" not in str(refusal.value)


def test_a_missing_file_and_an_embedding(tmp_path):
    with pytest.raises(UnreadableFile, match="^/nowhere: No such file"):
        read_lora("/nowhere")
    (tmp_path / "cat.pt").write_bytes(TORCH_FILES["a1111_pt"])
    with pytest.raises(NotAnEmbedding, match="cat.pt"):
        read_lora(str(tmp_path / "cat.pt"))
