"""A run that was stopped resumes as if nothing had happened: by values, bit for bit, for all there is to a run."""

import json
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

import train_textual_inversion
from helpers.configs import parsed
from helpers.interrupted_runs import results, stopped_in, stopped_rank
from helpers.tiny_models import build_model
from helpers.training_runs import draw_images, launch, short_run, vectors_in
from textual_inversion.settings.choices import OPTIMIZERS
from textual_inversion.system.errors import CheckpointError, SettingsError
from textual_inversion.training import checkpoints, resume

BARE = ["--only_save_embeds", "--eval_steps", "0", "--max_train_steps", "4", "--save_steps", "2"]
LATEST = ["--resume_from_checkpoint", "latest"]
WATCHED = ["--eval_steps", "1", "--keep_best", "--validation_prompt", "a <cat-toy>", "a dog", "--validation_steps", "1",
           "--num_validation_images", "2", "--report_to", "visualdl", "--overview"]  # fmt: skip


def figures(out):
    """The record's figures but for the seconds."""
    found = json.loads((out / "run.json").read_text())["figures"]
    return {name: value for name, value in found.items() if name != "seconds"}


def scalars(out):
    """(tag, step, value) of what VisualDL shows of a run."""
    from visualdl import LogReader

    shown = LogReader(logdir=str(out / "logs")).logs(update=True)[str(out / "logs")]
    reader = LogReader(file_path=str(out / "logs" / shown))
    return [(tag, p.id, p.value) for tag in sorted(reader.get_tags()["scalar"]) for p in reader.get_data("scalar", tag)]


