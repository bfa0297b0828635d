"""Concepts on their way into other layouts: what goes where, what is said of it, and what is refused before writing."""

from pathlib import Path

import numpy as np
import pytest

from helpers.embedding_samples import assert_same, concept, concept_xl
from textual_inversion.embeddings.conversion import conversion, write
from textual_inversion.embeddings.files import ConceptFile, read_concept_files
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.formats.targets import TARGETS, Writing
from textual_inversion.system.errors import EmbeddingFileError, OutputError, SettingsError

FULL = dict(base_model="owner/model", steps="300", seed_of_it="7", learnable_property="style")


def files(*concepts, run=None) -> list[ConceptFile]:
    return [ConceptFile(Path("/nowhere/in.pdparams"), tuple(concepts), run or {})]


def convert(to, *concepts, output, run=None, overwrite=False, **options):
    new, notes = conversion(files(*concepts, run=run), to, str(output), **options)
    write(new, [], overwrite=overwrite)
    return new, notes


def read(path: Path):
    (one,) = read_embeddings(path)
    return one


@pytest.mark.parametrize("to", TARGETS)
def test_a_file_or_a_folder_as_the_output_says(tmp_path, to):
    ending = TARGETS[to].ending
    (in_folder,), _ = convert(to, concept("<my-cat>"), output=f"{tmp_path}/made/")
    (file,), _ = convert(to, concept("<my-cat>"), output=tmp_path / f"x{ending.upper()}")

    assert in_folder.path == tmp_path / "made" / f"my-cat{ending}" and file.path == tmp_path / f"x{ending.upper()}"
    for one in (in_folder, file):
        assert np.array_equal(read(one.path).vectors["text_encoder"], concept().vectors["text_encoder"])
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {file.path.name, in_folder.path.name}


@pytest.mark.parametrize("to", [to for to, target in TARGETS.items() if not target.holds_many])
def test_several_concepts_get_a_file_each(tmp_path, to):
    new, _ = convert(to, concept("<a>"), concept("<b>", seed=1), output=tmp_path / "out")

    assert [one.path.stem for one in new] == ["a", "b"] and [one.tokens for one in new] == [("<a>",), ("<b>",)]
    with pytest.raises(SettingsError, match=f"{to} has a file per concept, here 2; name a folder"):
        convert(to, concept("<a>"), concept("<b>"), output=tmp_path / f"x{TARGETS[to].ending}")


def test_several_concepts_in_one_file(tmp_path):
    convert("pdparams", concept("<a>"), concept("<b>", seed=1), output=tmp_path / "x.pdparams")

    one, other = read_embeddings(tmp_path / "x.pdparams")
    assert_same(one, concept("<a>"))
    assert_same(other, concept("<b>", seed=1))


def test_words_choose_concepts_in_their_order(tmp_path):
    three = [concept(f"<{name}>", seed=i) for i, name in enumerate("abc")]
    new, _ = convert("safetensors", *three, output=tmp_path, words=["<c>", "<a>", "<c>"])

    assert [one.tokens for one in new] == [("<c>",), ("<a>",)]
    with pytest.raises(SettingsError, match="--words: no file holds '<d>'; the files hold <a>, <b>, <c>"):
        conversion(files(*three), "safetensors", str(tmp_path), words=["<d>"])


# ------------------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize(
    ("to", "lost"),
    [
        ("pdparams", "base_model, learnable_property, steps, seed_of_it"),
        ("diffusers-bin", "base_model, learnable_property, steps, seed_of_it"),
        ("webui-pt", "learnable_property, seed_of_it"),
        ("webui-png", "learnable_property, seed_of_it"),
        ("safetensors", None),
        ("kohya", None),
        ("onetrainer", None),
        ("invoke", None),
        ("comfyui", None),
    ],
)
def test_what_a_layout_has_no_place_for_is_said_and_nothing_else_is_lost(tmp_path, to, lost):
    (new,), _ = convert(to, concept(**FULL), output=tmp_path / f"x{TARGETS[to].ending}")

    assert list(new.notes) == ([] if lost is None else [f"{new.path}: {to} has no place for {lost}"])
    kept = set(read(new.path).metadata.values())
    assert {key for key, value in FULL.items() if value not in kept} == set((lost or "").split(", ")) - {""}


