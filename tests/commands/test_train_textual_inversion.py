"""The training command, end to end on tiny random models."""

import json

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

import train_textual_inversion
from helpers.tiny_models import tree
from helpers.training_runs import launch, short_run
from textual_inversion.data.images import to_array
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.models.base_model import load_base_model


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def rows_of(path):
    return read_embeddings(path)[0].vectors["text_encoder"]


@pytest.mark.slow
def test_a_run_writes_what_the_documents_say(tmp_path, capsys):
    train_textual_inversion.main(
        short_run(tmp_path, "--save_steps", "1", "--validation_prompt", "a <cat-toy> on the beach",
                  "--validation_steps", "1", "--num_validation_images", "2", "--overview", "--only_save_embeds")
    )  # fmt: skip

    checkpoint = {"SHA256SUMS", "checkpoint.json", "state.safetensors"}
    assert files(tmp_path / "out") == {
        *(f"checkpoint-{step}/{name}" for step in (1, 2) for name in checkpoint),
        "README.md",
        "config.yaml",
        "figures.jsonl",
        "files.json",
        *(f"learned_embeds-steps-{step}.{ending}" for step in (1, 2) for ending in ("pdparams", "safetensors")),
        "learned_embeds.pdparams",
        "learned_embeds.safetensors",
        "overview.png",
        "report.html",
        "run.json",
        "samples/over-time.png",
        "samples/step-0.png",
        "samples/step-1.png",
        "samples/step-2.png",
    }
    said = capsys.readouterr()
    assert "32 trainable parameters, seed 3" in said.out
    assert "<cat-toy> as 1 vector(s), starting from random numbers like the table's" in said.out
    assert "python infer.py --embeds" in said.out
    assert "step 2/2" in said.err and "loss on the fixed set" in said.err


def test_the_record_says_how_it_was_made(tmp_path):
    train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds", "--num_vectors", "2"))

    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["seed"] == 3 and record["num_vectors"] == 2
    assert record["base_model"] == str(tmp_path / "base")
    assert record["embedding_width"] == {"text_encoder": 32}
    assert record["settings"]["learning_rate"] == 0.01
    assert set(record["figures"]["fixed_set_loss"]) == {"0", "2"}
    assert record["versions"]["ppdiffusers"]
    metadata = read_embeddings(tmp_path / "out" / "learned_embeds.safetensors")[0].metadata
    assert (metadata["steps"], metadata["seed"]) == ("2", "3")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_every_family_trains_in_both_layouts_and_the_base_stays_as_it_was(tmp_path, family, layout):
    from ppdiffusers import StableDiffusionPipeline

    argv = short_run(tmp_path, family=family, layout=layout)
    before = tree(tmp_path / "base")

    train_textual_inversion.main(argv)

    assert tree(tmp_path / "base") == before
    assert json.loads((tmp_path / "out" / "run.json").read_text())["prediction_type"] == (
        "epsilon" if family == "sd1" else "v_prediction"
    )
    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "out"))
    token_id = pipe.tokenizer.convert_tokens_to_ids("<cat-toy>")
    saved = pipe.text_encoder.get_input_embeddings().weight[token_id].numpy()
    np.testing.assert_allclose(saved, rows_of(tmp_path / "out" / "learned_embeds.pdparams")[0], atol=1e-6)


@pytest.mark.slow
def test_a_seed_is_drawn_and_recorded_when_none_is_given(tmp_path):
    argv = short_run(tmp_path, "--only_save_embeds")
    argv[argv.index("--seed") : argv.index("--seed") + 2] = []

    train_textual_inversion.main(argv)
    first = json.loads((tmp_path / "out" / "run.json").read_text())["seed"]
    rows = rows_of(tmp_path / "out" / "learned_embeds.pdparams")
    train_textual_inversion.main([*argv, "--seed", str(first), "--output_dir", str(tmp_path / "again")])

    np.testing.assert_array_equal(rows_of(tmp_path / "again" / "learned_embeds.pdparams"), rows)


