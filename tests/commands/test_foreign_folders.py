"""Folders of images as other programs and people leave them: everything in them is used, or said in a line."""

import json

import pytest
from PIL import Image

from helpers.training_runs import draw_images, set_up, short_run
from textual_inversion.system.errors import SettingsError

BARE = ("--only_save_embeds", "--eval_steps", "0")


def prompts_of(run):
    return [image.prompts for image in run.data.images]


def test_captions_and_images_of_every_kind_are_used_and_the_rest_is_said(tmp_path, monkeypatch, capsys):
    folder = draw_images(tmp_path / "mixed", count=5)
    for number, name in enumerate(["a.jfif", "b.jpg_large", "c", "d.tga"]):
        kind = ["JPEG", "JPEG", "PNG", "TGA"][number]
        Image.open(folder / f"{number}.png").convert("RGB").save(folder / name, format=kind)
    (folder / "0.TXT").write_text("zero {}")
    (folder / "1.caption").write_text("one {}")
    (folder / "2.png.txt").write_text("two {}")
    rows = [{"file_name": "3.png", "text": "three {}"}, {"file_name": "1.png", "text": "x"}, {"file_name": "gone.png"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "10_cat toy").mkdir()
    Image.open(folder / "0.png").save(folder / "10_cat toy" / "e.png")
    (folder / "lost.txt").write_text("x")
    (folder / "table.xls").write_text("x")
    (folder / "LICENSE").write_text("x")

    run = set_up(monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(folder)))

    said = capsys.readouterr().out.splitlines()
    captions = [prompts[0] for prompts in prompts_of(run) if len(prompts) == 1]
    assert captions == ["zero <cat-toy>", "one <cat-toy>", "two <cat-toy>", "three <cat-toy>", "cat toy, <cat-toy>"]
    assert len(run.data.images) == 10 and [image.repeats for image in run.data.images] == [100] * 9 + [10]
    assert [line for line in said if line.startswith(str(folder)) or "of <cat-toy>" in line] == [
        f"{folder}: 1 file(s) that are no images passed over: table.xls",
        f"{folder}: 2 image(s) recognized by their content, whatever their names: b.jpg_large, c",
        f"{folder / '10_cat toy'}: 1 image(s), each seen 10 times in an epoch",
        f"{folder}: 1 image(s) have several captions, and the first is used: 1.png (1.caption, metadata.jsonl)",
        f"{folder}: 1 text file(s) without an image of that name: lost.txt",
        f"{folder / 'metadata.jsonl'}: 1 row(s) without their image: gone.png",
        "3 of 10 image(s) of <cat-toy> have captions beside them",
        "1 of 10 image(s) of <cat-toy> have captions from metadata.jsonl",
        "1 of 10 image(s) of <cat-toy> have captions from 10_cat toy",
        f"10 training image(s) of <cat-toy> in {folder}",
    ]


def test_without_captions_nothing_of_them_is_read_or_said(tmp_path, monkeypatch, capsys):
    folder = draw_images(tmp_path / "mixed", count=2)
    for name in ("0.TXT", "1.caption", "lost.txt", "metadata.jsonl", "metadata.csv"):
        (folder / name).write_bytes(b"\xff no text")
    (folder / "2_cat toy").mkdir()
    Image.open(folder / "0.png").save(folder / "2_cat toy" / "e.png")

    run = set_up(monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(folder), "--no_captions"))

    assert {len(prompts) for prompts in prompts_of(run)} == {26}
    said = capsys.readouterr().out
    told = ("have captions", "several captions", "text file", "row(s)", "was added")
    assert [words for words in told if words in said] == []


def test_repeats_of_folders_weigh_and_make_the_epoch(tmp_path, monkeypatch):
    draw_images(tmp_path / "data" / "30_cat", count=1)
    draw_images(tmp_path / "data" / "10_cat toy", count=2)
    argv = short_run(tmp_path, *BARE, "--train_data_dir", str(tmp_path / "data"), "--train_batch_size", "5")

    run = set_up(monkeypatch, argv)

    assert run.plan.epoch_samples == 50
    shown = [run.samples.image_of(step, index) for step in range(20) for index in range(5)]
    # "10_cat toy" comes before "30_cat".
    assert [shown.count(image) for image in range(3)] == [20, 20, 60]


def test_images_are_read_one_at_a_time_and_again_on_the_way_to_their_latents(tmp_path, monkeypatch):
    from textual_inversion.data import image_files

    held, most, load = [], [], image_files.load_image

    class Counted(Image.Image):
        def __del__(self):
            held.pop()

    def counting(path, **note):
        image = load(path, **note)
        image.__class__ = Counted
        held.append(1)
        most.append(len(held))
        return image

    monkeypatch.setattr(image_files, "load_image", counting)
    draw_images(tmp_path / "many", count=12)
    argv = short_run(tmp_path, *BARE, "--train_data_dir", str(tmp_path / "many"))

    set_up(monkeypatch, argv)
    assert len(most) == 24 and max(most) <= 2
    most.clear()
    set_up(monkeypatch, [*argv, "--dataloader_num_workers", "2"])
    assert len(most) == 24 and max(most) <= 5


def test_an_image_that_changes_while_the_model_is_loaded_is_named(tmp_path, monkeypatch):
    from textual_inversion.system.errors import ImageError
    from textual_inversion.training import assembly

    folder, load = draw_images(tmp_path / "changing"), assembly.load_model

    def meanwhile(*args):
        Image.open(folder / "1.png").rotate(90).save(folder / "1.png")
        return load(*args)

    monkeypatch.setattr(assembly, "load_model", meanwhile)
    with pytest.raises(ImageError, match="1.png: has changed since this run began; start the run again"):
        set_up(monkeypatch, short_run(tmp_path, *BARE, "--train_data_dir", str(folder)))


def test_a_bad_line_of_metadata_stops_the_run_before_a_model_is_loaded(tmp_path, monkeypatch):
    folder = draw_images(tmp_path / "bad")
    (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "x"}\n{"file_name": ')
    argv = short_run(tmp_path, *BARE, "--train_data_dir", str(folder))
    argv[argv.index("--pretrained_model_name_or_path") + 1] = str(tmp_path / "no-model")

    with pytest.raises(SettingsError, match=r"metadata.jsonl, line 2: is not JSON; repair it, or add --no_captions"):
        set_up(monkeypatch, argv)
