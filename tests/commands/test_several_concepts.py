"""Several words in one run, with all that a concept can bring: images, captions, a start, vectors."""

import json
from pathlib import Path

import numpy as np
import pytest

import infer
import train_textual_inversion
from helpers.tiny_models import FAMILIES
from helpers.training_runs import draw_images, short_run
from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams
from textual_inversion.system.errors import ConceptError, SettingsError


def two_words(tmp_path, *more: str) -> list[str]:
    """A run of two words, the second with one image and two vectors."""
    draw_images(tmp_path / "others", count=1)
    words = ["--placeholder_token", "<one>", "two-logo", "--num_vectors", "1", "2", "--learnable_property", "object",
             "style", "--train_data_dir",
             str(tmp_path / "pictures"), str(tmp_path / "others"), "--only_save_embeds"]  # fmt: skip
    return short_run(tmp_path, *words, *more)


def rows_in(folder) -> dict[str, np.ndarray]:
    """Word -> its rows, from the final file of a run."""
    return {e.placeholder_token: e.vectors["text_encoder"] for e in read_embeddings(folder / "learned_embeds.pdparams")}


def trained(argv, folder) -> tuple[dict, dict]:
    """Rows at step 1 and at the end."""
    train_textual_inversion.main([*argv, "--save_steps", "1", "--output_dir", str(folder)])
    first = read_embeddings(folder / "learned_embeds-steps-1.pdparams")
    return {e.placeholder_token: e.vectors["text_encoder"] for e in first}, rows_in(folder)


@pytest.mark.slow
def test_one_file_holds_all_words_and_each_has_its_own(tmp_path, capsys):
    train_textual_inversion.main(two_words(tmp_path, "--initializer_token", "toy", "style"))

    out = tmp_path / "out"
    rows = rows_in(out)
    assert {word: r.shape for word, r in rows.items()} == {"<one>": (1, 32), "two-logo": (2, 32)}
    for name, word in (("one", "<one>"), ("two-logo", "two-logo")):
        (alone,) = read_embeddings(out / f"learned_embeds-{name}.safetensors")
        assert alone.placeholder_token == word
        np.testing.assert_array_equal(alone.vectors["text_encoder"], rows[word])
    record = json.loads((out / "run.json").read_text())
    assert record["placeholder_token"] == ["<one>", "two-logo"]
    assert record["learnable_property"] == ["object", "style"]
    said = capsys.readouterr().out
    assert "1 training image(s) of two-logo" in said and "<one>, two-logo are in" in said


@pytest.mark.slow
def test_two_words_of_a_run_stand_in_one_prompt(tmp_path, capsys):
    train_textual_inversion.main(two_words(tmp_path))

    infer.main(["--embeds", str(tmp_path / "out" / "learned_embeds.pdparams"), "--num_images", "1",
                "--prompt", "a <one> in the style of two-logo", "--num_inference_steps", "2", "--seed", "1",
                "--output_dir", str(tmp_path / "drawn")])  # fmt: skip

    assert (tmp_path / "drawn" / "0000-seed1.png").exists()
    assert "note" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_two_words_in_one_run(tmp_path, family):
    argv = short_run(tmp_path, "--placeholder_token", "<one>", "<two>", "--num_vectors", "1", "2", "--only_save_embeds",
                     "--train_data_dir", *2 * [str(tmp_path / "pictures")], family=family)  # fmt: skip

    train_textual_inversion.main(argv)

    learned = read_embeddings(tmp_path / "out" / "learned_embeds.pdparams")
    assert [(e.placeholder_token, e.num_vectors) for e in learned] == [("<one>", 1), ("<two>", 2)]
    assert all(len(e.vectors) == (2 if family == "sdxl" else 1) for e in learned)
    infer.main(["--embeds", str(tmp_path / "out" / "learned_embeds.pdparams"), "--prompt", "<one> <two>", "--seed",
                "1", "--num_images", "1", "--num_inference_steps", "1", "--output_dir",
                str(tmp_path / "drawn")])  # fmt: skip
    assert (tmp_path / "drawn" / "0000-seed1.png").exists()


@pytest.mark.slow
def test_a_word_does_not_move_on_anothers_samples(tmp_path):
    one_by_one = two_words(tmp_path, "--train_batch_size", "1", "--adam_weight_decay", "0.5", "--max_train_steps", "3")

    first, last = trained(one_by_one, tmp_path / "turns")  # <one>, two-logo, <one>
    start, _ = trained([*one_by_one, "--learning_rate", "1e-30"], tmp_path / "start")
    _, two_steps = trained([*one_by_one, "--max_train_steps", "2"], tmp_path / "two")

    np.testing.assert_array_equal(first["two-logo"], start["two-logo"])
    assert np.abs(first["<one>"] - start["<one>"]).max() > 1e-3
    np.testing.assert_array_equal(two_steps["<one>"], first["<one>"])
    assert np.abs(two_steps["two-logo"] - first["two-logo"]).max() > 1e-3
    np.testing.assert_array_equal(last["two-logo"], two_steps["two-logo"])
    assert np.abs(last["<one>"] - first["<one>"]).max() > 1e-4


