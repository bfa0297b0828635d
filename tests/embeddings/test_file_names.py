"""Names of embedding files."""

import pytest

from textual_inversion.embeddings.file_names import BEST, FINAL, of_step, safe_name, safetensors_names, without_time


@pytest.mark.parametrize(
    ("token", "name"), [("<cat-toy>", "cat-toy"), ("../x", "x"), ("<猫>", "猫"), ("<<>>", "concept"), ("a/b", "a-b")]
)
def test_placeholder_tokens_become_file_names(token, name):
    assert safe_name(token) == name


def test_the_only_concept_has_the_plain_name_and_several_have_their_own_at_any_time():
    assert safetensors_names(FINAL, ["<a>"]) == ["learned_embeds.safetensors"]
    assert safetensors_names(of_step(5), ["<a>"]) == ["learned_embeds-steps-5.safetensors"]
    assert safetensors_names(BEST, ["<a>", "<b/c>"]) == [
        "learned_embeds-best-a.safetensors",
        "learned_embeds-best-b-c.safetensors",
    ]


@pytest.mark.parametrize("name", ["best-a", "steps-5-a", "Steps-500-a"])
def test_a_name_that_is_another_concepts_at_some_step_is_recognized(name):
    assert without_time(name) == "a"
    assert without_time(f"my-{name}") is None and without_time(name.removesuffix("-a")) is None
