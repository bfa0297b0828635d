"""Every example of docs/guides/other-pipelines.md, run on tiny models: all of its vectors decide what a concept is."""

import re

import numpy as np
import paddle
import pytest
from PIL import Image

from helpers.documents import code_blocks, headings, read
from helpers.tiny_models import build_model
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_safetensors
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.export import save_pipeline

pytestmark = pytest.mark.slow
PAGE = "docs/guides/other-pipelines.md"
# With eight pixels per latent, as some of these pipelines take for granted.
VAE = dict(
    block_out_channels=[16] * 4,
    down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4,
)


def sections() -> dict[str, list[str]]:
    """Title -> the Python examples below it."""
    parts = re.split(r"^## ", read(PAGE), flags=re.MULTILINE)[1:]
    found = {
        part.splitlines()[0]: [code for language, code in code_blocks(part) if language == "python"] for part in parts
    }
    return {title: examples for title, examples in found.items() if examples}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Tiny models under the names of the page, with two concepts that differ in their second vector: A and B."""
    from ppdiffusers import ControlNetModel, MotionAdapter, StableDiffusionPipeline, T2IAdapter, UNet2DConditionModel

    root = tmp_path_factory.mktemp("models")
    base = build_model(root / "CompVis/stable-diffusion-v1-4", vae=VAE)
    model = load_base_model(base)
    for name in "AB":
        rows = 3 * np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
        rows[1] *= -1 if name == "B" else 1
        concept = LearnedEmbedding("<cat-toy>", {"text_encoder": rows})
        save_pipeline(model, [concept], root / name)
        write_safetensors(root / name / "learned_embeds.safetensors", concept)
    pipe = StableDiffusionPipeline.from_pretrained(str(base), safety_checker=None)
    paddle.seed(0)
    ControlNetModel.from_unet(pipe.unet).save_pretrained(str(root / "lllyasviel/sd-controlnet-canny"))
    adapter = T2IAdapter(in_channels=3, channels=[32, 64], num_res_blocks=1, downscale_factor=8)
    adapter.save_pretrained(str(root / "TencentARC/t2iadapter_color_sd14v1"))
    sizes = dict(block_out_channels=(32, 64), motion_layers_per_block=1, motion_mid_block_layers_per_block=1)
    motion = MotionAdapter(**sizes, motion_num_attention_heads=2, motion_norm_num_groups=8)
    motion.save_pretrained(str(root / "guoyww/animatediff-motion-adapter-v1-5-2"))
    distilled = build_model(root / "SimianLuo/LCM_Dreamshaper_v7", vae=VAE, unet=dict(time_cond_proj_dim=16),
                            scheduler=dict(_class_name="LCMScheduler"),
                            pipeline_class="LatentConsistencyModelPipeline")  # fmt: skip
    assert UNet2DConditionModel.from_pretrained(str(distilled), subfolder="unet").config.time_cond_proj_dim == 16
    for name in ("edges", "colours"):
        pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{name}.png")
    return root


def run(examples: list[str], root, concept: str, tmp_path, monkeypatch) -> dict:
    """The names that the examples of a section leave behind, after one another, in a folder of their own."""
    (tmp_path / concept).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / concept)
    left = {}
    for number, example in enumerate(examples):
        for name in re.findall(r'"([\w.-]+/[\w./-]+|text-inversion-model|\w+\.png)"', example):
            here = name.replace("text-inversion-model", concept)
            if (root / here).exists():
                example = example.replace(f'"{name}"', f'"{root / here}"')
            else:
                assert name.startswith("static/"), f"the page names {name}, for which there is no tiny model"
        example = re.sub(r"num_inference_steps=\d+", "num_inference_steps=4", example)
        example = example.replace("height=512, width=1024", "height=64, width=128").replace(
            "num_frames=16", "num_frames=2"
        )
        paddle.seed(1)
        script = tmp_path / concept / f"example_{number}.py"  # Paddle reads the source of what becomes a graph
        script.write_text(example)
        exec(compile(example, str(script), "exec"), left)
    return left


def test_the_page_has_the_examples_that_are_run():
    assert len(sections()) == 6 == len([title for level, title in headings(read(PAGE)) if level == 2])


@pytest.mark.parametrize("title", [title for title in sections() if not title.startswith("Static")])
def test_the_concept_decides_what_is_drawn(root, tmp_path, monkeypatch, title):
    drawn = []
    for concept in "AAB":
        left = run(sections()[title], root, concept, tmp_path, monkeypatch)
        images = left["frames"] if "frames" in left else [left["image"]]
        drawn.append(np.stack([np.asarray(image) for image in images]).astype(int))

    assert np.abs(drawn[0] - drawn[1]).max() <= 1, "the same concept and seed draw the same"
    assert np.abs(drawn[0] - drawn[2]).max() > 1, "another second vector draws something else"
    if title == "AnimateDiff":
        assert (tmp_path / "A" / "turning.gif").stat().st_size > 0
    if title.startswith("From the saved"):
        assert drawn[0].shape == (1, 64, 128, 3)


def test_static_graphs_compute_what_the_layers_compute(root, tmp_path, monkeypatch):
    from paddle import inference

    left = run(sections()["Static graphs for Paddle Inference"], root, "A", tmp_path, monkeypatch)

    pipe, random = left["pipe"], np.random.default_rng(0)
    text = pipe.maybe_convert_prompt("a <cat-toy>", pipe.tokenizer)
    ids = pipe.tokenizer([text], padding="max_length", max_length=pipe.tokenizer.model_max_length)["input_ids"]
    latents, states = (random.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 8, 8), (1, 77, 32)))
    inputs = {"text_encoder": [np.array(ids)], "unet": [latents, np.float32([10]), states], "vae_decoder": [latents]}
    for name, (layer, _) in left["parts"].items():
        config = inference.Config(f"static/{name}/inference.json", f"static/{name}/inference.pdiparams")
        config.disable_mkldnn()
        predictor = inference.create_predictor(config)
        for handle, value in zip(predictor.get_input_names(), inputs[name], strict=True):
            predictor.get_input_handle(handle).copy_from_cpu(value)
        predictor.run()
        found = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
        with paddle.no_grad():
            expected = layer(*map(paddle.to_tensor, inputs[name]))
        expected = expected if isinstance(expected, paddle.Tensor) else expected[0]
        assert np.abs(found - expected.numpy()).max() < 1e-4 and found.std() > 0.01, name
    assert {"predictor", "config"} <= left.keys()
