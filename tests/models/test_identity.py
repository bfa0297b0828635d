"""What base models are called where others read it."""

import os

from helpers.paths import ROOT
from textual_inversion.hub.hugging_face import is_repository_id
from textual_inversion.models import identity
from textual_inversion.models.identity import public_name
from textual_inversion.system.paths import LOCAL, LOCAL_DEMO


def model(folder, weights=b"w" * 100):
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "weights.safetensors").write_bytes(weights)
    return folder


def test_a_model_that_is_a_folder_here_is_local_whatever_its_name_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = model(tmp_path / "models" / "sd15")

    name = public_name("models/sd15", folder)

    assert name.startswith(LOCAL) and len(name) == len(LOCAL) + 64 and not is_repository_id(name)
    assert public_name(str(folder), folder) == name and "sd15" not in name
    assert public_name("owner/model", folder) == "owner/model"  # which came from a hub
    assert public_name(str(ROOT / "demo" / "model"), ROOT / "demo" / "model") == LOCAL_DEMO
    assert not is_repository_id(LOCAL_DEMO)


def test_the_same_content_has_the_same_hash_anywhere_and_other_content_another(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "_WHOLE", 1000)
    large = os.urandom(500_000)
    names = [
        public_name(str(tmp_path / str(i)), model(tmp_path / str(i), weights))
        for i, weights in enumerate([b"a", b"a", b"b", large, large, large[:-1], large[:-1] + b"x" * 2, bytes(500_000)])
    ]
    assert names[0] == names[1] != names[2] and names[3] == names[4] and len(set(names)) == len(names) - 2
