"""Embeddings by path, by folder and by repository id, from a hub on this machine."""

import json
from pathlib import Path

import numpy as np
import pytest

import infer
import score
from helpers import local_aistudio
from helpers.local_hub import LocalHub, use
from helpers.tiny_models import build_model
from helpers.torch_samples import TORCH_FILES
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.embedding_file import (
    LearnedEmbedding,
    read_embeddings,
    write_pdparams,
    write_safetensors,
)
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.system.errors import EmbeddingFileError

NAME = "sd-concepts-library/cat-toy"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        monkeypatch.chdir(tmp_path)
        yield local


def learned(token="<cat-toy>"):
    values = np.random.default_rng(1).standard_normal((2, 32)).astype(np.float32)
    return LearnedEmbedding(token, {"text_encoder": values})


def as_bytes(tmp_path, write, value, name):
    write(tmp_path / name, value)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    return content


def test_a_concept_of_the_library_is_fetched_alone_and_then_kept(hub):
    hub.repositories[NAME] = {
        "learned_embeds.bin": TORCH_FILES["diffusers_bin"],
        "token_identifier.txt": b"<other>",
        "concept_images/0.jpeg": b"x",
        "README.md": b"x",
    }

    path = find_embedding_file(NAME)

    assert path.name == "learned_embeds.bin" and path.read_bytes() == TORCH_FILES["diffusers_bin"]
    assert [concept.placeholder_token for concept in read_embeddings(path)] == ["<cat>"]  # its key
    fetched = {line.rpartition("/")[2] for line in hub.requests if line.startswith("GET") and "/resolve/" in line}
    assert fetched == {"learned_embeds.bin"}
    asked = len(hub.requests)
    assert find_embedding_file(NAME) == path and len(hub.requests) == asked


def test_of_several_files_one_is_taken_and_what_it_is_decides_the_safe_reader(hub, tmp_path):
    hub.repositories[NAME] = {
        "learned_embeds.bin": b"cos\nsystem\n(S'false'\ntR.",
        "learned_embeds.pdparams": b"x",
        "learned_embeds.safetensors": as_bytes(tmp_path, write_safetensors, learned(), "a"),
    }
    assert find_embedding_file(NAME).name == "learned_embeds.safetensors"

    hub.repositories["me/evil"] = {"learned_embeds.bin": b"cos\nsystem\n(S'touch run'\ntR."}
    with pytest.raises(EmbeddingFileError):
        read_concept_files(["me/evil"])
    assert not (tmp_path / "run").exists()


def test_a_path_that_exists_wins(hub, tmp_path):
    hub.repositories[NAME] = {"learned_embeds.bin": TORCH_FILES["diffusers_bin"]}
    folder = tmp_path / NAME
    folder.mkdir(parents=True)
    for name in ("learned_embeds.safetensors", "learned_embeds.pdparams"):
        (folder / name).write_bytes(b"here")

    path = find_embedding_file(NAME)
    assert path.resolve() == folder / "learned_embeds.pdparams"
    assert find_embedding_file(folder / "learned_embeds.safetensors") == folder / "learned_embeds.safetensors"
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["out/learned_embeds.pdparams", "here/learned", "/a/b", "a/b/c", "cat-toy", "~/x", "../a"]
)
def test_what_looks_like_a_missing_file_is_not_looked_for_on_the_hub(hub, tmp_path, name):
    (tmp_path / "here").mkdir()

    assert find_embedding_file(name) == Path(name).expanduser()
    with pytest.raises(EmbeddingFileError):
        read_concept_files([name])
    assert hub.requests == []


def test_what_the_hub_does_not_give_is_one_line(hub, monkeypatch):
    hub.repositories["me/model"] = {"unet/model.safetensors": b"x"}
    hub.repositories[NAME] = {"learned_embeds.bin": b"x"}

    def message(name=NAME):
        with pytest.raises(EmbeddingFileError) as caught:
            find_embedding_file(name)
        assert "\n" not in str(caught.value) and name in str(caught.value)
        return str(caught.value)

    assert "choose a repository of a learned embedding" in message("me/model")
    assert "no public repository of this name" in message("me/nothing")
    hub.refused = {"/api/models": 503}
    assert "the hub answered 503: refused; give a file instead" in message()
    hub.stop()
    assert "the hub cannot be reached; give a file instead" in message()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids" in message()


