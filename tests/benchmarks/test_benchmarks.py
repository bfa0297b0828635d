"""The benchmarks' arithmetic and decisions; that they run is proved in `test_benchmark_runs`. Nothing is timed."""

import json
import math
import shlex
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    all as everything,
)
from benchmarks import (
    foresight,
    full_size_model,
    full_size_tokenizer,
    generation,
    gpu,
    growth,
    learning_curves,
    machine,
    memory,
    peer,
    process_memory,
    runs,
    scaling,
    settled,
    start_up,
    step_time,
    steps_to_quality,
    tables,
    traffic,
)
from benchmarks.learning_curves import NEVER, Course
from benchmarks.tables import Target
from helpers.paths import ROOT
from textual_inversion.system.errors import SettingsError

# --------------------------------------------------------------------------------------------------------- tables


def test_a_target_is_met_missed_or_not_measured():
    targets = [
        Target("a", 1.0, 1.05),
        Target("b", 1.1, 1.05),
        Target("c", 2.0, 1.7, at_least=True),
        Target("d", None, 1),
    ]

    assert [target.is_met for target in targets] == [True, False, True, None]
    lines = tables.targets_table(targets).splitlines()[2:]
    assert [line.split("|")[-2].strip() for line in lines] == ["met", "not met", "met", "not measured"]
    assert tables.targets_table([]) == ""


@pytest.mark.parametrize(
    "value, shown",
    [(None, "–"), (0.0519, "51.9 ms"), (2.994, "2.99 s"), (22.5, "22.5 s"), (170.4, "170 s"), (0.00012, "0.120 ms")],
)
def test_times_are_shown_in_the_unit_that_reads_best(value, shown):
    assert tables.seconds(value) == shown


def test_figures_are_shown_with_three_digits():
    assert [tables.number(v) for v in (0, 1.0489, 49409, 1.3e-7, None)] == ["0", "1.05", "49409", "1.30e-07", "–"]
    assert [tables.byte_count(v) for v in (13, 3072, 151785472)] == ["13 B", "3.07 kB", "152 MB"]
    assert tables.gigabytes(6.996e9) == "7.00 GB"
    assert tables.ratio(3.0, 2.0) == 1.5 and tables.ratio(None, 2.0) is None and tables.ratio(1.0, 0) is None


def test_a_table_is_markdown_with_bars_escaped():
    assert tables.table(("a", "b"), [("x|y", None)]) == "| a | b |\n| --- | ---: |\n| x\\|y | – |"


def test_a_busy_machine_is_said_and_a_quiet_one_not():
    assert machine.busy_note(0.1) == ""
    assert "3.5 processes" in machine.busy_note(3.5)


def test_the_command_is_shown_without_places_of_this_machine():
    shown = machine.shown_command(
        [str(ROOT / "benchmarks/step_time.py"), "--peer", "/elsewhere/peer.py", "--steps", "3"]
    )

    assert shown == "python benchmarks/step_time.py --peer peer.py --steps 3"


# ----------------------------------------------------------------------------------------------------- base model


def test_the_full_size_is_that_of_stable_diffusion_1():
    counts = {
        part: sum(math.prod(tensor.shape) for tensor in tensors)
        for part, tensors in full_size_model.shapes_of(full_size_model.SIZES["full"]).items()
    }

    assert counts == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}


def test_the_tokenizer_has_the_real_size_and_words_of_its_own(tmp_path):
    full_size_tokenizer.write_tokenizer(tmp_path)

    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert len(vocabulary) == 49408 and sorted(vocabulary.values()) == list(range(49408))
    assert len(merges) == len(set(merges)) == 49408 - 514
    assert {"photo</w>", "toy</w>", "style</w>", "beach</w>"} <= set(vocabulary)
    assert all(piece in vocabulary for line in merges for piece in line.split())


def test_random_tensors_have_the_requested_std(tmp_path, monkeypatch):
    monkeypatch.setattr(full_size_model, "_BLOCK", 1000)  # so that a tensor takes several
    tensors = [
        full_size_model.RandomTensor("a", (70, 50), 1.0, 0.5),
        full_size_model.RandomTensor("b", (3,), 0.0, 0.0),
    ]

    full_size_model.write_random(tmp_path / "x.safetensors", tensors, "pd", np.random.SFC64(0))

    from safetensors.numpy import load_file

    found = load_file(tmp_path / "x.safetensors")
    assert found["a"].shape == (70, 50) and abs(found["a"].mean() - 1) < 0.03 and abs(found["a"].std() - 0.5) < 0.03
    assert len(np.unique(found["a"])) > 3000 and not found["b"].any()


