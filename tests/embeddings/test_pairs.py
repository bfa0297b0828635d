"""The two files of one concept that diffusers' script for Stable Diffusion XL writes."""

import pickle
from itertools import permutations

import numpy as np
import pytest

from helpers.greedy_files import view_of_a_table
from textual_inversion.embeddings.files import read_concept_files, read_initializer_embeds
from textual_inversion.embeddings.pairs import partner_names, read_files
from textual_inversion.embeddings.sources import find_embedding_file
from textual_inversion.formats.errors import BrokenFile, WrongValues
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.system.errors import SettingsError

FIRST, SECOND = np.full((2, 32), 1, np.float32), np.full((2, 40), 2, np.float32)
NAMES = [
    ("learned_embeds.safetensors", "learned_embeds_2.safetensors"),
    ("learned_embeds-steps-500.safetensors", "learned_embeds_2-steps-500.safetensors"),
    ("learned_embeds.bin", "learned_embeds_2.bin"),
    ("learned_embeds-steps-7.bin", "learned_embeds_2-steps-7.bin"),
]


def saved(path, vectors, token="<cat>"):
    path.parent.mkdir(exist_ok=True)
    is_pickle = path.suffix == ".bin"
    path.write_bytes(pickle.dumps({token: vectors}) if is_pickle else safetensors_bytes({token: vectors}, {}))
    return path


def assert_joined(file, *paths):
    (concept,) = file.concepts
    assert list(concept.vectors) == ["text_encoder", "text_encoder_2"]
    np.testing.assert_array_equal(concept.vectors["text_encoder"], FIRST)
    np.testing.assert_array_equal(concept.vectors["text_encoder_2"], SECOND)
    assert {file.path, file.partner} == set(paths)


@pytest.mark.parametrize("names", NAMES)
def test_a_pair_is_one_concept_from_both_from_each_and_from_the_folder(tmp_path, names):
    one, two = saved(tmp_path / names[0], FIRST), saved(tmp_path / names[1], SECOND)
    for named in ([one, two], [two, one], [one], [two], [tmp_path]):
        (file,) = read_concept_files(named)
        assert_joined(file, one, two)
        assert any("are one concept for two text encoders; both are used" in note for note in file.notes)
        (learned,) = read_initializer_embeds([str(path) for path in named])
        assert learned.widths == {"text_encoder": 32, "text_encoder_2": 40}


def test_the_widths_say_which_is_which_whatever_the_names_and_the_order(tmp_path):
    paths = [saved(tmp_path / "second.safetensors", FIRST), saved(tmp_path / "first.safetensors", SECOND)]
    for named in permutations(paths):
        (file,) = read_files(named)
        assert_joined(file, *paths)
    swapped = [saved(tmp_path / NAMES[0][0], SECOND), saved(tmp_path / NAMES[0][1], FIRST)]
    (file,) = read_files(swapped[:1])
    assert_joined(file, *swapped)


def test_of_equal_widths_the_names_decide(tmp_path):
    saved(tmp_path / NAMES[0][0], FIRST)
    saved(tmp_path / NAMES[0][1], 2 * FIRST)
    for name in NAMES[0]:
        (file,) = read_files([tmp_path / name])
        assert file.concepts[0].vectors["text_encoder_2"][0, 0] == 2


def test_a_pair_of_tables_behind_views_is_joined(tmp_path):
    view_of_a_table(tmp_path / NAMES[2][0], FIRST, table=50)
    view_of_a_table(tmp_path / NAMES[2][1], SECOND, table=50)
    (file,) = read_files([tmp_path / NAMES[2][0]])
    assert_joined(file, tmp_path / NAMES[2][0], tmp_path / NAMES[2][1])


def test_other_concepts_in_the_same_call_stay_apart(tmp_path):
    one, two = saved(tmp_path / NAMES[0][0], FIRST), saved(tmp_path / NAMES[0][1], SECOND)
    dog = saved(tmp_path / "dog.safetensors", FIRST, "<dog>")
    assert [file.path for file in read_files([two, dog, one])] == [two, dog]


@pytest.mark.parametrize(
    ("token", "vectors"),
    [("<dog>", SECOND), ("<cat>", np.ones((2, 1024), np.float32))],
    ids=["another concept", "Stable Diffusion 2.x"],
)
def test_what_only_looks_like_a_pair_stays_apart(tmp_path, token, vectors):
    one, two = saved(tmp_path / NAMES[0][0], FIRST), saved(tmp_path / NAMES[0][1], vectors, token)
    assert [file.partner for file in read_files([one, two])] == [None, None]
    assert read_files([one])[0].partner is None


def test_one_concept_in_two_files_of_one_width_still_stands_twice(tmp_path):
    paths = [saved(tmp_path / f"{name}.safetensors", FIRST) for name in "ab"]
    with pytest.raises(SettingsError, match="<cat> occurs twice"):
        read_concept_files(paths)


def test_a_partner_of_other_length_or_that_is_damaged_is_named(tmp_path):
    one, two = saved(tmp_path / NAMES[0][0], FIRST), saved(tmp_path / NAMES[0][1], SECOND[:1])
    with pytest.raises(WrongValues, match="learned_embeds.safetensors holds 2 vectors for <cat> and .*_2.saf.* 1"):
        read_files([one])
    two.write_bytes(two.read_bytes()[:-3])
    with pytest.raises(BrokenFile, match="learned_embeds_2.safetensors"):
        read_files([one])


def test_a_partner_has_the_same_format_or_another():
    assert partner_names("learned_embeds-2.safetensors") == partner_names("my_embeds.safetensors") == []
    assert partner_names("learned_embeds_2.bin")[:2] == ["learned_embeds.bin", "learned_embeds.safetensors"]


def test_a_file_for_both_text_encoders_has_no_partner(tmp_path):
    """What this project writes for Stable Diffusion XL, beside whatever lies there."""
    both = {"clip_l": FIRST, "clip_g": SECOND}
    (tmp_path / NAMES[0][0]).write_bytes(safetensors_bytes(both, {"placeholder_token": "<cat>"}))
    saved(tmp_path / NAMES[0][1], SECOND)
    (file,) = read_files([tmp_path / NAMES[0][0]])
    assert file.partner is None and list(file.concepts[0].vectors) == ["text_encoder", "text_encoder_2"]


def test_of_a_run_that_has_not_finished_the_newest_is_taken_and_told(tmp_path):
    for steps in (50, 100, 9):
        saved(tmp_path / f"learned_embeds-steps-{steps}.safetensors", FIRST)
    assert find_embedding_file(tmp_path).name == "learned_embeds-steps-100.safetensors"
    (file,) = read_concept_files([tmp_path])
    assert file.notes == [f"{tmp_path} holds no finished embedding; learned_embeds-steps-100.safetensors is its newest"]
