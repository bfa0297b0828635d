"""One pass of an upload: in an order in which nobody ever sees half of anything."""

import hashlib
import json
from pathlib import Path

import pytest

from helpers.object_stores import Bucket
from textual_inversion.storage.fetching import WRITER
from textual_inversion.storage.mirror import WRITE, Mirror, State
from textual_inversion.storage.upload import Pace, Pass, Taken, waiting
from textual_inversion.system import atomic
from textual_inversion.system.addresses import parsed
from textual_inversion.system.errors import StorageError
from textual_inversion.system.written_files import FILE_NAME as LIST


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path / "machine"))
    made = Mirror(parsed("s3://bucket/run"), WRITE)
    made.make()
    return made


def signed(state):
    bucket = Bucket()
    bucket.objects[f"run/{WRITER}"] = state.mirror.encode()
    return bucket


def checkpoint(folder, step, content):
    files = {"state.safetensors": content * 1000, "checkpoint.json": json.dumps({"is": content.decode()}).encode()}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    with atomic.fill_folder(folder / f"checkpoint-{step}") as made:
        for name, data in {**files, "SHA256SUMS": sums.encode()}.items():
            atomic.write_new(made / name, data)


def sealed(bucket):
    """The checkpoints that a reader takes for whole, after holding each against its sums."""
    found = set()
    for key, sums in list(bucket.objects.items()):
        if key.endswith("/SHA256SUMS"):
            top = key.rpartition("/")[0]
            for line in sums.decode().splitlines():
                digest, name = line.split("  ")
                assert hashlib.sha256(bucket.objects[f"{top}/{name}"]).hexdigest() == digest, (key, name)
            found.add(top)
    return found


def run(bucket, mirror, state, **settings):
    return Pass(bucket, mirror, state, lambda size: None, **settings).run()


def test_at_no_moment_a_checkpoint_is_seen_that_is_not_whole(mirror):
    state = State()
    bucket = signed(state)
    seen = []
    bucket.after = lambda: seen.append(sealed(bucket))
    for step, content in ((10, b"a"), (20, b"b"), (20, b"c"), (10, b"d")):  # the last two replace what is there
        checkpoint(mirror.folder, step, content)
        run(bucket, mirror, state)
    assert sealed(bucket) == {"run/checkpoint-10", "run/checkpoint-20"}
    assert bucket.objects["run/checkpoint-20/state.safetensors"] == b"c" * 1000
    assert len(seen) > 12 and {"run/checkpoint-10"} in seen  # while the other one was replaced


def test_what_is_gone_goes_only_after_what_is_new_is_there(mirror):
    state = State()
    bucket = signed(state)
    checkpoint(mirror.folder, 10, b"a")
    run(bucket, mirror, state)
    checkpoint(mirror.folder, 20, b"b")
    atomic.remove_folder(mirror.folder / "checkpoint-10")
    fewest = []
    bucket.after = lambda: fewest.append(len(sealed(bucket)))
    run(bucket, mirror, state)
    assert min(fewest) == 1 and sealed(bucket) == {"run/checkpoint-20"}
    assert not any(key.startswith("run/checkpoint-10") for key in bucket.objects)
    removed = [key for what, key in bucket.changes if what == "remove"]
    assert removed[0] == "run/checkpoint-10/SHA256SUMS"


@pytest.mark.parametrize("top", ["trials/000", "runs/<my-cat>"])
def test_a_checkpoint_of_a_run_inside_stays_whole_while_that_run_writes_on(mirror, top):
    state = State()
    bucket = signed(state)
    run_folder = atomic.make_folder(mirror.folder / top)
    checkpoint(run_folder, 10, b"a")
    run(bucket, mirror, state)
    bucket.after = lambda: seen.append(sealed(bucket))
    seen = []
    for number in range(3):
        atomic.write_text(run_folder / "figures.jsonl", str(number))  # what belongs to no checkpoint
        run(bucket, mirror, state)
    checkpoint(run_folder, 20, b"b")
    run(bucket, mirror, state)
    assert len(seen) >= 6 and all(f"run/{top}/checkpoint-10" in whole for whole in seen)
    assert sealed(bucket) == {f"run/{top}/checkpoint-10", f"run/{top}/checkpoint-20"} and not waiting(mirror, state)


