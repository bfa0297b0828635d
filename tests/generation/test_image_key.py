"""The key of an image changes with everything that decides its pixels, and with nothing else."""

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from textual_inversion.generation import image_key
from textual_inversion.generation.image_key import image_keys
from textual_inversion.generation.manifest import plan_key
from textual_inversion.generation.request import ImageRequest
from textual_inversion.generation.start_image import StartImage

ONE = ImageRequest("a <cat-toy>", 3)
COMMON = {"base_model": "00", "embeds": [{"sha256": "11"}], "mixed_precision": "no"}
DEFAULTS = {"scheduler": "DDIMScheduler", "height": 64, "width": 64}
OTHER = {
    "prompt": "a dog", "seed": 4, "negative_prompt": "fog", "guidance_scale": 1.0, "num_inference_steps": 3,
    "scheduler": "euler", "eta": 0.5, "height": 128, "width": 128, "initial_vectors": True,
    "start": StartImage("a.png", "22", (64, 64)),
}  # fmt: skip


def key(request=ONE, common=COMMON, **more):
    (found,) = image_keys([request], common, DEFAULTS, **more)
    return found


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ImageRequest)])
def test_every_field_of_a_request_is_in_the_key(name):
    value = OTHER.get(name, "something else")

    assert key(replace(ONE, **{name: value})) != key()


@pytest.mark.parametrize("name", COMMON)
def test_what_all_images_share_is_in_the_key(name):
    assert key(common=COMMON | {name: "another"}) != key()


def test_a_value_that_is_named_and_one_taken_by_default_give_one_key():
    assert key(replace(ONE, height=64, width=64, scheduler="DDIMScheduler", eta=0.0)) == key()


def test_a_field_that_is_added_later_leaves_the_keys_of_images_without_it(monkeypatch):
    before = key()

    @dataclass(frozen=True)
    class Later(ImageRequest):
        image: Path | None = None

    monkeypatch.setattr(image_key, "ImageRequest", Later)
    assert key(Later("a <cat-toy>", 3)) == before


def test_a_file_counts_by_its_content_and_not_by_its_name(tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Later(ImageRequest):
        image: Path | None = None

    monkeypatch.setattr(image_key, "ImageRequest", Later)
    for name, content in (("a.png", b"one"), ("b.png", b"one"), ("c.png", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (key(Later("a <cat-toy>", 3, image=tmp_path / name)) for name in ("a.png", "b.png", "c.png"))

    assert a == b and len({a, c, key(Later("a <cat-toy>", 3))}) == 3
    (tmp_path / "a.png").write_bytes(b"another")
    assert key(Later("a <cat-toy>", 3, image=tmp_path / "a.png")) != a


def test_a_label_counts_by_what_it_stands_for():
    request = replace(ONE, scheduler="left")
    by_label = [key(request, contents={"scheduler": {"left": content}}) for content in (["1"], ["1"], ["2"])]

    assert by_label[0] == by_label[1] and len({*by_label, key(request)}) == 3


def test_a_value_without_content_is_refused():
    with pytest.raises(TypeError, match="object has no content"):
        key(common={"model": object()})


def test_the_key_of_a_plan_knows_the_order_and_every_image():
    assert len({plan_key([]), plan_key(["a"]), plan_key(["a", "b"]), plan_key(["b", "a"])}) == 4


def test_ten_thousand_keys_are_all_different():
    keys = image_keys([replace(ONE, seed=seed) for seed in range(10_000)], COMMON, DEFAULTS)

    assert len(set(keys)) == 10_000 and {len(one) for one in keys} == {32}
