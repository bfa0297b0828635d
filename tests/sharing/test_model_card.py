"""The model card of a run: metadata that the hub understands, examples that work."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

import train_textual_inversion
from helpers.configs import config_of
from helpers.tiny_models import build_model
from helpers.training_runs import short_run
from helpers.written_runs import LOCAL_HASH
from textual_inversion.formats.layouts import ENCODERS
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.targets import TARGETS
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.export import save_pipeline
from textual_inversion.settings.concept import Concept
from textual_inversion.sharing import model_card
from textual_inversion.sharing.model_card import CardFacts, ExportedFile


def facts(base="CompVis/stable-diffusion-v1-4", tokens=("<cat-toy>",), *, is_xl=False, images=False, seed=3, **figures):
    training = config_of(max_train_steps=5, train_batch_size=1, learning_rate=0.1, seed=seed).training
    concepts = tuple(Concept(token, 2, "toy") for token in tokens)
    return CardFacts(base, is_xl, concepts, "en", figures, has_validation_images=images, training=training)


def head(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_a_word_for_what_is_not_wanted_stands_in_the_negative_prompt():
    own = facts()
    own = replace(own, concepts=(Concept("<Bad>", 2, "bad", "negative"),))

    text = model_card.card(own)

    assert "| `<Bad>` | negative | 2 | `bad` | negative prompt `<Bad>` |" in text
    assert 'pipe("a photo of a cat", negative_prompt="<Bad>")' in text  # ppdiffusers
    assert 'pipe("a photo of a cat", negative_prompt="<bad>")' in text  # diffusers, which reads small letters
    assert "`<Bad>` was learned from images of what is not wanted: write it in the **negative** prompt." in text
    assert "instance_prompt" not in head(text)


def test_words_of_both_kinds_stand_where_they_belong():
    own = facts()
    own = replace(own, concepts=(Concept("<bad>", 1, "bad", "negative"), Concept("<cat-toy>", 1, "toy")))

    text = model_card.card(own)

    assert text.count('pipe("a photo of a <cat-toy>", negative_prompt="<bad>")') == 2
    assert head(text)["instance_prompt"] == "<cat-toy>"
    assert "negative_prompt" not in model_card.card(facts())


@pytest.mark.parametrize(
    ("base", "license_name", "named"),
    [
        ("CompVis/stable-diffusion-v1-4", "creativeml-openrail-m", True),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m", True),
        ("stabilityai/stable-diffusion-2-1", "openrail++", True),
        ("stabilityai/stable-diffusion-xl-base-1.0", "openrail++", True),
        ("somebody/finetune", "other", True),
        ("/home/somebody/models/mine", "other", False),
        ("aistudio:me/sd15", "other", False),
        ("local:demo", "apache-2.0", False),
        (LOCAL_HASH, "other", False),
    ],
)
def test_the_head_is_what_the_hub_reads(base, license_name, named):
    text = model_card.card(facts(base))

    metadata = head(text)
    assert metadata["license"] == license_name and metadata.get("base_model") == (base if named else None)
    assert {"textual_inversion", "stable-diffusion"} <= set(metadata["tags"])
    assert metadata["library_name"] == "diffusers" and metadata["instance_prompt"] == "<cat-toy>"
    assert "/home/somebody" not in text


def test_concepts_images_settings_and_all_four_programs_are_there():
    best = {"step": 4, "by": "loss on the fixed set", "score": 0.5}
    text = model_card.card(facts(images=True, overview="overview.png", best=best))

    assert "| `<cat-toy>` | object | 2 | `toy` | `a photo of a <cat-toy>` |" in text
    assert "](overview.png)" in text and "](samples/over-time.png)" in text
    assert [title for title in re.findall(r"^### (.*)$", text, re.MULTILINE)] == [
        "ppdiffusers",
        "diffusers",
        "AUTOMATIC1111",
        "ComfyUI",
        "kohya's scripts",
    ]
    assert "as `cat-toy.safetensors`, written `embedding:cat-toy`" in text
    assert "in `learned_embeds-best.pdparams` and `learned_embeds-best.safetensors`" in text
    assert "earlier steps, where they were saved: `learned_embeds-steps-N.safetensors`" in text
    assert "best step: 4" in text and "`seed`: 3" in text


def test_without_images_none_are_linked():
    assert "![" not in model_card.card(facts())


def test_several_concepts_have_a_file_each():
    text = model_card.card(facts(tokens=("<a b>", "<s>")))

    assert "`learned_embeds-steps-N-NAME.safetensors`" in text
    assert "learned_embeds-a-b.safetensors" in text and "learned_embeds-s.safetensors" in text
    assert head(text)["instance_prompt"] == "<a b> <s>"


def test_both_text_encoders_of_sdxl_get_their_vectors():
    text = model_card.card(facts("stabilityai/stable-diffusion-xl-base-1.0", is_xl=True))

    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2 and "stable-diffusion-xl" in head(text)["tags"]
    for example in examples:
        compile(example, "card", "exec")
        assert "StableDiffusionXLPipeline" in example
        assert "clip_l" in example and "clip_g" in example and "tokenizer=pipe.tokenizer_2" in example


def test_a_readme_of_the_users_own_stays(tmp_path):
    assert model_card.write(tmp_path, facts())
    assert model_card.write(tmp_path, facts(seed=4))  # one of ours is written anew
    assert "`seed`: 4" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")

    assert not model_card.write(tmp_path, facts())
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"),
                                 lambda path: path.symlink_to("absent")])  # fmt: skip
def test_whatever_else_has_the_name_of_the_card_stays_and_is_not_waited_for(tmp_path, put):
    put(tmp_path / "README.md")
    before = (tmp_path / "README.md").lstat()

    assert not model_card.write(tmp_path, facts())
    assert (tmp_path / "README.md").lstat() == before


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["1", "2"])
def test_the_example_for_ppdiffusers_works_as_it_stands(tmp_path, monkeypatch, vectors):
    train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds", "--num_vectors", vectors))
    text = (tmp_path / "out" / "README.md").read_text()
    example = re.search(r"```python\n(from ppdiffusers.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path / "out")

    names = {}
    exec(
        example.replace("FOLDER OF THE BASE MODEL", str(tmp_path / "base")).replace(
            '>")', '>", num_inference_steps=1)'
        ),
        names,
    )

    assert names["image"].size == (16, 16)
    assert f"<cat-toy>{'_1' if vectors == '2' else ''}" in names["pipe"].tokenizer.get_vocab()


# ------------------------------------------------------------------------------------------------------------- SDXL

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
WIDTHS = {"clip_l": 32, "clip_g": 40}  # of the tiny model


def sdxl_example(library, tokens=("<Cat-Toy>", "<s>")):
    text = model_card.card(facts(SDXL, is_xl=True, tokens=tokens))
    return re.search(rf"```python\n((?:import paddle\n)?from {library}.*?)```", text, re.DOTALL)[1]


def learned(folder, tokens, vectors=2):
    """The files that the card names, of two vectors each; returns the embeddings."""
    made = []
    for seed, token in enumerate(tokens):
        rows = np.random.default_rng(seed)
        values = {key: rows.standard_normal((vectors, width)).astype(np.float32) for key, width in WIDTHS.items()}
        save_file(values, folder / f"learned_embeds-{token.strip('<>')}.safetensors")
        made.append(LearnedEmbedding(token, {ENCODERS[key]: value for key, value in values.items()}))
    return made


@pytest.mark.slow
def test_the_example_for_sdxl_in_ppdiffusers_conditions_as_training_does(tmp_path, monkeypatch):
    """On a model whose configurations say eos_token_id 2, as the real one's do; hidden and pooled states are equal."""
    tokens = ("<Cat-Toy>", "<s>")
    base = build_model(tmp_path / "base", "sdxl")
    assert json.loads((base / "text_encoder_2/config.json").read_text())["eos_token_id"] == 2
    embeddings = learned(tmp_path, tokens)
    example = sdxl_example("ppdiffusers").replace(SDXL, str(base)).replace('>")', '>", num_inference_steps=1)')
    monkeypatch.chdir(tmp_path)

    names, without_end = {}, {}
    exec(example, names)
    exec("\n".join(line for line in example.splitlines() if "eos_token_id" not in line), without_end)

    model = load_base_model(base)
    vectors = {name: np.concatenate([one.vectors[name] for one in embeddings]) for name in ENCODERS.values()}
    attach_concepts(model, dict.fromkeys(tokens, 2), vectors)
    assert names["image"].size == (16, 16)
    for prompt in ("a photo of a <Cat-Toy>", "<s>, a <Cat-Toy> in the snow"):
        ours = model.encode_prompts([prompt])
        hidden, _, pooled, _ = names["pipe"].encode_prompt(prompt, do_classifier_free_guidance=False)
        _, _, elsewhere, _ = without_end["pipe"].encode_prompt(prompt, do_classifier_free_guidance=False)
        expected = ours.added["added_cond_kwargs"]["text_embeds"].numpy()
        np.testing.assert_allclose(hidden.numpy(), ours.hidden_states.numpy(), atol=1e-5)
        np.testing.assert_allclose(pooled.numpy(), expected, atol=1e-5)
        assert np.abs(elsewhere.numpy() - expected).max() > 0.1  # why the line is needed


