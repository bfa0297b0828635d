"""The command score.py."""

import json

import numpy as np
import pytest
from PIL import Image

import score
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.system.errors import ImageError, SettingsError

QUICK = ["--num_inference_steps", "1", "--guidance_scale", "1", "--num_images", "2"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = build_model(tmp_path_factory.mktemp("base") / "sd1")
    build_clip(folder / "clip")
    return folder


@pytest.fixture
def image_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        draw = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(draw).save(folder / f"{seed}.png")
    return folder


def embeds(folder, base, *words, **record):
    folder.mkdir(exist_ok=True)
    rows = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    write_pdparams(folder / "f.pdparams", [LearnedEmbedding(word, {"text_encoder": rows}) for word in words])
    record = {"base_model": str(base), "placeholder_token": list(words), **record}
    (folder / "run.json").write_text(json.dumps(record))
    return str(folder / "f.pdparams")


def test_everything_can_come_from_the_record(tmp_path, base, image_folder, capsys):
    settings = {"train_data_dir": [str(image_folder)]}
    file = embeds(
        tmp_path / "run", base, "<w>", initializer_token=["cat"], learnable_property=["style"], settings=settings
    )

    score.main(["--embeds", file, *QUICK, "--output", str(tmp_path / "score.json")])

    result = json.loads((tmp_path / "score.json").read_text())
    assert (result["baseline"]["word"], result["concept"]["word"]) == ("cat", "<w>")
    assert "a cat in the style of {}" in result["concept"]["text_by_edit"]
    assert result["settings"]["num_images"] == 2 and len(result["embeds"]["sha256"]) == 64
    assert 0 < result["ceiling"]["image_similarity"] <= 1
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[1].startswith("baseline: cat")
        and lines[2].startswith("concept: <w>")
        and lines[-1].endswith("score.json")
    )


def test_a_clip_model_that_does_not_say_how_it_wants_its_images_is_told(tmp_path, base, image_folder, capsys):
    file = embeds(tmp_path / "run", base, "<w>")
    flags = ["--train_data_dir", str(image_folder), "--initializer_token", "cat", "--clip_model"]

    score.main(["--embeds", file, *QUICK, *flags, str(build_clip(tmp_path / "silent", preprocessor=False))])
    silent = capsys.readouterr().err
    score.main(["--embeds", file, *QUICK, *flags, str(build_clip(tmp_path / "clip"))])

    assert silent.count("silent does not say how it wants its images; CLIP's usual mean and std are used") == 1
    assert "note:" not in capsys.readouterr().err


def test_flags_win_over_the_record(tmp_path, base, image_folder):
    file = embeds(tmp_path / "run", base, "<a>", "<b>", initializer_token=["cat", "dog"])
    clip = build_clip(tmp_path / "clip")
    flags = f"--initializer_token rabbit --placeholder_token <b> --clip_model {clip}".split()
    flags += ["--train_data_dir", str(image_folder)]

    score.main(
        ["--embeds", file, *flags, *QUICK, "--images_per_edit_prompt", "1", "--output", str(tmp_path / "s.json")]
    )

    result = json.loads((tmp_path / "s.json").read_text())
    assert (result["baseline"]["word"], result["concept"]["word"]) == ("rabbit", "<b>")
    assert result["clip_model"] == str(clip)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "chinese"), [([], True), (["--language", "en"], False)])
def test_a_chinese_word_is_scored_on_chinese_prompts(tmp_path, base, image_folder, flags, chinese):
    settings = {"train_data_dir": str(image_folder), "language": "zh"}
    file = embeds(tmp_path / "run", base, "<w>", settings=settings)

    score.main(["--embeds", file, *QUICK, *flags, "--output", str(tmp_path / "score.json")])

    result = json.loads((tmp_path / "score.json").read_text())
    assert ("一张沙滩上的{}的照片" in result["concept"]["text_by_edit"]) == chinese
    assert (result["baseline"]["word"], result["settings"]["language"]) == (
        ("玩具", "zh") if chinese else ("toy", "en")
    )


