"""JSON and YAML of strangers: damage, floods and wrong types end in the error of what is read, in one line."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from helpers.checkpoint_facts import change_facts, facts_of_a_run, put_facts, save_checkpoint
from helpers.tiny_models import build_model
from helpers.tiny_tokenizers import write_tokenizer
from textual_inversion.cli import config_file
from textual_inversion.cli.train import build_parser
from textual_inversion.data import caption_files
from textual_inversion.embeddings import run_record
from textual_inversion.evaluation.clip import ClipScorer
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.generation import gallery, image_grid
from textual_inversion.hub import hugging_face
from textual_inversion.models import tokenizers, weight_files
from textual_inversion.models.base_model import load_base_model
from textual_inversion.system import journal
from textual_inversion.system.errors import CheckpointError, SettingsError, TextualInversionError
from textual_inversion.training import checkpoints

# What JSON can be and still break a program; each stands where a value stands.
BOMBS = {
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "deep, but not for the parser": "[" * 300 + "]" * 300,
    "half a character": '"\\ud800"',
    "half a name": '{"\\udfff": 1}',
    "beyond floats": "1e999",
    "below floats": "-1e999",
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "many digits": "9" * 100_000,
    "many decimals": "0." + "1" * 100_000,
    "cut": '{"a": [1,',
    "a name twice": '{"a": 1, "a": 2}',
    "a million blanks": " " * 1_000_000 + "1",
    "control characters": '"\x00\x1b[31m"',
    "not text": '"\udcff"',
}


def safetensors_with(value: bytes) -> bytes:
    header = b'{"__metadata__":{"a":' + value + b'},"<x>":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]}}'
    return len(header).to_bytes(8, "little") + header + bytes(16)


def read_manifest(folder: Path, value: bytes) -> None:
    (folder / "manifest.json").write_bytes(b'{"runs": [{"id": ' + value + b"}]}")
    gallery.Gallery(folder, {})


def read_record(folder: Path, value: bytes) -> None:
    (folder / "run.json").write_bytes(b'{"placeholder_token": "<x>", "figures": ' + value + b"}")
    run_record.read_record(folder)


def read_config(folder: Path, value: bytes) -> None:
    (folder / "config.json").write_bytes(b'{"sample_size": ' + value + b"}")
    weight_files.read_json(folder / "config.json")


def read_index(folder: Path, value: bytes) -> None:
    (folder / "i.json").write_bytes(b'{"weight_map": {"a": ' + value + b"}}")
    weight_files.indexed_names(folder / "i.json")


def read_header(folder: Path, value: bytes) -> None:
    (folder / "a.safetensors").write_bytes(safetensors_with(value))
    read_embeddings(folder / "a.safetensors")


def read_vocabulary(folder: Path, value: bytes) -> None:
    write_tokenizer(folder)
    (folder / "special_tokens_map.json").write_bytes(b'{"pad_token": ' + value + b"}")
    tokenizers.load_clip_tokenizer(folder, longest=77)


def read_row(folder: Path, value: bytes) -> None:
    (folder / "metadata.jsonl").write_bytes(b'{"file_name": "0.png", "text": ' + value + b"}\n")
    caption_files.find_captions([folder / "0.png"], folder, lambda line: None)


def read_checkpoint(folder: Path, value: bytes) -> None:
    facts = json.dumps({"format": 1, "step": 1, **facts_of_a_run()}).encode()
    put_facts(save_checkpoint(folder, 1), facts[:-1] + b', "figures": ' + value + b"}")
    checkpoints.read(folder / "checkpoint-1")


def read_journal(folder: Path, value: bytes) -> None:
    (folder / "manifest-1.jsonl").write_bytes(b'{"id": ' + value + b"}\n")
    journal.read(folder / "manifest-1.jsonl")


def read_strip(folder: Path, value: bytes) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("frames", '{"size": ' + value.decode("latin-1").replace("\0", "") + ', "places": {}}', zip=True)
    Image.new("RGB", (64, 64)).save(folder / "a.png", pnginfo=info)
    image_grid.frames_of(folder / "a.png", 9)


READERS = [
    read_manifest, read_record, read_config, read_index, read_header, read_vocabulary, read_row, read_checkpoint,
    read_journal, read_strip,
]  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("read", READERS)
def test_json_that_breaks_programs_is_read_or_named(tmp_path, read, kind):
    try:
        read(tmp_path, BOMBS[kind].encode("utf-8", "surrogateescape"))
    except TextualInversionError as error:
        assert str(tmp_path) in str(error) and "\n" not in str(error) and len(str(error)) < 700


# --------------------------------------------------------------------------------------------------- checkpoints


WRONG = [None, True, -1, 1.5, "x", "7", [], ["x"], {}, {"x": {}}, 10**30]
PLACES = {
    "step": ("step",), "format": ("format",), "loss": ("loss",), "learning rate": ("learning_rate",),
    "settings": ("settings",), "seed": ("settings", "--seed"), "figures": ("figures",),
    "skipped": ("figures", "skipped_steps"), "losses": ("figures", "fixed_set_loss"),
    "a loss": ("figures", "fixed_set_loss", "0"), "best": ("figures", "best"), "by": ("figures", "best", "by"),
    "scores": ("figures", "best", "scores"), "best step": ("figures", "best", "step"),
    "score": ("figures", "best", "score"), "resumed": ("resumed",), "a resumption": ("resumed", 0),
    "its step": ("resumed", 0, "step"), "its changes": ("resumed", 0, "changed"),
}  # fmt: skip
# What is right in a place, beside numbers where a number belongs.
RIGHT = {("loss",): (int, float), ("learning_rate",): (int, float)}


def whole_figures() -> dict:
    best = {"by": "loss on the fixed set", "scores": {"0": 0.5}, "step": 1, "score": 0.5, "file": "best"}
    return {"skipped_steps": 0, "fixed_set_loss": {"0": 0.5}, "best": best}


def replaced(facts, place, value) -> None:
    for key in place[:-1]:
        facts = facts[key]
    facts[place[-1]] = value


@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_of_wrong_types_is_passed_over_and_the_one_before_it_taken(tmp_path, place):
    """Its check sums are right, as a stranger can make them."""
    history = [{"step": 1, "changed": []}]
    save_checkpoint(tmp_path, 2, value=2.0)
    save_checkpoint(tmp_path, 4, value=4.0, figures=whole_figures(), resumed=history)
    pristine = (tmp_path / "checkpoint-4" / "checkpoint.json").read_bytes()
    for value in WRONG:
        put_facts(tmp_path / "checkpoint-4", pristine)
        change_facts(tmp_path / "checkpoint-4", lambda facts, value=value: replaced(facts, PLACES[place], value))
        notes = []

        found = checkpoints.latest(tmp_path, notes.append)

        if found.step == 4 or (found.step == value and place == "step"):  # it is what a run may write
            with contextlib.suppress(KeyError):
                checkpoints.checked(found.facts | {"step": found.step}, checkpoints.Facts)
            assert type(value) in (int, float, list, dict, str) and notes == []
        else:
            assert found.step == 2 and len(notes) == 1 and "checkpoint-4" in notes[0] and "\n" not in notes[0]


@pytest.mark.parametrize("gone", ["loss", "learning_rate", "settings", "figures", "resumed", "step", "format"])
def test_a_checkpoint_that_lacks_a_fact_is_named(tmp_path, gone):
    change_facts(save_checkpoint(tmp_path, 4), lambda facts: facts.pop(gone))

    with pytest.raises(CheckpointError, match="another version" if gone == "format" else f"lacks {gone}"):
        checkpoints.read(tmp_path / "checkpoint-4")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_any_facts_are_those_of_a_run_or_an_error(tmp_path):
    folder = save_checkpoint(tmp_path, 4)

    @given(ANY_JSON, st.sampled_from(list(PLACES.values())))
    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def read(value, place):
        facts = {"format": 1, "step": 4, "serial": 1, **facts_of_a_run(figures=whole_figures())}
        facts["resumed"] = [{"step": 1, "changed": []}]
        replaced(facts, place, value)
        put_facts(folder, json.dumps(facts).encode())
        try:
            found = checkpoints.read(folder)
        except CheckpointError:
            return
        assert type(found.step) is int and type(found.facts["settings"]["--seed"]) is int
        assert isinstance(found.facts["figures"], dict) and isinstance(found.facts["resumed"], list)

    read()


# ----------------------------------------------------------------------------------------------------------- YAML


YAML = {
    "deep lists": "a: " + "[" * 5000,
    "deep objects": "{a: " * 5000,
    "deep blocks": "".join(f"{' ' * depth}a:\n" for depth in range(500)),
    "deep dashes": "- " * 5000 + "a",
    "deep questions": "? " * 5000,
    "deep keys": "? " + "[" * 400 + "]" * 400 + "\n: 1",
    "a billion laughs": "".join(f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 1}]\n" for n in range(12)),
    "a key that laughs": "x: &a [1, 1]\n"
    + "".join(f"y{n}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9))
    + "? *i\n: 1",
    "a list that holds itself": "? &a [*a]\n: 1",
    "half a character": 'output_dir: "\\ud800"',
    "no character": 'output_dir: "\\UFFFFFFFF"',
    "a number of a kind": "seed: !!int x",
    "an object of Python": "seed: !!python/object/apply:os.system [ls]",
    "an unknown anchor": "seed: *nobody",
    "a long name": "x" * 100_000 + ": 1",
    "a large number": "seed: " + "9" * 100_000,
    "NaN": "learning_rate: .nan",
    "beyond floats": "learning_rate: 1e999",
    "a null": 'output_dir: "\\0"',
    "many settings": "seed: 1\n" * 20_000,
}


@pytest.mark.parametrize("kind", YAML)
def test_a_configuration_that_breaks_programs_is_named(tmp_path, kind):
    (tmp_path / "run.yaml").write_text(YAML[kind])

    with pytest.raises(SettingsError) as caught:
        config_file.arguments_of(tmp_path / "run.yaml", build_parser())
    assert str(tmp_path / "run.yaml") in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


# -------------------------------------------------------------------------------------------------- hub answers


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("siblings"), AttributeError("x"), ValueError("x")])
def test_an_answer_of_a_hub_of_another_type_is_an_error_of_the_hub(monkeypatch, error):
    import huggingface_hub

    def model_info(self, *arguments, **options):
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)

    with pytest.raises(hugging_face.HubError, match="gave an answer that cannot be used"):
        hugging_face.files_of("nobody/nothing")


@pytest.mark.parametrize("name", [None, 5, ["a"], {"a": 1}])
def test_names_of_files_that_are_no_text_are_an_error_of_the_hub(monkeypatch, name):
    import types

    import huggingface_hub

    found = types.SimpleNamespace(siblings=[types.SimpleNamespace(rfilename=name)])
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, *arguments, **options: found)

    with pytest.raises(hugging_face.HubError, match="gave an answer that cannot be used"):
        hugging_face.files_of("nobody/nothing")


# -------------------------------------------------------------------------------------------------- base models


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_wrong_types_in_any_configuration_of_a_base_model_are_named(tmp_path, layout):
    whole = build_model(tmp_path / "whole", "sd1", layout, safety_checker=True)
    escaped = []
    for path in sorted(path.relative_to(whole) for path in whole.rglob("*.json") if path.name != "vocab.json"):
        for key in json.loads((whole / path).read_text()):
            for value in ("x", [], 5):
                broken = tmp_path / "broken"
                shutil.copytree(whole, broken, copy_function=lambda a, b: Path(b).hardlink_to(a))
                content = json.loads((whole / path).read_text()) | {key: value}
                (broken / path).unlink()
                (broken / path).write_text(json.dumps(content))
                try:
                    load_base_model(broken).pipeline(with_safety_checker=True)
                except TextualInversionError as error:
                    assert "\n" not in str(error)
                except Exception as error:
                    escaped.append(f"{path} {key}={value!r}: {type(error).__name__} {error}"[:200])
                shutil.rmtree(broken)
    assert not escaped, "\n".join(escaped)


@pytest.mark.parametrize(
    "config",
    [{"text_config": 5, "vision_config": {}}, {"text_config": "x"}, {"text_config": [1], "vision_config": [1]}],
)
def test_a_clip_model_of_wrong_types_is_named(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))

    with pytest.raises(TextualInversionError, match="config.json|not a CLIP model"):
        ClipScorer(tmp_path)
