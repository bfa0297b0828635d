"""Contact sheets by axis: what stands where, which sheets there are, and that none is too large."""

import itertools
import subprocess
import sys

import pytest
from PIL import Image

from helpers.paths import ROOT
from textual_inversion.generation import plot_pages, xy_sheets
from textual_inversion.generation.image_grid import PAPER
from textual_inversion.generation.plan import Axis
from textual_inversion.generation.plot_pages import MAX_HEIGHT, MAX_WIDTH
from textual_inversion.generation.xy_sheets import write_sheets

PROMPTS = Axis("prompt", ("a <cat-toy>", "一张<猫>的照片", "a <cat-toy> " + "in the snow " * 8))
SCALES = Axis("guidance_scale", (1.5, 3.0, 7.5, 10.0))
SEEDS = Axis("seed", (3, 4))


def color(number):
    return number % 200 + 20, number // 200 * 40 + 20, 99


def images_of(folder, *axes, size=(32, 32), **facts):
    """The entries of the product of the axes, each of whose images has a colour of its own."""
    usual = dict(prompt="a <cat-toy>", negative_prompt="", seed=3, guidance_scale=7.5, num_inference_steps=20)
    entries = []
    for number, values in enumerate(itertools.product(*(axis.values for axis in axes))):
        entries.append({"file": f"{number:04d}-seed3.png", **usual, "scheduler": "DDIMScheduler", **facts})
        entries[-1].update({axis.name: value for axis, value in zip(axes, values, strict=True)})
        Image.new("RGB", size, color(number)).save(folder / entries[-1]["file"])
    return entries


def shown(path):
    """The numbers of the images on a sheet, row by row, from left to right."""
    with Image.open(path) as sheet:
        pixels, found = sheet.convert("RGB").load(), {}
        for top, left in itertools.product(range(0, sheet.height, 16), range(0, sheet.width, 16)):
            red, green, blue = pixels[left, top]
            if blue == 99:
                number = red - 20 + (green - 20) // 40 * 200
                found.setdefault(number, (top, left))
    return sorted(found, key=lambda number: found[number])


def test_two_axes_are_a_plot_and_each_value_of_a_third_a_sheet(tmp_path):
    entries = images_of(tmp_path, PROMPTS, SCALES, SEEDS)

    sheets = write_sheets(tmp_path, [PROMPTS, SCALES, SEEDS], entries)

    assert [path.name for path in sheets] == ["contact_sheet.png", "contact_sheet-seed-4.png"]
    assert shown(sheets[0]) == list(range(0, 24, 2))  # a row for each prompt, a column for each guidance
    assert shown(sheets[1]) == list(range(1, 24, 2))


def tables_of(monkeypatch):
    found = []
    monkeypatch.setattr(xy_sheets, "pages", lambda table: found.append(table) or plot_pages.pages(table))
    return found


def test_both_sides_have_labels_and_a_column_its_score(tmp_path, monkeypatch):
    columns = Axis("embeds", ("steps-500", "steps-1000"))
    entries = images_of(tmp_path, PROMPTS, SEEDS, columns)
    for entry in entries:
        entry["score"] = {"image_similarity": 0.8 if entry["embeds"] == "steps-500" else 0.6 + entry["seed"] / 100}
    tables = tables_of(monkeypatch)

    write_sheets(tmp_path, [PROMPTS, SEEDS, columns], entries)

    first, second = tables
    assert [(head.text, head.below) for head in first.heads] == [
        ("steps-500", "image 0.800"), ("steps-1000", "image 0.635")
    ]  # fmt: skip
    assert list(first.labels) == list(PROMPTS.values) and (first.title, second.title) == ("seed 3", "seed 4")