@pytest.mark.slow
def test_a_saved_sdxl_pipeline_conditions_as_training_does(tmp_path):
    from ppdiffusers import StableDiffusionXLPipeline

    (embedding,) = learned(tmp_path, ["<Cat-Toy>"])
    model = load_base_model(build_model(tmp_path / "base", "sdxl"))
    save_pipeline(model, [embedding], tmp_path / "saved")
    attach_concepts(model, {"<Cat-Toy>": 2}, embedding.vectors)

    pipe = StableDiffusionXLPipeline.from_pretrained(str(tmp_path / "saved"))

    ours = model.encode_prompts(["a <Cat-Toy> in the snow"])
    hidden, _, pooled, _ = pipe.encode_prompt("a <Cat-Toy> in the snow", do_classifier_free_guidance=False)
    np.testing.assert_allclose(hidden.numpy(), ours.hidden_states.numpy(), atol=1e-5)
    np.testing.assert_allclose(pooled.numpy(), ours.added["added_cond_kwargs"]["text_embeds"].numpy(), atol=1e-5)
    for folder in ("text_encoder", "text_encoder_2"):
        assert json.loads((tmp_path / "saved" / folder / "config.json").read_text())["eos_token_id"] != 2


class Recorder(SimpleNamespace):
    """A diffusers pipeline, as far as the card uses one: it notes what is loaded, and the end token at a call."""

    def __init__(self):
        encoder = SimpleNamespace(text_model=SimpleNamespace(eos_token_id=2))
        tokenizers = {"tokenizer": SimpleNamespace(eos_token_id=8), "tokenizer_2": SimpleNamespace(eos_token_id=9)}
        super().__init__(text_encoder=SimpleNamespace(), text_encoder_2=encoder, **tokenizers, loaded=[])

    def load_textual_inversion(self, vectors, **names):
        self.loaded.append((vectors, names))

    def __call__(self, prompt):
        self.prompt, self.end = prompt, self.text_encoder_2.text_model.eos_token_id
        return SimpleNamespace(images=["image"])


