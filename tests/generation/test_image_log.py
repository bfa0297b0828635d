"""Every image of a run in a log, under its prompt and settings."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from textual_inversion.generation.image_log import log_images, tag_of


def entries_in(folder, *all_facts):
    found = []
    for number, facts in enumerate(all_facts):
        usual = dict(prompt="a <cat-toy>", seed=3, guidance_scale=7.5, num_inference_steps=20, key=str(number))
        found.append({"file": f"{number}.png", **usual, **facts})
        Image.new("RGB", (8, 6), (40 * number + 10, 20, 200)).save(folder / found[-1]["file"])
    return found


def logged(folder):
    """(tag, step, image) of each record."""
    from visualdl.proto.record_pb2 import Record
    from visualdl.reader.record_reader import RecordReader

    (file,) = folder.glob("vdlrecords*")
    values = [value for one in RecordReader(str(file)).get_all() for value in Record.FromString(one).values]
    return [(one.tag, one.id, Image.open(io.BytesIO(one.image.encoded_image_string))) for one in values
            if one.image.encoded_image_string]  # fmt: skip


def test_a_tag_says_prompt_and_settings(tmp_path):
    entry = entries_in(
        tmp_path, {"guidance_scale": 10.269008415138138, "seed": 32024733, "scheduler": "DDIMScheduler"}
    )[0]
    settings = "guidance_scale = 10.269008415138138, num_inference_steps = 20, seed = 32024733"
    assert tag_of(entry) == f"a <cat-toy>/{settings}"
    assert tag_of(entry, ["seed", "scheduler"]) == f"a <cat-toy>/{settings}, scheduler = ddim"


def test_every_image_is_logged_as_it_is(tmp_path):
    entries = entries_in(tmp_path, {}, {"seed": 4}, {"prompt": "50% of a/b"}, {"eta": 0.5})

    log_images(tmp_path, entries, "visualdl", tmp_path / "logs")

    found = logged(tmp_path / "logs")
    assert [step for _, step, _ in found] == [0, 1, 2, 3] and len({tag for tag, _, _ in found}) == 4
    assert found[2][0].startswith("50 percent of a/b/guidance_scale = 7.5") and found[3][0].endswith("eta = 0.5")
    for (_, _, image), entry in zip(found, entries, strict=True):
        with Image.open(tmp_path / entry["file"]) as original:
            assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(original))


def test_a_missing_or_damaged_image_is_left_out_and_no_other_folder_is_read(tmp_path):
    entries = entries_in(tmp_path, {}, {"seed": 4}, {"seed": 5}, {"seed": 6})
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"x")
    entries[2]["file"] = f"../{tmp_path.name}/2.png"

    log_images(tmp_path, entries, "visualdl", tmp_path / "logs")

    assert [step for _, step, _ in logged(tmp_path / "logs")] == [3]


@pytest.mark.parametrize("entries, report_to", [([], "visualdl"), ([{}], "none")])
def test_nothing_to_log_makes_no_folder(tmp_path, entries, report_to):
    log_images(tmp_path, entries, report_to, tmp_path / "logs")
    assert not (tmp_path / "logs").exists(), json.dumps(entries)
