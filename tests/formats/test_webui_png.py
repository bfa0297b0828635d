"""Images of AUTOMATIC1111's web UI that hold an embedding in their text, in their pixels, or in both."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from helpers.embedding_samples import concept, read_one
from textual_inversion.formats.embedding_file import AsksTooMuch, BrokenFile, NotAnEmbedding, read_pickled_tensors
from textual_inversion.formats.png_chunks import SIGNATURE, chunk
from textual_inversion.formats.webui_png import MOST_PIXELS, png_bytes
from textual_inversion.system.errors import EmbeddingFileError

VECTORS = np.random.default_rng(0).standard_normal((3, 768), np.float32)


def document(**changes) -> bytes:
    """The JSON of the web UI, written out from its description."""
    tensor = {"TORCHTENSOR": VECTORS.astype(np.float64).tolist()}
    content = {"string_to_token": {"*": 265}, "string_to_param": {"*": tensor}, "name": "my-cat", "step": 300,
               "sd_checkpoint": None, "sd_checkpoint_name": "v1-5"}  # fmt: skip
    return json.dumps(content | changes).encode()


def picture(height: int = 128, width: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 256, (height, width, 3), dtype=np.uint8)


def saved(pixels: np.ndarray, text: bytes | None = None, compressed: bool = False) -> bytes:
    """Pixels as Pillow saves them, with filters of its own choice."""
    info, buffer = PngInfo(), io.BytesIO()
    if text is not None:
        info.add_text("sd-ti-embedding", text.decode("latin-1"), zip=compressed)
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def striped(image: np.ndarray, data: bytes, shade: int = 0xA0) -> np.ndarray:
    """An image between stripes, number by number, as the description has it: an own reading of it, to compare with."""
    height = len(image)
    columns = len(data) // (3 * height) + 1
    low, high = (np.zeros((height, columns, 3), np.uint8) for _ in range(2))
    state = 0
    for place in range(height * columns * 3):
        state = (1664525 * state + 1013904223) % 2**32
        byte, mask = data[place % len(data)], (state % 255) & 15
        where = (place // 3 // columns, place // 3 % columns, place % 3)
        low[where], high[where] = ((byte & 15) ^ mask) | shade, ((byte >> 4) ^ mask) | shade
    black = np.zeros((height, 1, 3), np.uint8)
    return np.concatenate([low, black, image, black, high], axis=1)


def assert_is_the_cat(read) -> None:
    assert read.placeholder_token == "my-cat" and read.metadata == {"steps": "300", "learned_on": "v1-5"}
    np.testing.assert_array_equal(read.vectors["text_encoder"], VECTORS)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_embedding_in_the_text_is_read(tmp_path, compressed):
    assert_is_the_cat(read_one(tmp_path, saved(picture(), base64.b64encode(document()), compressed)))


@pytest.mark.parametrize("border", [0, 5])
def test_an_embedding_in_the_pixels_is_read_also_within_a_black_border(tmp_path, border):
    pixels = striped(picture(), zlib.compress(document(), 9))
    pixels = np.pad(pixels, ((border, border), (border, border), (0, 0)))

    assert_is_the_cat(read_one(tmp_path, saved(pixels)))


def test_the_text_wins_over_the_pixels_and_other_texts_are_passed_over(tmp_path):
    pixels = striped(picture(), zlib.compress(document(name="other")))
    data = saved(pixels, base64.b64encode(document()))
    place = data.index(b"tEXt") - 4
    workflow = chunk(b"tEXt", b"parameters\0a cat") + chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(5_000_000)))

    assert_is_the_cat(read_one(tmp_path, data[:place] + workflow + data[place:]))


def test_what_is_written_is_read_from_the_text_and_from_the_pixels_and_shows_the_image(tmp_path):
    image, own = picture(96, 50), concept("<cat>", vectors=2, width=768)
    content = {"string_to_param": {"*": own.vectors["text_encoder"]}, "name": "<cat>", "step": None}
    data = png_bytes(content, image)

    decoded = Image.open(io.BytesIO(data))
    decoded.load()
    pixels = np.asarray(decoded)
    edge = (pixels.shape[1] - image.shape[1]) // 2
    np.testing.assert_array_equal(pixels[:, edge:-edge], image)
    assert not pixels[:, [edge - 1, -edge]].any() and (pixels[:, : edge - 1] > 0).all()
    for one in (data, saved(pixels)):  # the second one has lost its texts
        read = read_one(tmp_path, one)
        assert read.placeholder_token == "<cat>"
        np.testing.assert_array_equal(read.vectors["text_encoder"], own.vectors["text_encoder"])
    assert png_bytes(content, image) == data


@pytest.mark.parametrize("pixels", [picture(), np.zeros((20, 20, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)])
def test_an_image_without_an_embedding_is_an_image(tmp_path, pixels):
    pixels = pixels.copy()
    pixels[:, [3, 6]] = 0  # as an image with black columns has
    with pytest.raises(NotAnEmbedding, match="is an image without an embedding in it"):
        read_one(tmp_path, saved(pixels))


def test_weights_are_never_read_from_an_image(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(picture(), base64.b64encode(document())))
    with pytest.raises(NotAnEmbedding, match="is an image"):
        read_pickled_tensors(tmp_path / "a.png")


def deep(levels: int) -> bytes:
    return b'{"string_to_param":{"*":{"TORCHTENSOR":' + b"[" * levels + b"1" + b"]" * levels + b"}}}"


HOSTILE = {
    "no base64": (saved(picture(), b"???"), BrokenFile),
    "no JSON": (saved(picture(), base64.b64encode(b"os.system")), BrokenFile),
    "JSON of another kind": (saved(picture(), base64.b64encode(b"[1, 2]")), NotAnEmbedding),
    "a list within": (saved(picture(), base64.b64encode(document(string_to_param=[1]))), NotAnEmbedding),
    "rows of other lengths": (
        saved(picture(), base64.b64encode(document(string_to_param={"*": {"TORCHTENSOR": [[1, 2], [3]]}}))),
        BrokenFile,
    ),
    "numbers that are objects": (
        saved(picture(), base64.b64encode(document(string_to_param={"*": {"TORCHTENSOR": [[{}, {}]]}}))),
        BrokenFile,
    ),
    "infinite": (saved(picture(), base64.b64encode(b'{"string_to_param":{"*":{"TORCHTENSOR":[[1e999]]}}}')), None),
    "a tensor of many axes": (saved(picture(), base64.b64encode(deep(70))), BrokenFile),
    "JSON nested deeply": (saved(picture(), base64.b64encode(b"[" * 100_000)), BrokenFile),
    "a text that becomes large": (
        SIGNATURE + chunk(b"zTXt", b"sd-ti-embedding\0\0" + zlib.compress(bytes(60 << 20))),
        AsksTooMuch,
    ),
    "pixels that become large": (saved(striped(picture(), zlib.compress(bytes(30 << 20), 9))), AsksTooMuch),
    "JSON of many values": (saved(picture(), base64.b64encode(b"[" + b"0," * 2_000_000 + b"0]")), None),
    "an image that is cut": (saved(picture())[:-40], NotAnEmbedding),
    "a size and no pixels": (
        SIGNATURE + chunk(b"IHDR", (1 << 30).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])) + chunk(b"IEND", b""),
        NotAnEmbedding,
    ),
    "more pixels than its bytes can hold": (saved(np.full((1500, 1500, 3), 9, np.uint8)), NotAnEmbedding),
    "more pixels than are looked at": (saved(np.full((1, MOST_PIXELS + 1, 3), 9, np.uint8)), NotAnEmbedding),
    "chunks without number": (SIGNATURE + chunk(b"tEXt", b"") * 140_000, AsksTooMuch),
    "chunks without an end": (SIGNATURE + chunk(b"IHDR", bytes(13)) + b"\xff\xff\xff\xffIDAT", NotAnEmbedding),
}


@pytest.mark.parametrize("where", [200, -40])
def test_a_changed_letter_and_a_missing_end_are_told(tmp_path, where):
    data = bytearray(saved(picture(), base64.b64encode(document())))
    if where > 0:
        data[data.index(b"sd-ti-embedding") + where] ^= 1
    else:
        del data[where:]

    with pytest.raises(BrokenFile, match="checksum does not match" if where > 0 else "is cut short"):
        read_one(tmp_path, bytes(data))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_ends_in_one_line(tmp_path, kind):
    data, error = HOSTILE[kind]
    with pytest.raises(error or EmbeddingFileError) as raised:
        read_one(tmp_path, data)

    assert str(raised.value).isprintable() and "my-cat.xyz: " in str(raised.value) and len(str(raised.value)) < 300
