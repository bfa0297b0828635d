"""convert.py as users call it: conversions, covers, descriptions; and what they get wrong, a row each."""

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.convert_runs import refused, run, untried
from helpers.embedding_samples import assert_same, concept, concept_xl
from helpers.paths import ROOT
from helpers.strangers import VECTORS, attacks_by_global, zip_of
from helpers.tiny_models import build_model, tree
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.formats.contents import read_contents
from textual_inversion.formats.embedding_file import read_embeddings, write_pdparams, write_safetensors
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.formats.targets import TARGETS
from textual_inversion.settings.convert import ConvertConfig, InspectConfig


@pytest.fixture
def world(tmp_path):
    """A run's folder with two concepts and an image, one of Stable Diffusion XL, and files that are none."""
    two = [concept("<cat>", width=768, steps="300"), concept("<dog>", width=768, seed=1)]
    write_pdparams(tmp_path / "two.pdparams", two)
    write_safetensors(tmp_path / "cat.safetensors", two[0])
    write_safetensors(tmp_path / "xl.safetensors", concept_xl("<xl>"))
    (tmp_path / "samples").mkdir()
    Image.new("RGB", (600, 300), "red").save(tmp_path / "samples" / "step-5.png")
    files = {
        "blank.pt": safetensors_bytes({"two words": VECTORS}, {}),
        "nan.pt": safetensors_bytes({"<n>": np.full((1, 4), np.nan)}, {}),
        "half.safetensors": safetensors_bytes({"<h>": np.full((1, 4), 1e6, np.float32)}, {}),
        "cut.safetensors": (tmp_path / "cat.safetensors").read_bytes()[:-5],
        "evil.pt": attacks_by_global(tmp_path / "mark")["os.system"][0],
        "bomb.pt": zip_of(("a/data.pkl", bytes(9000)), compression=zipfile.ZIP_DEFLATED),
        "lora.safetensors": safetensors_bytes({"a.lora_up.weight": np.ones((4, 2)), "a.alpha": np.ones(())}, {}),
        "text.pt": b"hello",
        "empty.pt": b"",
        "there.pt": b"mine",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


# --------------------------------------------------------------------------------------------------------- what works


def test_it_starts_without_paddle_and_as_a_process():
    program = (
        "import sys, convert\n"
        "convert.main(['demo/learned_embeds.pdparams', '--to', 'kohya', '--output', sys.argv[1]])\n"
        "convert.main(['inspect', 'demo/learned_embeds.pdparams', 'README.md'])\n"
        "print([name for name in ('paddle', 'ppdiffusers', 'torch') if name in sys.modules])"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", program, folder], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (Path(folder) / "cat-toy.safetensors").is_file()
    lines = done.stdout.splitlines()
    assert lines[0].endswith("cat-toy.safetensors: <cat-toy>; in a prompt: cat-toy") and lines[-1] == "[]"
    assert "1 concept in a pickle" in lines[1] and "README.md: a text of " in lines[-2]


@pytest.mark.parametrize("to", TARGETS)
def test_every_target_and_back_again(world, capsys, to):
    out = world / "out"
    status, _, _ = run([world / "two.pdparams", "--to", to, "--output", f"{out}/"], capsys)
    assert status == 0

    status, _, err = run([*sorted(out.iterdir()), "--to", "pdparams", "--output", world / "back.pdparams"], capsys)
    assert status == 0 and "placeholder" not in err
    assert (world / "back.pdparams").read_bytes() == (world / "two.pdparams").read_bytes()


def test_words_names_and_half_precision_together(world, capsys):
    argv = [world / "two.pdparams", world / "xl.safetensors", "--to", "safetensors", "--output", world / "out"]
    status, out, err = run([*argv, "--words", "<fox>", "<xl>", "--rename", "<dog>=<fox>", "--half"], capsys)

    assert status == 0 and len(out.splitlines()) == 2
    assert {path.name for path in (world / "out").iterdir()} == {"fox.safetensors", "xl.safetensors"}
    assert read_contents(world / "out" / "fox.safetensors").types == ("float16",)
    assert "note: float16 moves values of <fox> by up to " in err
    (fox,) = read_embeddings(world / "out" / "fox.safetensors")
    wanted = concept("<dog>", width=768, seed=1).vectors["text_encoder"].astype(np.float16)
    np.testing.assert_array_equal(fox.vectors["text_encoder"], wanted)


@pytest.mark.parametrize("choice", ["auto", "samples/step-5.png"])
def test_a_cover_is_small_and_shows_the_image(world, capsys, choice):
    cover = choice if choice == "auto" else world / choice
    argv = [world / "cat.safetensors", "--to", "comfyui", "--output", world / "new.safetensors", "--cover", cover]
    assert run(argv, capsys)[0] == 0

    said = read_contents(world / "new.safetensors").metadata
    (image,) = (Image.open(io.BytesIO(base64.b64decode(one))) for one in json.loads(said["ssmd_cover_images"]))
    assert image.format == "JPEG" and image.size == (256, 128) and image.getpixel((9, 9))[0] > 200
    assert (world / "new.safetensors").stat().st_size < 60_000
    assert_same(*read_embeddings(world / "new.safetensors"), *read_embeddings(world / "cat.safetensors"))


def test_the_cover_of_an_image_is_the_image_itself(world, capsys):
    argv = [world / "cat.safetensors", "--to", "webui-png", "--output", world / "new.png", "--cover", "auto"]
    assert run(argv, capsys)[0] == 0

    shown = np.asarray(Image.open(world / "new.png"))
    edge = (shown.shape[1] - 600) // 2
    assert shown.shape[0] == 300 and (shown[:, edge:-edge] == [255, 0, 0]).all()
    assert_same(*read_embeddings(world / "new.png"), *read_embeddings(world / "cat.safetensors"))


def test_several_files_are_described_and_the_missing_one_comes_last(world, capsys):
    names = ["two.pdparams", "evil.pt", "lora.safetensors", "absent.pt", "text.pt", "samples/step-5.png", "nan.pt"]
    status, out, err = run(["inspect", *(world / name for name in names)], capsys)

    assert status == 2 and err.count("error: ") == 1 and "absent.pt: No such file or directory" in err
    for said in (
        "2 concepts",
        "asks for os.system",
        "a LoRA",
        "a text of 1 lines",
        "a PNG image",
        "cannot be used: holds NaN",
    ):
        assert said in out
    assert not (world / "mark").exists()
    assert run(["inspect", *(world / name for name in names if name != "absent.pt")], capsys)[0] == 0


def test_descriptions_for_programs_are_json(world, capsys):
    status, out, _ = run(["inspect", world / "xl.safetensors", world / "evil.pt", "--json"], capsys)

    xl, evil = json.loads(out)
    assert status == 0 and xl["concepts"][0]["word"] == "<xl>" and "asks for os.system" in evil["kind"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_base_model_gives_the_norms_of_its_table_and_the_nearest_words(tmp_path, capsys, family):
    from textual_inversion.models.vocabulary import Vocabulary, load_text_encoders

    model = build_model(tmp_path / "base", family)
    before = tree(model)
    vocabularies = [Vocabulary.of(one) for one in load_text_encoders(model)]
    rows = {one.name: one.rows[[one.words.index("cat"), one.words.index("toy")]] for one in vocabularies}
    from textual_inversion.formats.learned_embedding import LearnedEmbedding

    write_pdparams(tmp_path / "a.pdparams", [LearnedEmbedding("<x>", rows)])
    argv = ["inspect", tmp_path / "a.pdparams", "--pretrained_model_name_or_path", model]

    status, out, _ = run(argv, capsys)
    assert status == 0 and out.count("vector 1 of 2 is nearest to cat 1.00") == len(rows)
    assert (
        out.count("vector 2 of 2 is nearest to toy 1.00") == out.count("rows of the table have the norm") == len(rows)
    )
    (facts,) = json.loads(run([*argv, "--json"], capsys)[1])
    for one in vocabularies:
        assert facts["concepts"][0]["nearest_words"][one.name][0][0][0] == "cat"
        assert facts["concepts"][0]["table_norms"][one.name]["mean"] == pytest.approx(one.norms[0])
    assert tree(model) == before


def test_equal_input_gives_equal_files(world, capsys):
    for name in ("a", "b"):
        assert (
            run([world / "cat.safetensors", "--to", "diffusers-bin", "--output", world / f"{name}.bin"], capsys)[0] == 0
        )

    assert (world / "a.bin").read_bytes() == (world / "b.bin").read_bytes()


# ------------------------------------------------------------------------------------------------------ what does not

TO = ["--to", "webui-pt", "--output"]
KOHYA = ["{w}/cat.safetensors", "--to", "kohya", "--output", "{w}/x.safetensors"]
ROWS = [
    # files
    (["{w}/absent.pt", *TO, "{w}/x.pt"], "absent.pt: No such file or directory; check the path"),
    (["{w}/samples", *TO, "{w}/x.pt"], "samples holds none of learned_embeds"),
    (["{w}/text.pt", *TO, "{w}/x.pt"], "text.pt: is neither safetensors nor a pickle"),
    (["{w}/empty.pt", *TO, "{w}/x.pt"], "empty.pt: is empty; download or copy it again"),
    (["{w}/lora.safetensors", *TO, "{w}/x.pt"], "looks like a model or a LoRA"),
    (["{w}/evil.pt", *TO, "{w}/x.pt"], "evil.pt: asks for os.system, which could run any code; nothing in it was run"),
    (["{w}/bomb.pt", *TO, "{w}/x.pt"], "bomb.pt: holds the compressed or encrypted part"),
    (["{w}/nan.pt", *TO, "{w}/x.pt"], "nan.pt: holds NaN or infinite values under '<n>'"),
    (["{w}/cut.safetensors", *TO, "{w}/x.pt"], "cut.safetensors: declares values for"),
    (["{w}/samples/step-5.png", *TO, "{w}/x.pt"], "step-5.png: is an image without an embedding in it"),
    (["", *TO, "{w}/x.pt"], "FILE is empty"),
    ([*TO, "{w}/x.pt"], "the following arguments are required: FILE"),
    # concepts
    (["{w}/two.pdparams", *TO, "{w}/out", "--words", "<fox>"], "--words: no file holds '<fox>'; the files hold <cat>"),
    (["{w}/blank.pt", *TO, "{w}/x.pt"], "the placeholder token 'two words' holds blanks"),
    (["{w}/two.pdparams", "{w}/cat.safetensors", *TO, "{w}/out"], "the token <cat> occurs twice in"),
    (["{w}/two.pdparams", *TO, "{w}/out", "--rename", "<dog>=<cat>"], "the token <cat> occurs twice in"),
    (["{w}/two.pdparams", *TO, "{w}/out", "--rename", "<dog>=cat"], "<cat> and cat would both be"),
    (["{w}/two.pdparams", *TO, "{w}/out", "--rename", "<fox>=<a>"], "--rename: nothing is called '<fox>'"),
    (["{w}/two.pdparams", *TO, "{w}/out", "--rename", "nonsense"], "--rename: must be OLD=NEW"),
    (["{w}/two.pdparams", "--to", "diffusers-bin", "--output", "{w}/out", "--rename", "<dog>=t5"], "cannot write"),
    (["{w}/xl.safetensors", "--to", "webui-png", "--output", "{w}/x.png"], "<xl> has vectors for two text encoders"),
    (["{w}/xl.safetensors", "{w}/cat.safetensors", "--to", "pdparams", "--output", "{w}/x.pdparams"],
     "concepts with one and with two text encoders need a file each"),
    # targets and outputs
    (["{w}/two.pdparams", "--to", "gimp", "--output", "{w}/x"], "--to: invalid choice: 'gimp'"),
    (["{w}/two.pdparams", "--output", "{w}/x"], "--to is missing"),
    (["{w}/two.pdparams", "--to", "kohya"], "--output is missing"),
    (["{w}/two.pdparams", *TO, ""], "--output is empty (a shell variable that is not set?)"),
    (["{w}/cat.safetensors", *TO, "{w}/there.pt"], "there.pt is there already; give another, or add --overwrite"),
    (["{w}/cat.safetensors", "--to", "kohya", "--output", "{w}/cat.safetensors", "--overwrite"],
     "cat.safetensors is a file that is read; give another name"),
    (["{w}/cat.safetensors", *TO, "{w}/x.bin"], "files for webui-pt end in .pt, by which it knows them"),
    (["{w}/two.pdparams", *TO, "{w}/x.pt"], "webui-pt has a file per concept, here 2; name a folder"),
    (["{w}/cat.safetensors", *TO, "{w}/absent/x.pt"], "there is no such folder; make it first"),
    (["{w}/cat.safetensors", *TO, "/dev/null"], "--output /dev/null is a file, and no name that ends in .pt"),
    (["{w}/cat.safetensors", *TO, "{w}/there.pt/x/"], "cannot be made (Not a directory)"),
    (["{w}/cat.safetensors", *TO, "{w}/" + "x" * 300 + ".pt"], "is longer than a name can be"),
    # half precision and covers
    (["{w}/two.pdparams", "--to", "pdparams", "--output", "{w}/x.pdparams", "--half"], "--half: pdparams holds"),
    (["{w}/half.safetensors", *TO, "{w}/x.pt", "--half"], "holds values beyond 65504"),
    (["{w}/two.pdparams", *TO, "{w}/out", "--cover", "auto"], "--cover: webui-pt has no room for an image; write safe"),
    ([*KOHYA, "--cover", "{w}/absent.png"], "absent.png"),
    ([*KOHYA, "--cover", "{w}/text.pt"], "text.pt"),
    # descriptions
    (["inspect"], "the following arguments are required: FILE"),
    (["inspect", "{w}/absent.pt"], "absent.pt: No such file or directory; check the path"),
    (["inspect", "{w}/two.pdparams", "--variant", "a b"], "--variant: must be part of a file name"),
    (["inspect", "{w}/two.pdparams", "--output", "x"], "--output is not a flag of convert.py inspect"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), ROWS, ids=[f"{said[:40]} {i}" for i, (_, said) in enumerate(ROWS)])
def test_a_refusal_is_one_line_and_changes_nothing(world, capsys, words, said):
    before = tree(world)

    refused([word.replace("{w}", str(world)) for word in words], capsys, said)
    assert tree(world) == before


def test_there_is_no_image_to_show(world, capsys):
    (world / "samples" / "step-5.png").unlink()
    argv = [world / "cat.safetensors", "--to", "kohya", "--output", world / "x.safetensors", "--cover", "auto"]

    status, _, err = run(argv, capsys)
    assert status == 2 and "--cover auto: no run has left an image in" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(world, capsys):
    (world / "shut").mkdir(mode=0o500)

    status, _, err = run([world / "cat.safetensors", *TO, world / "shut" / "x.pt"], capsys)
    assert status == 2 and "shut" in err and "Permission denied" in err


def test_a_folder_that_nobody_may_write(world, capsys):
    status, _, err = run([world / "cat.safetensors", *TO, "/proc/x.pt"], capsys)

    assert status == 2 and err.startswith("error: ") and "/proc" in err and "Traceback" not in err


def test_every_flag_with_a_range_or_a_choice_has_a_row():
    for config, subcommand in ((ConvertConfig, None), (InspectConfig, "inspect")):
        assert untried(config, subcommand, ROWS) == set()
    assert len(ROWS) >= 40


def test_a_pair_of_diffusers_is_one_concept(world, capsys):
    argv = [world / "xl.safetensors", "--to", "diffusers-bin", "--output", world / "learned_embeds.bin"]
    status, out, err = run(argv, capsys)

    assert status == 0 and len(out.splitlines()) == 2 and "learned_embeds_2.bin is for the second text encoder" in err
    (file,) = read_concept_files([world / "learned_embeds.bin"])
    assert_same(file.concepts[0], concept_xl("<xl>"))