@pytest.mark.slow
def test_a_word_learns_nothing_from_anothers_caption_in_the_same_batch(tmp_path):
    argv = two_words(tmp_path, "--train_batch_size", "2", "--max_train_steps", "1")
    folders = argv[argv.index("--train_data_dir") + 1 :][:2]
    learned = []
    for caption in ("a photo of a <one>", "a photo of a <one> beside a two-logo"):
        for image in Path(folders[0]).glob("*.png"):
            image.with_suffix(".txt").write_text(caption)
        learned.append(trained(argv, tmp_path / f"run-{len(learned)}")[1])

    np.testing.assert_array_equal(learned[0]["two-logo"], learned[1]["two-logo"])
    assert np.abs(learned[0]["<one>"] - learned[1]["<one>"]).max() > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--vector_shuffle",),
        ("--token_dropout", "0.3"),
        ("--norm_reg_weight", "0.1", "--initial_reg_weight", "0.1"),
        ("--initializer_token", "toy cat", "--hidden_reg_weight", "0.1"),
    ],
)
def test_every_vector_of_a_word_is_trained(tmp_path, options):
    argv = short_run(tmp_path, "--num_vectors", "4", "--only_save_embeds", "--max_train_steps", "4", *options)

    first, last = trained(argv, tmp_path / "out")
    start, _ = trained([*argv, "--learning_rate", "1e-30"], tmp_path / "start")

    moved = np.abs(last["<cat-toy>"] - start["<cat-toy>"]).max(axis=1)
    assert (moved > 1e-3).all() and (np.abs(first["<cat-toy>"] - last["<cat-toy>"]).max(axis=1) > 1e-4).all()


@pytest.mark.slow
def test_progressive_vectors_move_when_their_time_comes(tmp_path):
    argv = short_run(tmp_path, "--num_vectors", "3", "--only_save_embeds", "--max_train_steps", "4",
                     "--adam_weight_decay", "0", "--progressive_vectors", "2")  # fmt: skip

    first, last = trained(argv, tmp_path / "out")
    start, _ = trained([*argv, "--learning_rate", "1e-30"], tmp_path / "start")

    moved_first = np.abs(first["<cat-toy>"] - start["<cat-toy>"]).max(axis=1)
    assert (moved_first > 1e-3).tolist() == [True, False, False]
    assert (np.abs(last["<cat-toy>"] - start["<cat-toy>"]).max(axis=1) > 1e-3).all()


def test_captions_beside_the_images_are_trained_on(tmp_path, monkeypatch, capsys):
    from textual_inversion.data import sampler

    streams = []
    build = sampler.SampleStream.__init__
    monkeypatch.setattr(
        sampler.SampleStream, "__init__", lambda self, **k: (streams.append(k["images"]), build(self, **k))[1]
    )
    argv = short_run(tmp_path, "--only_save_embeds", "--append_file_name_to_text")
    (tmp_path / "pictures" / "0.txt").write_text("a grey cat\n")

    train_textual_inversion.main(argv)

    captioned, named, _ = streams[0]
    assert captioned.prompts == ("a grey cat, <cat-toy>",)
    assert named.prompts[0] == "a photo of a <cat-toy> 1"
    said = capsys.readouterr().out
    assert "1 of 3 image(s) of <cat-toy> have captions" in said and "was added to 1 caption(s)" in said


@pytest.mark.slow
def test_training_goes_on_from_a_learned_embedding(tmp_path):
    rows = np.random.default_rng(1).standard_normal((2, 32)).astype(np.float32)
    write_pdparams(tmp_path / "old.pdparams", [LearnedEmbedding("<old>", {"text_encoder": rows})])
    argv = short_run(tmp_path, "--only_save_embeds", "--initializer_embeds", str(tmp_path / "old.pdparams"))

    first, _ = trained([*argv, "--learning_rate", "1e-30", "--adam_weight_decay", "0"], tmp_path / "out")

    np.testing.assert_array_equal(first["<cat-toy>"], rows)


def test_templates_of_a_users_own_are_taken(tmp_path):
    (tmp_path / "bad.txt").write_text("a statue\n")
    with pytest.raises(SettingsError, match="must contain {} once"):
        train_textual_inversion.main(short_run(tmp_path, "--template_file", str(tmp_path / "bad.txt")))
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_sentence_that_cuts_its_word_off_is_refused(tmp_path):
    argv = short_run(tmp_path, "--only_save_embeds")
    (tmp_path / "pictures" / "0.txt").write_text("toy " * 80)

    with pytest.raises(ConceptError, match="cuts off <cat-toy>"):
        train_textual_inversion.main(argv)


# The examples of the documents, said in this project's flags: a logo from a phrase with image names as captions
# (Determined AI), many vectors for an object and two for a style from random rows (MindOne), one word (ppdiffusers).
DOCUMENTS = {
    "determined": ["--placeholder_token", "det-logo", "--num_vectors", "auto", "--append_file_name_to_text",
                   "--initializer_token", "brain logo, sharp lines, connected circles, concept art"],
    "mindone object": ["--num_vectors", "10", "--gradient_accumulation_steps", "4"],
    "mindone style": ["--placeholder_token", "<chinese-art>", "--learnable_property", "style", "--num_vectors", "2"],
    "mindone face": ["--placeholder_token", "<me>", "--learnable_property", "face", "--flip_p", "0"],
    "ppdiffusers": ["--initializer_token=toy", "--learning_rate=5.0e-04", "--scale_lr", "--lr_scheduler=constant"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_examples_of_the_documents_run(tmp_path, document):
    argv = short_run(tmp_path, *DOCUMENTS[document], "--only_save_embeds")
    (tmp_path / "pictures" / "0.png").rename(tmp_path / "pictures" / "on_a_dark_blue_oil_painting_of_ocean_waves.png")

    train_textual_inversion.main(argv)

    ((word, rows),) = rows_in(tmp_path / "out").items()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["num_vectors"] == len(rows) and np.isfinite(rows).all()
    if document == "determined":
        assert word == "det-logo" and len(rows) > 4
