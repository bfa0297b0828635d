"""What ranks must have in common, and what every one of them says when they have not."""

import threading

import pytest

from helpers.stores import Store
from textual_inversion.cli.train import build_parser, parse
from textual_inversion.distributed import consistency, meeting
from textual_inversion.distributed.meeting import MeetingPoint
from textual_inversion.system.errors import SettingsError

REAL = ["--pretrained_model_name_or_path", "some/model"]


def judgements(*facts):
    """What each rank says to the facts of all: None, or its error."""
    store, said = Store(), {}

    def judge(rank):
        try:
            consistency.agree(MeetingPoint(store, rank, len(facts)), facts[rank])
            said[rank] = None
        except SettingsError as error:
            said[rank] = str(error)

    threads = [threading.Thread(target=judge, args=(rank,)) for rank in range(len(facts))]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(30)
    return [said[rank] for rank in range(len(facts))]


def program(*flags, **changed):
    settings = consistency.settings_to_agree_on(parse([*REAL, *flags]))
    return consistency.of_program(settings) | changed


@pytest.fixture
def named_node(monkeypatch):
    monkeypatch.setattr(meeting.platform, "node", lambda: "node-a")


def test_equal_ranks_agree_time_and_again():
    assert judgements(program(), program(), program()) == [None] * 3
    store = Store()
    points = [MeetingPoint(store, rank, 2) for rank in (0, 1)]
    for facts in ({"data": {"a": 1}}, {"data": {"b": 2}}):
        threads = [threading.Thread(target=consistency.agree, args=(point, facts)) for point in points]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--learning_rate", "0.02"], "--learning_rate (0.02 instead of 0.0001)"),
        (["--train_batch_size", "3"], "--train_batch_size (3 instead of 16)"),
        (["--gradient_accumulation_steps", "2"], "--gradient_accumulation_steps (2 instead of 1)"),
        (["--seed", "1"], "--seed (1 instead of None)"),
        (["--save_steps", "7"], "--save_steps (7 instead of 500)"),
        (["--eval_steps", "7"], "--eval_steps (7 instead of 100)"),
        (["--checkpointing_steps", "7"], "--checkpointing_steps (7 instead of 500)"),
        (["--placeholder_token", "<dog>"], "--placeholder_token (<dog> instead of <cat-toy>)"),
        (["--resume_from_checkpoint", "latest"], "--resume_from_checkpoint (True instead of False)"),
        (["--validation_prompt", "a <cat-toy>"], "the validation prompts"),
        (["--keep_best"], "--keep_best (True instead of False)"),
    ],
)
def test_every_rank_refuses_another_flag_by_its_name_and_both_values(flags, named, named_node):
    said = judgements(program(), program(*flags), program())

    assert said[0] == said[1] == said[2]
    assert said[0].startswith("the processes of this run differ from rank 0 (node-a): rank 1 (node-a) in ")
    assert said[0].endswith("; start every node with the same flags") and named in said[0]


@pytest.mark.parametrize(
    "flags",
    [
        ["--num_threads", "3", "--dataloader_num_workers", "2", "--device", "cpu"],
        ["--output_dir", "elsewhere", "--logging_dir", "other", "--cache_dir", "/tmp/cache"],
        ["--hub_token", "hf_secret", "--gradient_checkpointing"],
    ],
)
def test_what_belongs_to_one_machine_may_differ_and_secrets_stay_there(flags):
    facts = program(*flags)

    assert judgements(program(), facts) == [None, None]
    assert "secret" not in str(facts) and "elsewhere" not in str(facts)


# What may differ: names and paths, whose contents are compared; what belongs to one machine; the upload.
MAY_DIFFER = set(
    """config preset output_dir logging_dir train_data_dir mask_dir template_file initializer_embeds cache_dir
    clip_model cache_latents_dir mask_model validation_data_dir validation_mask_dir contrast_data_dir
    pretrained_model_name_or_path vae tokenizer_name revision variant validation_prompt validation_prompts_file
    device num_threads dataloader_num_workers gradient_checkpointing enable_xformers_memory_efficient_attention
    low_memory compile
    push_to push_to_hub hub_whole_pipeline hub_token hub_model_id""".split()
)


def test_every_flag_is_compared_but_for_those_listed_here_and_so_is_what_is_derived_from_them():
    flags = {action.dest for action in build_parser()._actions} - {"help"}

    assert set(program()["flags"]) == {f"--{name}" for name in flags - MAY_DIFFER} | {
        "the demo",
        "the validation prompts",
    }
    assert flags >= MAY_DIFFER


def test_another_source_file_is_named_wherever_it_lies(tmp_path, named_node):
    for folder in ("one", "two"):
        (tmp_path / folder / "textual_inversion").mkdir(parents=True)
        (tmp_path / folder / "train_textual_inversion.py").write_text("train()")
        (tmp_path / folder / "textual_inversion" / "loss.py").write_text("loss()")
    ours, theirs = consistency.of_source(tmp_path / "one"), consistency.of_source(tmp_path / "two")
    assert ours == theirs and set(ours) == {"train_textual_inversion.py", "textual_inversion/loss.py"}

    (tmp_path / "two" / "textual_inversion" / "loss.py").write_text("loss() * 2")
    theirs = consistency.of_source(tmp_path / "two")
    (said, _) = judgements({"program": ours}, {"program": theirs})

    assert "rank 1 (node-a) in textual_inversion/loss.py; put the same version of the program on every machine" in said


def test_the_programs_own_source_is_what_counts():
    names = consistency.of_source(consistency.ROOT)
    assert {"train_textual_inversion.py", "textual_inversion/distributed/consistency.py"} <= names.keys()
    assert all(name.endswith(".py") for name in names)


def test_all_differences_of_all_ranks_are_told_at_once_and_not_without_end(named_node):
    ours = {"packages": {"paddlepaddle": "3.3.1"}, "flags": {f"--f{i}": 0 for i in range(9)}, "program": {}}
    theirs = {"packages": {"paddlepaddle": "3.2.0"}, "flags": {f"--f{i}": 1 for i in range(9)}, "program": {}}
    two = {**ours, "packages": {}}

    said = judgements(ours, two, theirs, theirs)

    assert len(set(said)) == 1
    assert "rank 1 (node-a) in paddlepaddle (None instead of 3.3.1); rank 2 (node-a), 3 (node-a) in " in said[0]
    assert "paddlepaddle (3.2.0 instead of 3.3.1), --f0 (1 instead of 0)" in said[0] and "--f3" in said[0]
    assert "5 more; " in said[0] and "--f4" not in said[0]
    assert said[0].endswith("install the same versions on every machine, and start every node with the same flags")


def test_data_is_named_without_its_hash(named_node):
    ours = {"the training images": "a" * 64, "the masks": "b" * 64, "the global batch": 4, "--height": 512}

    (said, _) = judgements({"data": ours}, {"data": {**ours, "the training images": "c" * 64, "--height": 256}})

    assert "rank 1 (node-a) in --height (256 instead of 512), the training images; give every node the same" in said
    assert "aaa" not in said
