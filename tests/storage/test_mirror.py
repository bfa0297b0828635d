"""The folder that stands for an address, and what is known of it."""

import os
import stat

import pytest

from textual_inversion.storage import mirror as module
from textual_inversion.storage.mirror import READ, WRITE, Mirror, State
from textual_inversion.system.addresses import parsed
from textual_inversion.system.errors import OutputError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path / "machine"))
    return tmp_path / "machine"


def test_each_address_endpoint_and_use_has_a_folder_of_its_own_name(place, monkeypatch):
    addresses = [parsed("s3://bucket/run"), parsed("s3://bucket/a/run"), parsed("gs://bucket/run")]
    folders = {Mirror(one, use).folder for one in addresses for use in (READ, WRITE)}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    folders.add(Mirror(addresses[0], READ).folder)
    assert len(folders) == 7 and {folder.name for folder in folders} == {"run"}
    assert Mirror(addresses[0], READ).folder in folders  # the same again
    assert Mirror(parsed("s3://bucket"), READ).folder.name == "bucket"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_what_is_unfinished_hidden_by_a_lock_or_linked_is_no_file_of_it(place, tmp_path):
    mirror = Mirror(parsed("s3://bucket/run"), WRITE)
    top = mirror.make()
    unfinished = ".f.tmp-1-0123456789abcdef-01234567"
    for name in ("f", "in/g", f"{unfinished}", f"in/{unfinished}", ".lock"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(name)
    (top / unfinished.replace("01234567", "99999999", 1)).mkdir(exist_ok=True)
    (top / "link").symlink_to(tmp_path)
    (top / os.fsdecode(b"no-text-\xff")).touch()
    assert set(mirror.scan()) == {"f", "in/g"}
    before = mirror.scan()["f"]
    os.replace(top / "in/g", top / "f")
    assert mirror.scan()["f"] != before


def test_what_is_known_is_kept_and_damage_is_as_good_as_nothing(place):
    mirror = Mirror(parsed("s3://bucket/run"), WRITE)
    state = State()
    state.note("f", (1, 2, 3), 1, "tag")
    mirror.save(state)
    assert mirror.state() == state
    path = mirror.folder.parent / "state.json"
    for content in (b"", b"{}", b'{"format": 1, "mirror": 3, "files": {}}', b"\xff"):
        path.write_bytes(content)
        assert mirror.state().stamps == {}


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match="set TEXTUAL_INVERSION_STORAGE to a folder that can"):
        Mirror(parsed("s3://bucket/run"), READ)


def test_without_a_home_folder_that_can_be_written_it_is_among_the_temporary_files(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.delenv("TEXTUAL_INVERSION_STORAGE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = Mirror(parsed("s3://bucket/run"), READ).folder
    assert folder.is_relative_to(tmp_path / f"textual-inversion-storage-{os.getuid()}")
