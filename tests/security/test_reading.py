"""What users and strangers give is opened in one place, as a regular file of a stated size, and JSON is parsed in one.

The first tests look at the source: a call that opens a file around `system/user_files.py`, or parses around
`system/checked_json.py`, has to be added to a list here with its reason. The others put something else than a file in
each place where the program reads one.
"""

import contextlib
import os
import resource
import signal
import stat
from pathlib import Path

import paddlenlp.transformers  # noqa: F401  (its import takes more memory than a test may)
import pytest
from PIL import Image

from helpers.call_sites import calls, program_files
from helpers.checkpoint_facts import save_checkpoint
from helpers.tiny_tokenizers import write_tokenizer
from textual_inversion.cli import config_file
from textual_inversion.cli.train import build_parser
from textual_inversion.data import caption_files, image_folder, image_formats, images, latent_files, templates
from textual_inversion.embeddings import run_record
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.generation import gallery, image_grid, prompt_file
from textual_inversion.models import tokenizers, weight_files
from textual_inversion.models.single_file import convert
from textual_inversion.reporting.figures import read_curves
from textual_inversion.settings import config_yaml
from textual_inversion.sharing import model_card
from textual_inversion.system import journal, tracking, user_files
from textual_inversion.system.errors import TextualInversionError
from textual_inversion.system.terminal_text import one_line
from textual_inversion.training import checkpoints

OPENING = {"open", "read_text", "read_bytes", "fromfile", "memmap", "mmap", "loadtxt", "genfromtxt", "copyfile", "copy"}
OPENING |= {"copy2", "copytree", "read_csv", "TemporaryFile", "safe_open", "load_file"}
# Where else a file may be opened: (file, function) -> why it is none that a stranger could have put there.
OPENS_ITSELF = {
    ("textual_inversion/system/user_files.py", "descriptor"): "the one place",
    ("textual_inversion/cli/parser.py", "demo_defaults"): "a file of this program",
    ("textual_inversion/settings/other_names.py", "rows"): "a file of this program",
    ("textual_inversion/distributed/consistency.py", "of_source"): "the source of this program",
    ("textual_inversion/data/latent_files.py", "_processor"): "the system's own, of a few kilobytes",
    ("textual_inversion/system/environment.py", "_read"): "the system's own, of a few kilobytes",
    ("textual_inversion/distributed/peers.py", "_is_restarted"): "the system's own, of a few kilobytes",
    ("textual_inversion/system/timing.py", "process_seconds"): "the system's own, of a few hundred bytes",
    ("textual_inversion/system/streams.py", "prepare"): "a descriptor that is open already",
    ("textual_inversion/system/streams.py", "_open_nothing"): "the null device",
    ("textual_inversion/formats/reader.py", "map_whole"): "a descriptor from user_files",
    ("textual_inversion/models/weight_files.py", "WeightFile._bytes"): "a file from user_files",
    ("textual_inversion/models/weight_files.py", "write_weights"): "a temporary file of atomic.replacing",
    ("textual_inversion/models/export.py", "_link"): "weights that were checked and read before",
    ("textual_inversion/data/image_formats.py", "open_image"): "a file from user_files",
    ("textual_inversion/generation/png_files.py", "opened_png"): "a file from user_files",
    ("textual_inversion/data/previews.py", "_shown"): "bytes in memory",
    ("textual_inversion/data/masks.py", "MaskFile.load"): "bytes in memory",
    ("textual_inversion/system/tracker_process.py", "main"): "the null device",
    ("textual_inversion/system/tracker_process.py", "_pixels"): "bytes in memory, of this program",
    (
        "textual_inversion/storage/upload.py",
        "Pass._upload",
    ): "a file of its own folder, below which no link is followed",
    ("textual_inversion/studio/children.py", "start"): "the log that it has just made, for writing",
}
# Modules that write files, and read none but their own: `atomic`, locks, logs.
WRITES_ONLY = {
    "textual_inversion/system/atomic.py",
    "textual_inversion/system/journal.py",
    "textual_inversion/system/output_lock.py",
    "textual_inversion/system/links.py",
    "textual_inversion/system/written_files.py",
    "textual_inversion/models/single_file/convert.py",
    "textual_inversion/models/single_file/vae.py",
    "textual_inversion/system/log_files.py",
    "textual_inversion/sharing/redact.py",
}
PARSING = {
    "json.loads",
    "json.load",
    "yaml.safe_load",
    "yaml.load",
    "yaml.compose",
    "tomllib.load",
    "tomllib.loads",
    "csv.reader",
}
PARSES_ITSELF = {
    ("textual_inversion/system/checked_json.py", "parse_json"): "the one place",
    ("textual_inversion/cli/config_file.py", "root_of"): "the one place for YAML",
    ("textual_inversion/cli/foreign_files.py", "_toml"): "the one place for TOML",
    ("textual_inversion/cli/parser.py", "demo_defaults"): "a file of this program",
    ("textual_inversion/training/fingerprint.py", "of_settings"): "what was written in the same line",
    ("textual_inversion/training/fingerprint.py", "changes"): "what was written in the same line",
    ("textual_inversion/distributed/consistency.py", "of_program"): "what was written in the same line",
}
# Messages between the processes of a run, which know each other's secret; files that a run lists as its own.
PARSES_OWN = {
    "textual_inversion/distributed/connections.py",
    "textual_inversion/distributed/meeting.py",
    "textual_inversion/distributed/messages.py",
    "textual_inversion/system/written_files.py",
    "textual_inversion/sharing/public_records.py",
    "textual_inversion/sharing/redact.py",
}


