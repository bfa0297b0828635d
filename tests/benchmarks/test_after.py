"""What `benchmarks/after.py` makes of what the commands say: each target met by one answer and missed by another."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmarks import after
from helpers.paths import ROOT
from textual_inversion.formats.embedding_file import read_embeddings


@pytest.fixture
def args(tmp_path):
    found = after.build_parser().parse_args(["--work_dir", str(tmp_path)])
    found.folder = tmp_path / "after"
    (found.folder / "cat").mkdir(parents=True)
    return found


@pytest.fixture
def answers(monkeypatch):
    """Let score.py answer with these, one after the other, and learn nothing."""

    def give(*found):
        waiting, asked = list(found), []
        monkeypatch.setattr(after, "learn", lambda name, args, *images, **how: args.folder / name)
        monkeypatch.setattr(after, "score", lambda args, files, *more, **how: asked.append((files, more))
                            or waiting.pop(0))  # fmt: skip
        return asked

    return give


def are_met(found):
    return [target.is_met for target in found.targets]


@pytest.mark.parametrize(("statuses", "met"), [((0, 3), [True, True]), ((3, 0), [False, False])])
def test_a_run_is_proved_and_a_changed_one_is_not(args, answers, monkeypatch, statuses, met):
    answers()
    monkeypatch.setattr(after, "change_one_number", lambda path: None)
    waiting = list(statuses)
    monkeypatch.setattr(after, "verified", lambda folder: waiting.pop(0))

    assert are_met(after.proof(args)) == met


def test_one_number_of_a_file_is_changed_by_one_bit(tmp_path):
    shutil.copy(ROOT / "demo/learned_embeds.pdparams", path := tmp_path / "e.pdparams")
    before = read_embeddings(path)[0].vectors["text_encoder"].copy()

    after.change_one_number(path)

    changed = read_embeddings(path)[0].vectors["text_encoder"]
    bits = np.abs(changed.view(np.int32).astype(np.int64) - before.view(np.int32))
    assert bits.sum() == 1 and bits[0, 0] == 1


@pytest.mark.parametrize(("editability", "met"), [(0.95, [True, True, True]), (0.5, [True, True, False])])
def test_the_point_recommended_stands_beside_both_ends(args, answers, editability, met):
    points = [("mix", 0.0, 0.0, 1.0), ("mix", 0.75, 0.8, editability), ("mix", 1.0, 0.9, 0.4), ("step", 50, 0.7, 0.9)]
    names = ("kind", "at", "likeness", "editability")
    answers({"points": [dict(zip(names, one, strict=True)) for one in points],
             "recommended": {"kind": "mix", "at": 0.75}})  # fmt: skip

    found = after.bargain(args)

    assert are_met(found) == met
    assert f"| recommended | 75% of the way | 80% | {editability:.0%} |" in found.table
    assert after.point_name({"kind": "step", "at": 50}) == "step 50"


@pytest.mark.parametrize(
    ("named", "met"),
    [((after.ODD, None), [True, True]), ((None, None), [False, True]), (("cat-1.png", "cat-2.png"), [False, False])],
)
def test_the_rabbit_has_to_be_named_and_no_cat(args, answers, named, met):
    row = {"image": "cat-1.png", "gain": 0.01, "standard_error": 0.002, "verdict": "hurts"}
    answers(*({"hurts": one, "without": [row]} for one in named))

    found = after.one_left_out(args)

    assert are_met(found) == met and "+0.010 ± 0.002" in found.table
    assert sorted(path.name for path in (args.folder / "images with a rabbit").iterdir()) == [
        "cat-1.png", "cat-2.png", "cat-3.png", after.ODD,
    ]  # fmt: skip
    assert after.ODD not in {path.name for path in (args.folder / "images cats alone").iterdir()}


@pytest.mark.parametrize(("least", "met"), [(0.4, [True]), (0.1, [False])])
def test_of_two_toys_the_lesser_share_counts_and_the_style_does_not(args, answers, least, met):
    words = [(after.CAT, after.RABBIT, 0.6), (after.RABBIT, after.CAT, least), (after.STYLE, after.CAT, 0.0),
             (after.CAT, after.STYLE, None)]  # fmt: skip
    answers({"pairs": [{"word": a, "beside": b, "share": share, "error": None if share is None else 0.05,
                        "survives": bool(share)} for a, b, share in words]})  # fmt: skip

    found = after.together(args)

    assert are_met(found) == met and "60% ± 5%" in found.table
    assert after.percent(None, None) == "–" and after.percent(0.5, None) == "50%"


@pytest.mark.parametrize(("one_place", "met"), [(0.70, [True, True]), (0.52, [False, True]), (0.40, [False, False])])
def test_a_word_of_one_place_has_to_leak_more(args, answers, one_place, met):
    leaks = [{"concept": own, "standard_error": 0.01, "baseline": 0.5, "outside": 0.7} for own in (0.5, one_place, 0.4)]
    asked = answers(*({"background_leak": one} for one in leaks))

    assert are_met(after.leaks(args)) == met
    assert [files[0].parent.name for files, _ in asked] == ["several-places", "one-place", "one-place-masks"]
    assert all(more == ("--train_data_dir", ROOT / "cat_toy_images") for _, more in asked)


def test_drawings_of_one_place_have_masks_of_the_toy_alone(tmp_path):
    after.cats(tmp_path / "images", ["on the beach", "at night"], masks=tmp_path / "masks")

    shares = [np.asarray(Image.open(path)).mean() / 255 for path in sorted((tmp_path / "masks").iterdir())]
    assert len(list((tmp_path / "images").iterdir())) == len(shares) == 2 and all(0.1 < one < 0.6 for one in shares)


@pytest.mark.parametrize(("copier", "cat", "met"), [(0.8, 0.0, [True, True]), (0.1, 0.5, [False, False])])
def test_the_word_of_one_image_has_to_repeat_it_and_the_cat_must_not(args, answers, copier, cat, met):
    answers(*({"copies": {"share": share, "likeness": [0.9, 0.99], "among_training": 0.4}} for share in (copier, cat)))

    found = after.repeats(args)

    assert are_met(found) == met and f"| one image, often | {copier:.0%} | 0.990 | 0.400 |" in found.table
    images = sorted((args.folder / "one image often").iterdir())
    assert len({path.read_bytes() for path in images}) == 2 and len(images) == after.COPIES + 1


def test_words_are_learned_as_the_training_command_reads_them(args, monkeypatch):
    from textual_inversion.cli.train import parse

    commands = []
    monkeypatch.setattr(after.runs, "run", lambda command, **how: commands.append([str(word) for word in command]))

    after.learn("cat", args, steps=None, only_save_embeds=None)
    after.learn("masked", args, args.folder, after.RABBIT, mask_dir=args.folder)

    first, second = (parse(command[2:]) for command in commands)
    assert first.training.max_train_steps == 100 and not first.saving.only_save_embeds and not first.validation.overview
    assert second.training.max_train_steps == args.word_steps and second.images.mask_dir == (str(args.folder),)


@pytest.mark.parametrize("more", [("--curve", "curve"), ("--leave_one_out",), ("--pairs",), ()])
def test_scores_are_asked_for_as_the_command_reads_them(args, monkeypatch, more):
    from textual_inversion.cli.generation import parse_score

    commands = []

    def run(command, **how):
        commands.append([str(word) for word in command])
        (args.folder / "score.json").write_text('{"found": 1}')

    monkeypatch.setattr(after.runs, "run", run)
    args.num_inference_steps = 3

    assert after.score(args, [args.folder / "a.pdparams", args.folder / "b.pdparams"], *more) == {"found": 1}

    config = parse_score(commands[0][2:])
    assert config.measuring.num_images == args.num_images and config.sampling.num_inference_steps == 3
    assert config.output.output == str(args.folder / "score.json") and len(config.concept.embeds) == 2


def test_the_section_holds_all_parts_and_targets(tmp_path, monkeypatch, capsys):
    found = after.Found("**Something**:", after.tables.table(("a", "b"), [("c", 1)]), [after.tables.Target("t", 1, 2)])
    monkeypatch.setattr(after, "learn", lambda *_, **__: None)
    monkeypatch.setattr(after, "PARTS", {"verify": lambda args: found, "curve": lambda args: found})

    after.main(["--work_dir", str(tmp_path), "--part", "verify", "curve", "--num_images", "5"])

    shown = capsys.readouterr().out
    assert shown.startswith("## What is said after a run, 5 images for each figure") and "demo model: " in shown
    assert shown.count("**Something**:") == 2 and shown.count("| t | ≤ 2.00 | 1.00 | met |") == 2


@pytest.mark.slow
def test_real_runs_of_two_steps_have_a_line_for_each_part(tmp_path, capsys):
    after.main(["--work_dir", str(tmp_path), "--steps", "2", "--word_steps", "2", "--num_images", "2",
                "--num_inference_steps", "1", "--part", "verify", "leak", "copies"])  # fmt: skip

    shown = capsys.readouterr().out
    assert "| as it was learned | the same bytes |" in shown
    assert "| one number changed by one bit | other bytes |" in shown
    assert "| one place, masks | 0." in shown and "| one image, often | " in shown
    assert json.loads((tmp_path / "after/score.json").read_text())["copies"]["share"] >= 0