# ----------------------------------------------------------------------------------------------------------- runs


def test_settings_become_words_of_a_command_line():
    words = runs.flags({"steps": 3, "overview": True, "flip": False, "width": None, "prompt": ["a", "b"]})

    assert words == ["--steps", "3", "--overview", "--prompt", "a", "b"]


def test_the_default_environment_holds_nothing_about_speed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "5")
    monkeypatch.setenv("ELSE", "kept")

    found = runs.default_environment()

    assert found["ELSE"] == "kept" and not {"OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE"} & set(found)


def test_a_work_folder_is_absolute_wherever_programs_are_called_from(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert traffic.build_parser().parse_args(["--work_dir", "work"]).work_dir == tmp_path / "work"
    assert traffic.build_parser().parse_args([]).work_dir == ROOT / "benchmarks" / "work"


def test_a_program_runs_in_the_environment_of_a_user_who_has_set_nothing(tmp_path, monkeypatch):
    import sys

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    runs.run([sys.executable, "-c", "import os; print(os.environ.get('OMP_NUM_THREADS'))"], log=tmp_path / "log")

    assert (tmp_path / "log").read_text().strip() == "None"


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path):
    import sys

    with pytest.raises(runs.BenchmarkError, match="status 3: no disk"):
        runs.run([sys.executable, "-c", "import sys; print('no disk'); sys.exit(3)"], log=tmp_path / "log")


