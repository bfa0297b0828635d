"""Addresses of object storage as values of flags, of every command."""

import argparse
from pathlib import Path

import pytest

from textual_inversion.cli import addresses
from textual_inversion.cli.parser import asking_nobody, parser_of
from textual_inversion.settings import flag as kinds
from textual_inversion.settings.compare import CompareConfig, VerifyConfig
from textual_inversion.settings.convert import ConvertConfig, DoctorConfig, InspectConfig, MixConfig
from textual_inversion.settings.flag import ADDRESSES, all_flags
from textual_inversion.settings.generation import InferConfig, ScoreConfig
from textual_inversion.settings.studio import StudioConfig
from textual_inversion.settings.sweep import SweepConfig
from textual_inversion.settings.teach import TeachConfig
from textual_inversion.settings.train import TrainConfig
from textual_inversion.storage import reading
from textual_inversion.system.addresses import is_address, parsed, stand_for
from textual_inversion.system.errors import SettingsError, StorageError

COMMANDS = (CompareConfig, VerifyConfig, ConvertConfig, DoctorConfig, InspectConfig, MixConfig, InferConfig,
            ScoreConfig, StudioConfig, SweepConfig, TeachConfig, TrainConfig)  # fmt: skip
# What a value that is written to may be called; all other paths are read.
OUTPUTS = {"output", "output_dir", "curve", "resume"}
STAYS_HERE = {"cache_dir", "cache_latents_dir", "logging_dir", "workspace", "roots"}


@pytest.mark.parametrize("config", COMMANDS)
def test_every_path_knows_what_an_address_means(config):
    for name, flag in all_flags(config).items():
        if not flag.is_path:
            continue
        use = flag.use_of_address
        assert use in ADDRESSES
        is_output = name in OUTPUTS and not flag.is_positional
        assert (use in (kinds.WRITTEN, kinds.WRITTEN_FILE)) == is_output, name
        assert (use == kinds.LOCAL) == (name in STAYS_HERE), name


@pytest.fixture
def taken(monkeypatch):
    """What was fetched and written, in place of doing so."""
    seen = []

    def read(source, use, parsed):
        seen.append((use, str(source)))
        return Path("/here", source.name)

    def written(target, *, is_file, only_looks):
        seen.append(("looked at" if only_looks else "written", str(target)))
        return Path("/out", target.name)

    monkeypatch.setattr(addresses, "_read", read)
    monkeypatch.setattr(addresses, "_written", written)
    return seen


def parse(config, *words):
    return parser_of(config, prog="x", description="x").parse_args(list(words))


def test_each_value_becomes_what_stands_for_it_and_outputs_come_first(taken):
    found = parse(TrainConfig, "--train_data_dir", "s3://bb/a", "images", "gs://bb/c", "--output_dir", "s3://bb/run")
    assert (found.train_data_dir, found.output_dir) == (["/here/a", "images", "/here/c"], "/out/run")
    assert taken == [("written", "s3://bb/run"), ("tree", "s3://bb/a"), ("tree", "gs://bb/c")]


def test_a_scale_stays_behind_its_file(taken):
    assert parse(InferConfig, "--lora", "s3://bb/x.safetensors:0.5", "s3://bb/y").lora == ["/here/x.safetensors:0.5",
                                                                                         "/here/y"]  # fmt: skip
    assert taken == [("file", "s3://bb/x.safetensors"), ("file", "s3://bb/y")]


def test_a_plan_only_looks(taken):
    parse(TrainConfig, "--plan", "--output_dir", "s3://bb/run")
    assert taken == [("looked at", "s3://bb/run")]


def test_asking_for_the_names_of_what_was_given_fetches_nothing(taken):
    parser = parser_of(TrainConfig, prog="x", description="x")
    assert parser.explicit(["--train_data_dir", "s3://bb/a"]) == {"train_data_dir"}
    assert taken == [] and parser.fetches


@pytest.mark.parametrize("name", ["cache_dir", "cache_latents_dir", "logging_dir"])
def test_what_must_lie_here_is_refused(taken, name):
    with pytest.raises(SettingsError, match=f"--{name} must lie on this machine"):
        parse(TrainConfig, f"--{name}", "s3://bb/x")
    assert taken == []


