"""Whatever strangers have left in a run's folder: only what the run wrote goes up, and what is theirs stays."""

import json
import os
import random
import re
import string

import pytest

from helpers.attacks.uploads import NAMES, SECRET, put
from helpers.local_hub import TOKEN
from helpers.written_runs import SMALL, WHOLE, write, written_run
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train import TrainConfig
from textual_inversion.sharing import public_records, upload
from textual_inversion.sharing.public_records import public_config, public_record
from textual_inversion.system.errors import OutputError
from textual_inversion.system.written_files import WrittenFiles


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("diary.txt", "step-1.png", "model_state.pdparams", "state"):
        (folder / name).write_bytes(SECRET)
    return folder


def assert_only_own(up, outside):
    for name, content in up.items():
        assert SECRET not in content, name
    assert set(up) <= SMALL | WHOLE
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == dict.fromkeys(
        ("diary.txt", "step-1.png", "model_state.pdparams", "state"), SECRET
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "link", "folder", "hard link"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_strangers_goes_up_or_goes(tmp_path, hub, outside, name, kind, moment):
    folder = tmp_path / "cat"
    left = put(folder / name, kind, outside) if moment == "before" else None
    try:
        with written_run(folder) as files:
            left = put(folder / name, kind, outside) if moment == "after" else left
            upload.upload(files, None, TOKEN, whole_pipeline=True, say=lambda line: None)
    except OutputError as refused:  # a folder that the run would have to write through, or to replace
        assert "\n" not in str(refused) and ("symbolic link" in str(refused) or "is not of this run" in str(refused))

    assert_only_own(hub.repositories.get("me/cat", {}), outside)
    if left is not None:
        assert os.path.lexists(left)
        assert kind == "folder" or left.read_bytes() == SECRET


@pytest.mark.parametrize("name", sorted(SMALL | WHOLE))
@pytest.mark.parametrize("kind", ["file", "link", "folder", "hard link", "behind a link"])
def test_what_takes_the_name_of_a_runs_file_afterwards_is_named_and_stays_here(tmp_path, hub, outside, name, kind):
    with written_run(tmp_path / "cat") as files:
        path, said = files.folder / name, []
        if kind == "behind a link" and path.parent != files.folder:
            for other in path.parent.iterdir():
                other.unlink()
            path.parent.rmdir()
            path.parent.symlink_to(outside)
        else:
            path.unlink()
            put(path, kind, outside)
        try:
            upload.upload(files, None, TOKEN, whole_pipeline=True, say=said.append)
        except OutputError as refused:
            said.append(str(refused))
    up = hub.repositories.get("me/cat", {})
    assert name not in up and any(name in line for line in said)
    assert_only_own(up, outside)


@pytest.mark.parametrize("seed", range(20))
def test_a_folder_full_of_earlier_things_gives_the_run_alone(tmp_path, hub, outside, seed):
    """Also one with the files and the list of an earlier run of the same names."""
    chance, folder = random.Random(seed), tmp_path / "cat"
    if seed % 2:
        with WrittenFiles(folder if not folder.mkdir() else folder):
            write(folder, private="of the earlier run")
        (folder / "learned_embeds-steps-3.pdparams").write_bytes(SECRET)
    for _ in range(30):
        letters = (
            "".join(chance.choices(string.ascii_letters + " .-\\%*[?猫", k=chance.randint(1, 12))).strip(". ") or "x"
        )
        name = chance.choice(["", "samples/", "deep/er/", "learned_embeds", "unet2/"]) + letters
        put(folder / name, chance.choice(["file", "link", "folder", "hard link"]), outside)
    with written_run(folder) as files:
        upload.upload(files, None, TOKEN, whole_pipeline=bool(seed % 3))

    up = hub.repositories["me/cat"]
    assert set(up) == (SMALL | WHOLE if seed % 3 else SMALL)
    assert_only_own(up, outside)


# ---------------------------------------------------------------------------------------------------- what records say

FLAGS = all_flags(TrainConfig)


def test_of_each_flag_it_is_decided_whether_others_may_see_it():
    shown, kept = set(public_records.SETTINGS), set(public_records.KEPT_BACK)
    assert not shown & kept and set(FLAGS) <= shown | kept
    assert all(public_records.SETTINGS.values()) and all(public_records.KEPT_BACK.values())


def test_no_flag_that_may_hold_a_path_or_a_secret_is_shown():
    of_the_base_model = "pretrained_model_name_or_path"
    shown = {
        name for name in public_records.SETTINGS if name in FLAGS and (FLAGS[name].is_path or FLAGS[name].is_secret)
    }
    assert shown == {of_the_base_model}


PATHS = ["/home/ann/x", "../../ann-private-logs", "models/ann", "ann", "~/ann", "C:\\ann\\x", "\\\\ann\\share", "./ann"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("base", ["local:" + "b" * 64, "local:demo", "owner/model"])
def test_whatever_path_stands_anywhere_in_a_record_none_is_published(path, base):
    settings = {name: [path] if flag.nargs == "+" else path for name, flag in FLAGS.items()
                if name not in public_records.SETTINGS or FLAGS[name].is_path}  # fmt: skip
    record = {"base_model": path, "public_base_model": base, "settings": settings | {"a new setting": path},
              "figures": {"overview": path, "note": path, "losses": {"1": 0.5, "x": path}, "list": [1, path]},
              "resumed": [{"step": 3, "changed": [path]}], "a new field": path}  # fmt: skip

    for text in (json.dumps(public_record(record)), public_config(f"# Repeats a run\n{json.dumps(settings)}", base)):
        assert not re.search("ann", text.replace("guidance", "")), text
    assert public_record(record)["base_model"] == base
    assert public_record(record)["figures"] == {"losses": {"1": 0.5}, "list": [1]}


@pytest.mark.parametrize(
    "record", [{}, [], {"settings": []}, {"settings": {}}, {"settings": {}, "public_base_model": 3}]
)
def test_a_record_of_another_kind_is_not_published(record):
    with pytest.raises(OutputError):
        public_record(record if isinstance(record, dict) else {})
