"""What is read from an address: what is needed, as it is there now, and nothing that would lead elsewhere."""

from types import SimpleNamespace

import pytest

from textual_inversion.storage import fetching, reading
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
    path = reading.file(parsed("s3://bucket/run/cat.bin"), {"run.json", "none"})
    assert path.name == "cat.bin" and names(path.parent) == {"cat.bin", "run.json"}
    del bucket.objects["run/run.json"]
    assert names(reading.file(parsed("s3://bucket/run/cat.bin"), {"run.json"}).parent) == {"cat.bin"}
    assert names(reading.file(parsed("s3://bucket/run"), (), lambda names: ["huge"])) >= {"huge"}


def test_the_folder_around_a_file_is_not_listed(bucket, monkeypatch):
    bucket.objects |= {"run/cat.bin": b"1"}
    monkeypatch.setattr(bucket, "listed", None)
    assert reading.file(parsed("s3://bucket/run/cat.bin"), ()).read_bytes() == b"1"


def test_of_a_folder_of_folders_the_names_are_read(bucket):
    bucket.objects |= {"data/a/1.png": b"1", "data/b/c/2.png": b"2", "data/list.csv": b"3"}
    top = reading.folders(parsed("s3://bucket/data"))
    assert {path.name for path in top.iterdir()} == {"a", "b"} and names(top) == set()
    del bucket.objects["data/a/1.png"]
    assert {path.name for path in reading.folders(parsed("s3://bucket/data")).iterdir()} == {"b"}
    with pytest.raises(StorageError, match="there is nothing at s3://bucket/date"):
        reading.folders(parsed("s3://bucket/date"))


TEMPORARY = ".escaped.tmp-1-0123456789abcdef-01234567"


@pytest.mark.parametrize("key", ["../../escaped", "/escaped", "a/../../escaped", "a//escaped", "a\\escaped", "esc\x1b",
                                 "./escaped", "a/..", "n" * 300, ".lock", "a/.lock", TEMPORARY])  # fmt: skip
def test_a_name_that_leads_elsewhere_is_left_out(bucket, tmp_path, key):
    bucket.objects |= {"data/a.png": b"1", f"data/{key}": b"2"}
    folder = reading.folder(parsed("s3://bucket/data"))
    assert names(folder) == {"a.png"}
    assert not list(tmp_path.rglob("*escaped*")) and not list(folder.rglob(".lock"))


def test_an_object_with_the_name_of_a_folder_is_left_out(bucket):
    bucket.objects |= {"data/": b"", "data/in": b"1", "data/in/a.png": b"2", "data/in/": b""}
    assert names(reading.folder(parsed("s3://bucket/data"))) == {"in/a.png"}
    del bucket.objects["data/in/a.png"], bucket.objects["data/in/"]
    assert names(reading.folder(parsed("s3://bucket/data"))) == {"in"}  # a file now


def test_an_object_that_is_cut_short_leaves_the_file_as_it_was(bucket, monkeypatch):
    bucket.objects |= {"data/a.png": b"1"}
    folder = reading.folder(parsed("s3://bucket/data"))
    bucket.put("data/a.png", b"longer")
    monkeypatch.setattr(bucket, "parts", lambda key: iter([b"lon"]))
    with pytest.raises(StorageError, match="s3://bucket/data/a.png is not as large as the service says"):
        reading.folder(parsed("s3://bucket/data"))
    assert (folder / "a.png").read_bytes() == b"1"


def test_an_object_that_never_ends_is_cut_at_its_length(bucket, tmp_path, monkeypatch):
    bucket.objects |= {"data/a.png": b"1"}
    taken = []

    def without_end(key):
        while True:
            taken.append(key)
            yield bytes(1000)

    monkeypatch.setattr(bucket, "parts", without_end)
    with pytest.raises(StorageError, match="is not as large as the service says"):
        reading.folder(parsed("s3://bucket/data"))
    assert len(taken) < 10 and not [path for path in tmp_path.rglob("*a.png*") if path.is_file()]


def test_an_object_that_changes_each_time_is_given_up(bucket, monkeypatch):
    bucket.objects |= {"data/a.png": b"1"}
    plain = bucket.parts

    def growing(key):
        bucket.put(key, bucket.objects[key] + b"1")
        return plain(key)

    monkeypatch.setattr(bucket, "parts", growing)
    with pytest.raises(StorageError, match="s3://bucket/data/a.png changes while it is read"):
        reading.folder(parsed("s3://bucket/data"))


def test_what_the_disk_cannot_hold_is_refused_before_any_of_it_is_fetched(bucket, monkeypatch):
    bucket.objects |= {"data/a.png": b"12345", "data/b.png": b"12345"}
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    monkeypatch.setattr(bucket, "parts", None)
    with pytest.raises(StorageError, match="s3://bucket/data: 10 bytes are to be fetched, and .* 9 bytes left; free"):
        reading.folder(parsed("s3://bucket/data"))


def test_what_a_killed_process_left_of_a_fetch_is_removed(bucket):
    bucket.objects |= {"data/deep/a.png": b"1"}
    folder = reading.folder(parsed("s3://bucket/data"))
    left = folder / "deep" / ".a.png.tmp-999999999-0123456789abcdef-01234567"
    left.write_bytes(bytes(1000))
    bucket.put("data/deep/a.png", b"2")
    reading.folder(parsed("s3://bucket/data"))
    assert not left.exists() and (folder / "deep/a.png").read_bytes() == b"2"


def test_nothing_there_is_said(bucket):
    bucket.objects |= {"data/a.png": b"1"}
    for read in (reading.folder, lambda source: reading.file(source, ())):
        with pytest.raises(StorageError, match="there is nothing at s3://bucket/date; correct the address"):
            read(parsed("s3://bucket/date"))
    with pytest.raises(StorageError, match="s3://bucket/data/a.png is a file, not a folder"):
        reading.folder(parsed("s3://bucket/data/a.png"))


def test_an_address_that_is_none_is_refused_without_being_repeated():
    with pytest.raises(SettingsError, match="--x: an address of object storage holds credentials") as caught:
        reading.address("s3://key:secret@bucket/run", "--x")
    assert "secret" not in str(caught.value)
