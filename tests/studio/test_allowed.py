"""Which paths a form of the page may name."""

import pytest

from textual_inversion.studio.allowed import check
from textual_inversion.studio.workspace import OutsideError, Workspace


@pytest.mark.parametrize("name", ["s3://bucket/run", "gs://bucket/x:0.5", "bos://bucket"])
def test_no_address_of_object_storage_is_asked_for_by_the_page(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # below which such a text would be a path of the workspace
    workspace = Workspace.at(tmp_path)
    check(workspace, str(tmp_path / "words" / "cat.pt"))
    with pytest.raises(OutsideError, match="is an address of object storage"):
        check(workspace, name)
