"""A run is trained again from a stranger's config.yaml: what is taken over, what is left out, what is refused."""

import pytest

from textual_inversion.cli import train
from textual_inversion.cli.repeat import read_repetition
from textual_inversion.settings.flag import all_flags, values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import SettingsError


@pytest.fixture
def folder(tmp_path):
    """A run's folder, and a maker of its configuration."""
    (tmp_path / "images").mkdir()

    def write(*lines):
        own = [f"train_data_dir: {tmp_path / 'images'}", *lines]
        (tmp_path / "config.yaml").write_text("# Repeats a run: x\n" + "\n".join(own) + "\n")
        return tmp_path

    return write


def test_what_decides_the_result_is_taken_and_what_only_watches_is_left_out(folder):
    taken = ["seed: 7", "learning_rate: 0.25", "antithetic_noise: true", "repeats: 4", "train_batch_size: 3"]
    watched = ["save_steps: 5", "logging_dir: /elsewhere", "validation_prompt:\n- a <cat-toy>\n- b", "keep_best: true",
               "cache_dir: /root/cache", "overview: true"]  # fmt: skip
    run = folder(*taken, *watched, "placeholder_token:\n- <a>")
    found = read_repetition(run)
    assert dict(found.values) == {"seed": 7, "learning_rate": 0.25, "antithetic_noise": True,
                                  "placeholder_token": ["<a>"],
                                  "repeats": 4, "train_batch_size": 3,
                                  "train_data_dir": [str(run / "images")]}  # fmt: skip
    assert list(found.left_out) == ["cache_dir", "keep_best", "logging_dir", "overview", "save_steps",
                                    "validation_prompt"]  # fmt: skip
    assert [(one.name, one.value, one.is_here) for one in found.reads] == [
        ("train_data_dir", str(run / "images"), True)
    ]
    config = train.parse([*found.arguments(), "--output_dir", str(run / "again")])
    values = values_of(config)
    assert (values["seed"], values["learning_rate"], values["placeholder_token"]) == (7, 0.25, ("<a>",))
    assert values["save_steps"] == 10**9 and values["only_save_embeds"] and not values["overview"]
    assert values["report_to"] == "none" and values["push_to"] == "none" and values["antithetic_noise"]


@pytest.mark.parametrize(
    "line",
    ["push_to_hub: true", "push_to: huggingface", "hub_model_id: a/b", "hub_token: secret", "output_dir: /root",
     "resume_from_checkpoint: latest", "allow_changed_settings: true", "hub_whole_pipeline: true"],
)  # fmt: skip
def test_what_a_configuration_may_not_do_is_refused(folder, line):
    name = line.partition(":")[0]
    with pytest.raises(SettingsError, match=f"sets {name}, which training a run again may not do"):
        read_repetition(folder(line))


def test_no_flag_is_taken_that_writes_uploads_or_holds_a_secret():
    from textual_inversion.cli.repeat import _is_refused, _is_taken

    flags = all_flags(TrainConfig)
    taken = {name for name, flag in flags.items() if not _is_refused(flag) and _is_taken(name, flag)}
    assert not taken & {
        name for name in flags if "hub_" in name or "push" in name or "output" in name or "logging" in name
    }
    assert not taken & {"cache_dir", "cache_latents_dir", "report_to", "export", "config", "save_steps"}
    assert {"repeats", "train_batch_size", "no_captions", "resolution", "gradient_accumulation_steps"} <= taken
    assert {"seed", "learning_rate", "mask_dir", "gradient_checkpointing", "vae", "template_file"} <= taken


def test_what_is_not_here_is_asked_for_only_where_the_user_says_so(folder):
    run = folder("pretrained_model_name_or_path: somebody/model")
    with pytest.raises(SettingsError, match="which is not here; copy it here, or let the hubs be asked .*--trust_rec"):
        read_repetition(run)
    found = read_repetition(run, trusts=True)
    assert [one.value for one in found.reads if not one.is_here] == ["somebody/model"]


@pytest.mark.parametrize("path", ["//host/share", "\\\\\\\\host\\\\share"])
def test_no_request_is_made_to_another_machine(folder, path):
    with pytest.raises(SettingsError, match="which no run writes"):
        read_repetition(folder(f'pretrained_model_name_or_path: "{path}"'), trusts=True)


def test_images_that_are_gone_and_folders_without_a_configuration_are_named(tmp_path):
    with pytest.raises(SettingsError, match="holds no config.yaml"):
        read_repetition(tmp_path)
    with pytest.raises(SettingsError, match="is no folder"):
        read_repetition(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("train_data_dir: /gone/for/good\n")
    for trusts in (False, True):
        with pytest.raises(SettingsError, match="reads /gone/for/good as train_data_dir, which is not here"):
            read_repetition(tmp_path, trusts=trusts)