@pytest.mark.slow
def test_a_file_of_prompts_is_drawn_from_the_start_with_its_own_options(tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("# mine\na <cat-toy> --seed 5 --steps 1\na dog --n blurry\n")
    argv = ["--validation_prompts_file", str(tmp_path / "prompts.txt"), "--validation_steps", "2", "--overview"]

    train_textual_inversion.main(short_run(tmp_path, *argv, "--only_save_embeds", "--num_validation_images", "1"))

    drawn = sorted(path.name for path in (tmp_path / "out" / "samples").iterdir())
    assert drawn == ["over-time.png", "step-0.png", "step-2.png"]
    prompts = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["sample_prompts"]
    assert [(prompt["text"], prompt["seed"], prompt["negative_prompt"]) for prompt in prompts] == [
        ("a <cat-toy>", 5, ""),
        ("a dog", None, "blurry"),
    ]
    said = capsys.readouterr()
    assert "the validation prompt 'a dog' holds none of <cat-toy>" in said.out
    assert "step 0: validation images in" in said.err


@pytest.mark.slow
def test_the_configuration_that_a_run_writes_repeats_it_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = short_run(tmp_path, "--only_save_embeds", "--num_vectors", "2", "--output_dir", "out", "--train_data_dir",
                     "pictures")  # fmt: skip
    argv[argv.index("--seed") : argv.index("--seed") + 2] = []

    train_textual_inversion.main(argv)
    first = tree(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train_textual_inversion.main(["--config", "../out/config.yaml"])

    assert tree(tmp_path / "out") == first
    for name in ("learned_embeds.pdparams", "learned_embeds.safetensors", "config.yaml"):
        assert (tmp_path / "out-2" / name).read_bytes() == first[name]


class Recorder:
    """An optimizer that keeps the gradient instead of using it."""

    def __init__(self, parameters):
        self.parameters, self.gradients = parameters, []

    def step(self):
        self.gradients.append([p.grad.numpy().copy() for p in self.parameters])

    def clear_grad(self, set_to_zero=True):
        for p in self.parameters:
            p.clear_gradient()

    def get_lr(self):
        return 0.0

    def state_dict(self):
        return {}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize("accumulation", ["1", "2"])
def test_loss_and_gradient_equal_the_formula(tmp_path, monkeypatch, family, accumulation):
    from textual_inversion.training import callbacks, optimizer

    recorders, losses, runs = [], [], []
    monkeypatch.setattr(
        optimizer, "make_optimizer",
        lambda settings, schedule, parameters: recorders.append(Recorder(parameters)) or recorders[0],
    )  # fmt: skip
    make = callbacks.make_callbacks
    monkeypatch.setattr(callbacks, "make_callbacks", lambda config, run, *rest: (
        runs.append(run), make(config, run, *rest))[1])  # fmt: skip
    monkeypatch.setattr(callbacks.Callbacks, "after_step", lambda self, step, loss, rate: losses.append(float(loss)))
    train_textual_inversion.main(
        short_run(tmp_path, "--max_train_steps", "1", "--num_vectors", "2", "--train_batch_size", "2", "--flip_p", "0",
                  "--gradient_accumulation_steps", accumulation, "--only_save_embeds", family=family)
    )  # fmt: skip

    loss, gradient = written_out(runs[0], tmp_path / "base", family)

    assert losses[0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(recorders[0].gradients[0][0], gradient, rtol=1e-3, atol=1e-7)
    assert np.abs(gradient).max(axis=1).min() > 0


def written_out(run, folder, family):
    """One step's loss and gradient by the formulas of the papers, with a plain embedding of V + N trainable rows."""
    batch = run.samples.batch(0, range(run.samples.global_batch))
    model = load_base_model(folder)
    encoder, rows = model.text_encoders[0], run.vectors.values()["text_encoder"]
    table = encoder.layer.get_input_embeddings().weight.numpy()
    layer = paddle.nn.Embedding(len(table) + len(rows), table.shape[1])
    layer.weight.set_value(np.concatenate([table, rows]))
    encoder.layer.set_input_embeddings(layer)
    encoder.tokenizer.add_tokens(["<cat-toy>", "<cat-toy>_1"])
    prompts = [p.replace("<cat-toy>", "<cat-toy> <cat-toy>_1") for p in batch.prompts]
    ids = encoder.tokenizer(prompts, padding="max_length", truncation=True, max_length=77)["input_ids"]
    # The tokenizer may have fewer tokens than the table has rows: the new ids are those after the table.
    ids = np.array(ids)
    for i, token in enumerate(["<cat-toy>", "<cat-toy>_1"]):
        ids[ids == encoder.tokenizer.convert_tokens_to_ids(token)] = len(table) + i
    posterior = model.vae.encode(
        paddle.to_tensor(np.stack([to_array(run.data.previews[i]) for i in batch.images]))
    ).latent_dist
    x = (posterior.mean + posterior.std * paddle.to_tensor(batch.posterior_noise)) * model.vae.config.scaling_factor
    betas = model.noise_scheduler.betas.numpy().astype("float64")
    a = np.cumprod(1 - betas)[batch.timesteps].astype("float32")[:, None, None, None]
    signal, sigma, noise = paddle.to_tensor(np.sqrt(a)), paddle.to_tensor(np.sqrt(1 - a)), paddle.to_tensor(batch.noise)
    hidden = encoder.layer(paddle.to_tensor(ids))[0]
    prediction = model.unet(signal * x + sigma * noise, paddle.to_tensor(batch.timesteps), hidden).sample
    target = noise if family == "sd1" else signal * noise - sigma * x
    loss = F.mse_loss(prediction, target.detach())
    loss.backward()
    return float(loss), layer.weight.grad.numpy()[len(table) :]


@pytest.mark.slow
def test_nothing_but_the_rows_is_trained_and_the_vae_sees_each_image_once(tmp_path, monkeypatch):
    from textual_inversion.data import latents
    from textual_inversion.training import optimizer

    trained, runs, encoded = [], [], []
    make, finish, posterior = optimizer.make_optimizer, train_textual_inversion.finish, latents._posterior
    monkeypatch.setattr(optimizer, "make_optimizer", lambda settings, schedule, p: (
        trained.extend(p), make(settings, schedule, p))[1])  # fmt: skip
    monkeypatch.setattr(latents, "_posterior", lambda vae, array: (encoded.append(1), posterior(vae, array))[1])
    monkeypatch.setattr(train_textual_inversion, "finish", lambda config, run: (runs.append(run), finish(config, run)))
    train_textual_inversion.main(short_run(tmp_path, "--num_vectors", "2", "--adam_weight_decay", "0.5"))

    model, fresh = runs[0].model, load_base_model(tmp_path / "base")
    assert [tuple(p.shape) for p in trained] == [(2, 32)]
    assert len(encoded) == 2 * 3  # three images, each also mirrored
    for part in ("unet", "vae"):
        for ours, theirs in zip(getattr(model, part).parameters(), getattr(fresh, part).parameters(), strict=True):
            assert ours.grad is None and ours.stop_gradient
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    encoder, own = fresh.text_encoders[0].layer, model.text_encoders[0].layer
    np.testing.assert_array_equal(
        own.get_input_embeddings().table.numpy(), encoder.get_input_embeddings().weight.numpy()
    )
    frozen = [p for p in own.parameters() if p is not trained[0]]
    assert len(frozen) == len(encoder.parameters()) - 1
    assert all(p.stop_gradient and p.grad is None for p in frozen)


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--optimizer", "prodigy", "--d0", "0.003", "--learning_rate", "1:3, 0.5", "--use_ema",
         "--multires_noise_iterations", "6", "--loss_type", "huber", "--huber_schedule", "snr"],
    ],
    ids=["plain", "everything of the sample's own number"],
)  # fmt: skip
def test_two_processes_learn_what_one_learns_with_twice_the_accumulation(tmp_path, flags):
    common = [
        *flags,
        "--max_train_steps",
        "4",
        "--save_steps",
        "1",
        "--only_save_embeds",
        "--num_vectors",
        "2",
        "--train_batch_size",
        "1",
        "--num_threads",
        "1",
    ]
    one = short_run(tmp_path, *common, "--gradient_accumulation_steps", "4", "--output_dir", str(tmp_path / "one"))
    two = short_run(tmp_path, *common, "--gradient_accumulation_steps", "2", "--output_dir", str(tmp_path / "two"))

    launch(one, processes=1, cwd=tmp_path)
    launch(two, processes=2, cwd=tmp_path)

    alone = rows_of(tmp_path / "one" / "learned_embeds.pdparams")
    together = rows_of(tmp_path / "two" / "learned_embeds.pdparams")
    early = rows_of(tmp_path / "one" / "learned_embeds-steps-1.pdparams")
    assert np.abs(alone - early).max() > 1e-3  # they did learn
    np.testing.assert_array_equal(together, alone)


