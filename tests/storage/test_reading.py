"""What is read from an address: what is needed, as it is there now, and nothing that would lead elsewhere."""

import pytest

from textual_inversion.storage import reading
from textual_inversion.system.addresses import parsed
from textual_inversion.system.errors import SettingsError, StorageError


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_as_it_is_there_each_time(bucket):
    bucket.objects |= {"data/a.png": b"1", "data/deep/b.png": b"2", "database/c.png": b"3", "data/.hidden": b"4"}
    folder = reading.folder(parsed("s3://bucket/data"))
    assert names(folder) == {"a.png", "deep/b.png", ".hidden"} and (folder / "a.png").read_bytes() == b"1"
    stamp = (folder / "deep/b.png").stat().st_mtime_ns
    del bucket.objects["data/.hidden"]
    bucket.put("data/a.png", b"other")
    assert reading.folder(parsed("s3://bucket/data")) == folder
    assert names(folder) == {"a.png", "deep/b.png"} and (folder / "a.png").read_bytes() == b"other"
    assert (folder / "deep/b.png").stat().st_mtime_ns == stamp  # was not fetched again


def test_two_choices_from_one_folder_do_not_take_from_each_other(bucket):
    bucket.objects |= {f"run/{name}": name.encode() for name in ("x", "y", "z")}
    folder = reading.folder(parsed("s3://bucket/run"), lambda names: ["x"])
    bucket.put("run/x", b"new")
    assert reading.folder(parsed("s3://bucket/run"), lambda names: ["y", "none"]) == folder
    assert names(folder) == {"x", "y"} and (folder / "x").read_bytes() == b"new"


def test_a_file_comes_with_what_is_read_beside_it(bucket):
    bucket.objects |= {"run/cat.bin": b"1", "run/run.json": b"2", "run/huge": b"3", "run/deep/run.json": b"4"}
    path = reading.file(parsed("s3://bucket/run/cat.bin"), lambda names: {"run.json"})
    assert path.name == "cat.bin" and names(path.parent) == {"cat.bin", "run.json"}
    assert names(reading.file(parsed("s3://bucket/run"), lambda names: (), lambda names: ["huge"])) >= {"huge"}


@pytest.mark.parametrize("key", ["../../escaped", "/escaped", "a/../../escaped", "a//escaped", "a\\escaped", "esc\x1b",
                                 "./escaped", "a/..", "n" * 300])  # fmt: skip
def test_a_name_that_leads_elsewhere_is_left_out(bucket, tmp_path, key):
    bucket.objects |= {"data/a.png": b"1", f"data/{key}": b"2"}
    folder = reading.folder(parsed("s3://bucket/data"))
    assert names(folder) == {"a.png"}
    assert not list(tmp_path.rglob("*escaped*"))


def test_an_object_with_the_name_of_a_folder_is_left_out(bucket):
    bucket.objects |= {"data/": b"", "data/in": b"1", "data/in/a.png": b"2", "data/in/": b""}
    assert names(reading.folder(parsed("s3://bucket/data"))) == {"in/a.png"}


def test_an_object_that_is_cut_short_leaves_the_file_as_it_was(bucket, monkeypatch):
    bucket.objects |= {"data/a.png": b"1"}
    folder = reading.folder(parsed("s3://bucket/data"))
    bucket.put("data/a.png", b"longer")
    monkeypatch.setattr(bucket, "parts", lambda key: iter([b"lon"]))
    with pytest.raises(StorageError, match="s3://bucket/data/a.png changes while it is read"):
        reading.folder(parsed("s3://bucket/data"))
    assert (folder / "a.png").read_bytes() == b"1"


def test_nothing_there_is_said(bucket):
    bucket.objects |= {"data/a.png": b"1"}
    for read in (reading.folder, lambda source: reading.file(source, lambda names: ())):
        with pytest.raises(StorageError, match="there is nothing at s3://bucket/date; correct the address"):
            read(parsed("s3://bucket/date"))
    with pytest.raises(StorageError, match="s3://bucket/data/a.png is a file, not a folder"):
        reading.folder(parsed("s3://bucket/data/a.png"))


def test_an_address_that_is_none_is_refused_without_being_repeated():
    with pytest.raises(SettingsError, match="--x: an address of object storage holds credentials") as caught:
        reading.address("s3://key:secret@bucket/run", "--x")
    assert "secret" not in str(caught.value)
