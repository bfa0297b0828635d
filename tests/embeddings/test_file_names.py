"""Names of embedding files."""

import pytest

from textual_inversion.embeddings.file_names import (
    BEST,
    FINAL,
    embeddings_among,
    of_step,
    safe_name,
    safetensors_names,
    without_time,
)


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


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["a.pt", "learned_embeds-steps-5.bin", "learned_embeds.bin", "README.md", "x/learned_embeds.bin"],
         ["learned_embeds.bin", "learned_embeds-steps-5.bin", "a.pt"]),
        (["model.safetensors", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "diffusion_pytorch_model.bin",
          "optimizer.bin", "training_args.bin", "pytorch_lora_weights.safetensors", "model_state.pdparams"], []),
        (["model-train.pt", "modelcat.pt", "cat-model.safetensors"], ["cat-model.safetensors", "modelcat.pt"]),
        (["model_index.json", "v1-5.safetensors", "learned_embeds.safetensors"], ["learned_embeds.safetensors"]),
        (["config.json", "clip.safetensors"], []),
        (["*.pt", "a?.bin", "[ab].pt", ".pt", "..pt", "a\\b.pt", "a\nb.pt", "x" * 300 + ".pt", "a b.pt"], ["a b.pt"]),
        ([], []),
    ],
)  # fmt: skip
def test_embeddings_are_told_from_what_else_a_repository_holds(files, found):
    assert embeddings_among(files) == found
