"""What others see of a run's records; `tests/security/test_published_files.py` attacks it."""

import pytest
import yaml

from helpers.written_runs import CONFIG, LOCAL_HASH, record
from textual_inversion.sharing.public_records import public_config, public_metadata, public_record, record_of
from textual_inversion.system.errors import OutputError


def test_a_record_keeps_what_repeats_the_run_and_names_a_local_model_by_its_hash():
    shown = public_record(record())

    assert shown == {
        "base_model": LOCAL_HASH,
        "placeholder_token": "<cat>",
        "seed": 3,
        "settings": {"learning_rate": 0.1},
        "versions": {"numpy": "2"},
        "figures": {"skipped_steps": 0},
        "resumed": [{"step": 2}],
    }


def test_a_model_of_a_hub_keeps_its_name_and_revision():
    own = record(public_base_model="owner/model")
    own["settings"] |= {"pretrained_model_name_or_path": "owner/model", "revision": "main"}

    shown = public_record(own)

    assert shown["base_model"] == shown["settings"]["pretrained_model_name_or_path"] == "owner/model"
    assert shown["settings"]["revision"] == "main"


def test_a_configuration_stays_one_and_says_what_is_left_out():
    text = public_config(CONFIG, LOCAL_HASH)

    assert yaml.safe_load(text) == {"learning_rate": 0.1}
    assert text.startswith("# Repeats a run:") and "# To be given by who repeats it: train_data_dir\n" in text


def test_metadata_keeps_what_is_listed():
    own = {"base_model": "models/sd15", "steps": "3", "note": "/home/ann", "seed": "1"}
    assert public_metadata(own, LOCAL_HASH) == {"base_model": LOCAL_HASH, "steps": "3", "seed": "1"}
    assert public_metadata({"steps": "3"}, LOCAL_HASH) == {"steps": "3"}


@pytest.mark.parametrize("content", [b"{", b"[" * 20_000, b"\xff", b"[]", b"3"])
def test_a_damaged_record_is_not_sent(content):
    with pytest.raises(OutputError, match="run.json is damaged and cannot be uploaded"):
        record_of(content)


@pytest.mark.parametrize("text", ["", "a: [", "- " * 3000 + "x", "x", "[1]"])
def test_a_damaged_configuration_is_not_sent(text):
    with pytest.raises(OutputError, match="config.yaml is not as a run writes it"):
        public_config(text, LOCAL_HASH)


def test_names_of_images_among_the_figures_are_not_published():
    own = record() | {"figures": {"unlearned_images": {"6": [-0.2, 0.3]}, "unlearned_names": {"6": "my street 5.png"}}}

    assert public_record(own)["figures"] == {"unlearned_images": {"6": [-0.2, 0.3]}, "unlearned_names": {}}
