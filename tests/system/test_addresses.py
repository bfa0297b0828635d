"""Addresses of object storage, and the paths that stand for them in records and messages."""

import pytest

from textual_inversion.settings import config_yaml
from textual_inversion.settings.flag import flag, flags_of, group
from textual_inversion.system import addresses, paths, terminal_text
from textual_inversion.system.addresses import Address, address_of, is_address, is_name, parsed, shown, stand_for


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(addresses, "_folders", {})
    folder = tmp_path / "run"
    folder.mkdir()
    stand_for(folder, Address("s3", "bucket", "a/run"))
    return folder


def test_an_address_has_a_bucket_and_a_key():
    for text, scheme, bucket, key in (("s3://b1/a/b/", "s3", "b1", "a/b"), ("gs://b-2", "gs", "b-2", "")):
        found = parsed(text)
        assert (found.scheme, found.bucket, found.key) == (scheme, bucket, key)
        assert str(found) == text.rstrip("/")
    found = parsed("s3://bucket/a/run")
    assert (found.name, str(found.parent), found.key_of("x/y")) == ("run", "s3://bucket/a", "a/run/x/y")
    assert (found.parent.parent.name, parsed("s3://bucket").key_of("x")) == ("bucket", "x")


def test_only_the_services_that_are_spoken_to_have_addresses():
    assert all(map(is_address, ("s3://", "gs://b", "az://c/x", "bos://b")))
    assert not any(map(is_address, ("http://x", "file:///x", "hub:me/x", "a/s3://b", "S3://b", "", None)))


@pytest.mark.parametrize("text", ["s3://u:p@bucket/x", "s3://bucket:80/x", "s3://", "s3:///x", "s3://b/x?y", "s3://b/#",
                                  "s3://bb/a//b", "s3://bb/../x", "s3://bb/a\nb", "s3://bb/" + "n" * 2000])  # fmt: skip
def test_what_is_wrong_with_an_address_is_said_without_repeating_it(text):
    with pytest.raises(ValueError) as caught:
        parsed(text)
    assert "u:p" not in str(caught.value) and "nnn" not in str(caught.value)


def test_a_name_that_would_lead_elsewhere_is_none():
    assert is_name("a/<cat-toy> 1.png") and is_name(".hidden") and is_name("猫\u3000一.png")
    assert not is_name("no-text-\udcff")
    assert not any(map(is_name, ("", "/a", "a/", "..", "a/../b", "./a", "a\\b", "a\x00b", "n" * 256)))


def test_paths_below_a_folder_stand_for_names_below_its_address(run):
    assert address_of(run) == "s3://bucket/a/run" and address_of(str(run / "x" / "y")) == "s3://bucket/a/run/x/y"
    assert address_of(run.with_name("run-2")) is None and address_of("elsewhere") is None


def test_messages_and_records_name_the_address(run):
    assert shown(f"see {run}/f and '{run}'") == "see s3://bucket/a/run/f and 's3://bucket/a/run'"
    assert shown(f"{run}-2 {run}.kept-1") == f"{run}-2 {run}.kept-1"
    assert terminal_text.printed(f"error: {run} is gone") == "error: s3://bucket/a/run is gone"
    assert paths.portable(str(run)) == "s3://bucket/a/run"
    assert paths.in_shell(run / "a b") == "'s3://bucket/a/run/a b'"


def test_children_are_told_of_the_folder_that_they_write_into(run, monkeypatch):
    assert addresses.for_child(run) == f"s3://bucket/a/run\n{run}" and addresses.for_child(run.parent) == ""
    assert addresses._of_parent(addresses.for_child(run)) == {str(run): "s3://bucket/a/run"}
    for text in ("", "s3://bucket/a", "http://x\n/y", "s3://bucket/a\nrelative"):
        assert addresses._of_parent(text) == {}
    assert addresses.for_uploading_child(run) == "s3://bucket/a/run"
    assert addresses.for_uploading_child("local") == "local"
    monkeypatch.setenv(addresses.VARIABLE, addresses.for_child(run))
    assert addresses.for_uploading_child(run / "trials/000") == f"{run}/trials/000"  # is uploaded from above


def test_the_folder_of_an_address_is_found_again(run):
    assert addresses.path_of("s3://bucket/a/run") == str(run)
    assert addresses.path_of("s3://bucket/b") == "s3://bucket/b" and addresses.path_of("x") == "x"


def test_a_configuration_names_the_address(run):
    @group("x")
    class Settings:
        data: str = flag("", "x", metavar="DIR")

    assert config_yaml._lasting([str(run)], flags_of(Settings)["data"]) == ["s3://bucket/a/run"]
