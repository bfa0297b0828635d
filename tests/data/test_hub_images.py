"""A data set of a hub as a folder of images: which folder, by which commit, and with and without a network."""

from io import BytesIO

import pytest
from PIL import Image

import train_textual_inversion
from helpers.local_hub import COMMIT, LocalHub, use
from helpers.training_runs import short_run
from textual_inversion.data.hub_images import cached_folder, image_folder
from textual_inversion.embeddings.run_record import read_record
from textual_inversion.system.errors import ImageError

NAME = "datasets/me/cats"


def png(color="red") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 32), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        local.repositories[NAME] = {"README.md": b"# cats", "load.py": b"import os", "x.parquet": b"PAR1"}
        yield local


@pytest.mark.parametrize(
    ("files", "name", "inner"),
    [
        (["a.png", "a.txt"], "hub:me/cats", ""),
        (["train/a.png", "train/metadata.jsonl"], "hub:me/cats", "train"),
        (["images/10_cat/a.png", "images/5_dog/b.jpg"], "hub:me/cats", "images"),
        (["one/a.png", "two/b.png"], "hub:me/cats/two", "two"),
    ],
)
def test_the_folder_is_the_one_that_holds_the_images(hub, files, name, inner):
    hub.repositories[NAME] |= dict.fromkeys(files, png())

    folder, pinned = image_folder(name)

    assert folder == (folder if not inner else folder.parents[inner.count("/")] / inner) and folder.is_dir()
    assert folder.as_posix().endswith(f"{COMMIT}/{inner}".rstrip("/"))
    assert pinned == f"{name}@{COMMIT}"
    here = {path.name for path in folder.rglob("*") if path.is_file()}
    assert here == {file.rpartition("/")[2] for file in files if file.startswith(inner)}
    assert cached_folder(pinned) == folder


def test_several_folders_of_images_and_tables_are_refused_with_the_way_out(hub):
    with pytest.raises(ImageError, match="no images that are files of their own; one of tables, such as Parquet"):
        image_folder("hub:me/cats")
    hub.repositories[NAME] |= {"one/a.png": png(), "two/b.png": png()}
    with pytest.raises(ImageError, match=r"images in several folders \(one, two\); name one"):
        image_folder("hub:me/cats")


def test_what_was_fetched_is_found_without_a_network(hub, monkeypatch):
    hub.repositories[NAME]["a.png"] = png()
    fetched = image_folder("hub:me/cats")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)

    assert image_folder("hub:me/cats") == image_folder(fetched[1]) == fetched
    assert len(hub.requests) == asked
    assert cached_folder("hub:me/none") is None and cached_folder("hub:..") is None


def test_a_run_learns_from_it_and_records_the_commit(hub, tmp_path, monkeypatch, capsys):
    hub.repositories[NAME] |= {"a.png": png(), "b.png": png("blue"), "a.txt": b"a red thing"}

    train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds", "--train_data_dir", "hub:me/cats"))

    assert f"images of hub:me/cats@{COMMIT}" in capsys.readouterr().out
    recorded = read_record(tmp_path / "out")["settings"]["train_data_dir"]
    assert recorded in (f"hub:me/cats@{COMMIT}", [f"hub:me/cats@{COMMIT}"])
