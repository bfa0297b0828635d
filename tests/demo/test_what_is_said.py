"""What is said on the demo of images, of a run's length and of words, where it must be said and where it must not."""

import json
import shutil

import pytest

import train_textual_inversion
from demo.shipped import masked_drawings
from helpers.paths import ROOT
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.evaluation.leak import background_leak
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import load_base_model
from textual_inversion.reporting.findings import findings
from textual_inversion.reporting.run_facts import RunFacts
from textual_inversion.system.paths import DEMO_MODEL

CATS = ROOT / "cat_toy_images"
QUICK = ["--overview", "false", "--report_to", "none", "--only_save_embeds"]


def learned(folder, images, *more):
    """The figures of a run on the demo, and the page that it wrote."""
    train_textual_inversion.main(["--train_data_dir", str(images), "--output_dir", str(folder), *QUICK, *more])
    return json.loads((folder / "run.json").read_text())["figures"], (folder / "report.html").read_text()


@pytest.mark.slow
def test_an_image_of_something_else_is_named_before_and_after_and_no_cat_is(tmp_path, capsys):
    odd = tmp_path / "images"
    shutil.copytree(CATS, odd)
    shutil.copy(ROOT / "demo/style_images/style-3.png", odd / "other.png")
    more = ["--max_train_steps", "50", "--check_images"]  # in half of them a word may learn neither

    with_other, page = learned(tmp_path / "odd", odd, *more)
    said = capsys.readouterr().out
    alone, other_page = learned(tmp_path / "alone", CATS, *more)
    said_alone = capsys.readouterr().out

    assert "look at the images: other.png looks unlike the others; does it show the same thing?" in said
    assert said.count("note: other.png was not learned: its loss changed by ") == 1 == said.count(" was not learned: ")
    assert list(with_other["unlearned_names"].values()) == ["other.png"] and "other.png was not learned" in page
    ((fall, others),) = with_other["unlearned_images"].values()
    assert fall < 0.05 < 0.15 < others
    assert "unlearned_images" not in alone and alone["image_findings"] == {}
    assert "look at the images: nothing was found" in said_alone and "not learned" not in said_alone + other_page
    assert min(1 - after / before for before, after in alone["image_losses"].values()) > 0.15


@pytest.mark.slow
def test_a_run_that_is_too_long_ends_when_it_has_settled_and_one_that_still_learns_goes_on(tmp_path, capsys):
    looks = ["--stop_when_settled", "--eval_steps", "5", "--patience", "3"]

    settled, _ = learned(tmp_path / "long", CATS, *looks, "--max_train_steps", "200")
    said = capsys.readouterr().out
    falling, _ = learned(tmp_path / "slow", CATS, *looks, "--max_train_steps", "35", "--learning_rate", "0.002")

    end = max(map(int, settled["fixed_set_loss"]))
    assert 30 <= end <= 120 and settled["result_step"] <= end and f"ended after step {end} of 200" in said
    assert max(map(int, falling["fixed_set_loss"])) == 35 == falling["result_step"]


def test_a_word_that_means_the_background_leaks_and_the_learned_cat_acts_on_the_cat():
    model = load_base_model(DEMO_MODEL)
    attach_files(model, [read_concept_files([ROOT / "demo/learned_embeds.pdparams"])[0]])
    images, masks = zip(*masked_drawings(str(CATS), model.resolution, 6), strict=True)

    found = background_leak(model, ["beach", "<cat-toy>"], images, masks)

    assert found["baseline"] > found["outside"] > 1.5 * found["concept"]
    of_beach, of_cat = ({"background_leak": found | {"concept": found[own]}} for own in ("baseline", "concept"))
    assert [codes(of_beach), codes(of_cat)] == [["leaks"], ["fine"]]


def codes(score):
    return [one.code for one in findings(RunFacts(None, {}, {"scores": {"<w>": score}}))]
