"""Embeddings of other programs and of strangers in all three commands: pairs, odd names, records, vectors of zero."""

import json

import numpy as np
import pytest
from PIL import Image

import infer
import score
import train_textual_inversion
from helpers.local_hub import LocalHub, use
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model, tree
from helpers.training_runs import draw_images, set_up, short_run
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.system.errors import BaseModelError, TextualInversionError

QUICK = ["--num_inference_steps", "1", "--num_images", "1", "--seed", "7"]
PAIR = ("learned_embeds.safetensors", "learned_embeds_2.safetensors")


def rows(width=32, vectors=1, seed=1):
    return np.random.default_rng(seed).standard_normal((vectors, width)).astype(np.float32)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = build_model(tmp_path_factory.mktemp("base") / "sd1")
    build_clip(folder / "clip")
    return folder


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    """A tiny Stable Diffusion XL, and a folder with the two files of one concept for it."""
    root = tmp_path_factory.mktemp("xl")
    build_model(root / "base", "sdxl")
    draw_images(root / "pictures")
    (root / "pair").mkdir()
    for name, width in zip(PAIR, (32, 40), strict=True):
        (root / "pair" / name).write_bytes(safetensors_bytes({"<cat>": rows(width, 2)}, {}))
    return root


def drawn(folder, *flags):
    infer.main([*flags, *QUICK, "--output_dir", str(folder)])
    (image,) = folder.glob("0*.png")
    return np.asarray(Image.open(image)).tobytes()


@pytest.mark.slow
def test_a_pair_of_sdxl_draws_as_one_file_from_both_from_each_and_from_the_folder(tmp_path, xl, capsys):
    vectors = {"text_encoder": rows(32, 2), "text_encoder_2": rows(40, 2)}
    write_pdparams(tmp_path / "one.pdparams", [LearnedEmbedding("<cat>", vectors)])
    model = ["--pretrained_model_name_or_path", str(xl / "base"), "--prompt", "a <cat>"]
    expected = drawn(tmp_path / "one", "--embeds", str(tmp_path / "one.pdparams"), *model)
    first, second = (str(xl / "pair" / name) for name in PAIR)
    capsys.readouterr()

    for number, named in enumerate(([first, second], [second, first], [first], [second], [str(xl / "pair")])):
        assert drawn(tmp_path / str(number), "--embeds", *named, *model) == expected
        assert "are one concept for two text encoders; both are used" in capsys.readouterr().err
    (entry,) = json.loads((tmp_path / "0" / "manifest.json").read_text())["runs"][0]["embeds"]
    assert entry["partner"] == second and len(entry["partner_sha256"]) == 64


@pytest.mark.slow
def test_a_pair_of_sdxl_is_scored_and_two_concepts_are_not(tmp_path, xl, capsys):
    clip = build_clip(tmp_path / "clip")
    flags = ["--pretrained_model_name_or_path", str(xl / "base"), "--clip_model", str(clip),
             "--initializer_token", "cat", "--train_data_dir", str(xl / "pictures"),
             "--num_images", "1", "--num_inference_steps", "1"]  # fmt: skip
    first, second = (str(xl / "pair" / name) for name in PAIR)

    score.main(["--embeds", first, second, *flags, "--output", str(tmp_path / "both.json")])
    score.main(["--embeds", str(xl / "pair"), *flags, "--output", str(tmp_path / "folder.json")])

    both, folder = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("both", "folder"))
    assert both["concept"] == folder["concept"] and both["settings"]["embeds"] == [first, second]
    write_pdparams(tmp_path / "dog.pdparams", [LearnedEmbedding("<dog>", {"text_encoder": rows()})])
    with pytest.raises(TextualInversionError, match="are no pair of one concept; score one at a time"):
        score.main(["--embeds", first, str(tmp_path / "dog.pdparams"), *flags])


@pytest.mark.slow
def test_training_starts_from_a_pair_of_sdxl(tmp_path, xl, monkeypatch):
    (tmp_path / "base").symlink_to(xl / "base")
    (tmp_path / "pictures").symlink_to(xl / "pictures")
    run = set_up(
        monkeypatch,
        short_run(tmp_path, "--only_save_embeds", "--initializer_embeds", str(xl / "pair"), family="sdxl"),
    )
    np.testing.assert_array_equal(run.vectors.initial["text_encoder"], rows(32, 2))
    np.testing.assert_array_equal(run.vectors.initial["text_encoder_2"], rows(40, 2))


@pytest.mark.parametrize("token", ["my cat", "cat", "*", "", "a\x1bb"])
def test_whatever_a_file_calls_its_concept_the_way_out_that_is_named_draws_it(tmp_path, base, token):
    file = tmp_path / "cat.safetensors"
    file.write_bytes(safetensors_bytes({token: rows()}, {}))
    flags = ["--embeds", str(file), "--pretrained_model_name_or_path", str(base), "--prompt", "a <cat>"]

    with pytest.raises(TextualInversionError, match="choose another with --rename ") as caught:
        drawn(tmp_path / "refused", *flags)
    renaming = str(caught.value).rpartition("--rename ")[2].strip("'")
    drawn(tmp_path / "out", *flags, "--rename", renaming)

    (entry,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["runs"][0]["embeds"]
    assert entry["words"] == ["<cat>"] and list(entry["renamed"].values()) == ["<cat>"]


@pytest.mark.slow
def test_a_renamed_concept_is_scored_with_what_was_recorded_under_its_old_name(tmp_path, base):
    draw_images(tmp_path / "pictures")
    write_pdparams(tmp_path / "f.pdparams", [LearnedEmbedding("cat", {"text_encoder": rows()})])
    record = {"base_model": str(base), "placeholder_token": "cat", "initializer_token": "dog",
              "settings": {"train_data_dir": str(tmp_path / "pictures")}}  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(record))

    score.main(["--embeds", str(tmp_path / "f.pdparams"), "--rename", "cat=<new>", "--num_images", "1",
                "--num_inference_steps", "1", "--output", str(tmp_path / "s.json")])  # fmt: skip

    result = json.loads((tmp_path / "s.json").read_text())
    assert (result["baseline"]["word"], result["concept"]["word"]) == ("dog", "<new>")