def whole_and_resumed(tmp_path, settings, step, **model):
    """Folders of an uninterrupted run, and of the same run stopped after a step and resumed."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_textual_inversion.main(short_run(tmp_path, *settings, "--output_dir", str(whole), **model))
    argv = short_run(tmp_path, *settings, "--output_dir", str(cut))
    stopped_in(argv, step)
    train_textual_inversion.main([*argv, *LATEST])
    return whole, cut


SETTINGS = {
    "adamw, cosine": ["--lr_scheduler", "cosine", "--lr_warmup_steps", "1", "--num_vectors", "2",
                      "--gradient_accumulation_steps", "2", "--vector_shuffle", "--token_dropout", "0.3"],
    "adam, linear": ["--optimizer", "adam", "--lr_scheduler", "linear", "--resize_mode", "random_crop",
                     "--hidden_reg_weight", "0.1", "--initializer_token", "toy"],
    "sgd, polynomial": ["--optimizer", "sgd", "--lr_scheduler", "polynomial", "--max_grad_norm", "0.1",
                        "--initial_reg_weight", "0.1"],
    "adamw, restarts": ["--lr_scheduler", "cosine_with_restarts", "--lr_num_cycles", "2", "--progressive_vectors", "3",
                        "--num_vectors", "3", "--input_perturbation", "0.1", "--noise_offset", "0.1"],
    "lion, several rates": ["--optimizer", "lion", "--learning_rate", "0.01:1, 0.002:3, 0.03", "--use_ema"],
    "adafactor, coarser noise": ["--optimizer", "adafactor", "--multires_noise_iterations", "6", "--num_vectors", "2",
                                 "--adafactor_scale_parameter", "--loss_type", "huber", "--huber_schedule", "snr"],
    "prodigy, moving mean": ["--optimizer", "prodigy", "--d0", "0.001", "--use_ema", "--ema_decay", "0.5",
                             "--lr_scheduler", "cosine", "--learning_rate", "1", "--gradient_accumulation_steps", "2"],
    "dadapt_adam": ["--optimizer", "dadapt_adam", "--d0", "0.001", "--learning_rate", "1", "--num_vectors", "2",
                    "--adam_weight_decay", "0.1"],
}  # fmt: skip


def test_every_optimizer_is_tried():
    named = {flags[flags.index("--optimizer") + 1] for flags in SETTINGS.values() if "--optimizer" in flags}

    assert named | {"adamw"} == set(OPTIMIZERS)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_optimizer_and_schedule_resumes_bit_for_bit(tmp_path, settings):
    whole, cut = whole_and_resumed(tmp_path, [*BARE, *settings], step=3)

    assert results(cut) == results(whole)
    early = vectors_in(whole / "learned_embeds-steps-2.pdparams")
    assert not np.array_equal(vectors_in(whole / "learned_embeds.pdparams"), early)
    ours, theirs = (checkpoints.read(folder / "checkpoint-4").tensors for folder in (cut, whole))
    assert {name: array.tobytes() for name, array in ours.items()} == {n: a.tobytes() for n, a in theirs.items()}


VARIED = [
    *("--shuffle_caption", "--keep_tokens", "1", "--caption_dropout_rate", "0.2", "--caption_tag_dropout_rate", "0.3"),
    *("--caption_prefix", "a photo of {},", "--caption_suffix", "in {snow|sand}", "--enable_wildcard"),
    *("--template_share", "0.3", "--num_blank_prompts", "2", "--num_a_prompts", "3"),
    *("--clip_skip", "2", "--max_token_length", "150", "--scheduler", "ddim"),
]


@pytest.mark.slow
def test_varied_captions_read_by_an_earlier_layer_in_chunks_resume_bit_for_bit(tmp_path):
    images = draw_images(tmp_path / "captioned")
    for number in range(2):  # the third has templates
        (images / f"{number}.txt").write_text(f"toy {number}, {{red|blue}}, old, small")
    vae = build_model(tmp_path / "other", seed=5)
    settings = [*BARE, *WATCHED, *VARIED, "--vae", str(vae), "--train_data_dir", str(images)]

    whole, cut = whole_and_resumed(tmp_path, settings, step=2)

    assert results(cut) == results(whole)
    assert figures(cut) == figures(whole)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_varied_captions_give_the_same_vectors_however_the_batch_is_cut(tmp_path):
    images = draw_images(tmp_path / "captioned")
    for number in range(2):
        (images / f"{number}.txt").write_text(f"toy {number}, {{red|blue}}, old, small")
    settings = [*BARE, *VARIED, "--train_data_dir", str(images)]
    cuts = {(1, 1, 2): "one", (1, 2, 1): "two", (2, 1, 1): "ranks"}  # processes, accumulation, batch
    for (processes, accumulation, batch), name in cuts.items():
        own = ["--gradient_accumulation_steps", str(accumulation), "--train_batch_size", str(batch)]
        launch(short_run(tmp_path, *settings, *own, "--output_dir", str(tmp_path / name)),
               processes=processes, cwd=tmp_path)  # fmt: skip

    one, *others = [vectors_in(tmp_path / name / "learned_embeds.pdparams") for name in cuts.values()]

    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-6)


@pytest.mark.slow
def test_both_text_encoders_of_sdxl_resume_bit_for_bit(tmp_path):
    settings = [*BARE, "--lr_scheduler", "constant_with_warmup", "--lr_warmup_steps", "2"]
    whole, cut = whole_and_resumed(tmp_path, settings, step=2, family="sdxl")

    assert results(cut) == results(whole)
    encoders = {name.split("/")[1] for name in checkpoints.read(cut / "checkpoint-2").tensors}
    assert encoders == {"text_encoder", "text_encoder_2"}


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2])
def test_a_concept_that_no_step_has_shown_yet_has_no_state_and_gets_none(tmp_path, step):
    tokens = ["--placeholder_token", "<one>", "<two>", "--num_vectors", "1", "2", "--train_batch_size", "1"]
    folders = ["--train_data_dir", str(tmp_path / "pictures"), str(draw_images(tmp_path / "others"))]
    whole, cut = whole_and_resumed(tmp_path, [*BARE, *tokens, *folders], step)

    assert results(cut) == results(whole)
    tensors = checkpoints.read(cut / f"checkpoint-{step}").tensors
    owners = {name.split("/")[2] for name in tensors if name.startswith("optimizer/")}
    assert owners == ({"0", "1"} if step == 2 else {"0"})


@pytest.mark.slow
def test_all_that_is_seen_of_a_run_resumes_without_a_double_or_a_gap(tmp_path):
    whole, cut = whole_and_resumed(tmp_path, [*BARE, *WATCHED], step=2)

    assert results(cut) == results(whole)
    assert {"samples/over-time.png", "samples/step-4.png", "overview.png"} <= results(whole).keys()
    assert figures(cut) == figures(whole) and set(figures(cut)["fixed_set_loss"]) == {"0", "1", "2", "3", "4"}
    assert scalars(cut) == scalars(whole)
    assert [step for tag, step, _ in scalars(cut) if tag == "eval/fixed_set_loss"] == [0, 1, 2, 3, 4]
    assert json.loads((cut / "run.json").read_text())["resumed"] == [{"step": 2, "changed": []}]


@pytest.mark.slow
def test_a_killed_run_forgets_what_it_saw_after_its_checkpoint(tmp_path):
    """A kill leaves files and log entries of steps that the checkpoint knows nothing of."""
    whole = tmp_path / "whole"
    argv = short_run(tmp_path, *BARE, *WATCHED, "--output_dir", str(whole))
    train_textual_inversion.main(argv)
    expected = results(whole), figures(whole), scalars(whole)
    shutil.rmtree(whole / "checkpoint-4")

    train_textual_inversion.main([*argv, *LATEST])

    assert (results(whole), figures(whole), scalars(whole)) == expected


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_end_after_one_step_with_one_checkpoint_and_resume_bit_for_bit(tmp_path):
    settings = [*BARE, "--train_batch_size", "1", "--num_vectors", "2", "--gradient_accumulation_steps", "2"]
    argv = {n: short_run(tmp_path, *settings, "--output_dir", str(tmp_path / n)) for n in ("whole", "cut")}
    script = tmp_path / "stopped.py"
    script.write_text(stopped_rank())

    def launch(*arguments):
        command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir"]
        return subprocess.run(
            [*command, str(tmp_path / "log"), *arguments], capture_output=True, text=True, timeout=280
        )

    never, only_the_second = "99", "1"
    whole = launch(str(script), never, "0", *argv["whole"])
    assert whole.returncode == 0, whole.stdout[-2000:] + whole.stderr[-2000:]
    stopped = launch(str(script), "3", only_the_second, *argv["cut"])
    found = [path.name for path in checkpoints.newest_first(tmp_path / "cut")]
    resumed = launch(str(script), never, "0", *argv["cut"], *LATEST)

    assert stopped.returncode == 128 + signal.SIGTERM and found == ["checkpoint-3", "checkpoint-2"]
    assert "stopped by SIGTERM after step 3 of 4; checkpoint-3 is saved" in (stopped.stdout + stopped.stderr)
    assert resumed.returncode == 0, resumed.stdout[-2000:] + resumed.stderr[-2000:]
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


# ------------------------------------------------------------------------------------------------- settings that change


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run's folders after it was stopped in step 2, and its command line."""
    folder = tmp_path_factory.mktemp("stopped")
    argv = short_run(folder, *BARE)
    stopped_in(argv, 2)
    return folder, argv


