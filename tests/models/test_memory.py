"""Saving memory changes no number."""

import numpy as np
import paddle
import pytest
from ppdiffusers.models.attention_processor import Attention

from helpers.tiny_models import FAMILIES, build_model
from helpers.training_runs import short_run
from textual_inversion.generation.generate import ImageRequest, generate
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.memory import keeps_vae, save_memory, work_in_parts
from textual_inversion.system.errors import SettingsError


@pytest.fixture
def folder(tmp_path):
    return build_model(tmp_path / "base", "sd1", "ppdiffusers")


def count_resnet_calls(model):
    """A list that grows with every forward pass of a residual block."""
    calls = []
    for layer in model.unet.sublayers():
        if type(layer).__name__ == "ResnetBlock2D":
            layer.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def gradient(model):
    g = np.random.default_rng(0)
    latents = paddle.to_tensor(g.standard_normal((2, 4, 8, 8)).astype("float32"))
    states = paddle.to_tensor(g.standard_normal((2, 77, 32)).astype("float32"), stop_gradient=False)
    loss = model.unet(latents, paddle.to_tensor([10, 700]), states).sample.square().mean()
    loss.backward()
    return float(loss), states.grad.numpy()


def test_gradient_checkpointing_gives_the_same_loss_and_gradient(folder):
    plain, saving = load_base_model(folder), load_base_model(folder)
    save_memory(saving, gradient_checkpointing=True, efficient_attention=False)

    calls = [count_resnet_calls(model) for model in (plain, saving)]
    (loss, states), (same_loss, same_states) = gradient(plain), gradient(saving)

    assert len(calls[1]) > len(calls[0])  # what was not kept was computed again
    assert same_loss == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(same_states, states, rtol=1e-4, atol=1e-8)


def test_efficient_attention_without_a_gpu_is_refused_with_the_way_out(folder):
    with pytest.raises(SettingsError, match="leave it out"):
        save_memory(load_base_model(folder), gradient_checkpointing=False, efficient_attention=True)


def words_attached(model):
    rows = {encoder.name: np.full((1, encoder.embedding_width), 0.02, np.float32) for encoder in model.text_encoders}
    return attach_concepts(model, {"<cat-toy>": 1}, rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_text_encoders_run_again_in_the_backward_pass(tmp_path, family):
    model = load_base_model(build_model(tmp_path / "base", family))
    embeddings = words_attached(model)
    plain = model.encode_prompts(["a <cat-toy>"]).hidden_states
    (plain * plain).sum().backward()
    expected = [part.grad.numpy() for own in embeddings.values() for part in own.parts]
    for own in embeddings.values():
        own.clear_gradients()
    calls = []
    for encoder in model.text_encoders:
        for layer in encoder.transformer_layers:
            layer.sublayers()[0].register_forward_pre_hook(lambda *_: calls.append(1))
    save_memory(model, gradient_checkpointing=True, efficient_attention=False)

    states = model.encode_prompts(["a <cat-toy>"]).hidden_states
    forward = len(calls)
    (states * states).sum().backward()

    assert forward and len(calls) > forward
    np.testing.assert_array_equal(states.numpy(), plain.numpy())
    for own, one in zip([part for e in embeddings.values() for part in e.parts], expected, strict=True):
        np.testing.assert_allclose(own.grad.numpy(), one, rtol=1e-5, atol=1e-9)
    with paddle.no_grad():  # and nothing is kept where no gradient is wanted
        calls.clear()
        model.encode_prompts(["a <cat-toy>"])
    assert len(calls) == forward


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_weights_have_no_gradient_and_no_buffer_for_one(tmp_path, family):
    model = load_base_model(build_model(tmp_path / "base", family))
    embeddings = words_attached(model)
    prompts = model.encode_prompts(["a <cat-toy>"])
    states = paddle.ones([1, 4, 8, 8])

    model.unet(states, paddle.to_tensor([10]), prompts.hidden_states, **prompts.added).sample.mean().backward()

    rows = {id(part) for own in embeddings.values() for part in own.parts}
    layers = (model.unet, model.vae, *(encoder.layer for encoder in model.text_encoders))
    weights = [one for layer in layers for one in (*layer.parameters(), *layer.buffers()) if id(one) not in rows]
    assert len(weights) > 100
    assert all(one.stop_gradient and one.grad is None for one in weights)
    assert all(part.grad is not None for own in embeddings.values() for part in own.parts)


def test_working_in_parts_changes_no_gradient_and_no_image_but_for_rounding(folder):
    plain, saving = load_base_model(folder), load_base_model(folder)
    said = work_in_parts(saving, has_efficient_attention=False)

    assert "in blocks of 128 rows" in said
    attentions = [layer for layer in saving.unet.sublayers() if isinstance(layer, Attention)]
    assert attentions and all(layer.processor.keep == 0 for layer in attentions)
    (loss, states), (same_loss, same_states) = gradient(plain), gradient(saving)
    assert same_loss == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(same_states, states, rtol=1e-4, atol=1e-8)
    requests = [ImageRequest("a b", seed, num_inference_steps=2) for seed in (1, 2)]
    drawn = [
        np.stack([np.asarray(image, dtype=int) for image in generate(model, requests)]) for model in (plain, saving)
    ]
    assert abs(drawn[0] - drawn[1]).max() <= 1


def test_a_vae_that_comes_back_works_in_parts_too(folder):
    model = load_base_model(folder)
    assert not model.vae.use_slicing
    work_in_parts(model, has_efficient_attention=True)
    model.free_vae()

    assert model.vae.use_slicing and model.vae.use_tiling


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        (dict(draws=True), True),
        (dict(), False),
        (dict(draws=True, low_memory=True), False),
        (dict(random_crops=True), True),
        (dict(random_crops=True, low_memory=True), True),
    ],
)
def test_the_vae_stays_only_where_it_is_wanted_soon(settings, stays):
    usual = dict(random_crops=False, draws=False, low_memory=False)

    assert keeps_vae(**usual | settings) == stays


@pytest.mark.slow
def test_low_memory_trains_the_same_and_says_what_it_chose(tmp_path, capsys, monkeypatch):
    from textual_inversion.models import base_model
    from train_textual_inversion import main

    more = "--max_train_steps 3 --validation_prompt <cat-toy> --validation_steps 2 --num_validation_images 1".split()
    monkeypatch.chdir(tmp_path)
    main(short_run(tmp_path, *more, "--output_dir", "plain", "--gradient_accumulation_steps", "1"))
    capsys.readouterr()
    freed, usual = [], base_model.BaseModel.free_vae
    monkeypatch.setattr(base_model.BaseModel, "free_vae", lambda self: (freed.append(1), usual(self))[1])
    argv = short_run(tmp_path, *more, "--output_dir", "saving", "--low_memory")
    batch = argv.index("--train_batch_size")
    main(argv[:batch] + argv[batch + 2 :] + ["--gradient_accumulation_steps", "2"])

    said = capsys.readouterr().out
    assert "low memory: --train_batch_size 1 --gradient_accumulation_steps 2 --gradient_checkpointing" in said
    assert "the VAE leaves memory whenever it is not needed" in said
    assert len(freed) >= 4
    plain, saving = (rows_of(tmp_path / name) for name in ("plain", "saving"))
    np.testing.assert_allclose(saving, plain, rtol=1e-4, atol=1e-6)


def rows_of(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "learned_embeds.safetensors")["<cat-toy>"]
