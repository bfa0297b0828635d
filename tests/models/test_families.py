"""Every family in both layouts: trained by the command, saved, loaded by ppdiffusers itself, read back, drawn from."""

import json

import numpy as np
import paddle
import ppdiffusers
import pytest

import infer
import train_textual_inversion
from helpers.tiny_models import FAMILIES, build_model, tree
from helpers.training_runs import short_run
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.placeholder_words import check_placeholder
from textual_inversion.system.errors import ConceptError

WORD = "<cat-toy>"
LANGUAGE = {"taiyi": "zh", "alt": "zh_en"}
PROMPTS = {"zh": "一张<cat-toy>的照片", "zh_en": "一张 <cat-toy> 的照片", "en": "a photo of <cat-toy> on the beach"}
ENDINGS = ("pdparams", "safetensors")
CASES = [(family, layout) for family in FAMILIES for layout in ("ppdiffusers", "diffusers")]


class Trained:
    """A run of two steps with two vectors in one family and layout."""

    def __init__(self, folder, family, layout):
        self.folder, self.family, self.layout = folder, family, layout
        self.language = LANGUAGE.get(family, "en")
        self.prompt = PROMPTS[self.language]
        word = "猫" if self.language == "zh" else "cat"
        more = ["--num_vectors", "2", "--language", self.language, "--initializer_token", word]
        argv = short_run(folder, *more, family=family, layout=layout)
        self.before = tree(folder / "base")
        train_textual_inversion.main(argv)
        self.base, self.out = folder / "base", folder / "out"

    def model(self):
        """The base model with the learned word."""
        model = load_base_model(self.base)
        attach_files(model, read_concept_files([self.out / "learned_embeds.pdparams"]))
        return model

    def pipeline(self):
        """What ppdiffusers itself makes of the saved folder."""
        name = json.loads((self.out / "model_index.json").read_text())["_class_name"]
        pipe = getattr(ppdiffusers, name).from_pretrained(str(self.out))
        pipe.set_progress_bar_config(disable=True)
        return pipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(family, layout) -> its run; each is made once."""
    runs = {}

    def get(family, layout):
        if (family, layout) not in runs:
            runs[family, layout] = Trained(tmp_path_factory.mktemp(f"{family}-{layout}"), family, layout)
        return runs[family, layout]

    return get


def pipeline_states(pipe, prompt):
    """The hidden states (and SDXL's pooled ones) that a pipeline of ppdiffusers computes for a prompt."""
    if not hasattr(pipe, "encode_prompt"):  # latent diffusion expands nothing and knows no other way than the call
        words = prompt.replace(WORD, f"{WORD} {WORD}_1")
        longest = pipe.tokenizer.model_max_length
        ids = pipe.tokenizer(words, padding="max_length", max_length=longest, return_tensors="pd").input_ids
        return [pipe.bert(ids)[0].numpy()]
    if "text_encoder_2" in pipe.components:
        states, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
        return [states.numpy(), pooled.numpy()]
    return [pipe.encode_prompt(prompt, 1, False)[0].numpy()]


def tokens_of(model, prompt):
    """How many tokens of a prompt are not padding."""
    encoder = model.text_encoders[0]
    return int(encoder._attention_mask(encoder.encode_ids([prompt])).sum())


def own_states(model, prompt):
    embedding = model.encode_prompts([prompt])
    return [embedding.hidden_states.numpy(), *(v["text_embeds"].numpy() for v in embedding.added.values())]


@pytest.mark.slow
@pytest.mark.parametrize("family, layout", CASES)
def test_training_leaves_a_file_for_every_text_encoder_and_the_base_as_it_was(trained, family, layout):
    run = trained(family, layout)

    (pd,), (st,) = (read_concept_files([run.out / f"learned_embeds.{end}"])[0].concepts for end in ENDINGS)

    text_encoders = {encoder.name: encoder for encoder in run.model().text_encoders}
    assert {name: rows.shape for name, rows in pd.vectors.items()} == {
        name: (2, encoder.embedding_width) for name, encoder in text_encoders.items()
    }
    for name, rows in pd.vectors.items():
        np.testing.assert_array_equal(rows, st.vectors[name])
        assert (np.linalg.norm(rows[0] - rows[1]) > 1e-3) and np.isfinite(rows).all()
    assert tree(run.base) == run.before


@pytest.mark.slow
@pytest.mark.parametrize("family, layout", CASES)
def test_the_saved_pipeline_means_what_training_meant(trained, family, layout):
    run = trained(family, layout)
    pipe, model = run.pipeline(), run.model()

    for prompt in (run.prompt, run.prompt.replace(WORD, "cat")):
        read = tokens_of(model, prompt) if family == "alt" else None  # see test_padding_of_alt_…
        for theirs, ours in zip(pipeline_states(pipe, prompt), own_states(model, prompt), strict=True):
            np.testing.assert_allclose(theirs[:, :read], ours[:, :read], atol=2e-5)
    with_word, without = (own_states(model, p)[0] for p in (run.prompt, run.prompt.replace(WORD, "cat")))
    assert np.abs(with_word - without).max() > 1e-3
    size = dict(height=model.resolution, width=model.resolution)
    image = pipe(run.prompt, num_inference_steps=2, guidance_scale=3.0, output_type="np", **size).images[0]
    assert image.shape == (model.resolution, model.resolution, 3) and np.isfinite(image).all()


@pytest.mark.parametrize("family, layout", CASES)
def test_infer_draws_the_word_from_the_file_alone(trained, family, layout, tmp_path):
    run = trained(family, layout)
    quick = ["--num_inference_steps", "2", "--num_images", "1", "--seed", "5", "--negative_prompt", "bad"]

    infer.main(["--embeds", str(run.out / "learned_embeds.safetensors"), "--prompt", run.prompt, *quick,
                "--output_dir", str(tmp_path / "ours")])  # fmt: skip

    (image,) = json.loads((tmp_path / "ours/manifest.json").read_text())["runs"][0]["images"]
    assert image["prompt"] == run.prompt and (tmp_path / "ours/0000-seed5.png").is_file()
    assert tree(run.base) == run.before


@pytest.mark.slow
@pytest.mark.parametrize("family, layout", CASES)
def test_what_was_saved_is_a_base_model_again(trained, family, layout):
    run = trained(family, layout)

    again, model = load_base_model(run.out), run.model()

    words = run.prompt.replace(WORD, f"{WORD} {WORD}_1" if run.language != "zh" else f"{WORD}{WORD}_1")
    for prompt in (run.prompt, words):  # the word alone, and with all its vectors listed
        for theirs, ours in zip(own_states(again, prompt), own_states(model, run.prompt), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_layouts_train_to_the_same_rows(trained, family):
    one, other = (
        read_concept_files([trained(family, layout).out / "learned_embeds.pdparams"])[0].concepts[0].vectors
        for layout in ("ppdiffusers", "diffusers")
    )

    for name, rows in one.items():
        np.testing.assert_array_equal(rows, other[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_attached_rows_get_a_gradient_and_change_nothing_else(trained, family):
    run = trained(family, "ppdiffusers")
    plain = load_base_model(run.base)
    prompt = run.prompt.replace(WORD, "cat")
    expected = own_states(plain, prompt)
    model = run.model()

    model.encode_prompts([run.prompt]).hidden_states.square().mean().backward()

    for encoder in model.text_encoders:
        rows = encoder.layer.get_input_embeddings().vectors
        assert (rows.grad.abs().sum(axis=1) > 0).all()
    for one, other in zip(own_states(model, prompt), expected, strict=True):
        np.testing.assert_array_equal(one, other)


# ----------------------------------------------------------------------------------------------------------- oddities


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [
        dict(shards=2, tokenizer_json_only=True, text_prefix=False, layout="diffusers"),
        dict(variant="fp16", dtype="float16", layout="diffusers"),
    ],
    ids=["cut-and-json-only", "fp16"],
)
def test_other_ways_to_store_it_are_the_same_model(tmp_path, family, options):
    plain = load_base_model(build_model(tmp_path / "plain", family))
    odd = load_base_model(build_model(tmp_path / "odd", family, **options), variant=options.get("variant"))

    exact = "dtype" not in options
    for prompt in ("a photo of a toy cat", "Zürich, 一张猫的照片 1234!"):
        for one, other in zip(own_states(plain, prompt), own_states(odd, prompt), strict=True):
            np.testing.assert_allclose(one, other, atol=0 if exact else 2e-2)


def test_masks_hide_the_padding_where_the_encoder_wants_them(trained):
    model = trained("alt", "ppdiffusers").model()
    encoder = model.text_encoders[0]

    ids = encoder.encode_ids(["a cat"])
    mask = encoder._attention_mask(ids)

    assert mask.sum() == (ids != encoder.tokenizer.pad_token_id).sum() and mask[0, 0] == 1 and mask[0, -1] == 0
    states = own_states(model, "a cat")[0]
    other = np.array(ids)
    other[mask == 0] = encoder.tokenizer.convert_tokens_to_ids("▁dog")
    with paddle.no_grad():
        masked = encoder.layer(paddle.to_tensor(other), attention_mask=paddle.to_tensor(mask))[0].numpy()
    np.testing.assert_allclose(masked[mask == 1], states[mask == 1], atol=1e-5)


@pytest.mark.parametrize("family", ["taiyi", "alt"])
def test_padding_has_the_row_that_the_table_has_for_it(trained, family):
    """As these models were trained in PyTorch; under Paddle 3 ppdiffusers' own encoders read padding as zeros."""
    encoder = load_base_model(trained(family, "ppdiffusers").base).text_encoders[0]

    pad = encoder.tokenizer.pad_token_id
    embedding = encoder.layer.get_input_embeddings()

    np.testing.assert_array_equal(embedding(paddle.to_tensor([pad]))[0].numpy(), embedding.weight[pad].numpy())
    assert np.abs(embedding.weight[pad].numpy()).max() > 0.1


@pytest.mark.slow
def test_padding_of_alt_diffusion_is_zeros_in_ppdiffusers_own_pipeline(trained):
    """Known difference, at the places of padding alone; where this fails, `[:, :read]` above can go."""
    run = trained("alt", "ppdiffusers")
    embedding = run.pipeline().text_encoder.get_input_embeddings()

    assert not embedding(paddle.to_tensor([1])).numpy().any() and embedding.weight[1].numpy().any()


# --------------------------------------------------------------------------------------------------------------- SDXL


def test_sdxl_pools_at_the_end_of_the_text_and_not_at_the_new_token(trained):
    run = trained("sdxl", "ppdiffusers")
    model = run.model()
    first, second = model.text_encoders

    outputs = second(second.encode_ids([run.prompt]), output_hidden_states=True)
    place = int((second.encode_ids([run.prompt])[0] == second.tokenizer.eos_token_id).argmax())
    last = second.layer.text_model.final_layer_norm(outputs.hidden_states[-1])
    expected = second.layer.text_projection(last[:, place])

    np.testing.assert_allclose(own_states(model, run.prompt)[1], expected.numpy(), atol=1e-6)
    for part in ("text_encoder", "text_encoder_2"):
        config = json.loads((run.out / part / "config.json").read_text())
        assert config["eos_token_id"] == first.tokenizer.eos_token_id != 2


def test_sdxl_is_told_of_sizes_and_pooled_text(trained):
    model = trained("sdxl", "ppdiffusers").model()

    embedding = model.encode_prompts(["a cat", "a <cat-toy>"], image_size=(16, 24))

    added = embedding.added["added_cond_kwargs"]
    assert embedding.hidden_states.shape == [2, 77, 72] and added["text_embeds"].shape == [2, 24]
    assert added["time_ids"].numpy().tolist() == [[16, 24, 0, 0, 16, 24]] * 2
    one, two = model.text_encoders
    prompts = ["a cat", "a <cat-toy>"]  # both: a batch of one may round otherwise
    outputs = [encoder(encoder.encode_ids(prompts), output_hidden_states=True) for encoder in (one, two)]
    states = [output.hidden_states[-2].numpy() for output in outputs]
    np.testing.assert_array_equal(embedding.hidden_states.numpy(), np.concatenate(states, axis=-1))


@pytest.mark.slow
@pytest.mark.parametrize("zeroes", [True, False])
@pytest.mark.parametrize("negative", ["", "bad"])
def test_sdxl_images_are_those_of_its_own_pipeline(trained, zeroes, negative):
    from textual_inversion.generation.generate import ImageRequest, generate
    from textual_inversion.generation.noise import noise_generator

    run = trained("sdxl", "ppdiffusers")
    model, pipe = run.model(), run.pipeline()
    model.index["force_zeros_for_empty_prompt"] = zeroes
    pipe.register_to_config(force_zeros_for_empty_prompt=zeroes)

    request = ImageRequest(run.prompt, 5, negative, guidance_scale=4.0, num_inference_steps=2)
    (ours,) = generate(model, [request], height=16, width=24)

    latents = paddle.to_tensor(noise_generator(5).standard_normal((1, 4, 8, 12), dtype=np.float32))
    size = dict(height=16, width=24, num_inference_steps=2, guidance_scale=4.0, latents=latents)
    theirs = pipe(run.prompt, negative_prompt=negative or None, **size).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


@pytest.mark.slow
def test_sdxl_turbo_draws_in_few_unguided_steps(tmp_path):
    turbo = dict(_class_name="EulerAncestralDiscreteScheduler", timestep_spacing="trailing")
    run = Trained(tmp_path, "sdxl", "ppdiffusers")
    path = run.base / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | turbo))
    index = run.base / "model_index.json"
    index.write_text(index.read_text().replace("EulerDiscreteScheduler", turbo["_class_name"]))
    model = run.model()

    pipe = model.pipeline()
    pipe.scheduler.set_timesteps(4)

    assert type(pipe.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert pipe.scheduler.timesteps.numpy().tolist() == [999, 749, 499, 249]
    quick = ["--num_images", "1", "--guidance_scale", "0", "--num_inference_steps", "1"]
    file = str(run.out / "learned_embeds.pdparams")
    infer.main(["--embeds", file, "--prompt", run.prompt, *quick, "--output_dir", str(tmp_path / "drawn")])
    assert (tmp_path / "drawn/contact_sheet.png").is_file()


@pytest.mark.slow
def test_latent_diffusion_reads_the_tokens_of_all_vectors_written_out(trained):
    """Its pipeline has no textual-inversion mixin: `<word>` alone is the first vector."""
    pipe = trained("ldm", "ppdiffusers").pipeline()

    assert pipe.tokenizer.tokenize(f"a {WORD} {WORD}_1 cat") == ["a", WORD, f"{WORD}_1", "cat"]
    assert not hasattr(pipe, "maybe_convert_prompt")


@pytest.mark.parametrize(("family", "known"), [("sd1", "toy"), ("taiyi", "猫"), ("alt", "cat")])
def test_a_word_of_the_base_model_is_no_placeholder(trained, family, known):
    tokenizer = trained(family, "ppdiffusers").model().text_encoders[0].tokenizer
    assert len(tokenizer.tokenize(known)) == 1

    with pytest.raises(ConceptError, match="is a token of this base model already"):
        check_placeholder(known, tokenizer)
    check_placeholder("<new-word>", tokenizer)