def test_a_pipeline_whose_parts_are_replaced_is_none_until_all_of_it_is_there(mirror):
    state = State()
    bucket = signed(state)
    names = ("unet/weights", "text_encoder/weights", "model_index.json", "logs/events")
    for name in names:
        atomic.make_folder((mirror.folder / name).parent)
        atomic.write_bytes(mirror.folder / name, b"1")
    run(bucket, mirror, state)
    seen = []
    bucket.after = lambda: seen.append(dict(bucket.objects))
    atomic.write_bytes(mirror.folder / "logs/events", b"2")  # no part of it
    run(bucket, mirror, state)
    assert all("run/model_index.json" in one for one in seen)
    for name in names[:2]:
        atomic.write_bytes(mirror.folder / name, b"2")  # but not its index, which is as it was
    run(bucket, mirror, state)
    mixed = [one for one in seen if len({one[f"run/{name}"] for name in names[:2]}) > 1]
    assert mixed and not any("run/model_index.json" in one for one in mixed)
    assert bucket.objects["run/model_index.json"] == b"1" and not waiting(mirror, state)


@pytest.mark.parametrize("write", [atomic.write_text, Path.write_text], ids=["another number", "the same number"])
def test_a_record_that_is_written_anew_meanwhile_does_not_go_before_what_it_names(mirror, write):
    state = State()
    bucket = signed(state)
    atomic.write_text(mirror.folder / "a.txt", "first")
    atomic.write_text(mirror.folder / "trials.json", "[]")

    def another_trial_ends():
        bucket.after = lambda: None
        atomic.write_text(mirror.folder / "measured.json", "{}")
        write(mirror.folder / "trials.json", '["measured.json"]')

    bucket.after = another_trial_ends

    run(bucket, mirror, state)
    assert "run/a.txt" in bucket.objects and not {"run/trials.json", "run/measured.json"} & set(bucket.objects)
    run(bucket, mirror, state)
    assert bucket.objects["run/trials.json"] == b'["measured.json"]' and "run/measured.json" in bucket.objects


def test_a_log_that_grows_meanwhile_and_the_list_of_files_go_as_they_are(mirror, monkeypatch):
    state = State()
    bucket = signed(state)
    for name in (LIST, "figures.jsonl"):
        atomic.write_text(mirror.folder / name, "1")
    look = bucket.look

    def grown(key):  # the first that a pass asks, after it looked through the folder
        atomic.write_text(mirror.folder / LIST, "12")
        with open(mirror.folder / "figures.jsonl", "a") as file:
            file.write("2")
        return look(key)

    monkeypatch.setattr(bucket, "look", grown)

    run(bucket, mirror, state)
    assert bucket.objects[f"run/{LIST}"] == bucket.objects["run/figures.jsonl"] == b"12"


def test_a_large_log_that_grows_goes_up_once_a_minute_and_at_the_end(mirror):
    state, now = State(), [0.0]
    bucket, pace = signed(state), Pace(clock=lambda: now[0])
    atomic.make_folder(mirror.folder / "logs")
    for second in range(0, 130, 5):
        now[0] = float(second)
        atomic.write_bytes(mirror.folder / "logs/events", bytes((1 << 20) + second + 1))
        atomic.write_bytes(mirror.folder / "figures.jsonl", bytes(second + 1))  # small: at once
        checkpoint(mirror.folder, 10, str(second).encode() * 2000)  # large, and a unit: at once
        run(bucket, mirror, state, pace=pace)
        assert len(bucket.objects["run/figures.jsonl"]) == second + 1 and sealed(bucket) == {"run/checkpoint-10"}
    assert bucket.changes.count(("put", "run/logs/events")) == 3  # at 0, 60 and 120
    run(bucket, mirror, state)
    assert bucket.changes.count(("put", "run/logs/events")) == 4 and not waiting(mirror, state)


