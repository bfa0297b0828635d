"""The images of a folder: found by their content, in a fixed order, and what else lies there is said or not."""

import os

import pytest
from PIL import Image

from textual_inversion.data.image_folder import find_images, natural, repeat_folder
from textual_inversion.data.image_formats import EXTENSIONS, Plugin
from textual_inversion.data.images import load_image
from textual_inversion.system.errors import ImageError


def test_order_is_natural_and_depends_on_names_alone(tmp_path):
    wanted = ["1.png", "2.PNG", "10.png", "a2.webp", "A10.jpg", "b.tiff", "cafe\u0301.gif", "猫1.jpeg", "猫02.bmp"]
    for name in reversed(wanted):
        (tmp_path / name).touch()

    found = find_images(tmp_path)

    assert [path.name for path in found] == wanted


def test_names_that_differ_in_case_or_zeros_only_keep_one_order():
    names = ["a1.png", "A1.png", "a01.png", "A01.png"]
    assert sorted(names, key=natural) == sorted(reversed(names), key=natural)


def test_what_people_and_systems_leave_in_folders_is_not_worth_a_line(tmp_path):
    (tmp_path / "cat.png").touch()
    for name in (".hidden.png", "._cat.png", ".DS_Store", "Thumbs.db", "desktop.ini", "LICENSE", "LICENSE.txt",
                 "README", "readme.md", "cat.txt", "0.caption", "metadata.jsonl", "metadata.csv"):  # fmt: skip
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "20_empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path, tmp_path / "itself")
    notes = []

    found = find_images(tmp_path, notes.append)

    assert [path.name for path in found] == ["cat.png"]
    assert notes == []


def test_whatever_else_is_passed_over_is_listed_in_one_line(tmp_path):
    (tmp_path / "cat.png").touch()
    for number in range(7):
        (tmp_path / f"notes{number}.doc").write_text("a photo")
    (tmp_path / "model\n.safetensors").write_bytes(bytes(100))
    notes = []

    find_images(tmp_path, notes.append)

    assert notes == [
        f"{tmp_path}: 8 file(s) that are no images passed over: "
        "model\N{REPLACEMENT CHARACTER}.safetensors, notes0.doc, notes1.doc, notes2.doc, notes3.doc and 3 more"
    ]


FORMATS = {
    ".jfif": "JPEG", ".jpe": "JPEG", ".jpg_large": "JPEG", "": "PNG", ".png~": "PNG", ".tga": "TGA", ".ico": "ICO",
    ".ppm": "PPM", ".pgm": "PPM", ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".pcx": "PCX", ".sgi": "SGI", ".dds": "DDS",
    ".qoi": "QOI", ".orig": "BMP", ".download": "WEBP", ".txt.gif": "GIF", ".dib": "DIB",
}  # fmt: skip


@pytest.mark.parametrize("ending", FORMATS)
def test_the_content_decides_what_is_an_image(tmp_path, ending):
    path, notes = tmp_path / f"photo{ending}", []
    Image.effect_noise((40, 40), 50).convert("RGB").save(path, format=FORMATS[ending], sizes=[(40, 40)])

    assert find_images(tmp_path, notes.append) == [path]
    assert load_image(path).size == (40, 40)
    expected = [f"{tmp_path}: 1 image(s) recognized by their content, whatever their names: {path.name}"]
    assert notes == ([] if ending in EXTENSIONS or ending == ".txt.gif" else expected)


def test_cameras_raw_files_are_not_taken_for_their_previews(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "photo.NEF", format="TIFF")
    Image.new("RGB", (40, 20)).save(tmp_path / "photo.jpg")
    notes = []

    assert [path.name for path in find_images(tmp_path, notes.append)] == ["photo.jpg"]
    assert notes == [f"{tmp_path}: 1 image(s) passed over; save them as JPEG or PNG to use them: photo.NEF"]


def test_symbolic_links_are_followed_and_loops_survived(tmp_path):
    (tmp_path / "cat.png").touch()
    os.symlink("cat.png", tmp_path / "link.png")
    os.symlink("loop.png", tmp_path / "loop.png")
    os.symlink("nowhere.png", tmp_path / "broken.png")
    os.symlink(".", tmp_path / "itself")
    notes = []

    found = find_images(tmp_path, notes.append)

    assert [path.name for path in found] == ["cat.png", "link.png"]
    assert notes == [f"{tmp_path}: 2 broken link(s) passed over: broken.png, loop.png"]


