"""The exchange with other programs: what is made for it, how verdicts are reached, what is told without PyTorch."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import interop, torch_interop
from textual_inversion.formats.contents import read_contents
from textual_inversion.formats.targets import TARGETS
from textual_inversion.system.errors import SettingsError


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_case_has_a_model_and_its_concept_in_every_format_that_pytorch_reads(tmp_path, family):
    case = interop.make_case(tmp_path, family)

    vectors = np.load(case["vectors"])
    assert [one["target"] for one in case["files"]] == [
        name for name, target in TARGETS.items() if target.ending not in (".pdparams", ".png")
    ]
    for one in case["files"]:
        found = [read_contents(path).embeddings[0] for path in one["paths"]]
        arrays = [array for embedding in found for array in embedding.vectors.values()]
        for array, name in zip(arrays, case["encoders"], strict=True):
            np.testing.assert_array_equal(array, vectors[name])
    states = interop.our_states(case)
    assert set(states) == set(case["encoders"]) and all(np.isfinite(array).all() for array in states.values())
    json.dumps(case)


def test_verdicts_need_every_vector_and_an_image():
    good = {"family": "sd1", "target": "kohya", "text_encoder_is_equal": True, "image_is_finite": True}

    assert interop.is_good(good) and interop.count_bad([good]) == 0 and interop.count_bad([]) is None
    for bad in ({"text_encoder_is_equal": False}, {"image_is_finite": False}, {"error": "ValueError: x"}):
        assert not interop.is_good(good | bad) and interop.count_bad([good, good | bad]) == 1


def test_the_largest_difference_counts(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", text_encoder=np.zeros((1, 2, 3)))
    ours = {"text_encoder": np.full((1, 2, 3), 2e-6)}
    monkeypatch.setattr(interop, "our_states", lambda case: ours)
    loaded = [
        {"family": "sd1", "target": "kohya", "states": str(tmp_path / "a.npz")},
        {"family": "sd1", "target": "invoke", "error": "KeyError: x"},
    ]

    rows, worst = interop.loaded_rows([{"family": "sd1"}], loaded)

    assert worst == pytest.approx(2e-6)
    assert rows == [
        ("Stable Diffusion 1.x", "`kohya`", "2.0e-06", "yes"),
        ("Stable Diffusion 1.x", "`invoke`", "–", "KeyError: x"),
    ]


def test_without_an_interpreter_with_pytorch_the_section_says_so():
    text, targets = interop.parts([], [], {"versions": {}, "others": []}, [interop.Target("x", None, 0)])

    assert "no interpreter with PyTorch was named" in text and "not measured" in targets


def test_a_program_that_is_not_there_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(SettingsError, match="there is no folder /nowhere; unpack the wheel"):
        interop.main(["--sdkit", "/nowhere", "--work_dir", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_another_programs_function_is_taken_from_its_own_file(tmp_path, monkeypatch):
    path = tmp_path / "sdkit" / "models" / "model_loader" / "embeddings.py"
    path.parent.mkdir(parents=True)
    path.write_text("import nothing_that_exists\n\ndef get_embedding(state):\n    return [state['emb_params']]\n")
    monkeypatch.setattr(torch_interop, "state_of", lambda torch, path: {"emb_params": path})

    assert torch_interop.read_by_sdkit(Path(tmp_path), None, "a.safetensors") == {"text_encoder": "a.safetensors"}
    assert "nothing_that_exists" not in sys.modules
