"""The files of a run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from textual_inversion.embeddings.file_names import safe_name
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.settings.concept import Concept
from textual_inversion.system import paths
from textual_inversion.system.errors import OutputError
from textual_inversion.training import outputs


@pytest.fixture
def concepts():
    return [Concept("<a>", 2), Concept("<b/c>", 1)]


ROWS = {"text_encoder": np.arange(12, dtype="float32").reshape(3, 4)}


def test_rows_are_cut_into_concepts_in_order(concepts):
    a, b = outputs.as_learned(concepts, ROWS, {"steps": "7"})

    assert (a.placeholder_token, b.placeholder_token) == ("<a>", "<b/c>")
    np.testing.assert_array_equal(a.vectors["text_encoder"], ROWS["text_encoder"][:2])
    np.testing.assert_array_equal(b.vectors["text_encoder"], ROWS["text_encoder"][2:])


def test_periodic_saves_keep_a_copy_by_step_and_renew_the_latest(tmp_path, concepts):
    outputs.save_embeddings(tmp_path, concepts, ROWS, {}, step=10)
    later = {"text_encoder": ROWS["text_encoder"] + 1}
    outputs.save_embeddings(tmp_path, concepts, later, {}, step=20)

    def first(name):
        return read_embeddings(tmp_path / name)[0].vectors["text_encoder"]

    np.testing.assert_array_equal(first("learned_embeds-steps-10.pdparams"), ROWS["text_encoder"][:2])
    np.testing.assert_array_equal(first("learned_embeds.pdparams"), later["text_encoder"][:2])


def test_several_concepts_get_a_safetensors_file_each(tmp_path, concepts):
    outputs.save_final(tmp_path, outputs.as_learned(concepts, ROWS, {"steps": "7"}))

    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        "learned_embeds-a.safetensors",
        "learned_embeds-b-c.safetensors",
    ]
    assert read_embeddings(tmp_path / "learned_embeds-b-c.safetensors")[0].placeholder_token == "<b/c>"


@pytest.mark.parametrize(
    ("word", "name"), [("<cat-toy>", "cat-toy"), ("../x", "x"), ("<猫>", "猫"), ("<<>>", "concept"), ("a/b", "a-b")]
)
def test_words_become_file_names(word, name):
    assert safe_name(word) == name


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(OutputError, match="--output_dir"):
        outputs.make_output_folder(str(tmp_path / "file" / "out"))
    with pytest.raises(OutputError):
        outputs.make_output_folder(str(tmp_path / "file"))


def test_a_new_output_folder_is_left_empty(tmp_path):
    folder = outputs.make_output_folder(str(tmp_path / "a" / "b"))

    assert folder.is_dir() and not list(folder.iterdir())


def test_rows_that_are_no_numbers_any_more_never_replace_good_ones(tmp_path, concepts):
    outputs.save_embeddings(tmp_path, concepts, ROWS, {}, step=10)
    before = (tmp_path / "learned_embeds.pdparams").read_bytes()
    broken = {"text_encoder": np.where(ROWS["text_encoder"] == 5, np.nan, ROWS["text_encoder"])}

    with pytest.raises(OutputError, match="lower --learning_rate"):
        outputs.save_embeddings(tmp_path, concepts, broken, {}, step=20)
    assert (tmp_path / "learned_embeds.pdparams").read_bytes() == before
    assert not (tmp_path / "learned_embeds-steps-20.pdparams").exists()


def test_paths_are_recorded_so_that_they_stay_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)

    assert paths.portable(tmp_path.name) == str(tmp_path.resolve())
    assert paths.portable(str(paths.ROOT / "demo")) == "demo"
    assert paths.portable(str(tmp_path)) == str(tmp_path)
    assert paths.portable("CompVis/stable-diffusion-v1-4") == "CompVis/stable-diffusion-v1-4"


def record(tmp_path, concepts) -> dict:
    """What is written about a run of some concepts."""
    encoder = SimpleNamespace(name="text_encoder", embedding_width=4)
    model = SimpleNamespace(name="m", text_encoders=[encoder], prediction_type="epsilon")
    args = SimpleNamespace(
        pretrained_model_name_or_path="m", seed=5, hub_token="hf_secret", explicit={"hub_token"}, learning_rate=0.1,
        concepts=concepts, placeholder_token=[c.placeholder_token for c in concepts],
        initializer_token=[c.initializer_token for c in concepts], train_data_dir=[c.image_folder for c in concepts],
        learnable_property=[c.learnable_property for c in concepts], num_vectors=[1] * len(concepts),
        template_file=None, sample_prompts=[],
    )  # fmt: skip
    outputs.write_run_record(tmp_path, args, model, concepts, {"x": 1})
    return json.loads((tmp_path / "run.json").read_text())


def test_the_record_holds_no_access_token(tmp_path):
    written = record(tmp_path, [Concept("<a>", 1, "toy", "object", str(tmp_path))])

    assert "hf_secret" not in json.dumps(written)
    assert written["settings"]["learning_rate"] == 0.1
    assert (written["placeholder_token"], written["settings"]["train_data_dir"]) == ("<a>", str(tmp_path))


def test_the_record_of_several_concepts_has_a_value_for_each(tmp_path):
    written = record(tmp_path, [Concept("<a>", 1, "toy", "object", "x"), Concept("<b>", 2, None, "style", "y")])

    assert written["placeholder_token"] == ["<a>", "<b>"] and written["num_vectors"] == [1, 2]
    assert written["initializer_token"] == ["toy", None] and written["learnable_property"] == ["object", "style"]
    assert written["settings"]["train_data_dir"] == ["x", "y"]
