"""Each benchmark runs, on tiny random models and in few steps. What is asserted is what they measure, never a time."""

import json
import math
import os

import numpy as np
import pytest
from paddle import nn
from ppdiffusers.models.attention_processor import AttnProcessor

from benchmarks import (
    all as everything,
)
from benchmarks import (
    floor,
    full_size_model,
    generation,
    gpu,
    growth,
    many_images,
    memory,
    runs,
    scaling,
    start_up,
    step_time,
    steps_to_quality,
    torch_floor,
    traffic,
)
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.concept_embedding import attach
from textual_inversion.models.layers.attention import BlockwiseAttnProcessor
from textual_inversion.models.layers.frozen_layer_norm import FrozenLayerNorm

TINY = ["--size", "tiny"]
# Other numbers of threads may round otherwise.
THREADS = os.environ["OMP_NUM_THREADS"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder that holds the tiny model."""
    folder = tmp_path_factory.mktemp("benchmarks")
    full_size_model.make(folder / "model-tiny-ppdiffusers", "tiny")
    return folder


@pytest.fixture(scope="module")
def recorded(work):
    """The record of a real run of three steps with all instruments."""
    image_folder = runs.draw_images(work / "pictures", count=2, side=64)
    words = runs.quiet_training(
        work / "model-tiny-ppdiffusers", image_folder, work / "out", 3, num_vectors=2, num_threads=THREADS, save_steps=1
    )
    (record,) = runs.record(words, work / "record", instruments=["--memory", "--floor", "--traffic"])
    return record


@pytest.fixture
def every_run_is(monkeypatch):
    """Let every recorded run be this one."""

    def use(*records):
        asked = []
        monkeypatch.setattr(runs, "record", lambda words, folder, **how: asked.append((words, how)) or list(records))
        return asked

    return use


def rows(printed: str) -> dict[str, list[str]]:
    """The lines of all tables by their first cell."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    return {cells[0]: cells[1:] for cells in lines}


# ------------------------------------------------------------------------------------------------------ instruments


@pytest.mark.slow
def test_a_recorded_run_holds_its_steps_phases_memory_and_floor(recorded):
    steps = np.array(recorded["steps"])

    assert steps.shape == (3, 3) and (np.diff(steps, axis=1) >= 0).all() and (np.diff(steps[:, 0]) > 0).all()
    assert recorded["launched"] < recorded["begin"] < steps[0, 0]
    for name in ("floor", "plain_floor"):
        assert len(recorded[name]) == 3 and min(recorded[name]) > 0
    assert recorded["numbers"] == 2 * 32 and recorded["full_table_bytes"] == 49408 * 32 * 4
    names = [phase["name"] for phase in recorded["phases"] if phase["name"]]
    assert names[:4] == ["starting", "images", "base model", "images"] and "training" in names
    assert all(phase["peak"] >= phase["resident"] > 1e7 for phase in recorded["phases"])
    assert set(recorded["environment"]) >= {"OMP_NUM_THREADS"} and recorded["collectives"] == 0


def test_the_instruments_change_nothing_that_is_learned(recorded, work):
    """The floor's passes between the steps leave no gradient behind, and nothing of the sampling moves."""
    image_folder = work / "pictures"
    words = runs.quiet_training(
        work / "model-tiny-ppdiffusers", image_folder, work / "plain", 3, num_vectors=2, num_threads=1, save_steps=1
    )

    import train_textual_inversion

    train_textual_inversion.main(words)

    names = [path.name for path in sorted((work / "plain").glob("learned_embeds*"))]
    assert len(names) == 8
    for name in names:
        assert (work / "plain" / name).read_bytes() == (work / "out" / name).read_bytes()


def test_the_floors_reach_the_rows_and_nothing_else_and_the_plain_one_puts_ours_back(work):
    model = load_base_model(work / "model-tiny-ppdiffusers")
    parts = [part for one in (model.unet, model.text_encoders[0].layer) for part in one.sublayers()]

    def kinds():
        found = {type(part) for part in parts} | {type(p.processor) for p in parts if hasattr(p, "processor")}
        return {FrozenLayerNorm, nn.LayerNorm, BlockwiseAttnProcessor, AttnProcessor} & found

    latents = np.random.default_rng(0).standard_normal((2, 4, 8, 8))
    embedding = attach(model.text_encoders[0].layer, np.full((1, 32), 0.02, np.float32))
    ids = np.full((2, 77), 5)
    ids[:, 4] = embedding.first_id
    bare = floor.Floor(model.text_encoders[0].layer, model.unet, list(embedding.parts), ids, latents)
    for way in (bare.run, lambda: (bare.plain_seconds(), bare.run())[1]):
        first, second = way(), bare.run()
        assert math.isfinite(first) and first > 0 and first == pytest.approx(second, rel=1e-5)
    assert all(part.grad is None for part in embedding.parts)
    assert all(p.stop_gradient and p.grad is None for p in model.unet.parameters())
    with floor.as_shipped(model.unet, model.text_encoders[0].layer):
        assert kinds() == {nn.LayerNorm, AttnProcessor}
    assert kinds() == {FrozenLayerNorm, BlockwiseAttnProcessor}


def test_the_floor_in_pytorch_asks_for_pytorch_only_when_it_runs():
    assert callable(torch_floor.main)


# -------------------------------------------------------------------------------------------------------- sections


PEER = """
import sys
for done in range(4):
    print(f"Steps: | {done}/3 [00:01", flush=True)
    __import__("time").sleep(0.02)
"""


def test_step_time(work, recorded, every_run_is, tmp_path, capsys):
    asked = every_run_is(recorded)
    example = tmp_path / "example.py"
    example.write_text(PEER)

    step_time.main(
        [*TINY, "--resolution", "64", "--steps", "2", "--rounds", "1", "--num_threads", "1", "--peer", str(example)]
        + ["--work_dir", str(work)]
    )

    printed = rows(capsys.readouterr().out)
    assert asked[0][1]["instruments"] == ["--floor", "--only_training"]
    for name in (step_time.OURS, step_time.FLOOR, step_time.PLAIN):
        assert printed[name][2] == "2"  # steps that count
    assert {"example, its default environment", "example, our environment variables"} <= set(printed)


def test_memory(work, recorded, every_run_is, capsys):
    asked = every_run_is(recorded)

    memory.main([*TINY, "--case", "64", "128+gradient_checkpointing", "--work_dir", str(work)])

    printed = rows(capsys.readouterr().out)
    assert [("--gradient_checkpointing" in words, "128" in words) for words, _ in asked] == [
        (False, False),
        (True, True),
    ]
    assert {"starting", "reading the images", "base model", "encoding the images", "training", "saving"} <= set(printed)
    assert printed["64"] == printed["128+gradient_checkpointing"] != ["–"]


def test_memory_ends_a_run_that_takes_too_much(work, capsys):
    memory.main([*TINY, "--case", "64", "--limit_gb", "0.05", "--work_dir", str(work)])

    assert "ended" in rows(capsys.readouterr().out)


@pytest.mark.slow
def test_memory_by_the_number_of_images(work, capsys):
    many_images.main(["--images", "2", "30", "--megapixels", "0.1", "--work_dir", str(work)])

    printed = rows(capsys.readouterr().out)
    assert {"2 images", "30 images", "30 images: peak above that of 2, GB"} <= set(printed)
    assert printed["kept of an image, of mean and std"][0] == "≤ 1.10"
    assert len(list((work / "photos-365x274-30").iterdir())) == 30


@pytest.mark.slow
def test_what_is_kept_of_an_image_is_its_posterior_and_a_tenth(work):
    """At the size and with the latents of a full-size model."""
    kept = many_images.bytes_kept(work, 250)

    assert 1.0 < kept / (2 * 4 * 4 * 64 * 64) <= 1.1


@pytest.mark.slow
def test_growth_is_that_of_real_runs_of_the_sizes_asked_for(tmp_path, capsys):
    sizes = ["--sweep", "concepts", "global_batch", "--concepts", "1", "3", "--global_batch", "4", "8", "--steps", "1"]

    growth.main([*sizes, "--num_threads", THREADS, "--work_dir", str(tmp_path)])

    printed = capsys.readouterr().out
    assert {"| 1 |", "| 3 |", "| 4 |", "| 8 |"} <= {line[:5] for line in printed.splitlines()}
    last = json.loads((tmp_path / "growth-out" / "run.json").read_text())
    assert last["settings"]["global_batch"] == 8 and last["settings"]["demo"] and "overview" not in last["figures"]


def test_growth_runs_every_size_once_with_as_many_steps_as_it_needs(every_run_is, monkeypatch, recorded, capsys):
    asked = every_run_is(recorded | {"steps": [[i, i + 0.5, i + 1] for i in range(100)]})
    monkeypatch.setattr(runs, "draw_images", lambda folder, count, side, seed: f"{count} in {seed}")

    growth.main([])

    words = [dict(zip(one, one[1:], strict=False)) for one, _ in asked]
    cases = [(one.count("<concept-0>"), len([w for w in one if w.startswith("<concept-")])) for one, _ in asked]
    assert len(asked) == 11 and max(concepts for _, concepts in cases) == 300
    assert {one["--num_vectors"] for one in words} == {"1", "8", "32"}
    batches = {int(one["--train_batch_size"]) * int(one["--gradient_accumulation_steps"]) for one in words}
    assert batches == {8, 256, 4096} and {one["--train_batch_size"] for one in words} == {"8"}
    # 300 concepts have all had a turn before a step is timed; of 4,096 samples one step is enough.
    steps = {(concepts, one["--gradient_accumulation_steps"]): int(one["--max_train_steps"])
             for one, (_, concepts) in zip(words, cases, strict=True)}  # fmt: skip
    assert steps[300, "1"] == 38 + 8 and steps[1, "512"] == 1 and steps[1, "32"] == 1 + 2
    assert "10 beside" not in capsys.readouterr().out


@pytest.mark.slow
def test_traffic_and_throughput_of_two_real_processes(work, every_run_is, capsys):
    image_folder = runs.draw_images(work / "pictures", count=2, side=64)
    words = runs.quiet_training(
        work / "model-tiny-ppdiffusers", image_folder, work / "two", 3, train_batch_size=2, num_threads=1
    )
    two = runs.record(words, work / "two-record", processes=2, instruments=["--traffic", "--only_training"])
    every_run_is(*two)

    traffic.main([*TINY, "--num_vectors", "1", "--work_dir", str(work)])
    printed = rows(capsys.readouterr().out)

    assert [record["rank"] for record in two] == [0, 1] and two[0]["world_size"] == 2
    # One float for each number that is trained, and beside them no more than a flag or two.
    assert len(two[0]["bytes"]) == 3 and all(4 * 32 <= inside <= 4 * 32 + 16 for inside, _ in two[0]["bytes"])
    assert two[0]["bytes_before_training"] >= 4 * 32  # how large the gradients are
    assert printed["1"][0] == "128 B" and printed["1"][4] == "6.32 MB"

    scaling.main(["--part", "throughput", "--rounds", "1", "--timed_batch_size", "2", "--work_dir", str(work)])
    assert "2, one thread each" in rows(capsys.readouterr().out)


def test_agreement_reads_what_the_cuts_learned(work, monkeypatch, capsys):
    from textual_inversion.formats import embedding_file

    asked = []

    def learn(words, folder, *, processes, instruments):
        output = scaling.Path(words[words.index("--output_dir") + 1])
        output.mkdir(parents=True, exist_ok=True)
        rows = np.full((1, 4), 1.0 + 1e-6 * processes, dtype=np.float32)
        embedding_file.write_pdparams(
            output / "learned_embeds.pdparams", [embedding_file.LearnedEmbedding("<new>", {"text_encoder": rows}, {})]
        )
        asked.append((processes, words[words.index("--gradient_accumulation_steps") + 1], "bucket" in words))

    monkeypatch.setattr(runs, "record", learn)

    scaling.main(["--part", "agreement", "--work_dir", str(work)])

    assert asked == [(p, str(a), bucket) for bucket in (False, True, True) for p, a in scaling.CUTS]
    printed = rows(capsys.readouterr().out)
    differences = list(map(float, printed[scaling.CASES[0].name]))
    assert differences[0] == 0 and 0 < differences[1] < 2e-6
    assert printed["largest difference after 50 steps"][-1] == "met"


def test_start_up(recorded, every_run_is, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(start_up, "ANSWERS", {"infer.py": ((("--help",), 0), (("--guidance_scale", "-1"), 2))})
    every_run_is(recorded)

    start_up.main(["--repeats", "1", "--part", "answers", "first_step", "--work_dir", str(tmp_path)])

    printed = rows(capsys.readouterr().out)
    assert printed["`infer.py --help`"][1] == printed["`infer.py --guidance_scale -1`"][1] == "no"
    assert {"starting", "base model", "training: the first step", "**in all**"} <= set(printed)
    with pytest.raises(runs.BenchmarkError, match="ended with 0"):
        start_up.ask("infer.py", ("--help",), 2, 1)


@pytest.mark.slow
def test_generation(work, capsys):
    generation.main(
        [*TINY, "--pictures", "3", "--batch_size", "2", "--denoising_steps", "2", "--rounds", "1", "--num_threads", "1"]
        + ["--work_dir", str(work)]
    )

    printed = rows(capsys.readouterr().out)
    for name in (generation.OURS, generation.PIPELINE, generation.BARE):
        assert {f"{name}, guidance 7.5", f"{name}, guidance 1"} <= set(printed)
    assert printed["bare U-Net loop, guidance 7.5"][-1] == "1.00"


def test_the_bare_loop_asks_the_unet_for_twice_the_work_where_there_is_guidance(work):
    from textual_inversion.models.base_model import load_base_model

    model = load_base_model(work / "model-tiny-ppdiffusers")
    args = generation.build_parser().parse_args(["--denoising_steps", "2", "--scheduler", "ddim"])
    seen, plain = [], model.unet.forward

    def forward(latents, *others, **more):
        seen.append(latents.shape[0])
        return plain(latents, *others, **more)

    model.unet.forward = forward
    for guidance in (7.5, 1.0):
        latents = generation.BareLoop(model, args, guidance, 64, 64)(3)
        assert list(latents.shape) == [3, 4, 8, 8]

    assert seen == [6, 6, 3, 3]


@pytest.mark.slow
def test_steps_to_quality_trains_scores_and_takes_what_is_there(tmp_path, monkeypatch, capsys):
    words = ["--seeds", "1", "--steps", "2", "--every", "1", "--concept", "style", "--num_images", "1"]
    words += ["--num_inference_steps", "1", "--variant", "plain:--train_batch_size 1", "--work_dir", str(tmp_path)]

    steps_to_quality.main(words)
    first = capsys.readouterr().out

    kept = json.loads((tmp_path / "quality/plain-style-1/scores.json").read_text())
    assert [step for step, _ in kept["scores"]] == [1, 2]
    monkeypatch.setattr(runs, "record", None)  # nothing is trained again
    steps_to_quality.main([*words, "--reuse"])
    again = capsys.readouterr().out
    assert rows(first) == rows(again) and "plain" in rows(first)

    monkeypatch.undo()
    words[words.index("--steps") + 1] = "1"
    steps_to_quality.main([*words, "--reuse"])  # another run: nothing of the one before is left
    kept = json.loads((tmp_path / "quality/plain-style-1/scores.json").read_text())
    assert [step for step, _ in kept["scores"]] == [1]


@pytest.mark.slow
def test_the_score_of_a_save_is_the_one_of_the_protocol():
    from benchmarks.concept_score import ConceptScorer
    from demo.shipped import fresh_drawings
    from textual_inversion.data.image_folder import find_images
    from textual_inversion.data.images import fit, load_image
    from textual_inversion.embeddings.files import read_concept_files
    from textual_inversion.evaluation.scoring import Protocol, score
    from textual_inversion.models.attach import attach_files
    from textual_inversion.system.paths import ROOT

    path = ROOT / "demo/learned_embeds.pdparams"
    scorer = ConceptScorer("cat_toy_images", "object", num_images=2, num_inference_steps=2)

    found = scorer(path)

    file = read_concept_files([path])[0]
    attach_files(scorer.model, [file])
    whole = score(
        scorer.model,
        scorer.clip,
        word=file.placeholder_tokens[0],
        training_images=[fit(load_image(p), 128, 128) for p in find_images(ROOT / "cat_toy_images")],
        fresh_images=fresh_drawings(str(ROOT / "cat_toy_images"), 128),
        protocol=Protocol("object", 2, guidance_scale=3.0, num_inference_steps=2),
    )
    assert found == pytest.approx(whole["share_of_the_way"], abs=1e-4)


@pytest.mark.slow
def test_gpu_on_a_cpu(work, recorded, every_run_is, monkeypatch, capsys):
    asked = every_run_is(recorded | {"gpu_bytes": 5 * 10**9})
    monkeypatch.setattr(gpu, "knows_mixed_precision", lambda: True)

    gpu.main([*TINY, "--device", "cpu", "--resolution", "64", "--warm_up", "1", "--work_dir", str(work)])

    printed = rows(capsys.readouterr().out)
    assert len(asked) == 6 and printed["64, fp16, checkpointing"][2] == "5.00 GB"
    assert [words[words.index("--mixed_precision") + 1] for words, _ in asked] == ["no"] * 2 + ["bf16"] * 2 + [
        "fp16"
    ] * 2


@pytest.mark.slow
def test_all_collects_what_the_parts_print(tmp_path, monkeypatch):
    monkeypatch.setattr(everything, "PARTS", {"gpu": (((),), (("--size", "tiny", "--device", "gpu"),))})
    output = tmp_path / "quick.md"

    assert everything.main(["--quick", "--output", str(output)]) == 0

    text = output.read_text(encoding="utf-8")
    assert text.startswith("# Results") and "<!-- gpu -->\n## On a card, tiny size" in text
    assert "processor:" in text and "revision:" in text