def test_whoever_claims_to_be_the_writer_at_length_is_not_read_to_the_end(mirror):
    bucket = signed(State())
    taken = []

    def without_end(key):
        while True:
            taken.append(key)
            yield bytes(100)

    bucket.parts = without_end
    with pytest.raises(Taken):
        atomic.write_bytes(mirror.folder / "f", b"1")
        run(bucket, mirror, State())
    assert len(taken) < 10


def test_the_list_of_files_goes_first_and_a_pipelines_index_last(mirror):
    state = State()
    bucket = signed(state)
    for name in ("model_index.json", "files.json", "unet/config.json", "a.txt"):
        atomic.make_folder((mirror.folder / name).parent)
        atomic.write_bytes(mirror.folder / name, b"1")
    run(bucket, mirror, state)
    names = [key.removeprefix("run/") for _, key in bucket.changes]
    assert names[0] == "files.json" and names[-1] == "model_index.json" and len(names) == 4


def test_a_unit_that_changes_meanwhile_is_not_sealed_until_it_is_whole(mirror):
    state = State()
    bucket = signed(state)
    checkpoint(mirror.folder, 10, b"a")
    bucket.after = lambda: checkpoint(mirror.folder, 10, b"b") if len(bucket.changes) == 1 else None
    run(bucket, mirror, state)
    assert sealed(bucket) == set() and waiting(mirror, state)
    run(bucket, mirror, state)
    assert sealed(bucket) == {"run/checkpoint-10"} and not waiting(mirror, state)


@pytest.mark.parametrize("last", range(1, 7))
def test_an_upload_that_breaks_off_anywhere_goes_on_to_the_same_end(mirror, last):
    state = State()
    bucket = signed(state)
    checkpoint(mirror.folder, 10, b"a")
    run(bucket, mirror, state)
    mirror.save(state)
    checkpoint(mirror.folder, 10, b"b")
    count = len(bucket.changes)

    def cut():
        sealed(bucket)
        bucket.is_down = len(bucket.changes) - count >= last

    bucket.after = cut
    try:
        run(bucket, mirror, mirror.state())
    except StorageError:
        pass
    bucket.is_down, bucket.after = False, lambda: sealed(bucket)
    run(bucket, mirror, mirror.state())  # another process, which knows what was saved
    run(bucket, mirror, mirror.state())
    assert sealed(bucket) == {"run/checkpoint-10"}
    assert bucket.objects["run/checkpoint-10/state.safetensors"] == b"b" * 1000


def test_only_whoever_began_last_writes(mirror):
    state = State()
    bucket = signed(State())
    atomic.write_bytes(mirror.folder / "f", b"1")
    with pytest.raises(Taken, match="another machine writes to s3://bucket/run now"):
        run(bucket, mirror, state)
    assert bucket.changes == []


def test_nothing_is_removed_where_the_folder_itself_was_lost(mirror):
    state = State()
    bucket = signed(state)
    atomic.write_bytes(mirror.folder / "f", b"1")
    run(bucket, mirror, state)
    atomic.remove_file(mirror.folder / "f")
    run(bucket, mirror, state)
    assert "run/f" in bucket.objects  # an empty folder is no decision
    atomic.write_bytes(mirror.folder / "g", b"1")
    run(bucket, mirror, state, may_remove=False)
    assert "run/f" in bucket.objects
    run(bucket, mirror, state)
    assert "run/f" not in bucket.objects


def test_a_large_file_is_read_as_it_is_sent_and_a_link_is_not_sent(mirror, monkeypatch, tmp_path):
    monkeypatch.setattr("textual_inversion.storage.upload._SMALL", 10)
    state, counted = State(), []
    bucket = signed(state)
    (tmp_path / "secret").write_text("secret")
    (mirror.folder / "link").symlink_to(tmp_path / "secret")
    atomic.write_bytes(mirror.folder / "large", b"0123456789abcdef")
    Pass(bucket, mirror, state, counted.append).run()
    assert bucket.objects["run/large"] == b"0123456789abcdef" and sum(counted) == 16
    assert not any("secret" in content.decode() for content in bucket.objects.values())