@pytest.fixture
def copy(stopped, tmp_path):
    """A copy of its output folder, and the command line that writes there."""
    folder, argv = stopped
    shutil.copytree(folder / "out", tmp_path / "out")
    return tmp_path / "out", [*argv, "--output_dir", str(tmp_path / "out")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--seed", "4"], "--seed 3, now 4"),
        (["--learning_rate", "0.02"], "--learning_rate 0.01, now 0.02"),
        (["--scale_lr"], "--learning_rate 0.01, now 0.02"),
        (["--train_batch_size", "3"], "the global batch 2, now 3"),
        (["--optimizer", "sgd"], "--optimizer adamw, now sgd"),
        (["--lr_scheduler", "linear"], "--lr_scheduler constant, now linear"),
        (["--flip_p", "0.1"], "--flip_p 0.5, now 0.1"),
        (["--snr_gamma", "5"], "--snr_gamma None, now 5.0"),
        (["--learnable_property", "style"], "the prompts (captions, templates)"),
        (["--resolution", "32"], "--height 16, now 32"),
    ],
)
def test_other_settings_are_refused_by_name_and_nothing_changes(copy, flags, named):
    out, argv = copy
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    with pytest.raises(SettingsError) as caught:
        train_textual_inversion.main([*argv, *flags, *LATEST])

    assert named in str(caught.value) and "--allow_changed_settings" in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_other_images_captions_and_models_are_refused_although_their_names_stay(copy, stopped, tmp_path):
    _, argv = copy
    images = tmp_path / "pictures"
    shutil.copytree(stopped[0] / "pictures", images)
    (images / "0.txt").write_text("a <cat-toy> in the snow")
    with pytest.raises(SettingsError, match="the prompts"):
        train_textual_inversion.main([*argv, *LATEST, "--train_data_dir", str(images)])
    (images / "0.txt").unlink()
    (images / "0.png").write_bytes((images / "1.png").read_bytes())
    with pytest.raises(SettingsError, match="the training images"):
        train_textual_inversion.main([*argv, *LATEST, "--train_data_dir", str(images)])
    other = build_model(tmp_path / "base", seed=1)
    with pytest.raises(SettingsError, match="the base model"):
        train_textual_inversion.main([*argv, *LATEST, "--pretrained_model_name_or_path", str(other)])


