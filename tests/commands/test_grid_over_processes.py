"""infer.py over several processes and interruptions: the same bytes, nothing drawn twice, nothing of others touched."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import infer
from benchmarks import grid
from helpers.paths import ROOT
from helpers.tiny_models import build_model, tree
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.generation import run_plan
from textual_inversion.system.errors import OutputError, SettingsError

GRID = ["--prompt", "a <cat-toy>", "a <cat-toy> in the snow", "--guidance_scale", "1", "3", "--num_images", "3",
        "--num_inference_steps", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def embedding(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    base = build_model(folder / "base")
    rows = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    write_pdparams(folder / "learned_embeds.pdparams", [LearnedEmbedding("<cat-toy>", {"text_encoder": rows})])
    (folder / "run.json").write_text(json.dumps({"base_model": str(base), "placeholder_token": "<cat-toy>"}))
    return str(folder / "learned_embeds.pdparams")


@pytest.fixture
def draw(embedding, monkeypatch, capsys):
    """Run the command as one of so many processes; returns what it said."""

    def drawn(out, *more, rank=0, world_size=1, flags=GRID, start="4321"):
        monkeypatch.setenv("PADDLE_TRAINER_ID", str(rank))
        monkeypatch.setenv("PADDLE_TRAINERS_NUM", str(world_size))
        monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", f"127.0.0.1:{start}" if start else "")
        capsys.readouterr()
        infer.main(["--embeds", embedding, *flags, "--output_dir", str(out), *more])
        said = capsys.readouterr()
        return said.out + "".join(line + "\n" for line in said.err.splitlines() if line.startswith("note:"))

    return drawn


@pytest.fixture
def dies_after(monkeypatch):
    """Let a process end, as by a signal, before it saves another image than the first `count`."""

    def after(count):
        usual = run_plan.draw

        def dying(*arguments, **more):
            for number, image in enumerate(usual(*arguments, **more)):
                if number == count:
                    monkeypatch.setattr(run_plan, "draw", usual)
                    raise KeyboardInterrupt
                yield image

        monkeypatch.setattr(run_plan, "draw", dying)

    return after


def images(out):
    return {path.name: path.read_bytes() for path in out.glob("*-seed*.png")}


def entries(out):
    return json.loads((out / "manifest.json").read_text())["runs"]


def test_two_processes_draw_the_bytes_of_one_and_the_last_one_shows_them(tmp_path, draw):
    draw(tmp_path / "one", "--seed", "5")

    first = draw(tmp_path / "two", "--seed", "5", rank=1, world_size=2)
    assert first == "" and not (tmp_path / "two" / "contact_sheet.png").exists()
    last = draw(tmp_path / "two", "--seed", "5", rank=0, world_size=2)

    assert images(tmp_path / "two") == images(tmp_path / "one") and len(images(tmp_path / "one")) == 12
    assert "6 images (12 with the rest)" in last and (tmp_path / "two" / "contact_sheet.png").is_file()
    (run,) = entries(tmp_path / "two")
    assert [image["file"] for image in run["images"]] == sorted(images(tmp_path / "two"))
    assert run["images"][0]["height"] == run["images"][0]["width"] == 16 and run["images"][0]["eta"] == 0
    assert not list((tmp_path / "two").glob("*.jsonl")) and not list((tmp_path / "two").glob(".*"))


def test_the_same_command_goes_on_and_then_has_nothing_to_do(tmp_path, draw, dies_after):
    draw(tmp_path / "whole", "--seed", "5")
    out = tmp_path / "out"
    dies_after(5)
    with pytest.raises(KeyboardInterrupt):
        draw(out, "--seed", "5")
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*-seed*.png")}

    said = draw(out, "--seed", "5")

    assert len(before) == 5 and "note: 5 of 12 images are there already; the others are drawn\n" in said
    assert images(out) == images(tmp_path / "whole")
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    (out / "contact_sheet.png").unlink()
    assert draw(out, "--seed", "5") == f"all 12 images are there already: {out / 'contact_sheet.png'}\n"
    assert images(out) == images(tmp_path / "whole") and (out / "contact_sheet.png").is_file()
    assert draw(out, "--seed", "5", rank=1, world_size=2).startswith("all 12 images are there already")


def test_a_seed_that_was_drawn_is_kept_by_who_goes_on_and_by_all_processes_of_a_start(tmp_path, draw, dies_after):
    plain = ["--prompt", "a <cat-toy>", "--num_images", "6", "--num_inference_steps", "1"]
    dies_after(4)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "plain", flags=plain)
    (seed,) = {run["plan"]["seed"] for run in entries(tmp_path / "plain")}

    said = draw(tmp_path / "plain", flags=plain)

    assert f"4 of 6 images are there already; the others are drawn, with their seed {seed}\n" in said
    assert sorted(image["seed"] for image in entries(tmp_path / "plain")[0]["images"]) == list(range(seed, seed + 6))
    draw(tmp_path / "plain", flags=plain)  # a complete run is not continued
    assert len(entries(tmp_path / "plain")) == 2 and len(images(tmp_path / "plain")) == 12

    for rank in (0, 1):
        draw(tmp_path / "grid", rank=rank, world_size=2)
        draw(tmp_path / f"own-{rank}", rank=rank, world_size=2)
    assert len(entries(tmp_path / "grid")) == 1 and len(images(tmp_path / "grid")) == 12
    assert len(images(tmp_path / "own-0")) == len(images(tmp_path / "own-1")) == 6
    assert images(tmp_path / "own-0") | images(tmp_path / "own-1") == images(tmp_path / "grid")
    with pytest.raises(OutputError, match="holds another grid"):
        draw(tmp_path / "grid", rank=0, world_size=2, start="4444")


def test_folders_of_their_own_are_merged(tmp_path, draw, capsys):
    for rank in (0, 1):
        draw(tmp_path / f"own-{rank}", "--seed", "5", rank=rank, world_size=2)
    draw(tmp_path / "one", "--seed", "5")

    flags = ["--merge", str(tmp_path / "own-0"), str(tmp_path / "own-1"), "--output_dir", str(tmp_path / "out")]
    infer.main(flags)

    said = capsys.readouterr().out
    assert f"12 images copied; 12 of 12 are in {tmp_path / 'out'}: {tmp_path / 'out' / 'contact_sheet.png'}" in said
    assert images(tmp_path / "out") == images(tmp_path / "one")
    infer.main([*flags[:2], *flags[3:]])
    assert "0 images copied; 12 of 12" in capsys.readouterr().out
    infer.main([*flags[:2], "--output_dir", str(tmp_path / "part")])
    assert "6 images copied; 6 of 12 are in" in (said := capsys.readouterr().out) and "6 are still to be drawn" in said


@pytest.mark.parametrize(
    "changed",
    [["--seed", "6"], ["--guidance_scale", "1", "2"], ["--negative_prompt", "fog"], ["--scheduler", "euler"],
     ["--height", "32"], ["--num_inference_steps", "2"]],
)  # fmt: skip
def test_a_grid_refuses_the_folder_of_another_and_leaves_it_as_it_was(tmp_path, draw, changed):
    draw(tmp_path, "--seed", "5")
    before = tree(tmp_path)

    with pytest.raises(OutputError, match=r"holds another grid; choose another --output_dir"):
        draw(tmp_path, "--seed", "5", *changed)

    assert tree(tmp_path) == before


def test_other_vectors_are_other_images(tmp_path, draw, embedding):
    draw(tmp_path / "out", "--seed", "5")
    rows = np.ones((1, 32), np.float32)
    folder = tmp_path / "other"
    folder.mkdir()
    write_pdparams(folder / "learned_embeds.pdparams", [LearnedEmbedding("<cat-toy>", {"text_encoder": rows})])
    base = json.loads((ROOT / embedding).with_name("run.json").read_text())["base_model"]
    other = ["--embeds", str(folder / "learned_embeds.pdparams"), "--pretrained_model_name_or_path", base]

    with pytest.raises(OutputError, match="holds another grid"):
        draw(tmp_path / "out", "--seed", "5", *other)


def test_a_file_of_somebody_else_under_a_number_of_the_grid_is_refused_and_kept(tmp_path, draw, dies_after):
    dies_after(2)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path, "--seed", "5")
    Image.new("RGB", (3, 3)).save(tmp_path / "0010-seed6.png")
    before = tree(tmp_path)

    with pytest.raises(OutputError, match="0010-seed6.png has the number of an image of this run"):
        draw(tmp_path, "--seed", "5")

    assert tree(tmp_path) == before


def test_processes_started_by_hand_need_a_seed(tmp_path, draw):
    with pytest.raises(SettingsError, match="give --seed"):
        draw(tmp_path, world_size=2, start="")


def test_merging_takes_no_model_and_no_paddle(tmp_path, draw):
    for rank in (0, 1):
        draw(tmp_path / f"own-{rank}", "--seed", "5", rank=rank, world_size=2)
    code = (
        "import sys, infer\n"
        f"infer.main(['--merge', {str(tmp_path / 'own-0')!r}, {str(tmp_path / 'own-1')!r}, "
        f"'--output_dir', {str(tmp_path / 'out')!r}])\nprint('paddle' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout

    assert said.splitlines()[-1] == "False" and "12 of 12" in said


# -------------------------------------------------------------------------------------------- real processes, killed


@pytest.mark.slow
@pytest.mark.multiprocess
def test_images_of_processes_that_are_killed_at_random_are_those_of_an_untouched_run(tmp_path, embedding):
    args = argparse.Namespace(embeds=embedding, steps=2, killed_images=40, kills=3, seed=0)

    figures = grid.killed(args, tmp_path)

    assert figures.kills >= 3 and figures.images >= 40
    assert (figures.different, figures.drawn_again, figures.faults) == (0, 0, [])


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_launcher_starts_processes_that_share_a_grid(tmp_path, embedding):
    args = argparse.Namespace(embeds=embedding, steps=2)

    run = grid.drawn(grid.words(args, 16, tmp_path / "two"), 2, tmp_path / "two")
    grid.drawn(grid.words(args, 16, tmp_path / "one"), 1, tmp_path / "one")

    assert run.images == 16 and grid.differing(tmp_path / "one", tmp_path / "two") == []
    assert (tmp_path / "two" / "contact_sheet.png").is_file() and len(entries(tmp_path / "two")) == 1


@pytest.mark.slow
def test_a_plan_that_is_nearly_done_is_resumed(tmp_path, embedding):
    args = argparse.Namespace(embeds=embedding, steps=1, planned=200, left=6)

    assert grid.resumed(args, tmp_path / "out") > 0
    assert len(images(tmp_path / "out")) == 200 and len(entries(tmp_path / "out")) == 1
