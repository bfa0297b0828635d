"""Half precision: which module gets which type, and that training and pictures work with mixed types.

No card is needed: `half_precision` does each operation as a card would, and refuses the mixtures that a card refuses.
"""

import json

import numpy as np
import paddle
import pytest

import infer
import score
import train_textual_inversion as train
from helpers.half_precision import half_precision_on_a_cpu
from helpers.tiny_models import FAMILIES, build_model
from helpers.training_runs import short_run
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.generation.generate import ImageRequest, generate
from textual_inversion.models import precision
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.concept_embedding import table_of
from textual_inversion.models.export import save_pipeline
from textual_inversion.models.memory import save_memory
from textual_inversion.models.weight_files import WeightFile
from textual_inversion.system.errors import SettingsError
from textual_inversion.training.loss import diffusion_loss

PROMPTS = ["a photo of a <cat-toy> on the beach", "<cat-toy> in the style of a <dog>"]
# Of a value, as a norm: the types keep 11 and 8 binary digits.
ROUNDING = {"fp16": 0.03, "bf16": 0.25}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("bases"), {}

    def base(family):
        if family not in made:
            made[family] = build_model(folder / family, family, safety_checker=family == "sd1")
        return made[family]

    return base


def lowered(folder, mixed_precision):
    model = load_base_model(folder)
    g = np.random.default_rng(0)
    rows = {t.name: 0.02 * g.standard_normal((3, t.embedding_width)).astype(np.float32) for t in model.text_encoders}
    embeddings = attach_concepts(model, {"<cat-toy>": 2, "<dog>": 1}, rows)
    precision.lower(model, mixed_precision)
    return model, embeddings


def test_the_plan_lowers_everything_but_the_vae():
    parts = ("unet", "text_encoder", "text_encoder_2", "vae")

    assert precision.plan("fp16", parts) == dict.fromkeys(parts[:3], "float16") | {"vae": "float32"}
    assert precision.plan("bf16", parts) == dict.fromkeys(parts[:3], "bfloat16") | {"vae": "float32"}
    assert set(precision.plan("no", parts).values()) == {"float32"}


def test_a_cpu_is_refused_with_the_way_out():
    for chosen in ("fp16", "bf16"):
        with pytest.raises(SettingsError, match=f"--mixed_precision {chosen} needs a GPU.*leave it out"):
            precision.check_device(chosen, "cpu")
    precision.check_device("no", "cpu")
    precision.check_device("fp16", "gpu:0")


@pytest.mark.parametrize("has_it", [True, False])
def test_bfloat16_asks_the_card(monkeypatch, has_it):
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: has_it)

    if has_it:
        precision.check_device("bf16", "gpu:1")
    else:
        with pytest.raises(SettingsError, match="no bfloat16.*take fp16"):
            precision.check_device("bf16", "gpu:1")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_learned_and_kept_stays_in_float32_and_all_else_is_cast(bases, family):
    model, embeddings = lowered(bases(family), "fp16")

    for layer in (model.unet, *(encoder.layer for encoder in model.text_encoders)):
        own = {id(one) for e in embeddings.values() for one in (*e.parameters(), *e.buffers())}
        types = {one.dtype for one in (*layer.parameters(), *layer.buffers()) if id(one) not in own}
        assert paddle.float16 in types and not types & {paddle.float32, paddle.float64}  # integers stay what they are
    for embedding in embeddings.values():
        assert {one.dtype for one in (*embedding.parts, embedding.table)} == {paddle.float32}
        assert all(not part.stop_gradient for part in embedding.parts)
        assert embedding(paddle.to_tensor([0, embedding.first_id])).dtype == paddle.float16
    assert {one.dtype for one in model.vae.parameters()} == {paddle.float32}


