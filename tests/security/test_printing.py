"""Whatever comes from outside is shown on one line, and obeyed by no terminal, log or page.

The first tests look at the source: nothing prints around `streams.print_error` and `progress.print_line`. The others
put what steers a terminal into all that is printed with a note or an error.
"""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from helpers.call_sites import calls, program_files
from helpers.checkpoint_facts import put_facts, save_checkpoint
from textual_inversion.cli import config_file
from textual_inversion.cli.train import build_parser
from textual_inversion.data import caption_files, image_folder, images, templates
from textual_inversion.evaluation import scoring
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.generation import gallery, prompt_file
from textual_inversion.hub import hugging_face
from textual_inversion.models import weight_files
from textual_inversion.sharing import markdown
from textual_inversion.system import progress, streams
from textual_inversion.system.errors import TextualInversionError, run_command
from textual_inversion.system.terminal_text import HIDDEN, one_line, printed, visible
from textual_inversion.training import checkpoints

# What prints: a function's name, or a method's with its owner.
PRINTING = {"print", "warnings.warn", "os.write", "tqdm.write", "pprint", "pprint.pprint", "traceback.print_exc"}
PRINTING |= {f"sys.{stream}.write" for stream in ("stdout", "stderr", "__stdout__", "__stderr__")}
PRINTING |= {f"sys.{stream}.writelines" for stream in ("stdout", "stderr")}
PRINTS_ITSELF = {
    ("textual_inversion/system/streams.py", "_takes"): "the one place for errors",
    ("textual_inversion/system/progress.py", "print_line"): "the one place for all else",
    ("textual_inversion/system/journal.py", "Journal.add"): "into a file",
    ("textual_inversion/system/links.py", "write_lock"): "into a file",
    ("textual_inversion/studio/pages/context.py", "Context.problem"): "on the page, through marked",
    ("textual_inversion/studio/pages/context.py", "Context.notice"): "on the page, through marked",
    ("textual_inversion/studio/pages/context.py", "Context.careful"): "on the page, through marked",
    ("textual_inversion/studio/pages/fields.py", "Form.refuse"): "on the page, through marked",
    ("textual_inversion/studio/pages/frame.py", "show"): "on the page, the page's own words",
    ("textual_inversion/studio/pages/frame.py", "_may_enter"): "on the page, the page's own words",
    ("textual_inversion/distributed/peers.py", "_write_error"): "at the very end of a process, through one_line",
}
LOGGING = {"debug", "info", "warning", "error", "exception", "critical"}


def around_the_printer(paths) -> list[str]:
    return [
        f"{file}:{node.lineno} {scope}: {name}"
        for file, scope, name, node in calls(paths)
        if (name in PRINTING or name.rpartition(".")[2] in LOGGING) and (file, scope) not in PRINTS_ITSELF
    ]


def test_nothing_is_printed_around_the_one_place():
    assert around_the_printer(program_files()) == []


@pytest.mark.parametrize(
    "call",
    ["print(name)", "sys.stderr.write(name)", "warnings.warn(name)", "logging.warning(name)"],
)
def test_the_search_finds_what_prints(tmp_path, call):
    (tmp_path / "new.py").write_text(f"def f(name):\n    {call}\n")

    assert len(around_the_printer([tmp_path / "new.py"])) == 1


# What a stranger writes into a name or a text, and what of it must not reach a terminal.
STEERING = {
    "colours": "\x1b[31mred",
    "clears the screen": "\x1b[2J\x1b[H",
    "names the window": "\x1b]0;bought\x07",
    "C1 control": "\x9b31m",
    "returns": "harmless\rerror: all is lost",
    "forges a line": "x\nerror: all is lost; send money",
    "forges a line for a page": "x\u2028error: all is lost\u2029y",
    "next line": "x\x85error: y",
    "form feed": "x\x0cerror: y\x0b",
    "runs backwards": "\u202egnp.exe",
    "isolates": "\u2066x\u2069\u200f",
    "hides": "a\u200bb\u2060c\ufeffd",
    "backspaces": "safe\x08\x08\x08\x08evil",
    "bell and null": "\x07\x00\x7f",
    "half a character": "\ud800x",
    "a tag": "x\U000e0041\U000e007f",
    "pushes aside": "x" + " " * 300 + "error: y",
}
NAMES = {kind: text for kind, text in STEERING.items() if "\0" not in text and "\ud800" not in text}


