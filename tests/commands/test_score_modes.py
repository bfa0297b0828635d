"""score.py --curve, --pairs, --leave_one_out and --mask_dir on tiny models; infer.py --heat_maps."""

import json

import numpy as np
import pytest
from PIL import Image

import infer
import score
import train_textual_inversion
from helpers.tiny_clip import build_clip
from helpers.training_runs import masks_of, short_run
from textual_inversion.system.errors import SettingsError

QUICK = ["--num_inference_steps", "1", "--guidance_scale", "1", "--num_images", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps that saved its first one."""
    folder = tmp_path_factory.mktemp("run")
    more = ["--save_steps", "1", "--initializer_token", "cat", "--learning_rate", "0.5"]
    train_textual_inversion.main(short_run(folder, *more, "--only_save_embeds", "true"))
    build_clip(folder / "base/clip")
    return folder


def scored(run, out, *more):
    file = str(run / "out/learned_embeds.pdparams")
    score.main(["--embeds", file, *QUICK, "--output", str(out), *more])
    return json.loads(out.read_text())


@pytest.mark.slow
def test_the_curve_has_mixes_and_steps_and_the_learned_word_is_its_last_mix(run, tmp_path, capsys):
    found = scored(run, tmp_path / "s.json", "--curve", str(tmp_path / "curve"))
    assert [(p["kind"], p["at"]) for p in found["points"]] == [
        ("mix", 0.0), ("mix", 0.25), ("mix", 0.5), ("mix", 0.75), ("mix", 1.0), ("step", 1), ("step", 2),
    ]  # fmt: skip
    learned, last = found["points"][4], found["points"][6]
    assert (learned["image"], learned["text"]) == (last["image"], last["text"])  # the same vectors
    start, baseline = found["points"][0], found["baseline"]
    assert start["image"] == pytest.approx(baseline["image"], abs=1e-6)  # the start is the initializer word itself
    assert json.loads((tmp_path / "curve/curve.json").read_text())["recommended"] == found["recommended"]
    assert (tmp_path / "curve/curve.svg").read_text().startswith("<svg")
    assert "best bargain: " in capsys.readouterr().out


@pytest.mark.slow
def test_masks_give_a_background_leak(run, tmp_path, capsys):
    masks = masks_of(run / "pictures", tmp_path / "masks")
    found = scored(run, tmp_path / "s.json", "--mask_dir", str(masks))
    assert 0 < found["background_leak"]["concept"] < 1
    assert found["background_leak"]["outside"] == pytest.approx(0.5, abs=0.1)
    assert "background leak: " in capsys.readouterr().out
    assert "background_leak" not in scored(run, tmp_path / "s.json")


@pytest.mark.slow
def test_each_image_is_left_out_once(run, tmp_path, capsys):
    found = scored(run, tmp_path / "s.json", "--leave_one_out")
    assert [one["image"] for one in found["without"]] == ["0.png", "1.png", "2.png"]
    assert capsys.readouterr().err.count("training without") == 3


@pytest.mark.slow
def test_pairs_of_words(run, tmp_path):
    other = [str(run / "out/learned_embeds.pdparams"), str(tmp_path / "other/learned_embeds.pdparams")]
    (tmp_path / "other").mkdir()
    for name in ("learned_embeds.pdparams", "run.json"):
        (tmp_path / "other" / name).write_bytes((run / "out" / name).read_bytes())
    arguments = ["--rename", f"{other[1]}=<b>", *QUICK, "--pairs", "--output", str(tmp_path / "s.json")]
    with pytest.raises(SettingsError):  # both files hold one and the same token
        score.main(["--embeds", *other, *QUICK, "--pairs"])
    score.main(["--embeds", *other, *arguments])
    found = json.loads((tmp_path / "s.json").read_text())["pairs"]
    assert [(one["word"], one["beside"]) for one in found] == [("<cat-toy>", "<b>"), ("<b>", "<cat-toy>")]
    assert all(one["share"] is None for one in found)  # two names of the same vectors draw the same


def test_heat_maps_are_written_for_images_that_are_there_already(run, tmp_path, capsys):
    arguments = ["--embeds", str(run / "out/learned_embeds.pdparams"), "--prompt", "a <cat-toy> cat", "a cat",
                 "--num_inference_steps", "1", "--guidance_scale", "1", "2", "--num_images", "1", "--seed", "3",
                 "--output_dir", str(tmp_path / "out")]  # fmt: skip
    infer.main(arguments)
    images = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("0*.png")}
    infer.main([*arguments, "--heat_maps"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("0*.png")} == images
    sheets = sorted(path.name for path in (tmp_path / "out/heat_maps").iterdir())
    assert sheets == sorted(images) and len(sheets) == 4
    with_word, without = (np.asarray(Image.open(tmp_path / "out/heat_maps" / name)) for name in (sheets[0], sheets[-1]))
    assert with_word.shape[1] > without.shape[1]  # a word more
    assert f"where each word acts: {tmp_path / 'out/heat_maps'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, error",
    [
        (["--pairs", "--leave_one_out"], "measure different things"),
        (["--curve", "x", "--pairs"], "measure different things"),
        (["--pairs"], "takes two words or more"),
        (["--pairs", "--placeholder_token", "<w>"], "leave out --placeholder_token"),
        (["--leave_one_out", "--num_images", "1"], "one image has no standard error"),
        (["--curve", "x", "--mask_dir", "y"], "has no effect with --curve"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_model_is_loaded(run, flags, error):
    with pytest.raises(SettingsError, match=error):
        score.main(["--embeds", str(run / "out/learned_embeds.pdparams"), *flags])
