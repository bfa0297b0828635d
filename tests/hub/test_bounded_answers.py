"""Hubs that answer too much, too slowly, or what is no answer: one phrase, little memory, and soon."""

import contextlib
import gzip
import json
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from helpers.local_hub import LocalHub, use
from textual_inversion.hub import bounded_answers, hugging_face
from textual_inversion.hub.bounded_answers import LateAnswer, within
from textual_inversion.hub.hugging_face import HubError

NAME = "me/evil"
FACTS = {"id": NAME, "sha": "c" * 40, "private": False, "downloads": 0, "likes": 0, "tags": []}
UNUSABLE = "gave an answer that cannot be used"
BLANKS = gzip.compress(b" " * 100_000_000)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        """A client that hangs up is what is wanted."""


@contextlib.contextmanager
def answering(body=b"", status=200, chunks=None, **headers):
    """A hub that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header(*(("Transfer-Encoding", "chunked") if chunks else ("Content-Length", str(len(body)))))
            self.end_headers()
            for part in chunks() if chunks else [body]:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunks else part)

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(endpoint=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


def endless():
    while True:
        yield b" " * 65_536


def dripping():
    while True:
        yield b" "
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (dict(chunks=endless), "answer is longer than 4 MiB"),
        (dict(chunks=endless, status=500), "answer is longer than 4 MiB"),
        (dict(chunks=endless, status=302, Location="/elsewhere"), "answer is longer than 4 MiB"),
        (dict(body=BLANKS, Content_Encoding="gzip"), "answer is longer than 4 MiB"),
        (dict(body=b"[" * 1_000_000), UNUSABLE),
        (dict(body=b"[]"), UNUSABLE),
        (dict(body=b"7"), UNUSABLE),
        (dict(body=b"hello\x1b[2J"), UNUSABLE),
        (dict(body=json.dumps({"siblings": []}).encode()), UNUSABLE),
        (dict(body=json.dumps(FACTS | {"siblings": [7]}).encode()), UNUSABLE),
        (
            dict(body=json.dumps(FACTS | {"siblings": [{"rfilename": 7}]}).encode()),
            UNUSABLE,
        ),
        (dict(body=json.dumps(FACTS | {"siblings": 7}).encode()), UNUSABLE),
        (dict(body=b"", status=302, Location="/elsewhere"), "TooManyRedirects"),
    ],
)
def test_an_answer_that_is_none_is_one_phrase_and_costs_little(tmp_path, monkeypatch, answer, phrase):
    with answering(**answer) as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        tracemalloc.start()
        try:
            with pytest.raises(HubError, match=phrase) as refusal:
                hugging_face.files_of(NAME)
        finally:
            taken = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert "\n" not in str(refusal.value) and taken < 50_000_000


def test_a_hub_that_never_finishes_counts_as_unreachable(tmp_path, monkeypatch):
    monkeypatch.setattr(hugging_face, "_SECONDS_TO_LIST", 1)
    with answering(chunks=dripping) as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        with pytest.raises(HubError, match="^the hub cannot be reached$"):
            hugging_face.files_of(NAME)


def test_a_commit_that_is_a_path_leads_nowhere(tmp_path, monkeypatch):
    evil = "../../../../evil"
    with answering(b"{}", X_Repo_Commit=evil, ETag=f'"{evil}"') as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        with pytest.raises(HubError):
            hugging_face.fetch(NAME, ["a"])
    assert not list(tmp_path.rglob("evil*")) and not list(tmp_path.parent.glob("evil*"))


def test_files_may_be_longer_than_answers(tmp_path, monkeypatch):
    content = b"x" * (bounded_answers.MOST_BYTES + 1)
    with LocalHub() as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        hub.repositories[NAME] = {"a": content}
        assert (hugging_face.fetch(NAME, ["a"]) / "a").read_bytes() == content


def test_what_is_asked_in_time_is_handed_on():
    assert within(5, lambda: 7) == 7
    with pytest.raises(KeyError):
        within(5, lambda: {}["x"])
    with pytest.raises(LateAnswer):
        within(0.1, lambda: time.sleep(2))
