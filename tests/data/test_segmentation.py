"""Masks by a segmentation model, where its package is installed; one line where the package or the model is not."""

import sys

import numpy as np
import pytest
from PIL import Image

from textual_inversion.data.segmentation import Segmenter
from textual_inversion.system.errors import SettingsError


def onnx_model(path, channels=3):
    """A model that takes float32 [1, channels, 320, 320] and finds what is red in it."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    weights = np.zeros((1, channels, 1, 1), np.float32)
    weights[0, 0], weights[0, 1:] = 1.0, -0.5
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["mask"])],
        "red",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, 320, 320])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 320, 320])],
        [helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return str(path)


@pytest.fixture
def packages():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("rembg")


def picture():
    image = Image.new("RGB", (100, 60), "navy")
    image.paste((220, 20, 20), (50, 0, 100, 60))
    return image


@pytest.mark.slow
def test_the_users_model_says_what_is_learned(packages, tmp_path):
    mask = np.asarray(Segmenter(onnx_model(tmp_path / "m.onnx")).mask(picture()))

    assert mask.shape == (60, 100)
    assert mask[:, :45].max() < 20 and mask[:, 55:].min() > 200


def test_rembgs_own_model_is_taken_where_it_lies_and_never_fetched(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"there is no .*u2net.onnx: fetch it with `rembg d u2net`, name another"):
        Segmenter()
    assert list(tmp_path.iterdir()) == []

    onnx_model(tmp_path / "u2net.onnx")
    assert Segmenter().mask(picture()).size == (100, 60)


def test_what_is_no_model_or_another_one_is_said(packages, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(SettingsError, match=r"x.onnx is no model that onnxruntime can load"):
        Segmenter(str(tmp_path / "x.onnx"))
    with pytest.raises(SettingsError, match=r"--mask_model /nowhere/m.onnx cannot be read .* name an ONNX file"):
        Segmenter("/nowhere/m.onnx")
    with pytest.raises(SettingsError, match=r"finds no mask: .*name another --mask_model"):
        Segmenter(onnx_model(tmp_path / "four.onnx", channels=4)).mask(picture())


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(SettingsError, match=r"pip install rembg onnxruntime; or use --mask_dir, or --mask_from plain"):
        Segmenter()
