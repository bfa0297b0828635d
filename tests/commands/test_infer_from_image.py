"""The command infer.py from images, with masks and with LoRA files: what it records, says and refuses."""

import json

import numpy as np
import pytest
from PIL import Image

import infer
from helpers.lora_files import chosen, kohya, write_lora
from helpers.tiny_models import build_model, tree
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.models.base_model import load_base_model
from textual_inversion.system import user_files
from textual_inversion.system.errors import EmbeddingFileError, SettingsError


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("base") / "sd1")


@pytest.fixture
def flags(tmp_path, base):
    rows = np.random.default_rng(1).standard_normal((2, 32)).astype(np.float32)
    write_pdparams(tmp_path / "cat.pdparams", [LearnedEmbedding("<cat-toy>", {"text_encoder": rows})])
    settings = {"embeds": tmp_path / "cat.pdparams", "pretrained_model_name_or_path": base, "prompt": "a <cat-toy>",
                "num_inference_steps": 4, "num_images": 1, "seed": 3, "output_dir": tmp_path / "out"}  # fmt: skip
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def picture(path, seed=0, size=(24, 16)) -> str:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return str(path)


def images_of(folder) -> list[dict]:
    return json.loads((folder / "manifest.json").read_text())["runs"][-1]["images"]


def sha256(path) -> str:
    return user_files.sha256(path, user_files.IMAGE)


def test_a_folder_and_several_strengths_are_recorded_in_manifest_and_file(tmp_path, flags, base, capsys):
    (tmp_path / "photos").mkdir()
    paths = [picture(tmp_path / f"photos/{i}.png", i) for i in (1, 2)]
    before = tree(base)

    infer.main([*flags, "--image", str(tmp_path / "photos"), "--strength", "0.5", "1"])

    made = images_of(tmp_path / "out")
    assert [(one["image"], one["image_sha256"], one["strength"]) for one in made] == [
        (path, sha256(path), strength) for path in paths for strength in (0.5, 1.0)
    ]
    assert not any("mask_image" in one or "lora" in one for one in made)
    drawn = [Image.open(tmp_path / "out" / one["file"]) for one in made]
    # 24 x 16 pixels are more than this model's 16 x 16, so they become smaller.
    assert {image.size for image in drawn} == {(16, 16)} and len({image.tobytes() for image in drawn}) == 4
    assert drawn[0].text["image_sha256"] == sha256(paths[0]) and drawn[0].text["strength"] == "0.5"
    said = capsys.readouterr().err
    assert "note: images of 24x16 pixels are drawn at 16x16; --height and --width choose another size" in said
    assert tree(base) == before


def test_what_the_mask_leaves_black_stays_bit_for_bit(tmp_path, flags, capsys):
    source = picture(tmp_path / "photo.png")
    mask = np.zeros((32, 48), np.uint8)
    mask[8:20, 8:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")

    infer.main(
        [*flags, "--image", source, "--mask_image", str(tmp_path / "mask.png"), "--height", "16", "--width", "24"]
    )

    (made,) = images_of(tmp_path / "out")
    assert made["mask_image"] == str(tmp_path / "mask.png") and made["mask_sha256"] == sha256(tmp_path / "mask.png")
    assert made["strength"] == 0.8
    drawn, begun = (np.asarray(Image.open(path)) for path in (tmp_path / "out" / made["file"], source))
    kept = np.ones((16, 24), bool)
    kept[3:11, 3:11] = False  # a bilinear filter reaches one pixel beyond the white of the scaled mask
    assert (drawn[kept] == begun[kept]).all() and (drawn[5:9, 5:9] != begun[5:9, 5:9]).mean() > 0.9
    assert "mask.png: has 48x32 pixels and is scaled to the size of its image, 24x16" in capsys.readouterr().err


def test_loras_change_the_image_and_are_recorded(tmp_path, flags, base):
    tensors = {key: value * 5 for key, value in kohya(chosen(load_base_model(base)), alpha=None).items()}
    file = write_lora(tmp_path / "style.safetensors", tensors)

    infer.main(flags)
    infer.main([*flags, "--lora", f"{file}:0.5", f"{file}:0"])
    infer.main([*flags, "--lora", f"{file}:0"])

    runs = json.loads((tmp_path / "out/manifest.json").read_text())["runs"]
    plain, changed, unchanged = (
        np.asarray(Image.open(tmp_path / "out" / run["images"][0]["file"])).astype(int) for run in runs
    )
    assert np.abs(plain - changed).max() > 2 and (plain == unchanged).all()
    expected = [{"file": file, "scale": scale, "sha256": sha256(file)} for scale in (0.5, 0.0)]
    assert runs[1]["images"][0]["lora"] == expected and "lora" not in runs[0]["images"][0]
    with Image.open(tmp_path / "out" / runs[1]["images"][0]["file"]) as image:
        assert json.loads(image.text["lora"]) == expected


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path, flags, capsys):
    image = picture(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no image")
    for words, message in [
        (["--image", str(tmp_path / "text.png")], "text.png: is not an image that can be read"),
        (["--image", image, "--strength", "0.2"], "--strength 0.2 of 4 denoising steps is less than one step"),
        (["--strength", "0.5"], "--strength has no effect without an image"),
        (["--lora", image], "photo.png"),
    ]:
        with pytest.raises(Exception, match=message) as refusal:
            infer.main([*flags, *words])
        assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()


def test_a_lora_or_an_image_that_the_model_has_no_use_for_leaves_no_image(tmp_path, flags):
    other = build_model(tmp_path / "sd2", "sd2")
    lora = write_lora(
        tmp_path / "other.safetensors", kohya(chosen(load_base_model(other), ["mid_block.attentions.0.proj_in"]))
    )
    with pytest.raises(EmbeddingFileError, match="take a LoRA that was made for this kind of base model"):
        infer.main([*flags, "--lora", lora])
    ldm = build_model(tmp_path / "ldm", "ldm")
    with pytest.raises(SettingsError, match="--image: .* is a model for LDMTextToImagePipeline"):
        infer.main([*flags, "--pretrained_model_name_or_path", str(ldm), "--image", picture(tmp_path / "a.png")])

    assert tree(tmp_path / "out") == {}