def test_of_an_sdxl_concept_diffusers_gets_two_files_that_are_read_as_one(tmp_path):
    new, _ = convert("diffusers-bin", concept_xl("<cat>"), output=tmp_path / "learned_embeds.bin")

    assert [one.path.name for one in new] == ["learned_embeds.bin", "learned_embeds_2.bin"]
    assert new[1].notes == (f"{new[1].path} is for the second text encoder and its tokenizer",)
    (file,) = read_concept_files([tmp_path / "learned_embeds.bin"])
    assert_same(file.concepts[0], concept_xl("<cat>"))


def test_the_name_in_an_sdxl_file_of_the_web_ui_is_the_files_and_that_is_said(tmp_path):
    (new,), _ = convert("webui-pt", concept_xl("<cat>"), output=tmp_path / "x.pt")

    assert new.notes == (f"{new.path}: webui-pt has no place for the placeholder token",) and new.prompts == ("x",)


@pytest.mark.parametrize("to", ["safetensors", "diffusers-bin", "kohya"])
def test_capitals_of_which_diffusers_makes_small_letters_are_said(tmp_path, to):
    several, _ = convert(to, concept("<Cat>", vectors=2), output=tmp_path / "a")
    one, _ = convert(to, concept("<Cat>", vectors=1), output=tmp_path / "b")
    small, _ = convert(to, concept("<cat>", vectors=2), output=tmp_path / "c")

    assert one[0].notes == small[0].notes == ()
    said = [f"{several[0].path}: diffusers with transformers 5 reads only the first vector of <Cat>"]
    assert [note.split(", because")[0] for note in several[0].notes] == (said if to != "kohya" else [])


@pytest.mark.parametrize(("to", "prompt"), [("safetensors", "<a>"), ("diffusers-bin", "<a>"), ("webui-pt", "x"),
                                            ("kohya", "x"), ("invoke", "<x>"), ("comfyui", "embedding:x")])  # fmt: skip
def test_how_prompts_name_the_concept_is_told(tmp_path, to, prompt):
    (new,), _ = convert(to, concept("<a>"), output=tmp_path / f"x{TARGETS[to].ending}")

    assert new.prompts == (prompt,)


@pytest.mark.parametrize("to", [to for to, target in TARGETS.items() if target.holds_half])
def test_half_precision_rounds_once_and_says_how_far(tmp_path, to):
    exact = concept("<cat>", vectors=2, width=8)
    (new,), (note,) = convert(to, exact, output=tmp_path / f"x{TARGETS[to].ending}", writing=Writing(is_half=True))

    rounded = exact.vectors["text_encoder"].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(read(new.path).vectors["text_encoder"], rounded)
    moved = np.abs(rounded - exact.vectors["text_encoder"]).max()
    assert 0 < moved < 1e-2 and note == f"float16 moves values of <cat> by up to {moved:.1e}"


def test_values_beyond_float16_are_refused(tmp_path):
    large = concept("<cat>")
    large.vectors["text_encoder"][0, 0] = 1e6

    with pytest.raises(EmbeddingFileError, match="<cat> holds values beyond 65504, the largest of float16"):
        conversion(files(large), "kohya", str(tmp_path), writing=Writing(is_half=True))


@pytest.mark.parametrize("to", [to for to, target in TARGETS.items() if not target.holds_half])
def test_layouts_of_float32_alone_refuse_half(tmp_path, to):
    with pytest.raises(SettingsError, match=f"--half: {to} holds float32 alone; leave it out, or write safetensors"):
        conversion(files(concept()), to, str(tmp_path), writing=Writing(is_half=True))