def around_the_opener(paths) -> list[str]:
    found = []
    for file, scope, name, node in calls(paths):
        owner, _, last = name.rpartition(".")
        if last not in OPENING or owner.split(".")[-1] in ("user_files", "webbrowser", "Gallery") or owner == "self":
            continue
        if last == "read_bytes" and not owner:
            continue  # user_files' own, or weight_files', which gives it the messages of a base model
        if last in ("copy",) and owner != "shutil":
            continue
        if (file, scope) not in OPENS_ITSELF and file not in WRITES_ONLY:
            found.append(f"{file}:{node.lineno} {scope}: {name}")
    return found


def around_the_parser(paths) -> list[str]:
    return [
        f"{file}:{node.lineno} {scope}: {name}"
        for file, scope, name, node in calls(paths)
        if name in PARSING and (file, scope) not in PARSES_ITSELF and file not in PARSES_OWN
    ]


def test_no_file_is_opened_around_the_one_place():
    assert around_the_opener(program_files()) == []


def test_no_json_and_no_yaml_is_parsed_around_the_one_place():
    assert around_the_parser(program_files()) == []


OPENERS = [
    "open(path)",
    "path.open('rb')",
    "Path(path).read_text()",
    "self._folder.read_bytes()",
    "os.open(path, 0)",
    "np.fromfile(path)",
    "Image.open(path)",
    "shutil.copyfile(path, other)",
    "io.open(path)",
]


@pytest.mark.parametrize("call", OPENERS)
def test_the_search_finds_what_opens_files(tmp_path, call):
    (tmp_path / "new.py").write_text(f"def f(path):\n    return {call}\n")

    assert len(around_the_opener([tmp_path / "new.py"])) == 1


@pytest.mark.parametrize("call", ["json.loads(text)", "json.load(file)", "yaml.safe_load(text)"])
def test_the_search_finds_what_parses(tmp_path, call):
    (tmp_path / "new.py").write_text(f"class A:\n    def f(self, text):\n        return {call}\n")

    assert len(around_the_parser([tmp_path / "new.py"])) == 1


# ------------------------------------------------------------------------------------- something else than a file


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_gigabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30)


THINGS = [a_pipe, a_device, a_socket, a_folder, a_gigabyte]


def read_configuration(path: Path) -> None:
    config_file.arguments_of(path, build_parser())


def read_checkpoint_with(name: str):
    def read(path: Path) -> None:
        folder = save_checkpoint(path.parent, 3)
        (folder / name).unlink()
        path.rename(folder / name)
        checkpoints.read(folder)

    return read


def read_single_file(path: Path) -> None:
    path.with_suffix(".safetensors").touch()
    convert.unpack(path.with_suffix(".safetensors"), path.parent / "cache")


def read_vocabulary_with(name: str):
    def read(path: Path) -> None:
        write_tokenizer(path.parent / "tokenizer", json_only=name == "tokenizer.json")
        (path.parent / "tokenizer" / name).unlink(missing_ok=True)
        path.rename(path.parent / "tokenizer" / name)
        tokenizers.load_clip_tokenizer(path.parent / "tokenizer", longest=77)

    return read


# How a file is called that the program reads -> what reads it; each ends in an error of one line that names the file.
READERS = {
    "0.txt": caption_files.read_lines,
    "metadata.jsonl": caption_files._Metadata,
    "metadata.csv": caption_files._Metadata,
    "templates.txt": templates.read_templates,
    "prompts.txt": prompt_file.read_prompts,
    "run.yaml": read_configuration,
    "0.png": images.load_image,
    "mask.png": images.load_alpha,
    "run.json": lambda path: run_record.read_record(path.parent),
    "manifest.json": lambda path: gallery.Gallery(path.parent, {}),
    "cat.pdparams": read_embeddings,
    "cat.safetensors": read_embeddings,
    "weights.safetensors": weight_files.WeightFile,
    "config.json": weight_files.read_json,
    "model.safetensors.index.json": weight_files.indexed_names,
    "sd15.yaml": read_single_file,
    **{name: read_checkpoint_with(name) for name in ("checkpoint.json", "SHA256SUMS", "state.safetensors")},
    **{
        name: read_vocabulary_with(name)
        for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    },
}


