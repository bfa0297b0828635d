"""Where the page may look, and what becomes of what somebody calls a thing."""

import pytest

from textual_inversion.studio.workspace import OutsideError, Workspace, folder_name
from textual_inversion.system.errors import OutputError, SettingsError


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret").mkdir()
    return Workspace.at(tmp_path / "ws", [tmp_path / "photos"])


def test_what_lies_in_a_chosen_folder_is_found_and_nothing_else(workspace, tmp_path):
    assert workspace.inside(tmp_path / "photos" / "cat") == tmp_path / "photos" / "cat"
    assert workspace.inside(workspace.part("runs") / "a") == workspace.part("runs") / "a"
    for path in (tmp_path / "secret", tmp_path / "photos/../secret", "/etc/passwd", "", "a\0b", "x" * 5000, tmp_path):
        with pytest.raises(OutsideError):
            workspace.inside(path)


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_not(workspace, tmp_path):
    (tmp_path / "photos/out").symlink_to(tmp_path / "secret")
    (tmp_path / "photos/in").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/round").symlink_to(tmp_path / "photos/round")

    assert workspace.inside(tmp_path / "photos/in/x") == tmp_path / "photos/x"
    for name in ("out", "out/deeper", "round"):
        with pytest.raises(OutsideError):
            workspace.inside(tmp_path / "photos" / name)
    assert tmp_path / "secret" not in set(workspace.folders(tmp_path / "photos"))


NAMES = ["../../x", "..", ".", "", "/etc/passwd", "<script>alert(1)</script>", "a\0b", "a/b\\c", " ", "-rf", ".ssh"]
NAMES += ["x" * 400, "\u202egnp", "a\nb", "~root", "C:\\x", "$(id)", "`id`"]


@pytest.mark.parametrize("wanted", NAMES)
def test_no_name_leads_out_of_its_folder(workspace, wanted):
    path = workspace.new_folder("runs", wanted)

    assert path.parent == workspace.part("runs") and path.resolve() == path
    assert not path.name.startswith((".", "-")) and len(path.name) <= 60
    assert not set(path.name) & set("<>/\\$`\0\n ~")
    path.mkdir()
    assert workspace.new_folder("runs", wanted) != path


def test_a_name_in_chinese_stays_readable():
    assert folder_name("<我的猫>") == "我的猫"


def test_what_is_deleted_lies_in_the_bin_and_what_is_not_the_pages_stays(workspace, tmp_path):
    run = workspace.part("runs") / "a"
    run.mkdir()
    (run / "run.json").write_text("{}")
    target = workspace.throw_away(run)

    assert not run.exists() and target.parent == workspace.part("bin") and (target / "run.json").is_file()
    link = workspace.part("runs") / "link"
    link.symlink_to(tmp_path / "secret")
    for path in (tmp_path / "photos", workspace.part("runs"), workspace.folder, link, target):
        with pytest.raises(OutputError):
            workspace.throw_away(path)
    assert (tmp_path / "secret").is_dir() and (tmp_path / "photos").is_dir()


def test_a_root_that_is_no_folder_is_refused_in_one_line(tmp_path):
    with pytest.raises(SettingsError, match="--roots .*nowhere is no folder"):
        Workspace.at(tmp_path / "ws", [tmp_path / "nowhere"])
