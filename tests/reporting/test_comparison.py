"""Runs side by side: what differs, and whether it means anything, by value."""

import re
from dataclasses import replace

import numpy as np
import pytest

from helpers.reported_runs import data_of, run_folder
from textual_inversion.evaluation.standard_errors import BETTER, CHANCE, UNKNOWN
from textual_inversion.reporting.comparison import BEGINNING, comparison, labels_of, same_images, table
from textual_inversion.reporting.differences import different_settings, score_difference
from textual_inversion.reporting.run_facts import read_run
from textual_inversion.training import fixed_set


def score(images, error=None):
    row = {"word": "<w>", "image_similarity": float(np.mean(images)), "text_similarity": 0.3}
    row |= {"images": list(images)} if error is None else {"images": [0.0] * 8, "image_standard_error": error}
    return {"scores": {"<w>": {"baseline": {}, "concept": row}}}


def runs(tmp_path, *changes):
    return [read_run(run_folder(tmp_path / f"run-{i}", **change)) for i, change in enumerate(changes)]


def test_settings_that_differ_and_no_others(tmp_path):
    own = runs(tmp_path, {"settings": {"learning_rate": 0.5, "output_dir": "a"}},
               {"settings": {"learning_rate": 0.1, "output_dir": "b", "lr_scheduler": "cosine"}})  # fmt: skip
    assert different_settings(own) == [("learning_rate", [0.5, 0.1]), ("lr_scheduler", [None, "cosine"])]
    assert different_settings([own[0], own[0]]) == []


def test_a_difference_beyond_chance_is_told_from_one_within(tmp_path):
    first = [0.5, 0.6, 0.4, 0.55, 0.45]
    better, alike = [value + 0.1 + 0.01 * i for i, value in enumerate(first)], [0.52, 0.57, 0.43, 0.53, 0.46]
    own = runs(tmp_path, *({"figures": score(values)} for values in (first, better, alike)))
    assert score_difference(own[0], own[1], "image").verdict == BETTER
    assert score_difference(own[0], own[2], "image").verdict == CHANCE
    assert score_difference(own[0], own[1], "image").is_paired
    lines = "\n".join(table(own))
    assert "+0.120 ± 0.007" in lines and "better, more than chance" in lines and "within chance" in lines


def test_images_that_were_drawn_otherwise_are_no_pairs(tmp_path):
    own = runs(tmp_path, {"figures": score([0.5] * 5, error=0.01)},
               {"figures": score([0.6] * 5, error=0.02), "settings": {"guidance_scale": 2.0}})  # fmt: skip
    found = score_difference(own[0], own[1], "image")
    assert not found.is_paired and found.error == pytest.approx(0.02236, rel=1e-3) and found.verdict == BETTER
    assert score_difference(own[0], own[1], "text").verdict == UNKNOWN  # no error was recorded
    (tmp_path / "none").mkdir()
    assert score_difference(own[0], read_run(run_folder(tmp_path / "none")), "image").value is None


def test_the_same_prompts_and_seeds_are_shown_and_others_are_not(tmp_path):
    own = runs(tmp_path, {"prompts": ("a <w>", "only here"), "frames": [(9, [(1, 1, 1), (2, 2, 2)])]},
               {"prompts": ("a <other>", "or here"), "frames": [(9, [(200, 1, 1), (3, 3, 3)])],
                "placeholder_token": "<other>"})  # fmt: skip
    ((prompt, (one, other)),) = same_images(own)
    assert prompt == "a <w>" and one.getpixel((5, 5)) == (1, 1, 1) and other.getpixel((5, 5)) == (200, 1, 1)


def test_the_page(tmp_path):
    own = runs(tmp_path, {}, {"settings": {"learning_rate": 0.1}})
    path = tmp_path / "comparison.html"
    path.write_bytes(comparison(own))
    data = data_of(path)
    assert data["labels"] == ["run-0", "run-1"] and data["settings"] == [["learning_rate", ["0.5", "0.1"]]]
    assert len(data["images"]) == 1 and len(data["images"][0][1]) == 2
    page = path.read_bytes()
    assert page.startswith(BEGINNING) and page.count(b"<polyline") == 4 and len(page) < 3_000_000


def test_curves_stand_in_the_order_of_the_report_whichever_run_has_them(tmp_path):
    own = runs(tmp_path, {}, {})
    names = ["eval/fixed_set_loss", *(f"eval/fixed_set_loss_{band}" for band in fixed_set.BANDS), "train/loss", "zz"]
    curve = own[0].curves["train/loss"]
    own = [replace(own[0], curves=dict.fromkeys(reversed(names[2:]), curve)),
           replace(own[1], curves=dict.fromkeys(reversed(names[:3]), curve))]  # fmt: skip

    assert re.findall(r'data-curve="([^"]*)"', comparison(own).decode()) == names


def test_two_folders_of_one_name_get_two_labels(tmp_path):
    own = [read_run(run_folder(tmp_path / place / "out")) for place in ("a", "b")]
    assert labels_of(own) == ["a/out", "b/out"]


def test_a_run_without_a_score_has_no_difference_and_no_verdict(tmp_path):
    own = runs(tmp_path, {"figures": score([0.5, 0.6, 0.4])}, {})
    path = tmp_path / "comparison.html"

    path.write_bytes(comparison(own))

    assert data_of(path)["scores"]["image"] == [
        {"score": "0.500", "difference": "", "verdict": ""}, {"score": "-", "difference": "", "verdict": ""},
    ]  # fmt: skip
