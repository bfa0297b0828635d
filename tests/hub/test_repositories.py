"""Names of repositories, and the hub that each belongs to: no other is asked, and none gets another's token."""

import pytest

from helpers import local_aistudio, local_hub
from textual_inversion.hub import repositories

NAME = "me/cat"


@pytest.fixture
def hubs(tmp_path, monkeypatch):
    with local_hub.LocalHub() as hugging_face, local_aistudio.LocalAIStudio() as aistudio:
        local_hub.use(hugging_face, monkeypatch, tmp_path / "cache")
        local_aistudio.use(aistudio, monkeypatch, tmp_path / "home")
        hugging_face.repositories[NAME] = {"a.bin": b"of Hugging Face"}
        aistudio.repositories[NAME] = {"a.bin": b"of AI Studio"}
        yield hugging_face, aistudio


@pytest.mark.parametrize(
    ("name", "which", "content"), [(NAME, 0, b"of Hugging Face"), (f"aistudio:{NAME}", 1, b"of AI Studio")]
)
def test_the_prefix_chooses_the_hub_and_no_other_is_asked(hubs, tmp_path, name, which, content):
    assert repositories.is_repository_name(name)
    assert repositories.cached(name, cache_dir=tmp_path) is None

    assert repositories.files_of(name, token="hf_mine") == ["a.bin"]
    folder = repositories.fetch(name, ["a.bin"], cache_dir=tmp_path, token="hf_mine")

    assert (folder / "a.bin").read_bytes() == content
    assert repositories.cached(name, cache_dir=tmp_path) == folder
    assert hubs[which].requests and not hubs[1 - which].requests


def test_the_token_of_hugging_face_is_not_for_ai_studio_nor_the_other_way(hubs, tmp_path):
    for name in (NAME, f"aistudio:{NAME}"):
        repositories.files_of(name, token="hf_mine")
        repositories.fetch(name, ["a.bin"], cache_dir=tmp_path, token="hf_mine")

    hugging_face, aistudio = hubs
    assert {token for _, token in aistudio.tokens} == {local_aistudio.TOKEN}
    assert set(hugging_face.tokens) == {"Bearer hf_mine"}


@pytest.mark.parametrize("name", ["cat", "/a/b", "aistudio:cat", "aistudio:a/b/c", "a:b/c", "aistudio:/a/b"])
def test_what_is_no_name_of_a_repository(name):
    assert not repositories.is_repository_name(name)
