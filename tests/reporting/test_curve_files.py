"""A curve's files, and how its best point is taken."""

import json
from types import SimpleNamespace

from textual_inversion.evaluation.curve import MIX, STEP, Curve, Point
from textual_inversion.reporting.curve_files import how_to_take, write_curve


def test_both_files_show_the_same_best_point(tmp_path):
    points = [Point(MIX, 0.0, 0.5, 0.3), Point(MIX, 0.5, 0.7, 0.29), Point(MIX, 1.0, 0.8, 0.1)]
    curve = Curve(points, (0.5, 0.3), 0.8)

    result = write_curve(curve, tmp_path)

    assert result["recommended"] == {"kind": MIX, "at": 0.5}
    assert json.loads((tmp_path / "curve.json").read_text()) == result
    assert "recommended: 50% of the way" in (tmp_path / "curve.svg").read_text()


def test_how_a_point_is_taken_depends_on_what_it_is(tmp_path):
    for name in ("learned_embeds.pdparams", "learned_embeds-steps-5.pdparams", "learned_embeds-steps-10.pdparams"):
        (tmp_path / name).touch()
    file = SimpleNamespace(path=tmp_path / "learned_embeds.pdparams")

    step, mix, learned = (how_to_take(Point(*at, 0.0, 0.0), file, "<w>", "base") for at in
                          ((STEP, 10), (MIX, 0.25), (MIX, 1)))  # fmt: skip

    assert step == f"best bargain: step 10: {tmp_path}/learned_embeds-steps-10.pdparams"
    assert f"mix {file.path} --from_start 0.25 --name '<w>' --output mixed.safetensors" in mix
    assert mix.endswith(" --pretrained_model_name_or_path base")
    assert learned == f"best bargain: the word as it was learned: {file.path}"