def test_a_model_that_stays_loaded_is_lowered_once_and_takes_other_vectors(bases):
    model, first = lowered(bases("sd1"), "fp16")
    hooks = {name: len(embedding._forward_post_hooks) for name, embedding in first.items()}
    rows = {one.name: np.ones((2, one.embedding_width), np.float32) for one in model.text_encoders}
    embeddings = attach_concepts(model, {"<other>": 2}, rows)
    precision.lower(model, "fp16")

    for name, embedding in embeddings.items():
        assert len(embedding._forward_post_hooks) == hooks[name]
        assert embedding(paddle.to_tensor([0, embedding.first_id])).dtype == paddle.float16
    assert len(model.unet._forward_pre_hooks) == 1


def loss_and_gradients(model, embeddings):
    g = np.random.default_rng(1)
    latents, target = (paddle.to_tensor(g.standard_normal((2, 4, 8, 8)).astype("float32")) for _ in range(2))
    prompts = model.encode_prompts(PROMPTS)
    prediction = model.unet(latents, paddle.to_tensor([37, 801]), prompts.hidden_states, **prompts.added).sample
    loss = diffusion_loss(prediction, target)
    assert {prediction.dtype, prompts.hidden_states.dtype, loss.dtype} == {paddle.float32}
    (loss * 1024.0).backward()
    return float(loss), [part.grad for e in embeddings.values() for part in e.parts]


