"""Training images that are dropped or chosen: safely read, named by the page, shown as the model sees them."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from textual_inversion.studio import image_sets, words
from textual_inversion.studio.workspace import OutsideError, Workspace
from textual_inversion.system.errors import EmbeddingFileError, ImageError, TextualInversionError


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "photos").mkdir()
    return Workspace.at(tmp_path / "ws", [tmp_path / "photos"])


def png(width=96, height=64, colour=(200, 90, 30), format="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format)
    return buffer.getvalue()


def test_dropped_images_get_names_of_the_pages_own(workspace):
    files = [
        ("../../x.png", png()),
        ("<script>.png", png(format="JPEG")),
        ("a\0b", png(format="WEBP")),
        ("x.exe", png()),
    ]
    folder, refused = image_sets.keep(workspace, "../../evil", files)

    assert refused == [] and folder.parent == workspace.part("images")
    assert sorted(path.name for path in folder.iterdir()) == ["0001.png", "0002.jpg", "0003.webp", "0004.png"]
    assert (folder / "0001.png").read_bytes() == files[0][1]


@pytest.mark.parametrize(
    "content", [os.urandom(10 << 20), b"", b"<svg onload=alert(1)>", b"%!PS-Adobe", png()[:100], b"GIF89a" + b"\0" * 50]
)
def test_what_is_no_image_is_refused_in_a_line_and_leaves_nothing(workspace, content):
    folder, refused = image_sets.keep(workspace, "set", [("cat\n<b>.png", content)])

    assert folder is None and len(refused) == 1 and "\n" not in refused[0]
    assert refused[0].startswith("cat") and str(workspace.folder) not in refused[0]
    assert not list(workspace.part("images").rglob("*.*"))


def test_the_good_ones_stay_where_some_are_bad_and_sizes_have_a_limit(workspace, monkeypatch):
    monkeypatch.setattr(image_sets, "MOST_BYTES", 5000)
    folder, refused = image_sets.keep(workspace, "set", [("a", b"x"), ("b", png()), ("c", png() + b"\0" * 5000)])

    assert [path.name for path in folder.iterdir()] == ["0001.png"]
    assert len(refused) == 2 and "more than 4.88 KiB" in refused[1]


def test_images_are_seen_as_the_model_will_see_them_with_what_is_to_be_said(workspace, tmp_path):
    photos = tmp_path / "photos"
    for name, size in (("a.png", (96, 64)), ("b.png", (96, 64)), ("c.png", (20, 20))):
        (photos / name).write_bytes(png(*size))
    (photos / "a.txt").write_text("a <cat> on a table\n")
    found = image_sets.look_at(workspace, photos, side=64)

    assert [one.caption for one in found.images] == ["a <cat> on a table", "", ""]
    assert found.duplicates == (("a.png", "b.png"),) and found.small == ("c.png",)
    assert {one.shape for one in found.images} == {(64, 64)}
    for one in found.images:
        with Image.open(io.BytesIO(one.shown)) as shown:
            assert shown.format == "JPEG" and min(shown.size) >= 192
    buckets = image_sets.look_at(workspace, photos, side=64, resize_mode="bucket").images
    assert buckets[0].shape[1] > buckets[0].shape[0]  # a wide one keeps its shape


def test_a_crop_loses_the_edges_and_a_mask_darkens_what_it_leaves_out(workspace, tmp_path):
    photos, masks = tmp_path / "photos", tmp_path / "photos" / "masks"
    pixels = np.zeros((64, 192, 3), np.uint8)
    pixels[:, 64:128] = 255  # only the middle third is white
    Image.fromarray(pixels).save(photos / "a.png")
    masks.mkdir()
    mask = np.zeros((64, 192), np.uint8)
    mask[:32] = 255
    Image.fromarray(mask).save(masks / "a.png")

    def brightness(**settings):
        (one,) = image_sets.look_at(workspace, photos, side=64, **settings).images
        return np.asarray(Image.open(io.BytesIO(one.shown)).convert("L")).astype(float)

    assert brightness(resize_mode="center_crop").mean() > 250 and brightness(resize_mode="squash").mean() < 100
    masked = brightness(resize_mode="center_crop", mask_dir=str(masks))
    assert masked[:80].mean() > 250 and masked[110:].mean() < 150


def test_an_image_is_decoded_once_until_its_file_changes(workspace, tmp_path, monkeypatch):
    path, decoded = tmp_path / "photos/a.png", []
    path.write_bytes(png())
    load = image_sets.load_image
    monkeypatch.setattr(image_sets, "load_image", lambda *given: (decoded.append(1), load(*given))[1])
    first = image_sets.look_at(workspace, path.parent, side=64)
    assert image_sets.look_at(workspace, path.parent, side=64) == first and len(decoded) == 1
    path.write_bytes(png(80, 80, (1, 2, 3)))
    assert image_sets.look_at(workspace, path.parent, side=64).images[0].size == (80, 80)


def test_a_link_out_of_the_folder_is_refused(workspace, tmp_path):
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "photos/a.png").symlink_to(tmp_path / "secret.png")

    with pytest.raises(OutsideError, match="a.png is a link that leads out"):
        image_sets.look_at(workspace, tmp_path / "photos", side=64)
    with pytest.raises(OutsideError):
        image_sets.look_at(workspace, tmp_path, side=64)


def test_captions_are_written_beside_the_pages_own_images_only(workspace, tmp_path):
    folder, _ = image_sets.keep(workspace, "set", [("a", png())])
    image_sets.write_caption(workspace, folder / "0001.png", "  a <cat>\n on grass ")
    assert (folder / "0001.txt").read_text() == "a <cat> on grass\n"
    image_sets.write_caption(workspace, folder / "0001.png", "")
    assert not (folder / "0001.txt").exists()
    (tmp_path / "photos/a.png").write_bytes(png())
    with pytest.raises(OutsideError, match="is not the page's own"):
        image_sets.write_caption(workspace, tmp_path / "photos/a.png", "x")
    with pytest.raises(ImageError, match="shorten it"):
        image_sets.write_caption(workspace, folder / "0001.png", "x" * 5000)
    (tmp_path / "photos/a.txt").write_text("a <dog>")
    copy = image_sets.copied(workspace, image_sets.look_at(workspace, tmp_path / "photos", side=64))
    assert (copy / "0001.txt").read_text() == "a <dog>\n" and (copy / "0001.png").read_bytes() == png()


# -------------------------------------------------------------------------------------------------- embedding files


HOSTILE = [
    b"cos\nsystem\n(S'touch /tmp/owned'\ntR.", b"", b"PK\x03\x04" + b"\0" * 100, os.urandom(4096), b"{}",
    b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.",
]  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE)
def test_a_hostile_embedding_is_refused_and_nothing_of_it_stays(workspace, content):
    with pytest.raises(TextualInversionError) as refused:
        words.keep(workspace, "../../<x>.pt", content)

    assert "\n" not in str(refused.value)
    assert list(workspace.part("words").iterdir()) == []


def test_an_embedding_is_kept_under_a_safe_name_and_listed(workspace):
    from textual_inversion.studio.words import DEMO

    content = DEMO.read_bytes()
    path = words.keep(workspace, "../../x.pdparams", content)
    again = words.keep(workspace, "../../x.pdparams", content)

    assert path.parent == again.parent == workspace.part("words") and path != again
    own = [one for one in words.library(workspace, []) if one.is_own]
    assert [one.path for one in own] == sorted([path, again]) and own[0].tokens == words.tokens_of(DEMO)
    with pytest.raises(EmbeddingFileError, match="far smaller"):
        words.keep(workspace, "x", b"\0" * (words.MOST_BYTES + 1))
    assert any("concept" in line for line in words.described_in_lines(path))


def test_a_mix_names_files_with_any_letters():
    from pathlib import Path

    from textual_inversion.embeddings.mix_expression import Learned, parse, parts_of

    text = words.mix_expression([(Path("/a b/c+d.pt"), "<x>", 0.25), (Path("/e.pt"), "two", 0.75)])
    assert list(parts_of(parse(text))) == [Learned("/a b/c+d.pt", "<x>"), Learned("/e.pt", "two")]