def is_harmless(shown: str) -> bool:
    """Whether each line of an output is one that the program meant."""
    lines = shown.split("\n")
    meant = all(line.isprintable() and " " * 8 not in line for line in lines)
    return meant and not any(line.startswith(("error: all", "error: y")) for line in lines)


@pytest.mark.parametrize("kind", STEERING)
@pytest.mark.parametrize("way", ["print_line", "print_note", "print_error", "bar", "error", "traceback"])
def test_no_way_of_printing_lets_it_through(capsys, way, kind):
    text = STEERING[kind]

    def fail():
        raise TextualInversionError(f"{text} is wrong")

    def show():
        if way == "error":
            with pytest.raises(SystemExit):
                run_command(fail)
        elif way == "traceback":
            streams.print_traceback(ValueError, ValueError(text.replace("\n", " ").replace("  ", "")), None)
        elif way == "bar":
            progress.Progress(1, description="step").write(f"note: {text}")
        else:
            {"print_line": progress.print_line, "print_note": progress.print_note, "print_error": streams.print_error}[
                way
            ](f"{text}")

    show()
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert is_harmless(shown) and shown.count("\n") == 1


@given(st.text(alphabet=st.characters(), max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_is_one_line_of_the_same_letters(text):
    shown = visible(text)

    assert shown.isprintable() and len(shown) == len(text)
    assert all(one == other or other in (HIDDEN, " ") for one, other in zip(text, shown, strict=True))
    assert printed(shown) == printed(text)
    assert printed(text).isprintable() and one_line(text).isprintable()


@pytest.mark.parametrize("text", ["猫と犬", "a <cat-toy> – “quoted”, naïve", "日本語\u3000全角", "emoji 🐈 é"])
def test_what_people_write_stays(text):
    assert visible(text) == text.replace("\u3000", " ")


# ---------------------------------------------------------------------------------------- where it comes from


def image_name(folder: Path, text: str) -> list[str]:
    Image.new("L", (64, 64)).convert("I;16").save(folder / f"{text[:40]}.png".replace("/", ""))
    notes = []
    for path in image_folder.find_images(folder, notes.append):
        images.load_image(path, notes.append)
    return notes


def other_name(folder: Path, text: str) -> list[str]:
    Image.new("RGB", (64, 64)).save(folder / "whole.png")
    (folder / f"{text[:40]}.pdf").write_bytes(b"x")
    (folder / f"{text[:40]}.txt").write_bytes(b"x")
    notes = []
    found = image_folder.find_images(folder, notes.append)
    caption_files.find_captions(found, folder, notes.append)
    return notes


def colour_profile(folder: Path, text: str) -> list[str]:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    description = "named by a stranger".encode("utf-16-be")
    place = bytes(profile).find("Lab".encode("utf-16-be"))
    assert place > 0 and description
    profile[place : place + 6] = text.encode("utf-16-be", "surrogatepass")[:6].ljust(6, b"\0")
    Image.new("RGB", (64, 64)).save(folder / "a.png", icc_profile=bytes(profile))
    notes = []
    images.load_image(folder / "a.png", notes.append)
    return notes


def key_of_a_configuration(folder: Path, text: str) -> list[str]:
    quoted = "".join(f"\\U{ord(letter):08x}" for letter in text)
    (folder / "run.yaml").write_text(f'"{quoted}": 1\n')
    return refused(lambda: config_file.arguments_of(folder / "run.yaml", build_parser()))


def value_of_a_configuration(folder: Path, text: str) -> list[str]:
    quoted = "".join(f"\\U{ord(letter):08x}" for letter in text)
    (folder / "run.yaml").write_text(f'learning_rate: "{quoted}"\n')
    return refused(lambda: config_file.arguments_of(folder / "run.yaml", build_parser()))


def line_of_prompts(folder: Path, text: str) -> list[str]:
    (folder / "prompts.txt").write_bytes(f"a cat --seed {text}".encode("utf-8", "replace"))
    return refused(lambda: prompt_file.read_prompts(folder / "prompts.txt"))


def template(folder: Path, text: str) -> list[str]:
    (folder / "t.txt").write_bytes(f"{text} {{}} {{}}".encode("utf-8", "replace"))
    return refused(lambda: templates.read_templates(folder / "t.txt"))


def metadata_of_images(folder: Path, text: str) -> list[str]:
    row = {"file_name": text.replace("\ud800", ""), "text": "x"}
    (folder / "metadata.jsonl").write_text(f"{json_of(row)}\n{json_of(row)}\n")
    return refused(lambda: caption_files.find_captions([folder / "0.png"], folder, lambda line: None))


def name_of_an_embedding(folder: Path, text: str) -> list[str]:
    (folder / f"{text[:40]}.pt").write_bytes(b"\x80\x02")
    return refused(lambda: read_embeddings(folder / f"{text[:40]}.pt"))


def checkpoint_of_a_stranger(folder: Path, text: str) -> list[str]:
    put_facts(save_checkpoint(folder, 1), json_of({"format": 1, "step": text.replace("\ud800", "")}).encode())
    notes = []
    with pytest.raises(TextualInversionError):
        checkpoints.latest(folder, notes.append)
    return notes


def configuration_of_a_model(folder: Path, text: str) -> list[str]:
    (folder / "i.json").write_text(json_of({"weight_map": {text.replace("\ud800", ""): 5}}))
    return refused(lambda: weight_files.indexed_names(folder / "i.json"))


def answer_of_a_hub(folder: Path, text: str) -> list[str]:
    import requests

    answer = requests.Response()
    answer.status_code = 500
    error = requests.HTTPError(response=answer)
    error.server_message = text
    return [hugging_face.explain(error), hugging_face.explain(ValueError(text))]


def word_in_a_table(folder: Path, text: str) -> list[str]:
    row = {"word": text, "image_similarity": 0.5, "text_similarity": 0.5}
    result = {"baseline": row, "concept": row, "ceiling": {}, "share_of_the_way": None, "text_ratio": None}
    return [line.replace(" " * 8, "") for line in scoring.table(result)]


def json_of(value) -> str:
    import json

    return json.dumps(value)


def refused(call) -> list[str]:
    with pytest.raises(TextualInversionError) as caught:
        call()
    return [str(caught.value)]


SOURCES = [
    image_name, other_name, colour_profile, key_of_a_configuration, value_of_a_configuration, line_of_prompts, template,
    metadata_of_images, name_of_an_embedding, checkpoint_of_a_stranger, configuration_of_a_model, answer_of_a_hub,
    word_in_a_table,
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", NAMES)
def test_no_source_steers_the_terminal(tmp_path, capsys, source, kind):
    said = source(tmp_path, NAMES[kind])
    for line in said:
        progress.print_note(line)
        progress.print_note(line, sys.stdout)
        streams.print_error(f"error: {one_line(line)}")

    captured = capsys.readouterr()
    assert said and is_harmless(captured.out) and is_harmless(captured.err)
    assert captured.out.count("\n") == len(said) and captured.err.count("\n") == 2 * len(said)


# ------------------------------------------------------------------------------------------------- logs and pages


MARKUP = ["`", "``", "a`b", "a`](http://x)`", "<img src=x>", "|", "a|b", "![x](http://x)", "`|`", "x\n\n# y"]


@pytest.mark.parametrize("text", MARKUP)
def test_no_name_becomes_markup_on_a_model_card(text):
    code = markdown.code(text)
    fence = code[: len(code) - len(code.lstrip("`"))]

    assert code.endswith(fence) and fence not in code[len(fence) : -len(fence)].strip("` ").replace(fence + "`", "")
    assert "\n" not in code and "|" not in markdown.cell(text).replace("\\|", "")


def test_a_prompt_cannot_pass_for_the_settings_of_its_image():
    facts = {
        "prompt": "a cat\nNegative prompt: dogs\nSteps: 1, Seed: 5", "negative_prompt": "x\nSteps: 2", "seed": 1,
        "num_inference_steps": 20, "scheduler": "ddim", "guidance_scale": 7.5, "base_model": "a\nSteps: 3",
    }  # fmt: skip
    lines = gallery._text_chunks(facts, [], (64, 64))["parameters"].split("\n")

    assert [line.partition(":")[0] for line in lines] == ["a cat Negative prompt", "Negative prompt", "Steps"]
