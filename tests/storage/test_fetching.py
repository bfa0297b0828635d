"""Objects become files whole or not at all; the other tests of it are those of reading and writing."""

from helpers.object_stores import Bucket
from textual_inversion.storage.fetching import WRITER, below, fetch
from textual_inversion.storage.mirror import READ, Mirror, State
from textual_inversion.system.addresses import parsed


def test_what_is_below_an_address_is_named_from_there():
    bucket = Bucket()
    bucket.objects |= {"a/b/c": b"", f"a/{WRITER}": b"", "ab": b"", "a/d": b""}
    assert set(below(parsed("s3://bucket/a"), bucket.listed(""))) == {"b/c", "d"}
    assert set(below(parsed("s3://bucket"), bucket.listed(""))) == {"a/b/c", "ab", "a/d", f"a/{WRITER}"}


def test_an_object_that_is_gone_by_now_is_no_error_and_what_came_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path))
    bucket, mirror, state = Bucket(), Mirror(parsed("s3://bucket/a"), READ), State()
    bucket.objects |= {"a/x": b"1", "a/y": b"2"}
    mirror.make()
    found = below(mirror.address, bucket.listed("a"))
    del bucket.objects["a/x"]
    assert fetch(bucket, mirror, state, found, found) == 1
    assert set(mirror.scan()) == {"y"} == set(state.stamps) == set(mirror.state().stamps)
    assert fetch(bucket, mirror, state, ["y"], found) == 0