@contextlib.contextmanager
def bounded(seconds: int = 10, megabytes: int = 200):
    """Inside the block, waiting or taking memory ends the test."""

    def too_long(*_):
        raise AssertionError(f"it takes more than {seconds} s")

    taken = next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").open() if line.startswith("VmData"))
    before, handler = resource.getrlimit(resource.RLIMIT_DATA), signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_DATA, (taken + (megabytes << 20), before[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_of_its_size_is_named_at_once(tmp_path, name, thing):
    thing(tmp_path / name)

    with bounded(), pytest.raises(TextualInversionError) as caught:
        READERS[name](tmp_path / name)

    assert one_line(caught.value) == str(caught.value) and len(str(caught.value)) < 600
    assert name in str(caught.value) and ("it is a" in str(caught.value) or thing is a_gigabyte)


# What is passed over in silence or with a line of its own, because it is not necessary.
PASSED_OVER = {
    "manifest-1.jsonl": (journal.read, []),
    "over-time.png": (lambda path: image_grid.frames_of(path, 9), []),
    "figures.jsonl": (lambda path: read_curves(path.parent), {}),
    "README.md": (lambda path: model_card.write(path.parent, None), False),
    "config.yaml": (config_yaml._is_ours, False),
    "image": (image_formats.is_image, False),
}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_is_not_necessary_is_passed_over_at_once(tmp_path, name, thing):
    thing(tmp_path / name)
    read, found = PASSED_OVER[name]

    with bounded():
        assert read(tmp_path / name) == found


@pytest.mark.parametrize("thing", THINGS)
def test_latents_on_disk_that_are_no_files_are_encoded_again(tmp_path, thing):
    thing(tmp_path / "a.safetensors")

    with bounded(), pytest.raises((OSError, ValueError)):
        latent_files._read(tmp_path / "a.safetensors", "key", (4, 8, 8))


@pytest.mark.parametrize("thing", THINGS[:4])
def test_a_log_that_is_no_file_is_not_continued(tmp_path, thing):
    thing(tmp_path / "vdlrecords.1.log")

    with bounded(), tracking.open_tracker("visualdl", tmp_path, resumed_at=3) as tracker:
        tracker.scalar("loss", 0.5, 3)
    assert len(list(tmp_path.glob("vdlrecords*"))) == 2


@pytest.mark.parametrize("thing", THINGS)
def test_figures_of_a_run_that_are_no_file_are_passed_over(tmp_path, thing):
    thing(tmp_path / "figures.jsonl")

    with bounded():
        assert read_curves(tmp_path) == {}


def test_a_folder_of_images_may_hold_anything(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    for thing in THINGS:
        thing(tmp_path / f"{thing.__name__}.dat")
    notes = []

    with bounded():
        assert [path.name for path in image_folder.find_images(tmp_path, notes.append)] == ["whole.png"]


# --------------------------------------------------------------------------------------------------- the one place


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\ntwo")

    assert user_files.read_text(tmp_path / "a", 11) == "one\ntwo"
    with pytest.raises(user_files.UnusableFile, match="a cannot be read .it has 11 bytes, and at most 10 bytes are"):
        user_files.read_bytes(tmp_path / "a", 10)


def test_what_says_that_it_is_empty_is_read_up_to_the_limit():
    with pytest.raises(user_files.UnusableFile, match="at most 10 bytes"):
        user_files.read_bytes("/proc/self/status", 10)


def test_a_file_that_is_changed_between_the_checks_is_found_out(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    harmless = os.stat(tmp_path / "a")
    monkeypatch.setattr(os, "stat", lambda path: harmless)

    with bounded(), pytest.raises(user_files.UnusableFile, match="named pipe"):
        user_files.read_bytes(tmp_path / "pipe", 10)


def test_a_refused_file_leaves_no_descriptor(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    a_gigabyte(tmp_path / "large")
    before = len(os.listdir("/proc/self/fd"))

    for name in ("pipe", "large", "gone"):
        with pytest.raises(OSError):
            user_files.read_bytes(tmp_path / name, 10)

    assert len(os.listdir("/proc/self/fd")) == before