def test_a_folder_without_embeddings_is_named(tmp_path):
    with pytest.raises(EmbeddingFileError, match="holds none of"):
        find_embedding_file(tmp_path)


def test_the_commands_draw_and_score_concepts_of_the_hub_and_of_a_runs_folder(hub, tmp_path, monkeypatch):
    base = build_model(tmp_path / "base")
    hub.repositories[NAME] = {"learned_embeds.safetensors": as_bytes(tmp_path, write_safetensors, learned(), "a")}
    (tmp_path / "run").mkdir()
    write_pdparams(tmp_path / "run" / "learned_embeds.pdparams", [learned("<dog>")])
    quick = ["--num_images", "1", "--num_inference_steps", "1", "--seed", "1", "--prompt", "<cat-toy> and <dog>"]

    infer.main(["--embeds", NAME, "run", "--pretrained_model_name_or_path", str(base), *quick])

    (run,) = json.loads((tmp_path / "outputs" / "manifest.json").read_text())["runs"]
    assert [entry["words"] for entry in run["embeds"]] == [["<cat-toy>"], ["<dog>"]]
    with pytest.raises(Exception, match="does not say which images"):
        score.main(["--embeds", NAME])


def test_both_files_of_a_pair_are_fetched(hub, tmp_path):
    hub.repositories[NAME] = {
        name: safetensors_bytes({"<cat>": np.ones((1, width), np.float32)}, {})
        for name, width in (("learned_embeds.safetensors", 32), ("learned_embeds_2.safetensors", 40))
    }
    (file,) = read_concept_files([NAME])
    assert file.concepts[0].widths == {"text_encoder": 32, "text_encoder_2": 40}


def test_concepts_of_ai_studio_are_found_like_those_of_hugging_face(hub, tmp_path, monkeypatch):
    with local_aistudio.LocalAIStudio() as aistudio:
        local_aistudio.use(aistudio, monkeypatch, tmp_path / "home")
        aistudio.repositories["me/cat"] = {
            "learned_embeds.bin": TORCH_FILES["diffusers_bin"],
            "run.json": b"{",
            "x": b"",
        }
        aistudio.repositories["me/none"] = {"x": b""}

        path = find_embedding_file("aistudio:me/cat")

        assert [concept.placeholder_token for concept in read_embeddings(path)] == ["<cat>"]
        fetched = {line.rpartition("/")[2] for line in aistudio.requests if "/media/" in line}
        assert fetched == {"learned_embeds.bin"}  # and no record
        with pytest.raises(EmbeddingFileError, match="aistudio:me/none on the hub holds none of"):
            find_embedding_file("aistudio:me/none")
        with pytest.raises(
            EmbeddingFileError, match="aistudio:me/x .* AI Studio has no public repository of this name.*; give a file"
        ):
            find_embedding_file("aistudio:me/x")
        aistudio.stop()
        assert find_embedding_file("aistudio:me/cat") == path
        with pytest.raises(EmbeddingFileError, match="AI Studio cannot be reached; give a file instead"):
            find_embedding_file("aistudio:me/y")
    assert hub.requests == []


def test_of_other_names_the_only_one_is_taken_and_several_are_listed(hub):
    content = TORCH_FILES["diffusers_bin"]
    hub.repositories["me/one"] = {"my-cat.pt": content, "optimizer.pt": b"", "README.md": b"", "samples/x.bin": b""}
    hub.repositories["me/two"] = {"b.pt": content, "a.pt": content, "*.pt": content}
    hub.repositories["me/steps"] = {f"learned_embeds-steps-{n}.bin": content for n in (500, 1000, 50, "9" * 5000)} | {
        "x.pt": content
    }
    hub.repositories["me/lots"] = {f"{n:02}.pt": content for n in range(50)}

    for name, file in (("me/one", "my-cat.pt"), ("me/steps", "learned_embeds-steps-1000.bin")):
        path = find_embedding_file(name)
        assert path.name == file
        asked = len(hub.requests)
        assert find_embedding_file(name) == path and len(hub.requests) == asked
    for name, listed in (("me/two", "a.pt, b.pt; download the one you want"), ("me/lots", "07.pt and 42 more")):
        with pytest.raises(EmbeddingFileError) as refusal:
            find_embedding_file(name)
        assert f"{name} on the hub holds several embeddings, " in str(refusal.value) and listed in str(refusal.value)
