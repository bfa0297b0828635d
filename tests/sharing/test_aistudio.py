"""A folder put into a repository of AI Studio, also by hand."""

import pytest

from helpers.local_aistudio import LocalAIStudio, use
from textual_inversion.sharing import aistudio
from textual_inversion.system.errors import OutputError, SettingsError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalAIStudio() as local:
        use(local, monkeypatch, tmp_path / "home")
        yield local


@pytest.mark.parametrize(
    ("card", "license_name"),
    [
        ("---\nlicense: openrail++\ntags: []\n---\ntext", "openrail++"),
        ("---\ntags: []\n---\nlicense: mit", "other"),
        ("---\nlicense: a licence of my own\n---", "other"),
        ("\xff", "other"),
        (None, "other"),
    ],
)
def test_the_repository_has_the_licence_of_the_card(hub, tmp_path, card, license_name):
    (tmp_path / "up").mkdir()
    (tmp_path / "up/a.txt").write_text("a")
    if card is not None:
        (tmp_path / "up/README.md").write_text(card, encoding="latin-1")

    aistudio.push("me/cat", tmp_path / "up")

    assert hub.licenses["me/cat"] == license_name and hub.repositories["me/cat"]["a.txt"] == b"a"


@pytest.mark.parametrize("argv", [[], ["me/cat"], ["cat", "."], ["me/cat", "/nowhere"], ["me/cat", ".", "more"]])
def test_by_hand_it_wants_a_repository_and_a_folder(argv):
    with pytest.raises(SettingsError, match="give a repository such as me/my-cat and a folder"):
        aistudio.main(argv)


def test_by_hand_a_failure_is_one_line(hub, tmp_path):
    hub.stop()

    with pytest.raises(OutputError, match=r"the upload to me/cat failed \(AI Studio cannot be reached\); try it again"):
        aistudio.main(["me/cat", str(tmp_path)])