@pytest.mark.parametrize(
    "axes, across, down",
    [
        ("prompt guidance_scale seed", "guidance_scale", "prompt"),
        ("guidance_scale seed", "guidance_scale", "seed"),
        ("seed guidance_scale embeds", "embeds", "guidance_scale"),
        ("prompt seed embeds", "embeds", "prompt"),
        ("embeds", "embeds", None),
        ("seed", "seed", None),
        ("prompt", None, None),
    ],
)
def test_which_axes_are_the_sides(axes, across, down):
    known = {axis.name: axis for axis in (PROMPTS, SCALES, SEEDS, Axis("embeds", ("a", "b")))}

    found = xy_sheets._arranged([known[name] for name in axes.split()])

    assert [axis and axis.name for axis in found[:2]] == [across, down]
    assert len(found[2]) == (len(axes.split()) - sum(axis is not None for axis in found[:2]) if across else 0)


def test_the_place_of_a_missing_image_stays_empty(tmp_path):
    entries = images_of(tmp_path, SEEDS, SCALES)
    (tmp_path / entries[1]["file"]).unlink()
    (tmp_path / entries[2]["file"]).write_bytes(b"no image")
    (tmp_path / entries[3]["file"]).write_bytes((tmp_path / entries[4]["file"]).read_bytes()[:50])

    (sheet,) = write_sheets(tmp_path, [SEEDS, SCALES], entries[:5] + entries[6:])

    assert shown(sheet) == [0, 4, 6, 7]


def test_a_manifest_leads_to_no_other_folder(tmp_path):
    (tmp_path / "in").mkdir()
    entries = images_of(tmp_path, SEEDS)

    (sheet,) = write_sheets(tmp_path / "in", [SEEDS], [{**one, "file": f"../{one['file']}"} for one in entries])

    assert shown(sheet) == []


def test_images_that_no_plot_would_show_are_in_rows(tmp_path):
    twice = images_of(tmp_path, PROMPTS, SCALES)
    assert len(shown(write_sheets(tmp_path, [PROMPTS, SCALES], twice + [{**twice[0], "seed": 9}])[0])) == 12
    scattered = [{**one, "seed": i, "guidance_scale": i / 7} for i, one in enumerate(twice)]  # as drawn at random
    axes = [Axis(name, tuple(one[name] for one in scattered)) for name in ("guidance_scale", "seed")]

    (sheet,) = write_sheets(tmp_path, axes, scattered)

    assert shown(sheet) == list(range(12))


def test_without_axes_there_is_a_row_for_each_prompt(tmp_path, monkeypatch):
    entries, tables = images_of(tmp_path, PROMPTS, SEEDS), tables_of(monkeypatch)

    write_sheets(tmp_path, [], entries)
    write_sheets(tmp_path, [PROMPTS, SEEDS], entries, num_cols=3)

    assert [[len(row) for row in table.rows] for table in tables] == [[2, 2, 2], [3, 3]]
    assert tables[0].rows[0][0].caption == "a <cat-toy>  (seed 3)"


def test_without_images_the_earlier_sheet_stays(tmp_path):
    (tmp_path / "contact_sheet.png").write_bytes(b"x")
    assert write_sheets(tmp_path, [SEEDS], []) == []
    assert (tmp_path / "contact_sheet.png").read_bytes() == b"x"


@pytest.mark.parametrize("size", [(64, 64), (2048, 512), (8, 1024)])
@pytest.mark.parametrize("columns, rows", [(1, 90), (70, 2), (90, 3), (45, 12)])
def test_no_sheet_is_too_large_and_no_image_is_lost(tmp_path, monkeypatch, size, columns, rows):
    axes = [Axis("seed", tuple(range(columns))), Axis("eta", tuple(i / 100 for i in range(rows)))]
    entries = [{"file": f"{i}.png", "prompt": "a", "seed": s, "eta": e, "width": size[0], "height": size[1]}
               for i, (s, e) in enumerate(itertools.product(*(axis.values for axis in axes)))]  # fmt: skip
    drawn = []
    monkeypatch.setattr(
        plot_pages, "_put", lambda page, cell, corner, measures: drawn.append((cell, corner, page.size))
    )

    for axes_given in (axes, []):
        drawn.clear()
        for path in write_sheets(tmp_path, axes_given, entries):
            with Image.open(path) as sheet:
                assert sheet.width <= MAX_WIDTH and sheet.height <= MAX_HEIGHT
        assert sorted(int(cell.path.stem) for cell, _, _ in drawn) == list(range(len(entries)))
        assert all(corner[0] < page[0] and corner[1] < page[1] for _, corner, page in drawn)


