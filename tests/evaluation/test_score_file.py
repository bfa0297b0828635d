"""The JSON file of a measurement says what decided the figures, and no secret."""

import json

from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.evaluation.score_file import write_score
from textual_inversion.settings.flag import changed
from textual_inversion.settings.generation import ScoreConfig
from textual_inversion.system.paths import ROOT, from_root


def test_figures_stand_beside_what_decided_them(tmp_path):
    (file,) = read_concept_files([from_root("demo/learned_embeds.pdparams")])
    config = changed(ScoreConfig(), output=str(tmp_path / "s.json"), hub_token="hf_secret", num_images=7)

    write_score(config.output.output, {"found": 1}, config, file, base_model=str(ROOT / "demo/model"), clip_model="c")

    text = (tmp_path / "s.json").read_text()
    found = json.loads(text)
    assert found["found"] == 1 and found["embeds"]["sha256"] == file.sha256 and found["clip_model"] == "c"
    assert found["settings"]["num_images"] == 7 and found["settings"]["embeds"] == ["demo/learned_embeds.pdparams"]
    assert "hf_secret" not in text and str(ROOT) not in text and "output" not in found["settings"]