def run_with_stand_ins(example, monkeypatch):
    """Run an example for diffusers without it and without torch."""
    pipeline = Recorder()
    from_pretrained = SimpleNamespace(from_pretrained=lambda name: pipeline)
    classes = dict.fromkeys(("StableDiffusionPipeline", "StableDiffusionXLPipeline"), from_pretrained)
    monkeypatch.setitem(sys.modules, "diffusers", SimpleNamespace(**classes))
    loader = SimpleNamespace(load_file=lambda file: {key: f"{key} of {file}" for key in WIDTHS})
    monkeypatch.setitem(sys.modules, "safetensors.torch", loader)
    names = {}
    exec(example, names)
    assert names["image"] == "image"
    return pipeline


def test_the_example_for_sdxl_in_diffusers_sets_the_end_token_before_it_encodes(monkeypatch):
    pipeline = run_with_stand_ins(sdxl_example("diffusers", ("<one>", "<s>")), monkeypatch)

    assert pipeline.end == 9 and pipeline.prompt == "a photo of a <one>"
    first, second = ("", pipeline.text_encoder, pipeline.tokenizer), ("", pipeline.text_encoder_2, pipeline.tokenizer_2)
    for index, (vectors, names) in enumerate(pipeline.loaded):
        token, key = ("<one>", "<one>", "<s>", "<s>")[index], ("clip_l", "clip_g")[index % 2]
        assert vectors == f"{key} of learned_embeds-{token.strip('<>')}.safetensors" and names["token"] == token
        _, encoder, tokenizer = (first, second)[index % 2]
        assert names["text_encoder"] is encoder and names["tokenizer"] is tokenizer
    assert len(pipeline.loaded) == 4