@pytest.mark.slow
@pytest.mark.parametrize(("mixed_precision", "checkpointing"), [("fp16", False), ("fp16", True), ("bf16", False)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_step_in_half_precision_is_that_of_float32_but_for_rounding(
    bases, monkeypatch, family, mixed_precision, checkpointing
):
    loss, gradients = loss_and_gradients(*lowered(bases(family), "no"))
    low, embeddings = lowered(bases(family), mixed_precision)
    save_memory(low, gradient_checkpointing=checkpointing, efficient_attention=False)

    with half_precision_on_a_cpu(monkeypatch) as seen:
        low_loss, low_gradients = loss_and_gradients(low, embeddings)

    assert {"matmul", "conv2d"} <= set(seen) and len(seen) > 300
    assert low_loss == pytest.approx(loss, rel=ROUNDING[mixed_precision])
    for one, other in zip(low_gradients, gradients, strict=True):
        assert one.dtype == paddle.float32
        error = np.linalg.norm(one.numpy() - other.numpy()) / np.linalg.norm(other.numpy())
        assert 0 < error < ROUNDING[mixed_precision]


def test_mixed_types_inside_a_module_would_be_found(bases, monkeypatch):
    model, embeddings = lowered(bases("sd1"), "fp16")
    model.unet.conv_norm_out.to(dtype="float32")

    with half_precision_on_a_cpu(monkeypatch), pytest.raises(TypeError, match="group_norm of"):
        loss_and_gradients(model, embeddings)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl", "ldm"])
def test_images_in_half_precision_are_those_of_float32_but_for_rounding(bases, monkeypatch, family):
    requests = [ImageRequest("a <cat-toy>", 1, num_inference_steps=2), ImageRequest("<dog>", 2, num_inference_steps=2)]
    drawn = []
    for mixed_precision in ("no", "fp16"):
        model, _ = lowered(bases(family), mixed_precision)
        with half_precision_on_a_cpu(monkeypatch):
            pipeline = model.pipeline("euler", with_safety_checker=True)
            images = generate(model, requests, pipeline=pipeline)
        drawn.append(np.stack([np.asarray(image, dtype=float) for image in images]))

    assert drawn[0].std() > 20
    assert 0 < abs(drawn[1] - drawn[0]).max() < 8


def test_times_and_sizes_are_not_rounded():
    layer = paddle.nn.Identity()
    layer.forward = lambda *inputs, **options: paddle.to_tensor(
        [float(inputs[1]), float(options["added"]["time_ids"].sum())]
    )
    precision.cast_inputs(layer, "bfloat16")

    added = {"time_ids": paddle.to_tensor([[1001.0]]), "text_embeds": paddle.zeros([1, 2])}
    out = layer(paddle.zeros([1, 4, 8, 8]), paddle.to_tensor(999.0), added=added)

    assert out.tolist() == [999.0, 1001.0]
    assert added["text_embeds"].dtype == paddle.float32  # the caller's own dictionary is left alone


def test_a_saved_pipeline_holds_the_exact_weights(tmp_path, bases):
    row = {"text_encoder": np.full((1, 32), 0.1, np.float32)}
    for mixed_precision in ("no", "fp16"):
        model, _ = lowered(bases("sd1"), mixed_precision)
        save_pipeline(model, [LearnedEmbedding("<new>", row, "here", {})], tmp_path / mixed_precision)

    for part in ("text_encoder/model", "unet/diffusion_paddle_model"):
        exact, saved = (WeightFile(tmp_path / folder / f"{part}.safetensors") for folder in ("no", "fp16"))
        assert set(exact) == set(saved)
        for name in exact:
            np.testing.assert_array_equal(exact[name], saved[name])


@pytest.fixture
def pretended_card(monkeypatch):
    """Half precision is let through, and computed."""
    monkeypatch.setattr(precision, "check_device", lambda mixed_precision, device: None)
    with half_precision_on_a_cpu(monkeypatch) as seen:
        yield seen


@pytest.mark.slow
def test_a_whole_run_in_float16_learns_as_in_float32_but_for_rounding(tmp_path, pretended_card, capsys):
    from safetensors.numpy import load_file

    more = "--max_train_steps 4 --validation_prompt <cat-toy> --validation_steps 4 --num_validation_images 1".split()
    more += ["--hidden_reg_weight", "0.1", "--initializer_token", "toy", "--learning_rate", "0.001"]
    more += ["--optimizer", "sgd"]  # whose steps are as large as their gradient, which Adam's are not
    rows = {}
    for mixed_precision in ("no", "fp16"):
        output = tmp_path / mixed_precision
        train.main(short_run(tmp_path, *more, "--output_dir", str(output), "--mixed_precision", mixed_precision))
        rows[mixed_precision] = load_file(output / "learned_embeds.safetensors")["<cat-toy>"]
        if mixed_precision == "no":
            assert not pretended_card
    start = json.loads((tmp_path / "fp16/run.json").read_text())

    assert {"matmul", "conv2d"} <= set(pretended_card)
    assert "all of it frozen, U-Net and text encoders in fp16" in capsys.readouterr().out
    assert start["figures"]["skipped_steps"] == 0 and start["settings"]["mixed_precision"] == "fp16"
    moved = np.abs(rows["no"] - first_row(tmp_path / "base")).max()
    assert 0 < np.abs(rows["fp16"] - rows["no"]).max() < 0.05 * moved
    assert (tmp_path / "fp16/samples/step-4.png").exists()
    exact, saved = (WeightFile(tmp_path / name / "text_encoder/model.safetensors") for name in ("no", "fp16"))
    name = next(name for name in exact if name.endswith("mlp.fc1.weight"))
    np.testing.assert_array_equal(exact[name], saved[name])

    infer.main(
        ["--embeds", str(tmp_path / "fp16/learned_embeds.pdparams"), "--mixed_precision", "fp16", "--num_images", "1"]
        + ["--num_inference_steps", "2", "--output_dir", str(tmp_path / "pictures"), "--prompt", "a <cat-toy>"]
    )
    assert (tmp_path / "pictures/contact_sheet.png").exists()


def first_row(base):
    model = load_base_model(base)
    encoder = model.text_encoders[0]
    (token,) = encoder.encode_ids.token_ids("toy")
    return table_of(encoder.layer).numpy()[token]


@pytest.mark.parametrize("command", [infer, score])
def test_the_other_commands_refuse_a_cpu_too(command, tmp_path):
    with pytest.raises(SettingsError, match="--mixed_precision bf16 needs a GPU"):
        command.main(["--mixed_precision", "bf16"])


def test_training_refuses_a_cpu_before_anything_is_written(tmp_path):
    with pytest.raises(SettingsError, match="--mixed_precision fp16 needs a GPU"):
        train.main(short_run(tmp_path, "--mixed_precision", "fp16"))

    assert not (tmp_path / "out").exists()
