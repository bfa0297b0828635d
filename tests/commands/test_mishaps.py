"""Training runs in which something goes wrong: numbers, words that do not learn, disks."""

import json
import shutil
import subprocess
import sys

import numpy as np
import paddle
import pytest
from PIL import Image

import train_textual_inversion
from helpers.failing_disk import FailingDisk, temporary_files
from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion.formats.embedding_file import read_embeddings
from textual_inversion.system.errors import DivergenceError, OutputError
from textual_inversion.training import artifacts, callbacks, finish, fixed_set, loss, regularizers

SMALL = ("--only_save_embeds", "--eval_steps", "0")


def rows_of(path):
    return read_embeddings(path)[0].vectors["text_encoder"]


def rows_at(folder, step):
    return rows_of(folder / f"learned_embeds-steps-{step}.pdparams")


def record(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.fixture
def spoiled_steps(monkeypatch):
    """Step (from 1) -> what the loss is multiplied by in it, where a step has one call of the loss."""
    usual, factors, calls = loss.diffusion_loss, {}, []

    def diffusion_loss(*arguments, **options):
        calls.append(1)
        return usual(*arguments, **options) * factors.get(len(calls), 1.0)

    monkeypatch.setattr(loss, "diffusion_loss", diffusion_loss)
    return factors


# ----------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.slow
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_step_without_a_finite_loss_is_skipped_and_counted(tmp_path, capsys, spoiled_steps, factor):
    spoiled_steps[3] = factor
    train_textual_inversion.main(short_run(tmp_path, *SMALL, "--max_train_steps", "4", "--save_steps", "1"))

    out = tmp_path / "out"
    np.testing.assert_array_equal(rows_at(out, 3), rows_at(out, 2))
    for one, other in ((1, 2), (3, 4)):
        assert np.abs(rows_at(out, one) - rows_at(out, other)).max() > 1e-4
    assert record(out)["figures"]["skipped_steps"] == 1
    said = capsys.readouterr()
    assert "skipped steps: 1 of 4" in said.out
    assert "1 step(s) were skipped" in said.err and "skipped 1" in said.err


def test_an_infinite_penalty_skips_the_step_too(tmp_path, monkeypatch, capsys):
    usual = regularizers.norm_penalty
    monkeypatch.setattr(regularizers, "norm_penalty", lambda *a: usual(*a) + paddle.to_tensor(float("inf")))

    with pytest.raises(DivergenceError, match="steps 1 to 2 gave no finite loss.*as no step was good"):
        train_textual_inversion.main(
            short_run(
                tmp_path, *SMALL, "--norm_reg_weight", "0.1", "--max_skipped_steps", "2", "--max_train_steps", "9"
            )
        )


def test_a_run_that_took_no_step_fails_and_says_so(tmp_path, spoiled_steps):
    spoiled_steps.update({1: float("nan"), 2: float("nan")})

    with pytest.raises(
        DivergenceError, match="steps 1 to 2 gave no finite loss.*the vectors of step 0.*as no step was"
    ):
        train_textual_inversion.main(short_run(tmp_path, *SMALL))
    with pytest.raises(DivergenceError, match="steps 1 to 2 gave no finite loss"):  # resumed at its end, it has still
        train_textual_inversion.main(short_run(tmp_path, *SMALL, "--resume_from_checkpoint", "latest"))


def test_too_many_skipped_steps_end_the_run_with_the_last_good_rows_saved(tmp_path, spoiled_steps):
    spoiled_steps.update(dict.fromkeys([2, *range(4, 30)], float("nan")))

    with pytest.raises(DivergenceError, match="steps 4 to 6 gave .* lower --learning_rate") as caught:
        train_textual_inversion.main(
            short_run(tmp_path, *SMALL, "--max_train_steps", "30", "--save_steps", "3", "--max_skipped_steps", "3")
        )

    out = tmp_path / "out"
    assert str(out / "learned_embeds.pdparams") in str(caught.value) and "\n" not in str(caught.value)
    np.testing.assert_array_equal(rows_of(out / "learned_embeds.pdparams"), rows_at(out, 3))
    assert read_embeddings(out / "learned_embeds.safetensors")[0].metadata["steps"] == "3"
    assert record(out)["figures"]["skipped_steps"] == 4


SPOIL_RANK_1 = """
import sys
sys.path.insert(0, {root!r})
import train_textual_inversion
from textual_inversion.training import loss
from textual_inversion.system.errors import run_command

usual, calls = loss.diffusion_loss, []

def diffusion_loss(*arguments, **options):
    import paddle

    calls.append(1)
    value = usual(*arguments, **options)
    # Its gradient stays finite: only the loss tells.
    spoiled = paddle.distributed.get_rank() == 1 and (len(calls) == 2 or len(calls) > 4)
    return value + paddle.to_tensor(float("inf")) if spoiled else value

loss.diffusion_loss = diffusion_loss
run_command(train_textual_inversion.main)
"""


@pytest.mark.slow
@pytest.mark.multiprocess
def test_all_ranks_skip_and_stop_when_one_of_them_has_no_finite_loss(tmp_path):
    script = tmp_path / "spoiled.py"
    script.write_text(SPOIL_RANK_1.format(root=str(ROOT)))
    argv = short_run(tmp_path, *SMALL, "--max_train_steps", "30", "--save_steps", "1", "--max_skipped_steps", "3")
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", tmp_path / "log"]

    done = subprocess.run([*launch, script, *argv], capture_output=True, text=True, timeout=280, cwd=tmp_path)

    out = tmp_path / "out"
    logs = [path.read_text() for path in sorted((tmp_path / "log").glob("workerlog.*"))]
    assert done.returncode != 0 and len(logs) == 2
    assert all("error: steps 5 to 7 gave no finite loss and gradient; the vectors of step 4" in log for log in logs)
    np.testing.assert_array_equal(rows_at(out, 2), rows_at(out, 1))
    assert np.abs(rows_at(out, 3) - rows_at(out, 2)).max() > 1e-4
    np.testing.assert_array_equal(rows_of(out / "learned_embeds.pdparams"), rows_at(out, 4))
    assert record(out)["figures"]["skipped_steps"] == 4


# ------------------------------------------------------------------------------------------- words that do not learn


def test_a_word_that_its_captions_leave_out_is_put_into_them_and_learns(tmp_path, capsys):
    argv = short_run(tmp_path, *SMALL, "--placeholder_token", "<a>", "<b>")
    argv.insert(argv.index(str(tmp_path / "pictures")) + 1, str(tmp_path / "pictures"))
    for image in (tmp_path / "pictures").glob("*.png"):
        image.with_suffix(".txt").write_text("a photo of <b>")

    train_textual_inversion.main(argv)

    said = capsys.readouterr()
    assert "<a> was added to 3 caption(s) that did not hold it" in said.out
    assert "warning" not in said.out + said.err


@pytest.mark.slow
def test_a_learning_rate_that_moves_nothing_is_told_after_ten_steps(tmp_path, capsys):
    train_textual_inversion.main(
        short_run(tmp_path, *SMALL, "--learning_rate", "1e-30", "--max_train_steps", "11", "--adam_weight_decay", "0")
    )

    said = capsys.readouterr().err
    assert "<cat-toy> has not moved after 10 step(s): a learning rate of 1.0e-30" in said
    assert said.count("has not moved") == 1


@pytest.mark.slow
def test_a_warm_up_is_not_taken_for_a_word_that_rests(tmp_path, capsys):
    train_textual_inversion.main(
        short_run(tmp_path, *SMALL, "--lr_scheduler", "linear", "--lr_warmup_steps", "11", "--max_train_steps", "12")
    )

    assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_text_encoder_that_gets_no_gradient_is_named(tmp_path, capsys, monkeypatch):
    from textual_inversion.models.text_encoders import TextEncoder

    usual = TextEncoder.__call__

    def call(encoder, *arguments, **options):
        if encoder.name == "text_encoder":
            return usual(encoder, *arguments, **options)
        with paddle.no_grad():
            return usual(encoder, *arguments, **options)

    monkeypatch.setattr(TextEncoder, "__call__", call)
    train_textual_inversion.main(short_run(tmp_path, *SMALL, family="sdxl"))

    said = capsys.readouterr()
    assert "warning: <cat-toy> in text_encoder_2 had no gradient in 2 step(s)" in said.err
    assert "in text_encoder had" not in said.err
    assert "<cat-toy> in text_encoder_2: cosine distance from the start" in said.out


# --------------------------------------------------------------------------------------------------------- the report


def test_the_report_says_where_the_rows_have_got_to(tmp_path, capsys):
    argv = short_run(tmp_path, "--only_save_embeds", "--num_vectors", "2", "--learning_rate", "5")
    train_textual_inversion.main(argv)

    figures = record(tmp_path / "out")["figures"]
    rows = figures["rows"]["<cat-toy>"]["text_encoder"]
    learned = rows_of(tmp_path / "out" / "learned_embeds.pdparams")
    assert rows["norm"] == pytest.approx(np.linalg.norm(learned, axis=1).tolist(), rel=1e-5)
    assert len(rows["cosine_distance"]) == 2 and min(rows["cosine_distance"]) > 0.01
    assert 0 < rows["table_mean"] < rows["table_95_percent"] < rows["table_largest"]
    assert figures["skipped_steps"] == 0 and set(figures["fixed_set_loss"]) == {"0", "2"}
    said = capsys.readouterr().out
    assert "<cat-toy>: cosine distance from the start" in said and "skipped steps: none" in said
    assert "times as long as the longest row of the table" in said and "--norm_reg_weight" in said


def test_the_record_of_figures_that_are_no_numbers_is_json(tmp_path, monkeypatch):
    monkeypatch.setattr(fixed_set.FixedSet, "losses", lambda self: np.full(len(self.images), np.nan))
    train_textual_inversion.main(short_run(tmp_path, "--only_save_embeds"))

    text = (tmp_path / "out" / "run.json").read_text()
    figures = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["figures"]
    assert figures["fixed_set_loss"] == {"0": None, "2": None}


# -------------------------------------------------------------------------------------------------------------- disks

SHOWN = ("--only_save_embeds", "--max_train_steps", "3", "--save_steps", "1", "--eval_steps", "1", "--keep_best",
           "--validation_prompt", "a <cat-toy>", "--validation_steps", "1", "--num_validation_images", "1",
           "--report_to", "visualdl")  # fmt: skip
FINAL = ["README.md", "config.yaml", "learned_embeds.pdparams", "learned_embeds.safetensors", "run.json"]


@pytest.fixture
def disk(monkeypatch):
    return FailingDisk(monkeypatch)


@pytest.fixture
def while_training(monkeypatch):
    """Calls of a function after every step, with the step's number, before anything of the step is saved."""
    usual, calls = callbacks.Callbacks.after_step, []

    def after_step(self, step, *arguments):
        for call in calls:
            call(step)
        usual(self, step, *arguments)

    monkeypatch.setattr(callbacks.Callbacks, "after_step", after_step)
    return calls.append


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_costs_only_what_was_due_meanwhile(tmp_path, capsys, disk, while_training):
    while_training(lambda step: setattr(disk, "fails", lambda _: step == 2))
    train_textual_inversion.main(short_run(tmp_path, *SHOWN))

    out, said = tmp_path / "out", capsys.readouterr()
    failed = [line for line in said.err.splitlines() if "cannot write" in line]
    assert failed and all("the disk is full" in line and "the next save tries again" in line for line in failed)
    assert len([line for line in failed if "learned_embeds-steps-2" in line]) == 1
    assert not (out / "learned_embeds-steps-2.pdparams").exists() and not (out / "samples" / "step-2.png").exists()
    np.testing.assert_array_equal(rows_at(out, 3), rows_of(out / "learned_embeds.pdparams"))
    for step in (0, 1, 3):
        Image.open(out / "samples" / f"step-{step}.png").verify()
    assert record(out)["figures"]["best"]["step"] in (1, 3)
    assert temporary_files(out) == []


@pytest.mark.slow
@pytest.mark.parametrize("reporter", ["visualdl", "none"])
def test_an_output_folder_that_is_removed_is_made_anew_with_all_of_its_records(
    tmp_path, capsys, while_training, reporter
):
    out = tmp_path / "out"
    while_training(lambda step: step == 2 and shutil.rmtree(out))
    train_textual_inversion.main(short_run(tmp_path, *SHOWN, "--report_to", reporter))

    said = capsys.readouterr().err
    assert "cannot write" not in said
    # VisualDL, which writes in a thread of its own, may make its folder, and so this one, anew before.
    assert reporter == "visualdl" or f"the output folder {out} was gone; it is created again" in said
    names = {path.name for path in out.iterdir()}
    assert {*FINAL, "learned_embeds-steps-2.pdparams", "learned_embeds-steps-3.pdparams", "samples"} <= names
    assert (out / "samples" / "step-3.png").exists()


@pytest.mark.slow
def test_a_failed_last_save_keeps_the_rows_elsewhere_and_ends_with_an_error(
    tmp_path, capsys, monkeypatch, disk, while_training
):
    def full(step):
        disk.fails = lambda _: step >= 2

    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(artifacts, "_other_folders", lambda: [elsewhere])
    while_training(full)
    make = artifacts.tempfile.mkdtemp
    # The other disk has room.
    monkeypatch.setattr(
        artifacts.tempfile, "mkdtemp", lambda **o: (setattr(disk, "fails", lambda _: False), make(**o))[1]
    )

    with pytest.raises(OutputError) as caught:
        train_textual_inversion.main(short_run(tmp_path, *SHOWN))

    (kept,) = elsewhere.iterdir()
    assert sorted(path.name for path in kept.iterdir()) == sorted([*FINAL, "report.html"])
    assert str(caught.value).endswith(f"the learned vectors are in {kept / 'learned_embeds.pdparams'}")
    assert f"cannot write {out}" in str(caught.value) and "the disk is full" in str(caught.value)
    early, last = rows_at(out, 1), rows_of(kept / "learned_embeds.pdparams")
    assert np.abs(last - early).max() > 1e-4
    np.testing.assert_array_equal(rows_of(out / "learned_embeds.pdparams"), early)
    assert f"draw with it:\n    python infer.py --embeds {kept}" in capsys.readouterr().out
    assert temporary_files(tmp_path) == []


def test_what_else_of_the_end_fails_does_not_touch_the_rows(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OutputError("cannot write run.json: the disk is full")

    usual = finish.write_run_record
    calls = []
    monkeypatch.setattr(
        finish, "write_run_record", lambda *a: (calls.append(1), usual(*a) if len(calls) == 1 else full())
    )

    with pytest.raises(
        OutputError, match="run.json: the disk is full; the learned vectors are in .*out/learned_embeds"
    ):
        train_textual_inversion.main(short_run(tmp_path, *SMALL))

    assert rows_of(tmp_path / "out" / "learned_embeds.pdparams").shape == (1, 32)
    assert (tmp_path / "out" / "README.md").exists() and "<cat-toy> is in" in capsys.readouterr().out


def may_mount() -> bool:
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_real_disk_of_a_megabyte_takes_nothing_with_it_when_it_is_full():
    if not may_mount():
        pytest.skip("this system lets nobody mount a disk here")
    program = [sys.executable, str(ROOT / "tests" / "helpers" / "full_disk.py"), "--no_log", "--mishaps",
               "full from step 4 on"]  # fmt: skip

    done = subprocess.run(["unshare", "-rm", *program], capture_output=True, text=True, timeout=280)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    row = next(line for line in done.stdout.splitlines() if line.startswith("full from step 4 on"))
    assert row.split()[-5:] == ["elsewhere", "yes", "9", "0", "0"] and int(row.split()[-6]) >= 7


def test_a_full_disk_before_the_first_step_ends_the_run_at_once(tmp_path, disk):
    disk.fails = lambda step: True

    with pytest.raises(OutputError, match="the disk is full"):
        train_textual_inversion.main(short_run(tmp_path, *SMALL))
    assert list((tmp_path / "out").iterdir()) == []
