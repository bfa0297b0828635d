"""Requests to object storage: what is read is what was written, and what a refusal is called."""

import io
import subprocess
import urllib.request

import pytest

from helpers.object_stores import KEY, SECRET, free_port, moto, wait_for_port
from textual_inversion.storage import client as module
from textual_inversion.storage.client import Client, NotThere
from textual_inversion.system.addresses import parsed
from textual_inversion.system.errors import StorageError

ODD = ["<cat-toy>.bin", "a b", "ü", "100%", "a#b", "a?b", "a+b&c", "[x]"]


def bucket(name="bucket"):
    return Client(parsed(f"s3://{name}/run"))


def round_trip(client):
    """Every request once, on names that a path or a URL might spoil."""
    for name in ODD:
        client.put(f"run/{name}", name.encode())
    large = b"0123456789abcdef" * (1 << 20)  # more than one part
    client.put("run/deep/large", io.BytesIO(large))
    client.put("run/empty", b"")
    assert {key.removeprefix("run/") for key in client.listed("run")} == {*ODD, "deep/large", "empty"}
    assert [b"".join(client.parts(f"run/{name}")).decode() for name in ODD] == ODD
    assert b"".join(client.parts("run/deep/large")) == large
    assert client.look("run/empty").size == 0 and client.look("run/none") is None
    tag = client.listed("run")["run/100%"].tag
    client.put("run/100%", b"other")
    assert client.listed("run")["run/100%"].tag != tag
    client.remove("run/100%")
    client.remove("run/100%")
    assert client.look("run/100%") is None
    with pytest.raises(NotThere):
        list(client.parts("run/none"))


def test_what_is_written_is_read(service):
    round_trip(bucket())


def test_what_is_written_is_read_from_a_second_kind_of_service(monkeypatch, tmp_path):
    port = free_port()
    server = subprocess.Popen([moto(), "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        endpoint = f"http://127.0.0.1:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT"), timeout=30).close()
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        for name, value in zip(names, (endpoint, KEY, SECRET, "us-east-1"), strict=True):
            monkeypatch.setenv(name, value)
        round_trip(bucket())
        # A conditional put, which it enforces and no upload rests on; obstore's own, to see that the service is one.
        with pytest.raises(Exception, match="already|exist"):
            __import__("obstore").put(bucket()._store, "run/empty", b"1", mode="create")
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("ask", [lambda c: c.listed("run"), lambda c: c.put("run/x", b""), lambda c: c.look("run/x")])
def test_a_refusal_says_what_to_set_and_holds_no_secret(service, monkeypatch, ask):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(StorageError) as caught:
        ask(bucket())
    assert caught.value.is_lasting and "credentials are refused" in str(caught.value)
    assert "AWS_ACCESS_KEY_ID" in str(caught.value) and "\n" not in str(caught.value)
    shown = str(caught.value) + repr(caught.value.__cause__)
    assert not any(word in shown for word in (KEY, SECRET, "another-secret", "Debug source"))


def test_a_bucket_that_is_not_there_is_named(service):
    for ask in (lambda c: c.listed("run"), lambda c: c.put("run/x", b"")):
        with pytest.raises(StorageError, match="s3://missing: there is no such bucket; make it"):
            ask(bucket("missing"))


def test_a_listing_ends_where_it_has_more_than_any_run(service, monkeypatch):
    client = bucket()
    for name in range(5):
        client.put(f"run/{name}", b"")
    monkeypatch.setattr(module, "MOST", 4)
    with pytest.raises(StorageError, match="s3://bucket/run has more than 4 objects; name a smaller folder"):
        client.listed("run")


def test_an_outage_is_no_lasting_fault(service, monkeypatch):
    monkeypatch.setattr(module, "_TRIES", {"max_retries": 0})
    service.stop()
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        bucket().listed("run")
    assert not caught.value.is_lasting


def test_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(StorageError, match="needs the package obstore: pip install -r requirements-storage.txt"):
        bucket()


@pytest.mark.parametrize(("scheme", "how"), [("gs", "GOOGLE_APPLICATION_CREDENTIALS"), ("az", "AZURE_STORAGE"),
                                             ("bos", "BCE_ACCESS_KEY_ID")])  # fmt: skip
def test_other_services_say_how_they_are_told_who_asks(scheme, how, monkeypatch, tmp_path):
    pytest.importorskip("obstore")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "_TRIES", {"max_retries": 0})
    monkeypatch.setattr(module, "_WAITS", {"connect_timeout": "1s", "timeout": "2s"})
    with pytest.raises(StorageError) as caught:
        Client(parsed(f"{scheme}://bucket/run")).listed("run")
    # A machine that answers where those of a cloud ask: no credentials; elsewhere nobody answers.
    assert how in str(caught.value) or "cannot be reached" in str(caught.value)


def test_bos_is_asked_at_its_own_endpoint(service, monkeypatch):
    monkeypatch.setenv("BOS_ENDPOINT", f"http://127.0.0.1:{service.port}")
    monkeypatch.setenv("BCE_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("BCE_SECRET_ACCESS_KEY", SECRET)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    Client(parsed("bos://bucket/run")).put("run/x", b"here")
    assert (service.files / "bucket/run/x").read_bytes() == b"here"