def test_the_number_of_sheets_is_bounded_and_the_rest_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(xy_sheets, "MOST_SHEETS", 3)
    four, five = (Axis("num_inference_steps", tuple(range(1, n))) for n in (4, 5))

    assert len(write_sheets(tmp_path, [SCALES, SEEDS, four], images_of(tmp_path, SCALES, SEEDS, four))) == 2
    assert capsys.readouterr().err == ""
    axes = [SEEDS, SCALES, Axis("eta", (0.1, 0.2, 0.3, 0.4)), five]
    assert len(write_sheets(tmp_path, axes, images_of(tmp_path, *axes))) == 3
    assert capsys.readouterr().err == (
        "note: 3 contact sheets were written, with only a part of the 128 images; index.html shows all of them\n"
    )


def test_sheets_of_an_earlier_run_go_and_other_files_stay(tmp_path):
    (tmp_path / "contact_sheet-mine.png").write_bytes(b"notes")
    Image.new("RGB", (8, 8)).save(tmp_path / "contact_sheet-of-mine.png")
    entries = images_of(tmp_path, PROMPTS, SCALES, SEEDS)
    write_sheets(tmp_path, [PROMPTS, SCALES, SEEDS], entries)

    write_sheets(tmp_path, [PROMPTS, SCALES], entries[::2])

    sheets = {path.name for path in tmp_path.glob("contact_sheet*")}
    assert sheets == {"contact_sheet.png", "contact_sheet-mine.png", "contact_sheet-of-mine.png"}


def test_values_that_are_no_file_names_are_counted(tmp_path):
    avoided = Axis("negative_prompt", ("", "../../etc", "x" * 300, "雾", "fog"))
    etas = Axis("eta", tuple(i / 8 for i in range(6)))
    entries = images_of(tmp_path, PROMPTS, etas, avoided)

    names = [path.name for path in write_sheets(tmp_path, [PROMPTS, etas, avoided], entries)]

    assert names == [
        "contact_sheet.png", "contact_sheet-negative_prompt-etc.png", "contact_sheet-negative_prompt-3.png",
        "contact_sheet-negative_prompt-4.png", "contact_sheet-negative_prompt-fog.png",
    ]  # fmt: skip


def test_a_plot_has_the_colour_of_paper_between_its_images(tmp_path):
    (sheet,) = write_sheets(tmp_path, [SEEDS, SCALES], images_of(tmp_path, SEEDS, SCALES))
    with Image.open(sheet) as image:
        assert image.getpixel((0, 0)) == PAPER and image.getpixel((image.width - 1, image.height - 1)) == PAPER


MEMORY = """
import resource, sys, tempfile
from pathlib import Path
from PIL import Image
from textual_inversion.generation.plan import Axis
from textual_inversion.generation.xy_sheets import write_sheets

folder = Path(tempfile.mkdtemp())
axes = [Axis("seed", tuple(range(10))), Axis("eta", tuple(i / 100 for i in range(10)))]
noise = Image.effect_noise((1024, 1024), 90).convert("RGB")
noise.save(folder / "one.png", compress_level=1)
entries = [dict(file="one.png", prompt=f"prompt {s} {e}", seed=s, eta=e) for s in range(10) for e in axes[1].values]
write_sheets(folder, [], entries[:1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for given in (axes, []):
    print(len(write_sheets(folder, given, entries)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_grid(tmp_path):
    """All of them together would take 400 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 200  # MiB