def test_a_command_is_ended_when_its_watcher_says_so(tmp_path):
    import sys

    with pytest.raises(runs.BenchmarkError, match="too large"):
        runs.run(
            [sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log", watch=lambda pid: "too large"
        )


# ---------------------------------------------------------------------------------------------------------- peers


PEER = """
import argparse, pathlib, sys, time
parser = argparse.ArgumentParser()
for name in ("output_dir", "max_train_steps", "save_steps"): parser.add_argument("--" + name)
args, _ = parser.parse_known_args()
steps = int(args.max_train_steps)
for done in range(steps + 1):
    sys.stderr.write(f"\\rTrain Steps:  5%|#    | {done}/{steps} [00:01<00:02,  1.00s/it, lr=0.1]")
    sys.stderr.flush()
    if int(args.save_steps) == 1 and done:
        (pathlib.Path(args.output_dir) / f"learned_embeds-steps-{done}.bin").write_text("x")
    time.sleep(0.02)
"""


@pytest.fixture
def peer_script(tmp_path):
    path = tmp_path / "example.py"
    path.write_text(PEER)
    return path


@pytest.mark.parametrize("clock, save_steps", [("progress", 10**6), ("files", 1)])
def test_a_peers_steps_are_timed_by_its_own_signs(peer_script, tmp_path, clock, save_steps):
    output = tmp_path / "out"
    words = peer.arguments("model", "pictures", output, 4, resolution=64, batch_size=1, save_steps=save_steps)

    found = peer.run_peer(peer_script, words, output=output, steps=4, clock=clock)

    counts = [step for _, step in found.arrivals]
    assert counts == sorted(set(counts)) and counts[-1] == 4 and found.peak > 1e6
    assert len(found.step_seconds(1)) == len([c for c in counts if c >= 1]) - 1


def test_signs_that_skip_steps_give_the_mean_of_those_between():
    found = peer.PeerRun([(0.0, 0), (9.0, 1), (12.0, 2), (18.0, 4)])

    assert found.step_seconds(warm_up=1) == [3.0, 3.0]


def test_a_progress_bars_count_is_found_among_other_figures():
    assert peer.newest_count("Steps:  33%|#| 1/3 [00:22<00:45]\rSteps: 67%| 2/3 [00:45<", 3) == 2
    assert peer.newest_count("loss 1/3, page 11/30 [1]", 3) is None


def test_a_peer_that_fails_or_says_nothing_is_an_error(tmp_path):
    silent, broken = tmp_path / "silent.py", tmp_path / "broken.py"
    silent.write_text("print('nothing')")
    broken.write_text("raise SystemExit('no such flag')")

    with pytest.raises(runs.BenchmarkError, match="told nothing"):
        peer.run_peer(silent, [], output=tmp_path / "a", steps=2)
    with pytest.raises(runs.BenchmarkError, match="no such flag"):
        peer.run_peer(broken, [], output=tmp_path / "b", steps=2)


# ------------------------------------------------------------------------------------------------------ step time


def test_step_times_are_held_against_floor_and_peers():
    args = Namespace(peer=[Path("mix.py")], torch_peer=[Path("other.py")])
    times = {
        step_time.OURS: [3.0, 3.2, 3.1],
        step_time.FLOOR: [3.0],
        step_time.PLAIN: [3.2],
        "mix, its default environment": [22.5],
        "mix, our environment variables": [5.0],
        "other, torch": [6.2],
    }

    found = step_time.targets(times, args)

    assert [round(target.value, 3) for target in found] == [1.033, 0.969, 7.258, 1.613, 2.0]
    assert [target.is_met for target in found] == [True, True, True, False, True]
    assert "| our step | 3.10 s | 3.00 s – 3.20 s | 3 | 1.03 × | 1.00 × |" in step_time.times_table(times)


def test_a_torch_peer_without_an_interpreter_and_a_peer_that_is_not_there_are_refused():
    with pytest.raises(SettingsError, match="--torch_python"):
        step_time.main(["--torch_peer", __file__])
    with pytest.raises(SettingsError, match="no such file"):
        step_time.main(["--peer", "nowhere.py"])


# --------------------------------------------------------------------------------------------------------- memory


def test_a_case_is_a_resolution_and_switches():
    assert memory.parse_case("512+gradient_checkpointing+--low_memory") == (
        512,
        ["gradient_checkpointing", "low_memory"],
    )
    with pytest.raises(runs.BenchmarkError, match="begin with a resolution"):
        memory.parse_case("low_memory")


def phase(name, begin, end, peak, own=True):
    return {"name": name, "begin": begin, "end": end, "peak": peak, "peak_is_own": own, "resident": peak}


def test_phases_of_one_name_are_told_apart_and_what_lies_between_counts_to_the_earlier_one():
    phases = [
        phase("", 0, 0, 1), phase("images", 0, 1, 2), phase("", 1, 1, 9), phase("base model", 1, 2, 5),
        phase("images", 2, 3, 6), phase("training", 3, 4, 7), phase("training", 4, 5, 8),
    ]  # fmt: skip

    found = memory.labelled(phases, memory.Watcher(100))

    assert [(entry["label"], entry["peak"]) for entry in found] == [
        ("reading the images", 9), ("base model", 5), ("encoding the images", 6),
        ("before the first step", 7), ("training", 8),
    ]  # fmt: skip
    assert memory.overall(found) == 9


def test_where_a_peak_cannot_be_begun_anew_looking_from_outside_decides():
    watcher = memory.Watcher(100)
    watcher.samples = [(0.5, 30), (1.5, 20), (1.7, 25), (9.0, 90)]

    found = memory.labelled([phase("images", 0, 1, 30), phase("training", 1, 2, 30, own=False)], watcher)

    assert [entry["peak"] for entry in found] == [30, 25]


def test_a_watcher_ends_a_process_over_its_limit():
    import os

    assert memory.Watcher(1e15)(os.getpid()) is None
    assert "ended: more than" in memory.Watcher(1e6)(os.getpid())


def test_memory_targets_are_for_the_cases_that_were_measured():
    found = memory.targets_of({"256": 6_900_000_000, "512": 1})

    assert [(target.what[:3], target.is_met) for target in found] == [("256", True)]


def test_what_a_process_holds_is_read_in_bytes(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")

    assert process_memory.read_fields(status, {"VmHWM": "peak"}) == {"peak": 2048 * 1024}
    assert process_memory.read_fields(tmp_path / "gone", {"VmHWM": "peak"}) == {}
    found = process_memory.now()
    assert found["peak"] >= found["resident"] > 1e6 and found["resident"] >= found["anonymous"]


def test_a_peak_can_be_begun_anew():
    block = np.ones(8_000_000)  # 64 MB
    with_it = process_memory.now()["peak"]
    del block

    if not process_memory.forget_peak():
        pytest.skip("this system does not let a process reset its peak")
    assert process_memory.now()["peak"] < with_it - 30e6


def test_a_tree_of_processes_holds_the_children():
    import os
    import subprocess

    child = subprocess.Popen(["sleep", "30"])
    try:
        assert {os.getpid(), child.pid} <= set(process_memory.tree(os.getpid()))
    finally:
        child.kill()
        child.wait()


# ------------------------------------------------------------------------------------------------ several processes


def test_traffic_is_the_most_that_any_process_exchanged():
    records = [
        {"numbers": 768, "full_table_bytes": 100_000, "bytes": [(3072, 0), (3072, 8)], "bytes_before_training": 13},
        {"numbers": 768, "full_table_bytes": 100_000, "bytes": [(3072, 0), (3080, 0)], "bytes_before_training": 0},
    ]

    found = traffic.figures_of(records)

    assert found == {"rows": 3072, "table": 103_072, "step": 3080, "after": 8, "before": 13}
    assert traffic.target(1, found).is_met and not traffic.target(1, found | {"step": 103_072}).is_met
    assert traffic.row(1, found)[:3] == ("1", "3.07 kB", "3.08 kB")


def test_samples_per_second_are_those_of_all_processes_without_the_warm_up():
    steps = [[0, 1, 1], [1, 2, 2], [2, 3, 3], [3, 4, 4.5]]
    records = [{"steps": steps}, {"steps": [[b, c, e + 0.5] for b, c, e in steps]}]

    assert scaling.samples_per_second(records, batch_size=3) == 4 * 3 / 3.0
    with pytest.raises(runs.BenchmarkError, match="take more"):
        scaling.samples_per_second(records, batch_size=3, warm_up=4)


def test_the_cuts_have_one_global_batch_and_their_rows_are_compared_with_the_first(monkeypatch):
    learned = {(1, 4): [1.0, 2.0], (2, 2): [1.0, 2.5], (4, 1): [0.9, 2.0]}
    monkeypatch.setattr(scaling, "_learn", lambda args, case, *cut: np.array(learned[cut]))

    found = scaling.agreement(None, scaling.CASES[0])

    assert {processes * accumulation for processes, accumulation in scaling.CUTS} == {4}
    assert found == pytest.approx({(1, 4): 0.0, (2, 2): 0.5, (4, 1): 0.1})
    assert "5.0e-01" in scaling.agreement_table({"one vector": found})


def test_the_images_have_several_shapes_and_some_have_captions(tmp_path):
    from PIL import Image

    scaling.make_pictures(tmp_path)

    shapes = {Image.open(path).size for path in tmp_path.glob("*.png")}
    assert len(shapes) == 3 and len(list(tmp_path.glob("*.txt"))) == 2


def test_the_gain_of_several_processes_is_of_medians():
    table = scaling.throughput_table({1: [10.0, 11.0, 9.0], 2: [18.0, 19.0]})

    assert "| 1, one thread each | 10.0 | 9.00 – 11.0 | 1.00 × |" in table
    assert "| 2, one thread each | 18.5 | 18.0 – 19.0 | 1.85 × |" in table


# ------------------------------------------------------------------------------------------------------- start-up


def test_an_import_of_paddle_is_seen_in_what_python_says_of_imports():
    said = "import time: self [us] | cumulative | imported package\nimport time:  12 |   90 |   {}\n"

    assert start_up.holds(said.format("paddle.base.core")) and start_up.holds(said.format("paddle"))
    assert not start_up.holds(said.format("paddleocr")) and not start_up.holds("paddle")


def test_what_lies_before_the_first_step_is_itemised_and_adds_up():
    record = {
        "launched": 10.0,
        "begin": 10.5,
        "phases": [
            {"name": "", "begin": 10.6, "end": 10.6},
            {"name": "starting", "begin": 10.6, "end": 12.6},
            {"name": "training", "begin": 13.0, "end": 13.2},  # a look at how large gradients are
            {"name": "training", "begin": 13.2, "end": 20.0},
        ],
        "steps": [[14.0, 15.0, 15.1]],
    }

    rows = [line.split("|")[1:3] for line in start_up.first_step_table(record).splitlines()[2:]]

    assert start_up.until_first_step(record) == 5.0
    assert [cell.strip() for _, cell in rows] == ["0.500 s", "2.00 s", "1.00 s", "1.00 s", "0.500 s", "5.00 s"]


def test_what_of_the_demo_is_not_training_is_itemised():
    table = start_up.demo_table(100.0, {"starting": 2.0, "training": 60.0, "pictures": 25.0, "scores": 5.0})

    assert "| beginning and end of the process | 8.00 s | 8 % |" in table
    assert "| **all but training** | 40.0 s | 40 % |" in table


# ----------------------------------------------------------------------------------------------------- generation


def test_generation_is_a_share_of_the_bare_loops_speed():
    times = {
        (generation.OURS, 7.5): [10.0], (generation.BARE, 7.5): [9.6], (generation.OURS, 1.0): [5.2],
        (generation.BARE, 1.0): [4.9],
    }  # fmt: skip

    assert [round(target.value, 2) for target in generation.targets(times)] == [0.96, 0.52]
    assert all(target.is_met for target in generation.targets(times))
    assert "0.960 |" in generation.times_table(times, 4)


# --------------------------------------------------------------------------------------------------------- growth


def test_the_cost_of_a_run_is_read_from_its_record():
    record = {
        "launched": 10.0,
        "steps": [[15.0, 19.0, 20.0], [20.0, 20.5, 21.0], [21.0, 23.0, 24.0]],
        "phases": [
            {"name": "", "begin": 11, "end": 12, "peak": 7},
            {"name": "saving", "begin": 24, "end": 26, "peak": 5},
        ],
    }

    assert growth.cost_of(record, warm_up=1) == growth.Cost(before=5.0, step=2.0, saving=2.0, peak=7)


def test_a_step_may_grow_with_its_samples_and_with_nothing_else():
    small, large = growth.Cost(5.0, 0.2, 0.1, 10**9), growth.Cost(25.0, 0.4, 0.1, 2 * 10**9)

    images, memory_of_images, each = growth.targets_of("images", {6: small, 1006: large})
    samples, _ = growth.targets_of("global_batch", {8: small, 16: large})

    assert (images.value, images.is_met, memory_of_images.value, each.value) == (2.0, False, 1000.0, 0.02)
    with pytest.raises(SettingsError, match="12 is no multiple of the micro-batch of 8"):
        growth.main(["--global_batch", "12"])
    assert samples.value == 1.0 and samples.is_met and growth.targets_of("vectors", {1: small}) == []


# ------------------------------------------------------------------------------------------------ steps to quality


@pytest.mark.parametrize(
    "curve, wanted, steps",
    [
        ([(0, 0.0), (10, 0.5), (20, 1.0), (30, 1.0)], 0.9, 18.0),
        ([(0, 0.0), (10, 0.95), (20, 0.4), (30, 1.0), (40, 1.0)], 0.9, 20 + 10 * 0.5 / 0.6),  # a stray save
        ([(0, 0.0), (10, 0.2), (20, 0.9)], 0.9, 20.0),  # at the last save
        ([(0, 0.0), (10, 0.2)], 0.9, NEVER),
        ([(0, 1.0), (10, 1.0)], 0.9, 0.0),
    ],
)
def test_the_step_at_which_a_curve_reaches_a_value(curve, wanted, steps):
    assert learning_curves.steps_until(curve, wanted) == pytest.approx(steps)


def test_seconds_at_a_step_in_between():
    assert learning_curves.seconds_at([1.0, 2.0, 4.0], 2.5) == 5.0
    assert learning_curves.seconds_at([1.0, 2.0], 2.0) == 3.0
    assert learning_curves.seconds_at([1.0], NEVER) == NEVER


def courses():
    """Two recipes on one concept, two seeds; the second recipe needs half the steps and ends a little lower."""
    slow, fast = steps_to_quality.variant("plain:"), steps_to_quality.variant("fast:--learning_rate 0.1")
    curves = {slow: [(0, 0.0), (10, 0.4), (20, 0.8), (30, 0.8)], fast: [(0, 0.0), (10, 0.78), (20, 0.78), (30, 0.78)]}
    found = {}
    for v, curve in curves.items():
        for seed in (1, 2):
            loss = [(step, seed - 0.5 * value) for step, value in curve]
            job = steps_to_quality.Job(v, "cat", seed, 30, 10, None)
            found[job] = Course(loss, curve, [0.5] * 30)
    return [slow, fast], found


@pytest.mark.parametrize("measure, final", [("score", 0.8), ("loss", 1.1)])
def test_recipes_are_compared_by_what_the_first_one_reaches(measure, final):
    variants, found = courses()

    results = steps_to_quality.results_of(found, variants, ["cat"], measure)

    plain, fast = results["plain", "cat"], results["fast", "cat"]
    assert plain.final == pytest.approx(final)
    assert plain.steps[0.9] == pytest.approx(18.0) and plain.seconds[0.9] == pytest.approx(9.0)
    assert fast.steps[0.9] == pytest.approx(10 * 0.72 / 0.78)
    assert fast.steps[0.99] == NEVER  # it ends at 97.5 %
    targets = steps_to_quality.targets_of(results, variants, ["cat"], measure)
    assert [target.value for target in targets] == [pytest.approx(0.72 / 0.78 / 1.8), None]
    assert "never" in steps_to_quality.results_table(results, variants, ["cat"])


def test_where_the_first_recipe_gains_nothing_nobody_reaches_a_share_of_it():
    variants, found = courses()
    for course in found.values():
        course.score = [(0, 0.0), (10, -0.1), (20, -0.2)]

    results = steps_to_quality.results_of(found, variants, ["cat"], "score")

    assert all(result.steps[0.9] == NEVER for result in results.values())
    assert "never" in steps_to_quality.results_table(results, variants, ["cat"])


def test_a_recipes_own_flags_win_and_a_name_without_a_colon_is_refused():
    job = steps_to_quality.Job(steps_to_quality.variant("fast:--seed 9 --optimizer 'sgd'"), "style", 3, 20, 5, 1)

    words = steps_to_quality.training_flags(job, Path("out"))

    assert words[-4:] == ["--seed", "9", "--optimizer", "sgd"]
    assert words[words.index("--learnable_property") + 1] == "style" and words[words.index("--save_steps") + 1] == "5"
    with pytest.raises(SettingsError, match="a name, a colon"):
        steps_to_quality.variant("fast")


def test_only_the_saves_that_decide_are_scored_and_none_of_them_twice(tmp_path):
    (tmp_path / "out").mkdir()
    values = {10: 0.95, 20: 0.5, 30: 0.9, 40: 0.92, 50: 0.1, 60: 0.8}
    for step in values:
        (tmp_path / f"out/learned_embeds-steps-{step}.pdparams").write_bytes(b"")
    asked = []

    def score(path):
        asked.append(int(path.stem.rpartition("-")[2]))
        return values[asked[-1]]

    curve = steps_to_quality.Scores(tmp_path, [1], False, score).until(0.9)
    assert curve == [(0, 0.0), (10, 0.95), (20, 0.5), (30, 0.9), (40, 0.92), (60, 0.8)]  # one save alone is chance
    assert asked == [10, 20, 30, 40, 60]
    assert (
        learning_curves.steps_until(curve, 0.9) == learning_curves.steps_until([(0, 0.0), *values.items()], 0.9) == 30
    )

    kept = steps_to_quality.Scores(tmp_path, [1], True, score)
    assert kept.until(0.9) == curve and len(asked) == 5
    assert len(kept.until(2.0)) == 7 and asked[5:] == [50]  # never reached: all of them
    steps_to_quality.Scores(tmp_path, [2], True, score).until(0.9)  # other sizes
    assert asked[6:] == [10, 20, 30, 40, 60]


def test_saves_are_found_in_the_order_of_their_steps(tmp_path):
    for step in (100, 20, 5):
        (tmp_path / f"learned_embeds-steps-{step}.pdparams").write_bytes(b"")
    (tmp_path / "learned_embeds.pdparams").write_bytes(b"")

    assert [step for step, _ in steps_to_quality.saves(tmp_path)] == [5, 20, 100]


# ------------------------------------------------------------------------------------------------------------ gpu


def gpu_args(*words):
    return gpu.build_parser().parse_args(list(words))


def test_a_card_is_measured_in_every_precision_with_and_without_checkpointing():
    args = gpu_args()

    found = gpu.cases(args.resolution, args.precision)

    assert len(found) == len(set(found)) == 2 * 3 * 2
    assert found[0] == gpu.Case(512, "fp32", False) and found[-1] == gpu.Case(768, "fp16", True)


def test_a_precision_becomes_flags_of_the_training_command_where_it_has_them():
    args = gpu_args("--steps", "4", "--warm_up", "2", "--flags=--low_memory")
    case = gpu.Case(768, "bf16", True)

    words = gpu.arguments(args, case, Path("model"), Path("pictures"), known=True)

    text = shlex.join(words)
    assert "--mixed_precision bf16" in text and "--resolution 768" in text and "--max_train_steps 6" in text
    assert "--gradient_checkpointing" in words and "--device gpu" in text and words[-1] == "--low_memory"
    assert gpu.arguments(args, case, Path("model"), Path("pictures"), known=False) is None
    plain = gpu.arguments(args, gpu.Case(512, "fp32", False), Path("model"), Path("pictures"), known=False)
    assert "--mixed_precision" not in plain and "--gradient_checkpointing" not in plain


def test_without_a_card_the_reason_is_said():
    assert gpu.no_gpu_reason(False, 0) == "this paddle is a build for CPUs"
    assert gpu.no_gpu_reason(True, 0) == "paddle sees no card"
    assert gpu.no_gpu_reason(True, 1) is None


def test_too_little_memory_on_a_card_is_a_result_and_other_failures_are_not(monkeypatch, tmp_path):
    args = gpu_args("--work_dir", str(tmp_path), "--size", "tiny")
    monkeypatch.setattr(gpu.full_size_model, "cached", lambda *_: tmp_path)
    words = ["ResourceExhaustedError: Out of memory error on GPU 0.", "a typo"]

    def fail(*_, **__):
        raise runs.BenchmarkError(words.pop(0))

    monkeypatch.setattr(runs, "record", fail)

    case = gpu.Case(512, "fp32", False)
    assert gpu.measure(args, case, known=True) == (None, None, "out of memory")
    with pytest.raises(runs.BenchmarkError, match="a typo"):
        gpu.measure(args, case, known=True)


def test_iterations_per_second_are_of_all_steps_together():
    steps = [[0, 5, 5], [5, 5.1, 5.1], [5.1, 5.2, 5.2], [5.2, 5.3, 6.0]]

    assert gpu.iterations_per_second(steps, warm_up=1) == pytest.approx(3.0)


def test_speeds_on_a_card_are_compared_with_float32_of_the_same_size():
    rows = [
        (gpu.Case(512, "fp32", False), (2.0, 8 * 10**9, "")),
        (gpu.Case(512, "fp16", True), (5.0, 4 * 10**9, "")),
        (gpu.Case(768, "fp16", False), (3.0, None, "")),
    ]

    lines = gpu.results_table(rows).splitlines()[2:]

    assert "| 512, fp16, checkpointing | 5.00 | 2.50 × | 4.00 GB |" in lines[1]
    assert "| 768, fp16 | 3.00 | – | – |" in lines[2]


# ------------------------------------------------------------------------------------------------------------ all


def test_every_benchmark_has_its_part_and_its_line_in_the_readme():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")

    for name in everything.PARTS:
        assert everything.script(name).is_file() and everything.script(name).stem == name
        assert f"`{name}.py`" in text


@pytest.mark.parametrize("quick", [False, True])
def test_the_arguments_of_every_part_are_understood(quick):
    import importlib

    for name, both in everything.PARTS.items():
        own = everything.script(name).parent.name == "benchmarks"
        parser = importlib.import_module(f"benchmarks.{name}" if own else f"helpers.{name}").build_parser()
        for words in both[quick]:
            parser.parse_args(list(words))


def test_peers_are_handed_to_the_parts_that_take_them(tmp_path):
    args = everything.build_parser().parse_args(
        ["--peer", "a.py", "--torch_python", "py", "--torch_peer", "b.py", "--work_dir", str(tmp_path)]
    )

    handed = {name: shlex.join(everything.commands(name, args)[0][2:]) for name in everything.PARTS}

    where = f"--work_dir {tmp_path}"
    assert handed["step_time"] == f"--peer a.py --torch_python py --torch_peer b.py {where}"
    assert handed["memory"] == f"--peer a.py {where}" and handed["traffic"] == where


def test_a_section_takes_the_place_of_the_old_one_and_leaves_the_others():
    text = everything.with_section(everything.HEAD, "traffic", "## Traffic\n\nold")
    text = everything.with_section(text, "step_time", "## Step time\n\n1.05")
    text = everything.with_section(text, "traffic", "## Traffic\n\nnew")

    assert text.startswith("# Results") and "old" not in text
    assert text.index("1.05") < text.index("new") and text.count("<!-- traffic -->") == 1
    assert everything.with_section(text, "traffic", "## Traffic\n\nnew") == text


def test_a_part_that_fails_leaves_the_earlier_figures(tmp_path, monkeypatch):
    output = tmp_path / "RESULTS.md"
    output.write_text(everything.with_section(everything.HEAD, "gpu", "## kept"), encoding="utf-8")
    monkeypatch.setitem(everything.PARTS, "gpu", ((("--no_such_flag",),), ((),)))

    assert everything.main(["gpu", "--output", str(output)]) == 1

    assert "## kept" in output.read_text(encoding="utf-8")
    with pytest.raises(SettingsError, match="speed is no benchmark"):
        everything.main(["speed"])


# -------------------------------------------------------------------------------------------------- negative words


def test_spoiled_drawings_are_of_other_toys_than_those_that_are_compared_and_each_fault_shows():
    from benchmarks import negative_words

    learned, compared = (negative_words.drawings(first, 3) for first in (1000, 5000))
    side = json.loads((ROOT / "demo/model/vae/config.json").read_text())["sample_size"]

    assert len({image.tobytes() for image, _ in learned + compared}) == 6
    for spoil in negative_words.FAULTS.values():
        spoiled = spoil(learned[0][0])
        assert spoiled.size == (side, side) and spoiled.mode == "RGB" and spoiled.tobytes() != learned[0][0].tobytes()
        assert spoil(learned[0][0]).tobytes() == spoiled.tobytes()  # the same in every run


def test_the_measures_of_faults_tell_clean_drawings_from_spoiled_ones():
    from benchmarks.negative_words import FAULTS, MEASURES, Row, _cells, drawings

    ((image, _),) = drawings(1000, 1)
    spoiled = {fault: MEASURES[fault](spoil(image)) / MEASURES[fault](image) for fault, spoil in FAULTS.items()}

    assert spoiled["blurred"] < 0.8 and spoiled["noisy"] > 1.5 and spoiled["colourless"] == 0.0
    assert _cells(Row("learned", 9.25, 0.6, 0.3, 0.24)) == ["9.25", "0.6000", "0.3000", "0.3000", "0.2400"]
    assert _cells(Row("drawings", 9.25))[1:] == [tables.MISSING] * 4


@pytest.mark.parametrize("pair", [False, True])
def test_the_word_is_trained_as_the_guide_says(tmp_path, monkeypatch, pair):
    from benchmarks import negative_words, runs
    from textual_inversion.cli.train import parse

    commands = []
    monkeypatch.setattr(runs, "run", lambda command, **how: commands.append([str(word) for word in command]))
    args = negative_words.build_parser().parse_args(["--images", "2", "--steps", "5"])

    negative_words.learn("blurred", pair, tmp_path, args)

    config = parse(commands[0][2:])
    assert config.concept.learnable_property == ("negative",) and config.training.max_train_steps == 5
    assert (config.concept.contrast_data_dir is not None) == pair and len(list(tmp_path.glob("*/bad/*.png"))) == 2
    assert all(text.read_text().endswith(", {}") for text in tmp_path.glob("*/*/*.txt"))


# ------------------------------------------------------------------------------------------ plans and settled runs


def test_what_a_plan_tells_is_read_in_one_unit():
    said = "plan: in all about 61.5 s (1:02): …\nplan: peak memory about 1.5 GB\nplan: on disk about 640 kB: …"

    assert [foresight.megabytes(said, pattern) for pattern in (foresight.MEMORY, foresight.DISK)] == [1500.0, 0.64]


def test_a_score_is_lost_only_beyond_its_error():
    args = Namespace(steps=200, concept=["cat"])
    ends = {("cat", seed): steps for seed, steps in ((1, 80), (2, 100), (3, 120))}
    little = {("cat", seed): (1.0, 1.0 + change) for seed, change in ((1, 0.02), (2, -0.02), (3, -0.01))}
    much = {job: (before, after - 0.1) for job, (before, after) in little.items()}

    assert [target.is_met for target in settled.targets(args, ends, little)] == [True, True]
    assert [target.is_met for target in settled.targets(args, ends, much)] == [True, False]
    assert "| cat | 100 | 50% |" in settled.results_table(args, ends, little)