# ------------------------------------------------------------------------------------------------------------ records


@pytest.fixture
def hub(tmp_path, monkeypatch, base):
    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        monkeypatch.setenv("PPNLP_ENDPOINT", local.endpoint)
        monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "store"))
        monkeypatch.chdir(tmp_path)
        local.repositories["me/model"] = {str(name): data for name, data in tree(base).items()}
        yield local


def recorded(folder, **record):
    folder.mkdir(exist_ok=True)
    write_pdparams(folder / "f.pdparams", [LearnedEmbedding("<cat>", {"text_encoder": rows()})])
    (folder / "run.json").write_text(json.dumps({"placeholder_token": "<cat>", **record}))
    return ["--embeds", str(folder / "f.pdparams"), "--prompt", "a <cat>"]


@pytest.mark.slow
def test_no_hub_is_asked_for_what_a_record_names_unless_the_user_trusts_it(tmp_path, hub, capsys):
    flags = recorded(tmp_path / "run", base_model="me/model")

    for command in (infer.main, score.main):
        more = [] if command is infer.main else ["--train_data_dir", str(draw_images(tmp_path / "pictures"))]
        asked = flags[:2] if more else flags
        with pytest.raises(BaseModelError) as caught:
            command([*asked, *more, *QUICK])
        assert f"{tmp_path / 'run' / 'run.json'} names the base model me/model, which is not" in str(caught.value)
        assert "--pretrained_model_name_or_path me/model, or trust the record with --trust_record" in str(caught.value)
    assert hub.requests == []

    drawn(tmp_path / "trusted", *flags, "--trust_record")
    assert hub.requests and "base model me/model, as " in capsys.readouterr().err
    count = len(hub.requests)
    drawn(tmp_path / "cached", *flags)  # now it is on this machine, and nobody is asked
    assert len(hub.requests) == count


@pytest.mark.slow
def test_metadata_and_a_recorded_tokenizer_make_no_request_either(tmp_path, hub, base):
    metadata = {"placeholder_token": "<cat>", "base_model": "me/model"}
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes({"<cat>": rows()}, metadata))
    with pytest.raises(
        BaseModelError, match="m.safetensors names the base model me/model, which is not on this machine"
    ):
        infer.main(["--embeds", "m.safetensors", *QUICK])
    flags = recorded(tmp_path / "run", base_model=str(base), settings={"tokenizer_name": "me/tokenizer"})
    with pytest.raises(BaseModelError, match="names the tokenizer me/tokenizer, .*--tokenizer_name me/tokenizer, or"):
        infer.main([*flags, *QUICK])
    assert hub.requests == []

    with pytest.raises(BaseModelError, match="no public repository of this name"):
        infer.main([*flags, *QUICK, "--tokenizer_name", "me/own"])  # what the user names is asked for
    assert any("me/own" in request for request in hub.requests)


def test_a_local_model_of_a_record_needs_no_flag(tmp_path, base, capsys):
    drawn(tmp_path / "out", *recorded(tmp_path / "run", base_model=str(base)))
    assert "note:" not in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- zero vectors


def test_score_and_training_tell_of_vectors_of_zero(tmp_path, base, capsys):
    values = rows(32, 2)
    values[1] = 0
    (tmp_path / "f.safetensors").write_bytes(safetensors_bytes({"<cat>": values}, {}))
    note = "note: {}: <cat>: vector 2 of 2 is zero and says nothing to the model".format(tmp_path / "f.safetensors")
    images = str(draw_images(tmp_path / "pictures"))

    score.main(["--embeds", str(tmp_path / "f.safetensors"), "--train_data_dir", images, "--initializer_token", "cat",
                "--pretrained_model_name_or_path", str(base), "--num_images", "1",
                "--num_inference_steps", "1"])  # fmt: skip
    assert note in capsys.readouterr().err.splitlines()

    train_textual_inversion.main(
        short_run(tmp_path, "--only_save_embeds", "--initializer_embeds", str(tmp_path / "f.safetensors"))
    )
    assert note in "".join(capsys.readouterr()).splitlines()


@pytest.mark.parametrize("command", ["infer", "score", "train"])
def test_zeros_beside_output_vectors_are_refused_by_every_command(tmp_path, base, command):
    (tmp_path / "ot.safetensors").write_bytes(
        safetensors_bytes({"emp_params": np.zeros((1, 32), np.float32), "emp_params_out": rows()}, {})
    )
    file = str(tmp_path / "ot.safetensors")
    with pytest.raises(TextualInversionError, match="ot.safetensors: holds only output vectors"):
        if command == "train":
            train_textual_inversion.main(short_run(tmp_path, "--initializer_embeds", file))
        else:
            {"infer": infer.main, "score": score.main}[command](["--embeds", file, *QUICK])
