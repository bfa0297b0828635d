"""The image that stands for a run: its newest validation image, else its overview."""

import pytest

from helpers.embedding_samples import concept
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.embeddings.run_images import newest_image
from textual_inversion.system.errors import SettingsError


def test_the_newest_validation_image_then_the_overview_then_an_error(tmp_path):
    file = ConceptFile(tmp_path / "learned_embeds.pdparams", (concept(),))

    with pytest.raises(SettingsError, match="--cover auto: no run has left an image in .*; name one, as in --cover"):
        newest_image([file])
    (tmp_path / "overview.png").touch()
    assert newest_image([file]) == tmp_path / "overview.png"
    (tmp_path / "samples").mkdir()
    for name in ("step-9.png", "step-100.png", "step-20.png", "over-time.png", "step-x.png", "step-999.jpg"):
        (tmp_path / "samples" / name).touch()
    assert newest_image([file]) == tmp_path / "samples" / "step-100.png"
    assert newest_image([ConceptFile(tmp_path / "elsewhere" / "a", ()), file]).name == "step-100.png"
