"""Descriptions of files: for people a line or a table, for programs JSON values."""

import json

import numpy as np
import pytest

from helpers.embedding_samples import concept, concept_xl, stored
from helpers.strangers import attacks_by_global, attacks_by_structure, valid_files
from textual_inversion.embeddings.inspection import as_json, described, report
from textual_inversion.formats.embedding_file import write_pdparams, write_safetensors
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.system.errors import EmbeddingFileError


class Words:
    """A vocabulary of two words along the axes."""

    name, words, norms = "text_encoder", ["cat", "toy"], (0.4, 0.02)
    rows = np.eye(2, 4, dtype=np.float32)

    def nearest(self, vectors, count=5):
        cosines = vectors @ self.rows.T / np.linalg.norm(vectors, axis=1, keepdims=True)
        return [[(self.words[i], float(row[i])) for i in np.argsort(-row)] for row in cosines]


def write(path, *vectors, token="<cat>", **metadata):
    array = np.array(vectors, np.float32)
    write_safetensors(path, LearnedEmbedding(token, {"text_encoder": array}, metadata))
    return str(path)


def test_a_table_says_words_vectors_widths_family_norms_types_and_metadata(tmp_path):
    values = np.zeros((2, 768), np.float32)
    values[0, 0], values[1, :2] = 3, 4
    path = write(tmp_path / "a.safetensors", *values, base_model="owner/model", steps="300")

    head, columns, row, *facts = report(described(path))

    assert head.startswith(f"{path}: 1 concept in safetensors, ") and "; float32; " in head and head.endswith("KiB")
    assert columns.split("  ")[1:2] == ["word"] and "norm of each vector" in columns
    assert row.split() == "<cat> 2 768 Stable Diffusion 1.x 3 5.66".split()
    assert facts == ["  base_model: owner/model", "  steps: 300"]


def test_both_widths_of_sdxl_are_told(tmp_path):
    first, second = np.ones((1, 768), np.float32), np.ones((1, 1280), np.float32)
    both = LearnedEmbedding("<cat>", {"text_encoder": first, "text_encoder_2": second})
    write_pdparams(tmp_path / "a.pdparams", [both, LearnedEmbedding("<b>", both.vectors)])

    lines = report(described(str(tmp_path / "a.pdparams")))

    assert "2 concepts" in lines[0]
    assert lines[2].split() == "<cat> 1 768 + 1280 Stable Diffusion XL 27.7; 35.8".split()
    assert lines[3].split()[0] == "<b>"


def test_vectors_are_held_against_a_vocabulary(tmp_path):
    path = write(tmp_path / "a.safetensors", [1, 0, 0, 0], [0.6, 0.8, 0, 0])
    lines = report(described(path), [Words()])

    assert lines[3:] == [
        "  <cat>, text encoder: rows of the table have the norm 0.4 ± 0.02",
        "    vector 1 of 2 is nearest to cat 1.00, toy 0.00",
        "    vector 2 of 2 is nearest to toy 0.80, cat 0.60",
    ]
    facts = as_json(described(path), [Words()])["concepts"][0]
    assert facts["table_norms"] == {"text_encoder": {"mean": 0.4, "std": 0.02}}
    assert facts["nearest_words"]["text_encoder"][1][0] == ("toy", pytest.approx(0.8))


def test_vectors_of_another_width_are_not_held_against_it(tmp_path):
    path = write(tmp_path / "a.safetensors", np.ones(8))

    assert "<cat>, text encoder: no vectors of the width 4 that it needs" in report(described(path), [Words()])[3]
    assert as_json(described(path), [Words()])["concepts"][0]["nearest_words"] == {}


def test_the_record_beside_it_is_told_and_one_that_cannot_be_used_is_no_end(tmp_path):
    write_pdparams(tmp_path / "learned_embeds.pdparams", [concept("<cat>")])
    run = {"placeholder_token": "<cat>", "base_model": "owner/model", "seed": 7}
    (tmp_path / "run.json").write_text(json.dumps(run))

    lines = report(described(str(tmp_path)))  # the folder of the run
    assert lines[-2:] == ["  base_model: owner/model (run.json beside it)", "  seed: 7 (run.json beside it)"]
    assert as_json(described(str(tmp_path)))["recorded"] == {"base_model": "owner/model", "seed": 7}

    (tmp_path / "run.json").write_text("{")
    lines = report(described(str(tmp_path)))
    assert "cannot be used: the record" in lines[1] and lines[3].split()[0] == "<cat>"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ": an empty file"),
        (b"hello", ": a text of 1 lines, 5 bytes"),
        (safetensors_bytes({"a.lora_up.weight": np.ones((2, 2)), "a.alpha": np.ones(())}, {}), ": a LoRA, 2 tensors"),
        (safetensors_bytes({"<t>": np.full((1, 4), np.nan)}, {}), "cannot be used: holds NaN or infinite values"),
        (attacks_by_global("mark")["os.system"][0], "a pickle that asks for os.system, which could run any code"),
    ],
)
def test_any_other_file_is_one_line(tmp_path, data, said):
    found = described(str(stored(tmp_path, data)))
    (line,) = report(found)

    assert said in line and as_json(found)["kind"] == found.kind and "concepts" not in as_json(found)


HOSTILE = attacks_by_structure() | {name: (data, "") for name, data in valid_files().items()}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_the_bytes_there_is_a_description_that_json_can_hold(tmp_path, name):
    found = described(str(stored(tmp_path, HOSTILE[name][0])))

    assert all(line.isprintable() for line in report(found))
    json.dumps(as_json(found), allow_nan=False)


def test_hostile_names_and_metadata_are_shown_harmlessly_and_shortly(tmp_path):
    evil = "\x1b[31m\n" + "x" * 5000
    data = safetensors_bytes({"emb_params": np.ones((1, 4), np.float32)}, {evil: evil, "placeholder_token": "a" + evil})
    lines = report(described(str(stored(tmp_path, data))))

    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_folders_devices_and_what_is_not_there(tmp_path):
    (tmp_path / "empty").mkdir()

    assert described(str(tmp_path / "empty")).kind == "a folder with 0 entries"
    assert described("/dev/null").kind == "a device, a pipe or a socket"
    for missing in ("absent.pt", "absent/too.bin"):
        with pytest.raises(EmbeddingFileError, match="No such file or directory; check the path"):
            described(str(tmp_path / missing))


def test_an_sdxl_file_of_equal_vectors_has_json_of_both(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", concept_xl("<cat>"))
    (one,) = as_json(described(str(tmp_path / "a.safetensors")))["concepts"]

    assert one["widths"] == {"text_encoder": 4, "text_encoder_2": 6} and one["vectors"] == 2
    assert one["norms"]["text_encoder"] == pytest.approx([2.0, 2.0]) and one["word"] == "<cat>"


def test_norms_of_values_whose_squares_are_beyond_float32_are_numbers(tmp_path):
    facts = as_json(described(write(tmp_path / "a.safetensors", [3e38, 0, 0, 0])))

    json.dumps(facts, allow_nan=False)
    assert facts["concepts"][0]["norms"]["text_encoder"] == pytest.approx([3e38])
