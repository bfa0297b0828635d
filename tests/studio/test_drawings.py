"""The gallery: requests and their images, the newest first."""

from PIL import Image

from textual_inversion.generation.gallery import Gallery, PlannedImages
from textual_inversion.studio import drawings
from textual_inversion.studio.pictures import Pictures
from textual_inversion.studio.workspace import Workspace


def drawn(folder, prompts):
    gallery = Gallery(folder, {"base_model": "demo/model", "embeds": [{"file": "a.pdparams", "words": ["<a>"]}]})
    gallery.begin(PlannedImages([f"key{i}" for i in range(len(prompts))], [7] * len(prompts)))
    for i, prompt in enumerate(prompts):
        gallery.save(
            i,
            Image.new("RGB", (64, 48), (200, 40, 20)),
            {
                "prompt": prompt,
                "seed": 7,
                "guidance_scale": 3.0,
                "num_inference_steps": 2,
                "scheduler": "DDIMScheduler",
                "base_model": "demo/model",
            },
        )
    return gallery


def test_images_are_there_as_soon_as_they_are_drawn_with_their_commands(tmp_path):
    workspace = Workspace.at(tmp_path / "ws")
    folder = workspace.new_drawing()
    drawings.begin(folder, ["--prompt=a <a>", "--compare", "x"])
    assert drawings.read(folder).images == []
    drawn(folder, ["a <a>", "<script>"])  # and it has not ended

    found = drawings.read(folder)
    assert [one.prompt for one in found.images] == ["a <a>", "<script>"] and found.words[0] == "--prompt=a <a>"
    assert "--prompt 'a <a>'" in found.images[0].command and "--embeds a.pdparams" in found.images[0].command
    assert "seed: 7" in drawings.shown_facts(found.images[0].facts)
    assert found.sheet is None  # nothing is shown side by side yet


def test_the_newest_request_is_the_first(tmp_path):
    workspace = Workspace.at(tmp_path / "ws")
    for name in ("20260101-000000-aa", "20270101-000000-aa"):
        (workspace.part("drawings") / name).mkdir()
    assert [path.name[:4] for path in drawings.folders(workspace)] == ["2027", "2026"]
    assert drawings.read(workspace.part("drawings") / "20260101-000000-aa").images == []


def test_small_images_are_enlarged_pixel_by_pixel_and_what_is_none_is_left_out(tmp_path):
    Image.new("RGB", (64, 48), (200, 40, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    pictures = Pictures()

    with Image.open(__import__("io").BytesIO(pictures.shown(tmp_path / "a.png"))) as shown:
        assert shown.size == (192, 144) and shown.format == "JPEG"
    assert pictures.shown(tmp_path / "b.png") is None and pictures.shown(tmp_path / "c.png") is None
    first = pictures.shown(tmp_path / "a.png")
    assert pictures.shown(tmp_path / "a.png") is first
    Image.new("RGB", (64, 48), (1, 2, 3)).save(tmp_path / "a.png")
    assert pictures.shown(tmp_path / "a.png") != first
