"""Runs on two nodes, as two launchers on this machine: what they learn, a node that is lost, nodes that differ."""

import shutil
import time

import numpy as np
import pytest

import train_textual_inversion
from helpers.interrupted_runs import killed_once
from helpers.node_runs import finish, start_nodes, words_of
from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion.distributed.peers import LOST_STATUS
from textual_inversion.formats.embedding_file import read_embeddings

SETTINGS = ["--only_save_embeds", "--eval_steps", "0", "--max_train_steps", "5", "--save_steps", "2",
            "--num_vectors", "2", "--train_batch_size", "1"]  # fmt: skip
LATEST = ["--resume_from_checkpoint", "latest"]


def rows_of(path):
    return read_embeddings(path)[0].vectors["text_encoder"]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_killed_node_is_named_on_the_other_ones_console_and_the_run_resumes_to_the_same_vectors(tmp_path):
    whole, two = tmp_path / "whole", tmp_path / "two"
    argv = short_run(tmp_path, *SETTINGS, "--output_dir", str(two))
    alone = [*argv, "--gradient_accumulation_steps", "2", "--output_dir", str(whole)]
    train_textual_inversion.main(alone)
    script, moment = tmp_path / "killed.py", tmp_path / "moment"
    script.write_text(killed_once(moment))

    nodes = start_nodes(tmp_path / "first", argv, argv, scripts={1: script})
    statuses = finish(nodes)
    seconds = time.time() - moment.stat().st_mtime

    assert statuses[0] == LOST_STATUS and statuses[1] not in (0, LOST_STATUS), words_of(nodes)
    assert seconds < 30  # two or three
    (line,) = [line for line in nodes[0].logged().splitlines() if line.startswith("error:")]
    assert line in nodes[0].said() and "Traceback" not in nodes[0].said()
    assert line.startswith("error: rank 1 (") and f"in {nodes[1].log} there" in line
    assert line.endswith(f"resume with the same command and --resume_from_checkpoint latest --output_dir {two}")
    assert sorted(path.name for path in two.glob("checkpoint-*")) == ["checkpoint-2"]
    early = rows_of(two / "learned_embeds-steps-2.pdparams")
    np.testing.assert_allclose(early, rows_of(whole / "learned_embeds-steps-2.pdparams"), atol=1e-5)

    nodes = start_nodes(tmp_path / "second", [*argv, *LATEST], [*argv, *LATEST])
    assert finish(nodes) == [0, 0], words_of(nodes)

    assert f"resuming {two / 'checkpoint-2'}, after step 2" in nodes[0].logged()
    learned = rows_of(two / "learned_embeds.pdparams")
    assert np.abs(learned - early).max() > 1e-3
    np.testing.assert_allclose(learned, rows_of(whole / "learned_embeds.pdparams"), atol=1e-5)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_node_with_another_version_of_the_program_or_other_flags_is_refused_on_both(tmp_path):
    argv, copy = short_run(tmp_path, *SETTINGS), tmp_path / "copy"
    shutil.copytree(ROOT / "textual_inversion", copy / "textual_inversion")
    shutil.copy(ROOT / "train_textual_inversion.py", copy)
    with (copy / "textual_inversion" / "training" / "loss.py").open("a") as stream:
        stream.write("# changed\n")

    other = copy / "train_textual_inversion.py"
    nodes = start_nodes(tmp_path / "nodes", argv, [*argv, "--learning_rate", "0.02"], scripts={1: other})

    assert finish(nodes) == [2, 2], words_of(nodes)
    for node in nodes:
        (line,) = [line for line in node.logged().splitlines() if line.startswith("error:")]
        assert (
            "in textual_inversion/training/loss.py, --learning_rate (0.02 instead of 0.01)" in line and "rank 1" in line
        )
        assert line in node.said() and "Traceback" not in node.logged()
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_node_with_another_image_is_refused_on_both(tmp_path):
    argv = short_run(tmp_path, *SETTINGS)
    shutil.copytree(tmp_path / "pictures", tmp_path / "others")
    shutil.copy(tmp_path / "others" / "1.png", tmp_path / "others" / "0.png")

    nodes = start_nodes(tmp_path / "nodes", argv, [*argv, "--train_data_dir", str(tmp_path / "others")])

    assert finish(nodes) == [2, 2], words_of(nodes)
    for node in nodes:
        (line,) = [line for line in node.logged().splitlines() if line.startswith("error:")]
        assert "rank 1 (" in line and " in the training " in line
        assert line.endswith("; give every node the same images, captions, masks and models")
        assert line in node.said() and "Traceback" not in node.logged()
    assert not list((tmp_path / "out").glob("*"))