@pytest.mark.slow
def test_the_same_seed_gives_the_same_score(tmp_path, base, image_folder):
    file = embeds(tmp_path / "run", base, "<w>", settings={"train_data_dir": str(image_folder)})
    figures = []
    for number, seed in enumerate(("1", "1", "2")):
        score.main(["--embeds", file, *QUICK, "--seed", seed, "--output", str(tmp_path / f"{number}.json")])
        figures.append(json.loads((tmp_path / f"{number}.json").read_text())["concept"]["image_similarity"])

    assert figures[0] == figures[1] != figures[2]


@pytest.mark.parametrize(
    ("recorded", "sizes", "red_at_the_edge"),
    [
        ({}, [(16, 16)], True),
        ({"resize_mode": "squash"}, [(16, 16)], True),
        ({"resize_mode": "center_crop"}, [(16, 16)], False),
        ({"resize_mode": "random_crop"}, [(16, 16)], False),
        ({"center_crop": True}, [(16, 16)], False),  # as earlier versions recorded it
        ({"resize_mode": "bucket"}, [(32, 8)], True),
    ],
)
def test_images_are_framed_as_training_framed_them(tmp_path, base, monkeypatch, recorded, sizes, red_at_the_edge):
    from textual_inversion.evaluation import scoring

    wide = Image.new("RGB", (80, 20), "blue")
    wide.paste("red", (0, 0, 16, 20))
    (tmp_path / "wide").mkdir()
    wide.save(tmp_path / "wide" / "1.png")
    seen = []
    monkeypatch.setattr(scoring, "score", lambda *_, training_images, **__: seen.extend(training_images) or {})
    monkeypatch.setattr(scoring, "table", lambda result: [])
    monkeypatch.setattr(score, "_report", lambda *_: None)
    settings = {"train_data_dir": str(tmp_path / "wide"), **recorded}

    score.main(["--embeds", embeds(tmp_path / "run", base, "<w>", settings=settings), *QUICK])

    assert [image.size for image in seen] == sizes
    assert (seen[0].getpixel((0, 4))[0] > 200) == red_at_the_edge


def test_several_words_want_a_choice(tmp_path, base):
    file = embeds(tmp_path / "run", base, "<a>", "<b>")

    with pytest.raises(SettingsError, match="holds <a>, <b>; choose one of them, not no --placeholder_token"):
        score.main(["--embeds", file])
    with pytest.raises(SettingsError, match="not <c>"):
        score.main(["--embeds", file, "--placeholder_token", "<c>"])


def test_missing_images_are_named(tmp_path, base):
    file = embeds(tmp_path / "run", base, "<w>", settings={"train_data_dir": str(tmp_path / "gone")})

    with pytest.raises(SettingsError, match="add --train_data_dir DIR"):
        score.main(["--embeds", file])
    with pytest.raises(ImageError, match="gone"):
        score.main(["--embeds", file, "--train_data_dir", str(tmp_path / "gone")])


def test_a_base_model_without_clip_wants_one(tmp_path, image_folder):
    file = embeds(tmp_path / "run", build_model(tmp_path / "bare"), "<w>")

    with pytest.raises(SettingsError, match="has no CLIP model of its own.*--clip_model"):
        score.main(["--embeds", file, "--train_data_dir", str(image_folder)])


@pytest.mark.parametrize(
    "flags", ["--num_images 0", "--seed -1", "--images_per_edit_prompt 0", "--learnable_property x"]
)
def test_bad_values_are_refused_by_name(flags):
    with pytest.raises(SettingsError, match=flags.split()[0]):
        score.main(flags.split())


@pytest.mark.slow
def test_the_demo_scores_with_its_own_clip_and_fresh_drawings(tmp_path):
    score.main(["--num_images", "4", "--num_inference_steps", "4", "--output", str(tmp_path / "score.json")])

    result = json.loads((tmp_path / "score.json").read_text())
    assert result["ceiling"]["image_similarity"] > result["baseline"]["image_similarity"]
