"""`--initializer_token auto`: the loss chooses the word, and a resumed run keeps it."""

import json
from types import SimpleNamespace

import pytest

from helpers.tiny_clip import build_clip
from helpers.training_runs import draw_images, masks_of, rows_after, set_up_all, short_run
from textual_inversion.data.prompt_variation import make_variation
from textual_inversion.settings.concept import Concept
from textual_inversion.training import assembly, initializer_choice
from textual_inversion.training.initializer_choice import LossSettings, WordLoss, with_chosen_words
from train_textual_inversion import main


class Read:
    def of_concept(self, index):
        return [f"image of {index}"]


def chosen(monkeypatch, losses, ranked, concepts, language="en"):
    """(concepts, lines, what was measured) where the losses of words are given."""
    said, asked = [], []

    class Measured:
        def __init__(self, concept, index, model, read, settings):
            self.own = losses[index]

        def __call__(self, word):
            asked.append(word)
            return self.own[word]

    monkeypatch.setattr(initializer_choice, "WordLoss", Measured)
    monkeypatch.setattr(initializer_choice, "known_ids", lambda word, tokenizer: [] if word == "strange" else [5])
    model = SimpleNamespace(text_encoders=[SimpleNamespace(tokenizer=None)])
    near = lambda images, kind: [(word, 0.9) for word in ranked]  # noqa: E731
    found = with_chosen_words(concepts, model, Read(), near, None, language, said.append)
    return found, said, asked


def test_the_word_with_the_lowest_loss_is_taken_and_the_line_says_why(monkeypatch):
    losses = {0: {"a1": 0.5, "b1": 0.25, "c1": 0.75, "toy": 0.3, "d1": 1, "e1": 1}}
    concepts = [Concept("<x>", 1, "auto")]

    found, said, asked = chosen(monkeypatch, losses, ["a1", "b1", "c1", "d1", "e1", "beyond"], concepts)

    assert [one.initializer_token for one in found] == ["b1"]
    assert asked == ["a1", "b1", "c1", "d1", "e1", "toy"]  # five by CLIP, and the generic one
    assert said == [
        "<x>: 'b1' has the lowest loss on its images of the 6 words that were tried: b1 0.2500, toy 0.3000, a1 0.5000, "
        "c1 0.7500, d1 1.0000, e1 1.0000"
    ]


def test_the_generic_word_is_that_of_the_kind_and_is_taken_where_it_is_better(monkeypatch):
    losses = {0: {"a1": 0.5, "style": 0.1}, 1: {"a1": 0.2, "bad": 0.3}}
    concepts = [Concept("<x>", 1, "auto", "style"), Concept("<y>", 1, "auto", "negative"), Concept("<z>", 1, "cat")]

    found, said, _ = chosen(monkeypatch, losses, ["a1"], concepts)

    assert [one.initializer_token for one in found] == ["style", "a1", "cat"] and len(said) == 2


def test_a_word_that_the_model_does_not_know_is_not_tried(monkeypatch):
    found, _, asked = chosen(monkeypatch, {0: {"toy": 0.5}}, ["strange"], [Concept("<x>", 1, "auto")])

    assert asked == ["toy"] and found[0].initializer_token == "toy"


def of_run(tmp_path, monkeypatch, *more):
    """(concept, model, what was read, settings of the loss) of a tiny run."""
    kept = {}
    real = assembly.teach

    def keep(config, context, model, read, record):
        kept.update(model=model, read=read, config=config)
        return real(config, context, model, read, record)

    monkeypatch.setattr(assembly, "teach", keep)
    config, run = set_up_all(monkeypatch, short_run(tmp_path, "--eval_samples", "16", *more))
    settings = LossSettings(config.images, (config.images.height, config.images.width), config.training.seed, (0, 1000),
                            make_variation(config.prompts, ["<cat-toy>"]), 4)  # fmt: skip
    return run.vectors.concepts[0], kept["model"], kept["read"], settings


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_the_loss_with_which_a_run_that_starts_from_the_word_begins(tmp_path, monkeypatch, masked):
    main(short_run(tmp_path, "--eval_samples", "16", "--eval_steps", "1", "--only_save_embeds", "--initializer_token",
                   "dog", *mask_flags(tmp_path, masked)))  # fmt: skip
    first = json.loads((tmp_path / "out/run.json").read_text())["figures"]["fixed_set_loss"]["0"]
    concept, model, read, settings = of_run(tmp_path, monkeypatch, *mask_flags(tmp_path, masked))

    measure = WordLoss(concept, 0, model, read, settings)

    assert measure("dog") == pytest.approx(first, rel=1e-5)
    assert measure("cat") != pytest.approx(first, rel=1e-4)


def mask_flags(tmp_path, masked):
    draw_images(tmp_path / "pictures")
    return ["--mask_dir", str(masks_of(tmp_path / "pictures", tmp_path / "masks"))] if masked else []


def test_of_many_images_some_are_asked_evenly(tmp_path, monkeypatch):
    draw_images(tmp_path / "pictures", 20)
    concept, model, read, settings = of_run(tmp_path, monkeypatch, "--train_data_dir", str(tmp_path / "pictures"))

    measure = WordLoss(concept, 0, model, read, settings)

    names = sorted(int(path.stem) for path in (tmp_path / "pictures").iterdir())
    assert len(measure._data.images) == 8 and names == list(range(20))
    kept = initializer_choice._some_of(read, 0)
    assert [int(file.path.stem) for file in kept.files] == [0, 2, 5, 7, 10, 12, 15, 17]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_word_without_looking_again_and_learns_the_same(tmp_path, monkeypatch):
    more = ("--initializer_token", "auto", "--only_save_embeds", "--eval_steps", "0", "--save_steps", "1")
    more += ("--initial_reg_weight", "0.1", "--max_train_steps", "3")  # which shows what it started from
    argv = short_run(tmp_path, *more)
    build_clip(tmp_path / "base/clip")
    whole = rows_after(argv)
    word = json.loads((tmp_path / "out/run.json").read_text())["initializer_token"]

    monkeypatch.setattr(assembly, "word_finder", None)  # so that looking again would fail
    again = short_run(tmp_path, *more, "--output_dir", str(tmp_path / "again"))
    resumed = rows_after([*again, "--resume_from_checkpoint", str(tmp_path / "out/checkpoint-2")])

    assert json.loads((tmp_path / "again/run.json").read_text())["initializer_token"] == word
    assert all((resumed[token] == whole[token]).all() for token in whole)
