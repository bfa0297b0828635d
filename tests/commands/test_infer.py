"""The command infer.py."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import infer
from helpers.tiny_models import build_model, tree
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams
from textual_inversion.generation.manifest import recorded_runs
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.export import save_pipeline
from textual_inversion.system.errors import BaseModelError, EmbeddingFileError, OutputError, SettingsError
from textual_inversion.system.paths import ROOT

QUICK = ["--num_inference_steps", "2", "--num_images", "2", "--seed", "7"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("base") / "sd1", safety_checker=True)


def embeds(folder, base, word="<cat-toy>", vectors=1, **record):
    folder.mkdir(exist_ok=True)
    rows = np.random.default_rng(1).standard_normal((vectors, 32)).astype(np.float32)
    write_pdparams(folder / "learned_embeds.pdparams", [LearnedEmbedding(word, {"text_encoder": rows})])
    (folder / "run.json").write_text(json.dumps({"base_model": str(base), "placeholder_token": word, **record}))
    return str(folder / "learned_embeds.pdparams")


def test_files_of_a_run(tmp_path, base, capsys):
    before = tree(base)
    file = embeds(tmp_path / "run", base, vectors=3)

    infer.main(["--embeds", file, "--prompt", "a <cat-toy>", "a cat", *QUICK, "--output_dir", str(tmp_path / "out")])

    names = ["0000-seed7.png", "0001-seed8.png", "0002-seed7.png", "0003-seed8.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *names, "contact_sheet.png", "index.html", "manifest.json"
    ]  # fmt: skip
    (run,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["runs"]
    assert [(i["prompt"], i["seed"]) for i in run["images"]] == [
        (p, s) for p in ("a <cat-toy>", "a cat") for s in (7, 8)
    ]
    assert run["embeds"][0]["words"] == ["<cat-toy>"] and len(run["embeds"][0]["sha256"]) == 64
    assert run["images"][0]["guidance_scale"] == 7.5 and run["images"][0]["scheduler"] == "PNDMScheduler"
    assert run["base_model"] == str(base.resolve()) and "paddlepaddle" in run["versions"]
    assert tree(base) == before
    output = capsys.readouterr()
    assert "4 images" in output.out and "contact_sheet.png" in output.out
    assert "'a cat' holds no placeholder token; the files hold <cat-toy>" in output.err


def test_every_image_is_logged_and_the_page_shows_the_run(tmp_path, base):
    file, out = embeds(tmp_path / "run", base), tmp_path / "out"

    logs = ["--report_to", "visualdl", "--logging_dir", "my logs"]
    infer.main(["--embeds", file, "--prompt", "a <cat-toy>", *QUICK, "--output_dir", str(out), *logs])

    (log,) = (out / "my logs").iterdir()
    tags = [f"a <cat-toy>/guidance_scale = 7.5, num_inference_steps = 2, seed = {seed}" for seed in (7, 8)]
    assert all(tag.encode() in log.read_bytes() for tag in tags)
    assert all(f'"{path.name}"' in (out / "index.html").read_text("utf-8") for path in out.glob("0*.png"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_images_whatever_the_batch(tmp_path, base):
    file = embeds(tmp_path / "run", base)
    for size in ("1", "4"):
        infer.main(["--embeds", file, *QUICK, "--batch_size", size, "--output_dir", str(tmp_path / size)])

    names = sorted(path.name for path in (tmp_path / "1").glob("0*.png"))
    assert names == sorted(path.name for path in (tmp_path / "4").glob("0*.png")) and len(names) >= 8
    for name in names:
        one, four = (np.asarray(Image.open(tmp_path / size / name), dtype=int) for size in ("1", "4"))
        assert np.abs(one - four).max() <= 1


@pytest.mark.parametrize("count", [1, 4, 5, 300])
def test_many_concepts_are_shown_off_in_turn_within_a_bound(tmp_path, base, capsys, count):
    (tmp_path / "run").mkdir()
    concepts = [LearnedEmbedding(f"<c{i}>", {"text_encoder": np.ones((1, 32), np.float32)}) for i in range(count)]
    write_pdparams(tmp_path / "run" / "learned_embeds.pdparams", concepts)

    prompts = infer._showcase(read_concept_files([tmp_path / "run"]))

    assert len(prompts) == len(set(prompts)) == min(6 * count, infer._MOST_SHOWN)
    assert all(any(f"<c{i}>" in prompt for prompt in prompts) for i in range(min(count, infer._MOST_SHOWN)))
    noted = capsys.readouterr().err
    assert noted == "" if count < 5 else f"24 of the {6 * count} prompts that show {count} concepts" in noted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [("object", "a photo of a <w>"), ("style", "a picture in the style of <w>")]
)
def test_without_prompts_the_word_is_shown_off(tmp_path, base, kind, first):
    file = embeds(tmp_path / "run", base, "<w>", learnable_property=kind)

    infer.main(["--embeds", file, *QUICK, "--num_images", "1", "--output_dir", str(tmp_path / "out")])

    images = json.loads((tmp_path / "out" / "manifest.json").read_text())["runs"][0]["images"]
    assert images[0]["prompt"] == first and len({image["prompt"] for image in images}) >= 5


def test_a_chinese_word_is_shown_off_in_chinese(tmp_path, base):
    file = embeds(tmp_path / "run", base, "<w>", settings={"language": "zh"})

    infer.main(["--embeds", file, *QUICK, "--num_images", "1", "--output_dir", str(tmp_path / "out")])

    images = json.loads((tmp_path / "out" / "manifest.json").read_text())["runs"][0]["images"]
    assert images[0]["prompt"] == "一张<w>的照片" and not any(image["prompt"].isascii() for image in images)


def test_a_run_without_images_leaves_the_last_one_listed(tmp_path, base, monkeypatch):
    from textual_inversion.generation import generate

    file = embeds(tmp_path / "run", base)
    arguments = ["--embeds", file, *QUICK, "--prompt", "a <cat-toy>", "--output_dir", str(tmp_path / "out")]
    infer.main(arguments)
    before = tree(tmp_path / "out")
    monkeypatch.setattr(generate, "_make_batch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        infer.main(arguments)

    assert tree(tmp_path / "out") == before


def test_two_files_in_one_prompt(tmp_path, base):
    files = [embeds(tmp_path / "a", base, "<a>"), embeds(tmp_path / "b", base, "<b>", vectors=2)]

    infer.main(["--embeds", *files, "--prompt", "<a> beside <b>", *QUICK, "--output_dir", str(tmp_path / "out")])

    (run,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["runs"]
    assert [entry["words"] for entry in run["embeds"]] == [["<a>"], ["<b>"]] and len(run["images"]) == 2


def test_size_scheduler_guidance_and_safety_checker_reach_the_images(tmp_path, base, capsys):
    file = embeds(tmp_path / "run", base)
    flags = "--height 24 --width 32 --scheduler euler-a --guidance_scale 1 --num_cols 1 --safety_checker".split()

    infer.main(["--embeds", file, "--prompt", "a <cat-toy>", *flags, *QUICK, "--output_dir", str(tmp_path)])

    with Image.open(tmp_path / "0000-seed7.png") as image:
        assert image.size == (32, 24)
        assert image.text["scheduler"] == "EulerAncestralDiscreteScheduler" and image.text["guidance_scale"] == "1.0"
        assert json.loads(image.text["embeds"])[0]["words"] == ["<cat-toy>"]
    assert "safety" not in capsys.readouterr().err


def test_a_scheduler_of_another_version_is_told_and_another_draws(tmp_path, capsys):
    base = build_model(tmp_path / "tcd", scheduler={"_class_name": "TCDScheduler"})
    flags = ["--embeds", embeds(tmp_path / "run", base), *QUICK]

    infer.main([*flags, "--output_dir", str(tmp_path / "own")])
    own = capsys.readouterr().err
    infer.main([*flags, "--scheduler", "euler", "--output_dir", str(tmp_path / "named")])

    note = "the base model names the scheduler TCDScheduler, which is not drawn with here; images are drawn with DDIM"
    assert f"note: {note}" in own and "note:" not in capsys.readouterr().err
    for folder, scheduler in (("own", "DDIMScheduler"), ("named", "EulerDiscreteScheduler")):
        (run,) = json.loads((tmp_path / folder / "manifest.json").read_text())["runs"]
        assert {image["scheduler"] for image in run["images"]} == {scheduler}


def test_without_a_seed_one_is_drawn_and_said(tmp_path, base, capsys):
    file = embeds(tmp_path / "run", base)
    flags = "--num_inference_steps 1 --num_images 1 --prompt <cat-toy>".split()

    for _ in range(2):
        infer.main(["--embeds", file, *flags, "--output_dir", str(tmp_path / "out")])

    seeds = [run["images"][0]["seed"] for run in json.loads((tmp_path / "out/manifest.json").read_text())["runs"]]
    assert seeds[0] != seeds[1] and f"seeds from {seeds[1]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ("a <dog-toy>", "no file holds <dog-toy>, which 'a <dog-toy>' names; the files hold <cat-toy>"),
        ("a cat-toy here", "'a cat-toy here' lacks the brackets of <cat-toy>"),
        ("a <cat-toy> --negative_prompt <dog-toy>", "no file holds <dog-toy>, which '<dog-toy>' names; the files hold"),
        ("a <cat-toy> --negative_prompt cat-toy", "'cat-toy' lacks the brackets of <cat-toy>"),
        ("a <cat-toy> " + "dog " * 90 + "snow", "is longer than the model reads (77 tokens); cut: 'dog dog"),
    ],
)
def test_notes(tmp_path, base, capsys, prompt, note):
    file = embeds(tmp_path / "run", base)

    prompt, _, negative = prompt.partition(" --negative_prompt ")
    flags = ["--prompt", prompt, "--negative_prompt", negative]
    infer.main(["--embeds", file, *flags, *QUICK, "--output_dir", str(tmp_path / "out")])

    assert note in capsys.readouterr().err


@pytest.mark.parametrize(
    ("token", "prompt", "negative"),
    [
        ("<cat-toy>", "a dog", "a <cat-toy>"),
        ("<cafe\u0301>", "a <caf\u00e9>", ""),  # "é" in two characters, and in one
        ("<caf\u00e9>", "a <cafe\u0301>", ""),
    ],
)
def test_no_note_on_a_placeholder_that_is_there(tmp_path, base, capsys, token, prompt, negative):
    file = embeds(tmp_path / "run", base, token)

    flags = ["--prompt", prompt, "--negative_prompt", negative]
    infer.main(["--embeds", file, *flags, *QUICK, "--output_dir", str(tmp_path / "out")])

    assert "note:" not in capsys.readouterr().err


def test_prompt_weights_change_the_images_and_are_recorded(tmp_path, base, capsys):
    file = embeds(tmp_path / "run", base, vectors=2)
    long = "a <cat-toy> " + "dog " * 90
    flags = ["--prompt", "a (<cat-toy>:1.5)", "a (<cat-toy>:1.0)", long, "--negative_prompt", "(dog:1.2)"]
    for name, more in (("on", ["--prompt_weights"]), ("off", [])):
        infer.main(["--embeds", file, *flags, *more, *QUICK, "--output_dir", str(tmp_path / name)])
        said = capsys.readouterr().err
        # Marks are told where they are read as text, and the end of a long prompt where it is not read.
        assert [said.count("--prompt_weights reads them"), said.count("; cut: ")] == ([0, 0] if more else [1, 1])

    on, off = (json.loads((tmp_path / n / "manifest.json").read_text())["runs"][0]["images"] for n in ("on", "off"))
    assert all(image["prompt_weights"] is True for image in on) and not any("prompt_weights" in i for i in off)
    assert [image["prompt"] for image in on] == [image["prompt"] for image in off]
    for image in on:  # each prompt holds marks, or is longer than what is read at once
        drawn = [np.asarray(Image.open(tmp_path / name / image["file"])) for name in ("on", "off")]
        assert not np.array_equal(*drawn)


def test_notes_on_prompts_with_weights_are_on_their_words(tmp_path, base, capsys):
    file = embeds(tmp_path / "run", base)
    flags = ["--prompt", "a (cat-toy:1.3)", "(<cat-toy>:1.2)", "a [dog]", "(<dog-toy>)", "--prompt_weights"]

    infer.main(["--embeds", file, *flags, *QUICK, "--output_dir", str(tmp_path / "out")])

    said = capsys.readouterr().err
    assert "'a (cat-toy:1.3)' lacks the brackets of <cat-toy>" in said
    assert "no file holds <dog-toy>, which '(<dog-toy>)' names" in said
    assert "'a [dog]' holds no placeholder token" in said and said.count("note:") == 3


UNWANTED = "is a word for what is not wanted, and no --negative_prompt names it"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--prompt", "a dog", "a cat"], [UNWANTED]),
        (["--prompt", "a dog", "--negative_prompt", "<cat-toy>, dark"], []),
        (["--prompt", "a <cat-toy>"], ["a prompt names it, which leads towards them; it belongs in --negative_prompt"]),
        (["--prompt", "a <cat-toy>", "--negative_prompt", "<cat-toy>"], ["it belongs in --negative_prompt"]),
        (["--prompt", "a (dog:1.2)", "--negative_prompt", "(<cat-toy>:1.2)", "--prompt_weights"], []),
    ],
)
def test_a_word_for_what_is_not_wanted_belongs_in_the_negative_prompt(tmp_path, base, capsys, flags, told):
    file = embeds(tmp_path / "run", base)
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(record | {"learnable_property": "negative"}))

    infer.main(["--embeds", file, *flags, *QUICK, "--output_dir", str(tmp_path / "out")])

    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert len(notes) == len(told) and all(text in note for text, note in zip(told, notes, strict=True)), notes


def test_a_word_for_what_is_not_wanted_changes_nothing_unless_it_is_named(tmp_path, base):
    file, other = embeds(tmp_path / "run", base), embeds(tmp_path / "other", base, vectors=2)
    flags = ["--prompt", "a dog", *QUICK]
    for name, own in (("one", file), ("two", other)):
        infer.main(["--embeds", own, *flags, "--output_dir", str(tmp_path / name)])
    infer.main(["--embeds", file, *flags, "--negative_prompt", "<cat-toy>", "--output_dir", str(tmp_path / "three")])

    one, two, three = (np.asarray(Image.open(tmp_path / name / "0000-seed7.png")) for name in ("one", "two", "three"))
    assert np.array_equal(one, two) and not np.array_equal(one, three)


@pytest.mark.parametrize("prompt", ["a dog", "a (dog:1.3)"])
def test_a_word_in_the_negative_prompt_counts_as_a_word_with_weights_too(tmp_path, base, capsys, prompt):
    file = embeds(tmp_path / "run", base)
    flags = ["--prompt", prompt, "--negative_prompt", "(<cat-toy>:1.2), bad", "--prompt_weights"]

    infer.main(["--embeds", file, *flags, *QUICK, "--output_dir", str(tmp_path / "out")])

    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("vectors", "prompt", "message"),
    [
        (80, "a <cat-toy>", "<cat-toy> has 80 vectors, and a chunk of a prompt has room for 75; leave it out"),
        (1, "a (cat:1000000000)", "'cat' has the weight 1e+09; weights go from -100 to 100"),
        (1, "(" * 9_000 + "cat", "'cat' has the weight inf; weights go from -100 to 100"),
        (1, "cat " * 2_501, "a text of 10004 letters"),
    ],
    ids=range(4),
)
@pytest.mark.parametrize("flag", ["--prompt", "--negative_prompt"])
def test_prompts_with_weights_that_cannot_be_encoded_are_refused(tmp_path, base, vectors, prompt, message, flag):
    file = embeds(tmp_path / "run", base, vectors=vectors)
    flags = ["--prompt", "a cat", "--prompt_weights", *QUICK, "--output_dir", str(tmp_path / "out"), flag, prompt]

    with pytest.raises(SettingsError, match=re.escape(message)):
        infer.main(["--embeds", file, *flags])

    assert not list((tmp_path / "out").glob("*.png"))


def test_a_word_of_more_vectors_than_a_prompt_has_room_for_is_told(tmp_path, base, capsys):
    file = embeds(tmp_path / "run", base, vectors=80)

    infer.main(["--embeds", file, "--prompt", "a <cat-toy>", *QUICK, "--output_dir", str(tmp_path / "out")])

    assert "note: a word of 80 vectors cannot fit in a prompt of 75 tokens: 'a <cat-toy>'" in capsys.readouterr().err


def test_words_that_the_base_model_holds_are_drawn_with_all_their_vectors(tmp_path, base, capsys):
    """The same images, whether a word comes from a file or from the base model; and no note that no file holds it."""
    held = embeds(tmp_path / "held", base, "<held>", vectors=3)
    save_pipeline(load_base_model(base), read_embeddings(held), tmp_path / "saved")
    other = embeds(tmp_path / "other", base)
    flags = ["--prompt", "a <held>", "<held> on a <cat-toy>", "--negative_prompt", "<held>", *QUICK]
    infer.main(["--embeds", held, other, *flags, "--output_dir", str(tmp_path / "files")])
    capsys.readouterr()

    model = ["--pretrained_model_name_or_path", str(tmp_path / "saved")]
    infer.main(["--embeds", other, *model, *flags, "--output_dir", str(tmp_path / "model")])

    assert "note:" not in capsys.readouterr().err
    for name in ("0000-seed7.png", "0002-seed7.png"):
        images = [Image.open(tmp_path / folder / name) for folder in ("files", "model")]
        assert np.abs(np.subtract(*(np.asarray(image, int) for image in images))).max() <= 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num_images 0", "--num_images: must be at least 1, not 0"),
        ("--num_inference_steps 1001", "between 1 and 1000"),
        ("--guidance_scale -1", "--guidance_scale: must be between 0.0 and 1000.0"),
        ("--guidance_scale nan", "--guidance_scale"),
        ("--seed -1", "--seed"),
        ("--height 20", "--height: must be a multiple of 8, not 20; try 16"),
        ("--width x", "--width: 'x' is not a whole number"),
        ("--batch_size 0", "--batch_size"),
        ("--num_cols 0", "--num_cols"),
        ("--num_threads 0", "--num_threads"),
        ("--scheduler magic", "--scheduler: invalid choice: 'magic'"),
        ("--device tpu", "--device: must be cpu, gpu or gpu:N"),
        ("--prompts cat", "did you mean --prompt?"),
    ],
)
def test_bad_values_are_refused_by_name(flags, message):
    with pytest.raises(SettingsError) as refusal:
        infer.main(flags.split())
    assert message in str(refusal.value)


def test_refusals_do_not_import_paddle():
    code = (
        "import sys, infer\n"
        "try: infer.main(['--embeds', 'nowhere.pdparams'])\n"
        "except Exception as error: print(error)\n"
        "print('paddle' in sys.modules)"
    )
    lines = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()

    assert "nowhere.pdparams" in lines[0] and lines[1] == "False"


def test_the_process_ends_with_one_line_and_status_2():
    done = subprocess.run([sys.executable, "infer.py", "--seed", "x"], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: --seed: 'x' is not a whole number; see python infer.py --help\n"


def test_files_that_do_not_fit_are_refused(tmp_path, base):
    file = embeds(tmp_path / "run", base)
    output = ["--output_dir", str(tmp_path / "out")]
    foreign = tmp_path / "taken"
    foreign.mkdir()
    (foreign / "manifest.json").write_text("{}")

    with pytest.raises(EmbeddingFileError, match="nowhere"):
        infer.main(["--embeds", "nowhere", *output])
    with pytest.raises(SettingsError, match="occurs twice"):
        infer.main(["--embeds", file, file, *output])
    with pytest.raises(OutputError, match="choose another"):
        infer.main(["--embeds", file, "--output_dir", str(foreign)])
    with pytest.raises(BaseModelError):
        infer.main(["--embeds", file, "--pretrained_model_name_or_path", str(tmp_path), *output])


@pytest.mark.slow
def test_without_arguments_the_demo_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    infer.main(["--num_images", "1", "--num_inference_steps", "4", "--seed", "1"])

    images = json.loads((tmp_path / "outputs/manifest.json").read_text())["runs"][0]["images"]
    assert len(images) >= 5 and images[0]["guidance_scale"] < 7.5
    with Image.open(tmp_path / "outputs" / images[0]["file"]) as image:
        assert image.size == (128, 128)
        assert np.asarray(image).std() > 20


@pytest.mark.slow
def test_prompts_guidance_and_steps_are_scanned_as_a_grid(tmp_path, base):
    file = embeds(tmp_path / "run", base)

    infer.main(["--embeds", file, "--prompt", "a <cat-toy>", "the <cat-toy>", "--guidance_scale", "1", "3",
                "--num_inference_steps", "1", "2", "--num_images", "1", "--seed", "7",
                "--output_dir", str(tmp_path / "out")])  # fmt: skip

    (run,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["runs"]
    assert [(i["prompt"], i["guidance_scale"], i["num_inference_steps"]) for i in run["images"]] == [
        (prompt, scale, steps) for prompt in ("a <cat-toy>", "the <cat-toy>") for scale in (1, 3) for steps in (1, 2)
    ]
    drawn = {np.asarray(Image.open(tmp_path / "out" / i["file"])).tobytes() for i in run["images"]}
    assert len(drawn) == 8


@pytest.mark.slow
def test_a_killed_run_loses_no_image_from_the_record(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "infer.py"), "--prompt", "a <cat-toy>", "--num_inference_steps", "1",
               "--batch_size", "1", "--output_dir", str(out), "--num_images"]  # fmt: skip
    process = subprocess.Popen([*command, "5000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob("*-seed*.png"))) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait(timeout=60)
    made = sorted(path.name for path in out.glob("*-seed*.png"))
    assert [image["file"] for run in recorded_runs(out) for image in run["images"]] == made and len(made) >= 5

    subprocess.run([*command, "1"], check=True, capture_output=True, timeout=100)

    killed, finished = json.loads((out / "manifest.json").read_text())["runs"]
    assert [image["file"] for image in killed["images"]] == made and len(finished["images"]) == 1
    assert all(image["prompt"] == "a <cat-toy>" for image in killed["images"]) and not list(out.glob("*.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_told_to_end_lists_and_shows_what_was_made(tmp_path, number):
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "infer.py"), "--prompt", "a <cat-toy>", "--num_inference_steps", "1",
               "--batch_size", "1", "--output_dir", str(out), "--num_images", "5000"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # whatever the tests were started with
    )  # fmt: skip
    while len(list(out.glob("*-seed*.png"))) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    try:
        last = process.communicate(timeout=100)[1].splitlines()[-1]
    finally:
        process.kill()

    made = sorted(path.name for path in out.glob("*-seed*.png"))
    assert process.returncode == 128 + number and len(made) >= 3
    assert last == f"stopped by {number.name} after {len(made)} of 5000 images, which are in {out}"
    (run,) = json.loads((out / "manifest.json").read_text())["runs"]
    assert [image["file"] for image in run["images"]] == made and (out / "contact_sheet.png").exists()
    assert not list(out.glob(".*"))