# ------------------------------------------------------------------------------------------------------- subfolders


def drawn(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (40, 20)).save(folder / name)
    return [folder / name for name in names]


def test_folders_named_by_repeats_and_concept_are_read_after_the_folders_own_images(tmp_path):
    own = drawn(tmp_path, "z.png")
    few, many = drawn(tmp_path / "2_cat", "b.png"), drawn(tmp_path / "10_cat toy", "a.png", "c.png")
    drawn(tmp_path / "old", "a.png")
    drawn(tmp_path / "20240131_birthday", "a.png")
    drawn(tmp_path / "0_none", "a.png")
    notes = []

    assert find_images(tmp_path, notes.append) == [*own, *few, *many]
    assert notes == [
        f"{tmp_path / '2_cat'}: 1 image(s), each seen 2 times in an epoch",
        f"{tmp_path / '10_cat toy'}: 2 image(s), each seen 10 times in an epoch",
        f"{tmp_path}: 3 subfolder(s) with images are not searched: 0_none, 20240131_birthday, old",
    ]


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("10_cat toy", (10, "cat toy")),
        ("1_cat_toy", (1, "cat_toy")),
        ("010_cat", (10, "cat")),
        ("5_", (5, "")),
        ("1000_cat", (1000, "cat")),
        ("1001_cat", None),
        ("20240131_cat", None),
        ("9" * 5000 + "_cat", None),
        ("0_cat", None),
        ("cat", None),
        ("10", None),
        ("10cat", None),
        ("-1_cat", None),
    ],
)
def test_what_the_name_of_a_folder_says(name, meaning):
    found = repeat_folder(name)

    assert (None if found is None else (found.repeats, found.caption)) == meaning


def test_a_folder_that_is_itself_named_so_is_told_how_its_name_would_count(tmp_path):
    drawn(tmp_path / "10_cat toy", "a.png")
    notes = []

    find_images(tmp_path / "10_cat toy", notes.append)

    assert len(notes) == 1 and "10 repeats and a caption" in notes[0] and "the folder that holds it" in notes[0]


# ---------------------------------------------------------------------------------------------------------- plugins


def test_an_image_that_needs_a_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Plugin, "is_ready", False)
    drawn(tmp_path, "b.jpg")
    (tmp_path / "a.heic").touch()
    (tmp_path / "c.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")  # phones do this
    (tmp_path / "d.jxl").write_bytes(b"\xff\x0a1234")
    notes = []

    assert [path.name for path in find_images(tmp_path, notes.append)] == ["b.jpg"]
    assert notes == [
        f"{tmp_path}: 2 HEIC image(s) passed over; `pip install pillow-heif` lets them be read, or save them as JPEG "
        "or PNG: a.heic, c.jpg",
        f"{tmp_path}: 1 JPEG XL image(s) passed over; `pip install pillow-jxl-plugin` lets them be read, or save them "
        "as JPEG or PNG: d.jxl",
    ]


# ----------------------------------------------------------------------------------------------------------- refused


def make_missing(folder):
    return folder / "missing"


def make_file(folder):
    (folder / "file").touch()
    return folder / "file"


def make_empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def make_loop(folder):
    os.symlink("loop", folder / "loop")
    return folder / "loop"


def make_texts(folder):
    (folder / "notes.txt").touch()
    return folder


def make_subfolders(folder):
    (folder / "cats").mkdir()
    return folder


def make_photos(folder):
    (folder / "IMG_1.HEIC").touch()
    return folder


def make_raw(folder):
    (folder / "IMG_1.NEF").touch()
    return folder


@pytest.mark.parametrize(
    "make, reason",
    [
        (make_missing, "does not exist"),
        (make_file, "not a folder"),
        (make_empty, "is empty"),
        (make_loop, "is a broken link"),
        (make_texts, "notes.txt"),
        (make_subfolders, "subfolders"),
        (make_photos, "cannot be read, HEIC; `pip install pillow-heif`"),
        (make_raw, "such as IMG_1.NEF; save them as JPEG or PNG"),
    ],
)
def test_a_folder_without_images_is_refused(tmp_path, monkeypatch, make, reason):
    monkeypatch.setattr(Plugin, "is_ready", False)
    folder = make(tmp_path)
    with pytest.raises(ImageError) as caught:
        find_images(folder)
    assert str(folder) in str(caught.value) and reason in str(caught.value)
    assert "\n" not in str(caught.value)