def test_nothing_is_imported_or_set_twice_however_many_words_there_are():
    for library in ("ppdiffusers", "diffusers"):
        lines = sdxl_example(library, ("<a>", "<b>", "<c>")).splitlines()
        heads = [line for line in lines if not line.startswith(("vectors =", "pipe.load_textual_inversion"))]
        assert len(set(heads)) == len(heads) and len([line for line in lines if "eos_token_id" in line]) == 1


# ---------------------------------------------------------------------------------------------------------- capitals


@pytest.mark.parametrize(
    ("token", "name"), [("<Cat-Toy>", "<cat-toy>"), ("Cat", "<cat>"), ("<cat-toy>", None), ('<"quoted">', None)]
)
def test_words_of_several_vectors_are_loaded_in_small_letters_in_diffusers(monkeypatch, token, name):
    text = model_card.card(facts(tokens=(token,)))
    example = re.search(r"```python\n(from diffusers.*?)```", text, re.DOTALL)[1]

    pipeline = run_with_stand_ins(example, monkeypatch)

    assert pipeline.loaded == [("learned_embeds.safetensors", {"token": name} if name else {})]
    assert pipeline.prompt == f"a photo of a {name or token}"
    assert (f"loads `{token}` as `{name}`" in text) == ("transformers 5" in text) == bool(name)


def test_one_vector_keeps_its_capitals():
    one = replace(facts(), concepts=(Concept("<Cat-Toy>", 1, "toy"),))

    assert "transformers 5" not in model_card.card(one) and 'pipe("a photo of a <Cat-Toy>")' in model_card.card(one)


# --------------------------------------------------------------------------------------------------------- AI Studio


def test_a_base_model_of_ai_studio_is_named_and_loaded_from_there_where_a_library_can(monkeypatch):
    text = model_card.card(facts("aistudio:me/sd15"))

    assert "on `me/sd15` of AI Studio, with" in text
    assert (
        'from_pretrained("me/sd15", from_aistudio=True)' in re.search(r"(from ppdiffusers.*?)```", text, re.DOTALL)[1]
    )
    assert 'from_pretrained("FOLDER OF THE BASE MODEL")' in re.search(r"(from diffusers.*?)```", text, re.DOTALL)[1]


# ------------------------------------------------------------------------------------------------- other programs


def test_the_files_for_other_programs_are_listed_with_their_places_and_prompts():
    exported = tuple(ExportedFile(name, f"export/{name}/cat{one.ending}", ("<a|b>",)) for name, one in TARGETS.items())

    text = model_card.card(replace(facts(), exported=exported))

    rows = re.findall(r"^\| `(export/\S+)` \| (.+) \| (\S+) \|$", text, re.MULTILINE)
    assert [path for path, _, _ in rows] == [one.path for one in exported]
    assert all(place and prompt == r"`<a\|b>`" for _, place, prompt in rows)
    assert "Files for other programs" not in model_card.card(facts())
