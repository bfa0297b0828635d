"""The training objective by values: the loss is the papers' formula, its gradient on the rows a difference quotient."""

import numpy as np
import paddle
import pytest

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import load_base_model
from textual_inversion.training.loss import add_noise, diffusion_loss, training_target

PROMPTS = ["a photo of a <cat-toy> on the beach", "<cat-toy> in the style of a <dog>"]
TIMESTEPS = [37, 801]
STEP = 1e-4  # of the difference quotient; its error is of the order of STEP squared


class Problem:
    """A tiny model in float64 with two words of three vectors in all, and one batch of fixed numbers."""

    def __init__(self, folder, family):
        self.model = load_base_model(build_model(folder, family))
        g = np.random.default_rng(4)
        rows = {t.name: g.standard_normal((3, t.embedding_width)).astype(np.float32) for t in self.model.text_encoders}
        embeddings = attach_concepts(self.model, {"<cat-toy>": 2, "<dog>": 1}, rows)
        for layer in (self.model.unet, *(encoder.layer for encoder in self.model.text_encoders)):
            layer.to(dtype="float64")
        self.embeddings = embeddings
        self.latents, self.noise = g.standard_normal((2, 2, 4, 8, 8))

    def put(self, name, values):
        """Give the rows of an encoder, float64 [3, D], other values."""
        for part, own in zip(self.embeddings[name].parts, np.split(values, [2]), strict=True):
            part.set_value(own)

    def loss(self):
        """As `train_textual_inversion.train` computes it."""
        model, latents, noise = self.model, paddle.to_tensor(self.latents), paddle.to_tensor(self.noise)
        alphas_cumprod = model.noise_scheduler.alphas_cumprod.astype("float64")
        timesteps = paddle.to_tensor(TIMESTEPS)
        noisy_latents = add_noise(latents, noise, alphas_cumprod, timesteps)
        prompts = model.encode_prompts(PROMPTS)
        prediction = model.unet(noisy_latents, timesteps, prompts.hidden_states, **prompts.added).sample
        return diffusion_loss(
            prediction, training_target(model.prediction_type, latents, noise, alphas_cumprod, timesteps)
        )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_on_the_rows_is_the_difference_quotient(tmp_path, family):
    problem = Problem(tmp_path, family)
    problem.loss().backward()

    for name, embedding in problem.embeddings.items():
        assert all(part.dtype == paddle.float64 for part in embedding.parts)
        gradient = np.concatenate([part.grad.numpy() for part in embedding.parts])
        values = embedding.vectors.numpy()
        assert (np.linalg.norm(gradient, axis=1) > 1e-8).all(), f"{name}: nothing to compare"
        g = np.random.default_rng(1)
        # Along each row by itself, and along one direction through all of them.
        directions = [np.eye(3)[i][:, None] * g.standard_normal(values.shape) for i in range(3)]
        for direction in [*directions, g.standard_normal(values.shape)]:
            direction /= np.linalg.norm(direction)
            ends = []
            for sign in (1, -1):
                problem.put(name, values + sign * STEP * direction)
                with paddle.no_grad():
                    ends.append(float(problem.loss()))
            problem.put(name, values)
            expected = (ends[0] - ends[1]) / (2 * STEP)
            assert float((gradient * direction).sum()) == pytest.approx(
                expected, rel=1e-5, abs=1e-6 * np.linalg.norm(gradient)
            )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_no_gradient(tmp_path, family):
    from textual_inversion.models.memory import save_memory

    gradients = []
    for saves in (False, True):
        problem = Problem(tmp_path / str(saves), family)
        save_memory(problem.model, gradient_checkpointing=saves, efficient_attention=False)
        problem.loss().backward()
        gradients.append([part.grad.numpy() for own in problem.embeddings.values() for part in own.parts])

    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_formula_written_out(tmp_path, family):
    """Mean of |epsilon - model|^2 (arXiv 2006.11239, eq. 14), or of |v - model|^2 (arXiv 2202.00512, appendix D)."""
    problem = Problem(tmp_path, family)
    model = problem.model

    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)[TIMESTEPS].reshape(2, 1, 1, 1)
    x, e = problem.latents, problem.noise
    noisy = np.sqrt(kept) * x + np.sqrt(1 - kept) * e
    target = np.sqrt(kept) * e - np.sqrt(1 - kept) * x if family == "sd2" else e
    with paddle.no_grad():
        told = written_out(model, family)
        predicted = model.unet(paddle.to_tensor(noisy), paddle.to_tensor(TIMESTEPS), **told).sample.numpy()

    assert float(problem.loss()) == pytest.approx(((predicted - target) ** 2).mean(), rel=1e-5)


def written_out(model, family):
    """What the U-Net is told of `PROMPTS`, from the encoders themselves with hand-made ids."""
    states, pooled = [], None
    for encoder in model.text_encoders:
        tokenizer, first = encoder.tokenizer, encoder.layer.get_input_embeddings().first_id
        clip = hasattr(tokenizer, "bpe_ranks")
        start, end = ("bos", "eos") if clip else ("cls", "sep")
        start, end = getattr(tokenizer, f"{start}_token_id"), getattr(tokenizer, f"{end}_token_id")
        ids = np.full((2, 77), tokenizer.pad_token_id)
        for row, words in zip(
            ids, ("a photo of a 0 1 on the beach".split(), "0 1 in the style of a 2".split()), strict=True
        ):
            pieces = [[f"{w}</w>"] if clip else tokenizer.tokenize(w) for w in words]
            tokens = [
                [first + int(w)] if w.isdigit() else tokenizer.convert_tokens_to_ids(own)
                for w, own in zip(words, pieces, strict=True)
            ]
            tokens = [start, *(token for own in tokens for token in own), end]
            row[: len(tokens)] = tokens
        ends = [int((row == end).argmax()) for row in ids]
        options = {"return_dict": True}
        if getattr(encoder.layer.config, "use_attention_mask", None):
            options["attention_mask"] = paddle.to_tensor((np.arange(77) <= np.array(ends)[:, None]).astype("int64"))
        if not clip:
            states.append(encoder.layer(paddle.to_tensor(ids), **options)[0])
            continue
        output = encoder.layer(paddle.to_tensor(ids), output_hidden_states=True, **options)
        last = output.last_hidden_state  # the final norm is in it
        pooled = paddle.stack([last[i, end] for i, end in enumerate(ends)])
        states.append(output.hidden_states[-2] if family == "sdxl" else last)
    told = {"encoder_hidden_states": paddle.concat(states, axis=-1)}
    if family == "sdxl":
        sizes = paddle.to_tensor([[16.0, 16, 0, 0, 16, 16]] * 2, dtype="float64")
        pooled = pooled @ model.text_encoders[1].layer.text_projection.weight
        told["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    return told