def test_what_the_record_beside_a_file_says_travels_with_it(tmp_path):
    run = {"placeholder_token": "<cat>", "base_model": "owner/model", "seed": 7, "learnable_property": "object"}
    (new,), _ = convert("safetensors", concept("<cat>", steps="5"), output=tmp_path, run=run)

    said = read(new.path).metadata
    assert {key: said[key] for key in ("base_model", "seed", "learnable_property", "steps")} == {
        "base_model": "owner/model", "seed": "7", "learnable_property": "object", "steps": "5"}  # fmt: skip


def test_what_is_said_of_the_old_file_stays_behind(tmp_path):
    told = {"left_out": "clip_l_out", "format": "tf", "placeholder_token": "<old>", "learned_on": "SD 1.5"}
    (new,), _ = convert("safetensors", concept("<new>", **told), output=tmp_path)

    one = read(new.path)
    assert one.placeholder_token == "<new>" and "left_out" not in one.metadata and new.notes == ()
    assert one.metadata["learned_on"] == "SD 1.5" and one.metadata["format"] == "pt"


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("token", ["t5", "clip_g", "string_to_param"])
def test_a_name_that_would_be_read_as_something_else_is_refused(tmp_path, token):
    with pytest.raises(EmbeddingFileError, match=f"cannot write .*{token}"):
        conversion(files(concept(token), concept(token + "2")), "diffusers-bin", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_names_that_would_be_one_file_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="<cat> and cat would both be .*/cat.pt; give one another name with --ren"):
        conversion(files(concept("<cat>"), concept("cat")), "webui-pt", str(tmp_path))
    with pytest.raises(SettingsError, match="<Cat> and <cat> would both be"):  # on macOS and Windows
        conversion(files(concept("<Cat>"), concept("<cat>")), "webui-pt", str(tmp_path))


def test_names_that_collide_in_one_file_are_refused(tmp_path):
    with pytest.raises(OutputError, match="cannot write .*/x.pdparams: <a>_1 is the name of two concepts"):
        conversion(files(concept("<a>", vectors=3), concept("<a>_1")), "pdparams", str(tmp_path / "x.pdparams"))
    with pytest.raises(OutputError, match="one and with two text encoders need a file each"):
        conversion(files(concept("<a>"), concept_xl("<b>")), "pdparams", str(tmp_path))


def test_two_text_encoders_do_not_go_where_one_does(tmp_path):
    with pytest.raises(EmbeddingFileError, match="<cat> has vectors for two text encoders, and webui-png holds those"):
        conversion(files(concept_xl("<cat>")), "webui-png", str(tmp_path))


def test_nothing_is_written_unless_all_may_be(tmp_path):
    (tmp_path / "b.pt").write_bytes(b"mine")
    two = [concept("<a>"), concept("<b>")]

    with pytest.raises(SettingsError, match="/b.pt is there already; give another, or add --overwrite"):
        convert("webui-pt", *two, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.pt"] and (tmp_path / "b.pt").read_bytes() == b"mine"

    convert("webui-pt", *two, output=tmp_path, overwrite=True)
    assert read(tmp_path / "b.pt").placeholder_token == "<b>"


@pytest.mark.parametrize("through_link", [False, True])
def test_a_file_that_is_read_is_never_replaced(tmp_path, through_link):
    source = tmp_path / "cat.safetensors"
    convert("safetensors", concept("<cat>"), output=source)
    before = source.read_bytes()
    if through_link:
        (tmp_path / "link.safetensors").symlink_to(source)
    output = tmp_path / ("link.safetensors" if through_link else "cat.safetensors")

    new, _ = conversion(read_concept_files([source]), "kohya", str(output))
    with pytest.raises(SettingsError, match="is a file that is read; give another name"):
        write(new, [source], overwrite=True)
    assert source.read_bytes() == before
