"""The embeddings that a hub has under a name, and how they are told."""

import pytest

from helpers.local_hub import LocalHub, use
from textual_inversion.embeddings.hub_listing import as_json, embeddings_on_hub, report
from textual_inversion.system.errors import EmbeddingFileError, SettingsError

SLUG = "me/toys-64f9a55bb3115b4f513ec026"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        local.repositories = {
            "me/cat": {"learned_embeds.bin": b"", "README.md": b"", "concept_images/0.jpeg": b""},
            "me/many": {f"word-{n}.pt": b"" for n in range(30)},
            "me/model": {"model_index.json": b"", "unet/model.safetensors": b"", "v1.safetensors": b""},
        }
        local.collections[SLUG] = [("me/cat", "model"), ("me/gone\x1b[2J", "model"), ("me/gone", "model")]
        yield local


def test_an_owner(hub):
    found = embeddings_on_hub("me")

    assert found.files["me/cat"] == ("learned_embeds.bin",) and set(found.files) == {"me/cat", "me/many"}
    cat, many, others = report(found)
    assert cat == "me/cat: learned_embeds.bin" and many.endswith("and 10 more")
    assert others == "1 other repository holds none"
    assert as_json(found)["repositories"]["me/cat"] == ["learned_embeds.bin"]
    assert "there are more; these are the first" in report(embeddings_on_hub("me", most=1))


def test_a_collection(hub):
    assert report(embeddings_on_hub(SLUG)) == ["me/cat: learned_embeds.bin", "not shown by the hub: me/gone"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("me/model", EmbeddingFileError, "me/model on the hub has no learned embedding; choose another name"),
        ("nobody", EmbeddingFileError, "nobody on the hub has no learned embedding"),
        (
            "me/nothing",
            EmbeddingFileError,
            "me/nothing cannot be listed: the hub has no public repository of this name",
        ),
        ("a b", SettingsError, "'a b' is nothing that a hub can list; give a repository such as"),
    ],
)
def test_what_is_not_there_is_one_line(hub, name, error, message):
    with pytest.raises(error) as refusal:
        embeddings_on_hub(name)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