@pytest.mark.slow
@pytest.mark.parametrize("num_vectors", ["1", "3"])
@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_both_ways_of_use_in_the_ppdiffusers_documentation_work_as_written(tmp_path, num_vectors, layout):
    from ppdiffusers import StableDiffusionPipeline

    train_textual_inversion.main(short_run(tmp_path, "--num_vectors", num_vectors, "--save_steps", "2", layout=layout))
    from_folder = StableDiffusionPipeline.from_pretrained(str(tmp_path / "out"))
    options = {} if layout == "ppdiffusers" else {"from_diffusers": True}
    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "base"), **options)

    learned_embeded_path = str(tmp_path / "out" / "learned_embeds-steps-2.pdparams")
    for token, embeds in paddle.load(learned_embeded_path).items():
        pipe.tokenizer.add_tokens(token)
        pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))
        token_id = pipe.tokenizer.convert_tokens_to_ids(token)
        with paddle.no_grad():
            pipe.text_encoder.get_input_embeddings().weight[token_id] = embeds

    drawn = [np.asarray(draw(p)) for p in (pipe, from_folder)]
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() <= 1
    assert not np.array_equal(drawn[0], np.asarray(draw(pipe, "A toy backpack")))


def draw(pipe, prompt="A <cat-toy> backpack"):
    paddle.seed(0)
    size = dict(height=16, width=16)
    return pipe(prompt, num_inference_steps=2, guidance_scale=7.5, **size).images[0]
