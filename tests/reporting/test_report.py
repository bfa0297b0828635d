"""`report.html` of a run's folder: what is in it, how large it is, and that strangers' texts stay texts."""

import base64
import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from helpers.reported_runs import colour, data_of, run_folder
from textual_inversion.generation import image_grid, png_files
from textual_inversion.reporting.html_page import MOST_BYTES
from textual_inversion.reporting.report import PAGE, write_report
from textual_inversion.system.errors import EmbeddingFileError, SettingsError

HOSTILE = "</script><script>alert(1)</script><img src=http://x/ onerror=alert(1)> {{data}} {{csp}}"


def mean_colour(address):
    kind, content = address.split(",", 1)
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(content)))).mean(axis=(0, 1))


def test_the_page_holds_images_curves_settings_scores_and_findings(tmp_path):
    score = {"baseline": {"word": "toy", "image_similarity": 0.5, "image_standard_error": 0.01},
             "concept": {"word": "<w>", "image_similarity": 0.8, "text_similarity": 0.3},
             "ceiling": {"image_similarity": 0.9}, "share_of_the_way": 0.75, "text_ratio": 0.5}  # fmt: skip
    run_folder(tmp_path, figures={"scores": {"<w>": score}})
    found = write_report(tmp_path, [colour(0, 200, 0)])
    data = data_of(tmp_path / PAGE)
    assert [one.code for one in found] == ["rigid"] and data["findings"][0]["en"].startswith("<w> is hard to edit")
    assert [step for step, _ in data["frames"]] == [0, 10]
    ((prompt, before, after),) = data["pairs"]
    assert prompt == "a photo of a <w>"
    assert np.allclose(mean_colour(before), (200, 0, 0), atol=6) and np.allclose(
        mean_colour(after), (0, 0, 200), atol=6
    )
    assert np.allclose(mean_colour(data["training"][0]), (0, 200, 0), atol=6)
    assert data["scores"][0]["baseline"] == {"word": "toy", "image": "0.500 ± 0.010", "text": "–"}
    assert data["scores"][0]["share"] == "75%" and ["learning_rate", "0.5"] in data["given"]
    page = (tmp_path / PAGE).read_text()
    assert page.count("<polyline") == 2 and 'data-curve="eval/fixed_set_loss"' in page


def test_before_and_after_are_those_of_the_overview_where_there_is_one(tmp_path):
    run_folder(tmp_path)
    before, after = [colour(10, 10, 10), colour(60, 60, 60)], [colour(120, 120, 120), colour(240, 240, 240)]
    sheet = image_grid.overview([colour(0, 255, 0)] * 7, before, after, ["one", "two"])
    text = {"frames": sheet.info["frames"], "prompts": "one\ntwo"}
    png_files.save_png(sheet, tmp_path / "overview.png", text=text)
    write_report(tmp_path)
    pairs = data_of(tmp_path / PAGE)["pairs"]
    assert [pair[0] for pair in pairs] == ["one", "two"]
    levels = [[round(float(mean_colour(one).mean())) for one in pair[1:]] for pair in pairs]
    assert np.allclose(levels, [[10, 120], [60, 240]], atol=2)


def test_texts_of_strangers_stay_texts_and_nothing_is_asked_for(tmp_path):
    folder = run_folder(tmp_path, prompts=(HOSTILE,), placeholder_token=HOSTILE.replace(" ", "_"),
                        settings={"lr_scheduler": HOSTILE}, base_model="demo")  # fmt: skip
    with (folder / "figures.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, HOSTILE: 1.0}) + "\n")
    write_report(folder)
    page = (folder / PAGE).read_text()
    assert "<script>alert" not in page and "<img src=http" not in page
    assert page.count("<script") == 2 and page.count("</script>") == 2
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-") and "unsafe" not in policy
    assert data_of(folder / PAGE)["prompts"] == [HOSTILE]


def test_the_page_stays_under_three_megabytes_with_many_large_images(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    frames = [(step, [Image.fromarray(np.roll(noise, step * 7 + i)) for i in range(6)]) for step in range(60)]
    run_folder(tmp_path)
    strip = image_grid.strip(frames)
    png_files.save_png(strip, tmp_path / "samples/over-time.png", text={"frames": strip.info["frames"]})
    write_report(tmp_path, [Image.fromarray(noise)] * 30)
    data = data_of(tmp_path / PAGE)
    assert (tmp_path / PAGE).stat().st_size < MOST_BYTES
    assert len(data["frames"]) == 40 and (data["frames"][0][0], data["frames"][-1][0]) == (0, 59)


@pytest.mark.parametrize(
    "figures, error",
    [({"scores": {"<w>": {"concept": {"image_similarity": "much"}}}}, "image_similarity"),
     ({"fixed_set_loss": [1]}, "fixed_set_loss"), ([], None)],
)  # fmt: skip
def test_a_record_with_figures_of_another_kind_is_named(tmp_path, figures, error):
    run_folder(tmp_path, figures=figures)
    if error is None:
        write_report(tmp_path)
        return
    with pytest.raises(EmbeddingFileError, match=error):
        write_report(tmp_path)


def test_a_folder_that_is_none_of_a_run_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="holds no run.json; give the --output_dir of a run"):
        write_report(tmp_path)
