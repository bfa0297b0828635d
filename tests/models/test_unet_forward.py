"""A compiled step gives the loss and the gradients of one that is run op by op."""

import numpy as np
import paddle
import pytest

from helpers.tiny_models import build_model
from helpers.training_runs import short_run
from textual_inversion.models import precision
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.unet_forward import make_predictor
from train_textual_inversion import main


def loss_and_gradients(folder, *, compiled, sizes=((2, 8),), lowered=False):
    model = load_base_model(folder)
    rows = {t.name: np.full((2, t.embedding_width), 0.02, np.float32) for t in model.text_encoders}
    embeddings = attach_concepts(model, {"<cat-toy>": 2}, rows)
    if lowered:  # to a type that a processor has
        precision.cast(model.unet, "float64")
        precision.cast_inputs(model.unet, "float64")
        precision.cast_outputs(model.unet)
    predict, seen = make_predictor(model, compiled=compiled), []
    for number, (batch, side) in enumerate(sizes):
        g = np.random.default_rng(number)
        latents = paddle.to_tensor(g.standard_normal((batch, 4, side, side)).astype(np.float32))
        timesteps = paddle.to_tensor(np.arange(10, 10 + batch))
        prediction = predict(latents, timesteps, model.encode_prompts(["a <cat-toy>", "<cat-toy>"][:batch]))
        assert prediction.dtype == paddle.float32
        loss = prediction.square().mean()
        loss.backward()
        seen.append(loss.numpy())
    return [*seen, *(part.grad.numpy() for own in embeddings.values() for part in own.parts)]


def assert_close(one, other):
    assert np.abs(other).max() > 1e-7
    assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


@pytest.mark.slow
def test_a_compiled_step_has_the_same_loss_and_gradients_with_the_casts_of_half_precision(tmp_path):
    build_model(tmp_path, "sdxl")
    plain, compiled = (loss_and_gradients(tmp_path, compiled=on, lowered=True) for on in (False, True))

    for one, other in zip(compiled, plain, strict=True):
        assert_close(one, other)


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_rows(tmp_path):
    from safetensors.numpy import load_file

    for name, more in (("plain", []), ("compiled", ["--compile"])):
        main(short_run(tmp_path, "--only_save_embeds", "--output_dir", str(tmp_path / name), *more))

    plain, compiled = (
        load_file(tmp_path / name / "learned_embeds.safetensors")["<cat-toy>"] for name in ("plain", "compiled")
    )
    assert_close(compiled, plain)
