"""The store of ppdiffusers: where its cache is, and an answer within seconds."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from textual_inversion.hub import paddle_store


def test_the_cache_is_where_ppdiffusers_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    assert paddle_store.cache_folder() == tmp_path / "ppdiffusers"
    monkeypatch.delenv("PPNLP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paddle_store.cache_folder() == tmp_path / "paddlenlp" / "ppdiffusers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paddle_store.cache_folder() == Path("~/.cache/paddlenlp/ppdiffusers").expanduser()


@pytest.mark.parametrize(("status", "has"), [(200, True), (404, False), (503, False)])
def test_the_store_is_asked_for_the_index_of_the_model(monkeypatch, status, has):
    asked = []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("PPNLP_ENDPOINT", "https://store.example")
    monkeypatch.setattr(
        requests, "head", lambda url, timeout: asked.append((url, timeout)) or SimpleNamespace(status_code=status)
    )

    assert paddle_store.has_model("me/model") is has
    assert asked == [("https://store.example/models/community/me/model/model_index.json", 5)]


def test_offline_the_store_is_not_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(requests, "head", lambda *_, **__: pytest.fail("asked"))
    assert not paddle_store.has_model("me/model")


def test_an_unreachable_store_has_nothing(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def unreachable(*_, **__):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "head", unreachable)
    assert not paddle_store.has_model("me/model")


def test_a_file_that_the_store_lacks_is_none(monkeypatch, tmp_path):
    import ppdiffusers.utils

    def download(name, file, *, cache_dir, from_hf_hub):
        if file != "there.json":
            raise OSError("no such file")
        return str(Path(cache_dir, name, file))

    monkeypatch.setattr(ppdiffusers.utils, "bos_aistudio_hf_download", download)
    assert paddle_store.fetch_file("me/model", "there.json", tmp_path) == tmp_path / "me/model/there.json"
    assert paddle_store.fetch_file("me/model", "absent.json", tmp_path) is None