def test_for_another_machine_addresses_are_looked_at_and_stay(taken):
    with asking_nobody():
        found = parse(TrainConfig, "--train_data_dir", "s3://bb/a", "b", "--output_dir", "s3://bb/run")
        assert (found.train_data_dir, found.output_dir) == (["s3://bb/a", "b"], "s3://bb/run")
        for words in (["--output_dir", "s3:///x"], ["--cache_dir", "s3://bb/x"]):
            with pytest.raises(SettingsError):
                parse(TrainConfig, *words)
    assert taken == []
    parse(TrainConfig, "--output_dir", "s3://bb/run")
    assert taken == [("written", "s3://bb/run")]


def test_of_a_list_the_table_is_read_or_the_names_of_its_folders(monkeypatch):
    monkeypatch.setattr(reading, "file", lambda source, beside: ("file", str(source), list(beside)))
    monkeypatch.setattr(reading, "folders", lambda source: ("folders", str(source)))
    found = [addresses._read(parsed(text), kinds.LIST, None) for text in ("s3://bucket/list.csv", "s3://bucket/photos")]
    assert found == [("file", "s3://bucket/list.csv", []), ("folders", "s3://bucket/photos")]


def test_what_goes_wrong_names_the_flag(monkeypatch):
    def fail(*_, **__):
        raise StorageError("s3://bb: there is no such bucket")

    monkeypatch.setattr(addresses, "_read", fail)
    with pytest.raises(StorageError, match="--train_data_dir: s3://bb: there is no such bucket"):
        parse(TrainConfig, "--train_data_dir", "s3://bb/x")


@pytest.mark.parametrize("text", ["s3://key:secret@bucket/run", "s3://", "s3:///run", "s3://bb/../x", "s3://bucket/a//b",
                                  "s3://bucket/x?versionId=1", "gs://bucket/a\x07", "s3://bucket/./x"])  # fmt: skip
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(taken, text):
    with pytest.raises(SettingsError, match="--output_dir: an address of object storage") as caught:
        parse(TrainConfig, "--output_dir", text)
    assert "secret" not in str(caught.value) and taken == []


def test_other_texts_are_no_addresses():
    for text in ("runs/cat", "hub:me/cat", "C:/x", "http://x/y", "file:///x", "aistudio:me/x", None, 3):
        assert not is_address(text)
    assert str(parsed("s3://bucket/a/b/")) == "s3://bucket/a/b" and parsed("bos://bucket").key == ""


def test_a_clusters_machines_must_share_what_they_write(tmp_path, monkeypatch):
    monkeypatch.delenv("TEXTUAL_INVERSION_STORAGE", raising=False)
    stand_for(tmp_path / "run", parsed("s3://bucket/run"))
    with pytest.raises(SettingsError, match="a folder that all machines share"):
        addresses.check_shared(tmp_path / "run", "auto")
    addresses.check_shared(tmp_path / "run", None)
    addresses.check_shared(tmp_path / "local", "auto")
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path))
    addresses.check_shared(tmp_path / "run", "auto")


def test_machines_of_a_launcher_do_not_upload_to_one_address(tmp_path, monkeypatch):
    monkeypatch.delenv("TEXTUAL_INVERSION_STORAGE", raising=False)
    stand_for(tmp_path / "run", parsed("s3://bucket/run"))
    for endpoints in ("", "10.0.0.1:8090", "10.0.0.1:8090,10.0.0.1:8091", "cluster-0123"):
        monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", endpoints)
        addresses.check_launched(tmp_path / "run")
    monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", "10.0.0.1:8090,10.0.0.2:8090")
    with pytest.raises(SettingsError, match="2 machines would upload to s3://bucket/run: .*--merge"):
        addresses.check_launched(tmp_path / "run")
    addresses.check_launched(tmp_path / "local")
    monkeypatch.setenv("TEXTUAL_INVERSION_STORAGE", str(tmp_path))
    addresses.check_launched(tmp_path / "run")


def test_of_a_run_neither_checkpoints_nor_pipelines_are_read():
    names = ["run.json", "samples/step-1.png", "checkpoint-3/state.safetensors", "unet/x.safetensors", "unet"]
    assert addresses._of_run(names) == ["run.json", "samples/step-1.png", "unet"]


def test_a_value_without_an_address_is_not_touched():
    found = argparse.Namespace(output_dir="x")
    addresses.with_folders(parser_of(TrainConfig, prog="x", description="x")._actions, found)
    assert found == argparse.Namespace(output_dir="x")