@pytest.mark.slow
def test_what_does_not_change_the_run_is_free(copy, stopped, tmp_path):
    """Another cut of the batch, another folder of the images, more steps, no seed: it comes to the same vectors."""
    out, argv = copy
    shutil.copytree(stopped[0] / "pictures", tmp_path / "moved")
    index = argv.index("--seed")
    argv = argv[:index] + argv[index + 2 :]
    free = ["--max_train_steps", "5", "--save_steps", "1", "--eval_steps", "2", "--train_batch_size", "1",
            "--gradient_accumulation_steps", "2", "--train_data_dir", str(tmp_path / "moved"), "--report_to",
            "visualdl"]  # fmt: skip

    train_textual_inversion.main([*argv, *free, *LATEST])
    train_textual_inversion.main([*stopped[1], "--max_train_steps", "5", "--output_dir", str(tmp_path / "whole")])

    ours, theirs = (
        vectors_in(out / "learned_embeds.pdparams"),
        vectors_in(tmp_path / "whole" / "learned_embeds.pdparams"),
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert json.loads((out / "run.json").read_text())["seed"] == 3


@pytest.mark.slow
def test_a_finished_run_is_made_longer_as_if_it_had_been_so_from_the_start(tmp_path):
    long, grown = tmp_path / "long", tmp_path / "grown"
    settings = [*BARE, "--eval_steps", "3"]
    train_textual_inversion.main(short_run(tmp_path, *settings, "--max_train_steps", "6", "--output_dir", str(long)))
    train_textual_inversion.main(short_run(tmp_path, *settings, "--output_dir", str(grown)))

    train_textual_inversion.main(
        short_run(tmp_path, *settings, "--max_train_steps", "6", "--output_dir", str(grown), *LATEST)
    )

    final = "learned_embeds.pdparams"
    assert (grown / final).read_bytes() == (long / final).read_bytes()
    assert figures(grown) == figures(long)


@pytest.mark.slow
def test_a_fork_says_what_changed_and_leaves_the_first_run_alone(copy, tmp_path, capsys):
    out, argv = copy
    before = results(out)
    fork = ["--resume_from_checkpoint", str(out / "checkpoint-2"), "--output_dir", str(tmp_path / "fork")]

    train_textual_inversion.main([*argv, *fork, "--learning_rate", "0.05", "--allow_changed_settings"])

    assert "changed at step 2: --learning_rate 0.01, now 0.05" in capsys.readouterr().out
    record = json.loads((tmp_path / "fork" / "run.json").read_text())
    assert record["resumed"] == [{"step": 2, "changed": ["--learning_rate 0.01, now 0.05"]}]
    assert results(out) == before
    train_textual_inversion.main([*argv, *LATEST])
    ours, first = (vectors_in(folder / "learned_embeds.pdparams") for folder in (tmp_path / "fork", out))
    assert not np.array_equal(ours, first)


@pytest.mark.slow
def test_a_fork_may_take_another_optimizer_but_not_other_concepts(copy, tmp_path):
    _, argv = copy
    more = [*LATEST, "--allow_changed_settings"]
    with pytest.raises(CheckpointError, match="other concepts, vectors or text encoders"):
        train_textual_inversion.main([*argv, *more, "--num_vectors", "2"])
    train_textual_inversion.main([*argv, *more, "--optimizer", "sgd"])

    tensors = checkpoints.read(tmp_path / "out" / "checkpoint-4").tensors
    assert {name.rpartition("/")[2] for name in tensors} == {"0", "velocity"}


# -------------------------------------------------------------------------------------------------- what is looked for


@pytest.mark.slow
def test_without_a_checkpoint_latest_begins_and_says_so(tmp_path, capsys):
    train_textual_inversion.main(short_run(tmp_path, *BARE, *LATEST))

    assert "no checkpoint in" in capsys.readouterr().out and (tmp_path / "out" / "learned_embeds.pdparams").exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(copy, capsys):
    out, argv = copy
    train_textual_inversion.main([*argv, *LATEST])
    expected = results(out)
    state = out / "checkpoint-4" / checkpoints.STATE_FILE
    state.write_bytes(state.read_bytes()[:-1] + b"\xff")

    with pytest.raises(CheckpointError, match=r"checkpoint-4 is damaged: the check sum of state.safetensors"):
        train_textual_inversion.main([*argv, "--resume_from_checkpoint", str(out / "checkpoint-4")])
    train_textual_inversion.main([*argv, *LATEST])

    said = capsys.readouterr().out
    assert "checkpoint-4 is damaged" in said and f"resuming {out / 'checkpoint-2'}" in said
    assert results(out) == expected


@pytest.mark.parametrize(
    ("flags", "error", "named"),
    [
        (["--resume_from_checkpoint", "nowhere"], CheckpointError, "nowhere: there is no such folder"),
        (["--allow_changed_settings"], SettingsError, "no effect without --resume_from_checkpoint"),
        ([*LATEST, "--max_train_steps", "1"], SettingsError, "has done 2 steps and --max_train_steps is 1"),
    ],
)
def test_what_cannot_be_resumed_is_refused(copy, flags, error, named):
    with pytest.raises(error, match=named):
        train_textual_inversion.main([*copy[1], *flags])


def test_a_repetition_from_a_configuration_does_not_look_for_checkpoints_in_a_new_folder(copy):
    out, _ = copy
    with pytest.raises(SettingsError, match="name the folder of the run"):
        train_textual_inversion.main(["--config", str(out / "config.yaml"), *LATEST])


def test_how_to_resume_names_flags_that_the_command_knows(tmp_path):
    said = resume.how_to_resume(tmp_path / "a run")
    args = parsed(shlex.split(said[said.index("--") :]))
    assert (args.resume_from_checkpoint, args.output_dir) == ("latest", str(tmp_path / "a run"))


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_list_of_its_files_and_rotates_only_its_own_checkpoints(tmp_path, capsys):
    out = tmp_path / "out"
    (out / "checkpoint-1").mkdir(parents=True)
    (out / "checkpoint-1" / "diary.txt").write_text("mine")
    argv = short_run(tmp_path, *BARE, "--checkpointing_steps", "2", "--checkpoints_total_limit", "1")
    stopped_in(argv, 3)
    early = {"learned_embeds-steps-2.pdparams", "config.yaml", "run.json"}
    assert early <= json.loads((out / "files.json").read_text())["files"].keys()

    train_textual_inversion.main([*argv, *LATEST])

    listed = json.loads((out / "files.json").read_text())["files"]
    assert early | {"learned_embeds.safetensors", "checkpoint-4/state.safetensors"} <= listed.keys()
    assert not [name for name in listed if name.startswith(("checkpoint-1/", "checkpoint-2/", "checkpoint-3/"))]
    assert (out / "checkpoint-1" / "diary.txt").read_text() == "mine"
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-4"]
    assert "is not in the list of files" not in capsys.readouterr().out

    (out / "files.json").unlink()
    train_textual_inversion.main([*argv, *LATEST])
    assert "is not in the list of files" in capsys.readouterr().out
    assert early - {"config.yaml", "run.json"} <= {path.name for path in out.iterdir()}
