"""CLIP features: right weights, right pixels, right end of the text."""

import json

import numpy as np
import paddle
import pytest
from PIL import Image
from ppdiffusers.transformers import CLIPModel
from safetensors.numpy import load_file, save_file

from helpers.local_aistudio import LocalAIStudio, use
from helpers.tiny_clip import SIDE, build_clip
from textual_inversion.evaluation.clip import ClipScorer, find_clip
from textual_inversion.hub import repositories
from textual_inversion.models.weight_files import ENCODER_FILES
from textual_inversion.system.errors import BaseModelError, SettingsError


def noise_image(seed, size=(20, 30)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_clip(tmp_path_factory.mktemp("clip"))


def test_features_are_unit_vectors_and_independent_of_the_batch(folder):
    scorer, images = ClipScorer(folder), [noise_image(seed) for seed in range(19)]

    together = scorer.image_features(images)

    assert together.shape == (19, 24) and together.dtype == np.float32
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5
    np.testing.assert_allclose(together[18:], scorer.image_features(images[18:]), atol=1e-5)
    assert scorer.image_features([]).shape == (0, 24)


def test_features_equal_ppdiffusers_own_loading(folder):
    reference = CLIPModel.from_pretrained(str(folder))
    reference.eval()
    pixels = np.asarray(noise_image(0, (SIDE, SIDE)), dtype=np.float32) / 255  # no resizing needed
    pixels = (pixels - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]

    with paddle.no_grad():
        expected = reference.get_image_features(paddle.to_tensor(pixels.transpose(2, 0, 1)[None].astype("float32")))
    expected = (expected / expected.norm()).numpy()

    np.testing.assert_allclose(ClipScorer(folder).image_features([noise_image(0, (SIDE, SIDE))]), expected, atol=1e-5)


def test_both_layouts_are_the_same_model(folder, tmp_path):
    other = ClipScorer(build_clip(tmp_path / "torch", "diffusers"))
    scorer, texts = ClipScorer(folder), ["a photo of a cat", "a dog on the beach"]

    np.testing.assert_allclose(scorer.text_features(texts), other.text_features(texts), atol=1e-5)
    np.testing.assert_allclose(
        scorer.image_features([noise_image(1)]), other.image_features([noise_image(1)]), atol=1e-5
    )


def test_texts_are_told_apart_and_long_ones_are_cut(folder):
    features = ClipScorer(folder).text_features(["a cat", "a dog", "a cat " * 200])

    assert features.shape == (3, 24)
    assert features[0] @ features[1] < 0.999
    assert np.abs(np.linalg.norm(features, axis=1) - 1).max() < 1e-5


def test_a_missing_tensor_is_named(tmp_path):
    folder = build_clip(tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pd"})

    with pytest.raises(BaseModelError, match=r"lacks the tensor visual_projection\.weight"):
        ClipScorer(folder)


def test_a_text_encoder_is_no_clip_model(tmp_path):
    folder = build_clip(tmp_path / "clip")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_text_model", "hidden_size": 32}))

    with pytest.raises(BaseModelError, match="is not a CLIP model"):
        ClipScorer(folder)


def test_the_newest_files_say_how_images_are_wanted(folder, tmp_path):
    newest = build_clip(tmp_path / "clip")
    stored = json.loads((newest / "preprocessor_config.json").read_text())
    (newest / "preprocessor_config.json").unlink()
    (newest / "processor_config.json").write_text(json.dumps({"processor_class": "P", "image_processor": stored}))
    scorer, other = ClipScorer(newest), ClipScorer(folder)

    np.testing.assert_array_equal(scorer.image_features([noise_image(1)]), other.image_features([noise_image(1)]))
    assert scorer.notes == other.notes == []


def test_tokenizer_of_the_base_model_and_usual_preprocessing_step_in(folder, tmp_path):
    build_clip(tmp_path / "tokenizer")
    bare = ClipScorer(build_clip(tmp_path / "clip", tokenizer=False, preprocessor=False))

    np.testing.assert_allclose(bare.text_features(["a cat"]), ClipScorer(folder).text_features(["a cat"]), atol=1e-6)
    assert bare.image_features([noise_image(2)]).shape == (1, 24)
    (note,) = bare.notes
    assert "does not say how it wants its images" in note


def test_the_base_models_own_clip_is_found(folder, tmp_path):
    own = build_clip(tmp_path / "clip")

    assert find_clip(tmp_path) == own
    assert find_clip(tmp_path, str(folder)) == folder


def test_without_any_clip_the_flag_is_named(tmp_path):
    with pytest.raises(SettingsError, match="--clip_model"):
        find_clip(tmp_path)
    with pytest.raises(SettingsError, match="--clip_model nobody/nothing is neither a folder"):
        find_clip(tmp_path, "nobody/nothing")


def test_a_clip_model_of_the_hub_is_taken_from_the_cache_or_fetched_in_the_safe_format(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(repositories, "cached", lambda repository: tmp_path)
    monkeypatch.setattr(repositories, "files_of", lambda repository: ["a.msgpack", "config.json", *ENCODER_FILES])
    monkeypatch.setattr(repositories, "fetch", lambda repository, files: asked.append(files) or tmp_path / "fetched")

    assert find_clip(tmp_path, "me/clip") == tmp_path / "fetched"
    assert asked == [["config.json", "model.safetensors"]]
    (tmp_path / "pytorch_model.bin").touch()
    assert find_clip(tmp_path, "me/clip") == tmp_path and len(asked) == 1


def test_a_clip_model_of_ai_studio_is_fetched_and_loaded(folder, tmp_path, monkeypatch):
    with LocalAIStudio() as hub:
        use(hub, monkeypatch, tmp_path)
        hub.repositories["me/clip"] = {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": b"x"}
        found = find_clip(tmp_path, "aistudio:me/clip")
        hub.refused = {"/git/": 503}
        with pytest.raises(
            SettingsError, match="--clip_model aistudio:me/x .* AI Studio has no public .*; give the folder"
        ):
            find_clip(tmp_path, "aistudio:me/x")

    assert ClipScorer(found).text_features(["a dog"]).shape[0] == 1 and not (found / "README.md").exists()
    assert find_clip(tmp_path, "aistudio:me/clip") == found


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("config.json", ("text_config",), [32]),
        ("config.json", ("text_config", "num_hidden_layers"), None),
        ("config.json", ("text_config", "vocab_size"), "x"),
        ("config.json", ("vision_config", "hidden_act"), "unknown"),
        ("config.json", ("vision_config", "patch_size"), [8, 8, 8]),
        ("config.json", ("projection_dim",), "x"),
        ("tokenizer_config.json", ("model_max_length",), float("nan")),
        ("preprocessor_config.json", ("size", "shortest_edge"), 10**9),
        ("preprocessor_config.json", ("size", "shortest_edge"), "x"),
        ("preprocessor_config.json", ("resample",), 77),
        ("preprocessor_config.json", ("image_mean",), "x"),
    ],
)
def test_configurations_that_no_clip_model_has_are_one_line(tmp_path, file, path, value):
    """Some are found only when the model is used."""
    folder = build_clip(tmp_path / "clip")
    content = json.loads((folder / file).read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (folder / file).write_text(json.dumps(content))

    with pytest.raises(BaseModelError) as refusal:
        ClipScorer(folder).image_features([noise_image(0)])

    assert str(folder) in str(refusal.value) and "\n" not in str(refusal.value)
