"""convert.py mix and doctor as users call them: words from words, verdicts; and what they get wrong, a row each."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from helpers.convert_runs import refused, run, untried
from helpers.embedding_samples import concept
from helpers.paths import ROOT
from helpers.strangers import attacks_by_global
from helpers.tiny_models import build_model, tree
from textual_inversion.formats.contents import read_contents
from textual_inversion.formats.embedding_file import (
    LearnedEmbedding,
    read_embeddings,
    write_pdparams,
    write_safetensors,
)
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.formats.targets import TARGETS
from textual_inversion.models.vocabulary import load_text_encoders, row_norms, word_vectors
from textual_inversion.settings.convert import DoctorConfig, MixConfig

WIDTH = 32


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two base models, of Stable Diffusion 1.x and XL."""
    root = tmp_path_factory.mktemp("models")
    build_model(root / "sd1", "sd1")
    build_model(root / "sdxl", "sdxl")
    return root


@pytest.fixture
def world(models, tmp_path):
    """Embedding files of all kinds; base/ and xl/ are links to the models."""
    (tmp_path / "base").symlink_to(models / "sd1")
    (tmp_path / "xl").symlink_to(models / "sdxl")
    cat = concept("<cat>", 1, WIDTH, base_model=str(models / "sd1"), learnable_property="object")
    dog = concept("<dog>", 1, WIDTH, seed=1, base_model=str(models / "sd1"), learnable_property="style")
    write_safetensors(tmp_path / "cat.safetensors", cat)
    write_safetensors(tmp_path / "dog.safetensors", dog)
    write_pdparams(tmp_path / "two.pdparams", [concept("<cat>", 2, WIDTH), concept("<dog>", 2, WIDTH, seed=1)])
    write_safetensors(tmp_path / "wide.safetensors", concept("<wide>", 1, 768))
    write_safetensors(tmp_path / "toy.safetensors", concept("toy", 1, WIDTH))
    write_safetensors(tmp_path / "many.safetensors", concept("<many>", 80, WIDTH))
    files = {
        "blank.pt": safetensors_bytes({"two words": np.ones((1, WIDTH), np.float32)}, {}),
        "nan.pt": safetensors_bytes({"<n>": np.full((1, WIDTH), np.nan, np.float32)}, {}),
        "zero.pt": safetensors_bytes({"<z>": np.zeros((1, WIDTH), np.float32)}, {}),
        "cut.safetensors": (tmp_path / "cat.safetensors").read_bytes()[:-5],
        "evil.pt": attacks_by_global(tmp_path / "mark")["os.system"][0],
        "text.pt": b"hello",
        "there.pt": b"mine",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def vectors(path):
    (one,) = read_embeddings(path)
    return one.vectors["text_encoder"].astype(np.float64)


# --------------------------------------------------------------------------------------------------------------- mix


@pytest.mark.parametrize("to", TARGETS)
def test_a_mix_is_written_for_every_program(world, capsys, to):
    out = world / f"new{TARGETS[to].ending}"
    argv = ["mix", f"{world}/cat.safetensors*0.75 - {world}/two.pdparams:<dog>*0.25", "--name", "<new>", "--to", to]
    assert run([*argv, "--output", out, "--pad", "repeat"], capsys)[0] == 0

    cat = vectors(world / "cat.safetensors")
    dog = read_embeddings(world / "two.pdparams")[1].vectors["text_encoder"].astype(np.float64)
    np.testing.assert_array_equal(vectors(out), (0.75 * cat - 0.25 * dog).astype(np.float32))


def test_the_ending_says_for_which_program(world, capsys):
    for ending in ("pdparams", "safetensors", "bin", "pt", "png"):
        out = world / f"new.{ending}"
        argv = ["mix", f"{world}/cat.safetensors & {world}/dog.safetensors", "--name", "<new>", "--output", out]
        status, said, _ = run(argv, capsys)
        assert status == 0 and f"new.{ending}: <new>, 2 vectors, norm " in said and vectors(out).shape == (2, WIDTH)
    assert read_contents(world / "new.pt").layout.startswith("string_to_param")


def test_the_result_says_what_it_was_mixed_from_and_nothing_of_this_machine(world, capsys):
    expression = f"{world}/cat.safetensors*0.5 + {{{world}/dog.safetensors}}:<dog>"
    argv = ["mix", expression, "--name", "<new>", "--norm", "mean", "--output", world / "n.safetensors"]
    assert run(argv, capsys)[0] == 0

    (new,) = read_embeddings(world / "n.safetensors")
    facts = dict(new.metadata)
    assert facts["mixed_from"] == "cat.safetensors*0.5 + dog.safetensors:<dog>" and facts["mixed_norm"] == "mean"
    assert "cat.safetensors sha256:" in facts["mixed_files"] and "learnable_property" not in facts
    assert facts.pop("base_model").endswith("sd1") and str(world) not in str(facts)


def test_a_cover_comes_from_the_runs_of_the_parts(world, capsys):
    (world / "samples").mkdir()
    Image.new("RGB", (600, 300), "red").save(world / "samples" / "step-5.png")
    argv = [
        "mix",
        f"{world}/cat.safetensors*2",
        "--name",
        "<n>",
        "--output",
        world / "n.safetensors",
        "--cover",
        "auto",
    ]

    assert run(argv, capsys)[0] == 0
    assert "ssmd_cover_images" in read_contents(world / "n.safetensors").metadata


def test_it_starts_without_paddle_and_as_a_process(world):
    program = (
        "import sys, convert\n"
        f"convert.main(['mix', {str(world)!r} + '/cat.safetensors*2', '--name', '<n>', '--output', sys.argv[1]])\n"
        "convert.main(['doctor', sys.argv[1]])\n"
        "print([name for name in ('paddle', 'ppdiffusers', 'torch') if name in sys.modules])"
    )
    out = world / "n.safetensors"
    done = subprocess.run([sys.executable, "-c", program, out], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]" and "n.safetensors: nothing speaks against it" in done.stdout


def test_words_of_the_vocabulary_and_the_norm_of_the_table(world, capsys):
    base = ["--pretrained_model_name_or_path", world / "base"]
    argv = ["mix", f'{world}/cat.safetensors - "cat" + "toy"', "--name", "<n>", *base, "--output"]
    assert run([*argv, world / "keep.safetensors"], capsys)[0] == 0
    assert run([*argv, world / "table.safetensors", "--norm", "table"], capsys)[0] == 0

    encoders = load_text_encoders(world / "base")
    known = {word: word_vectors(word, encoders)["text_encoder"].astype(np.float64) for word in ("cat", "toy")}
    wanted = (vectors(world / "cat.safetensors") - known["cat"] + known["toy"]).astype(np.float32)
    np.testing.assert_array_equal(vectors(world / "keep.safetensors"), wanted)
    found = np.linalg.norm(vectors(world / "table.safetensors"), axis=1)
    np.testing.assert_allclose(found, row_norms(encoders[0]).mean(), rtol=1e-5)


def test_both_text_encoders_of_xl(world, capsys):
    encoders = load_text_encoders(world / "xl")
    rows = word_vectors("cat", encoders)
    write_safetensors(world / "x.safetensors", LearnedEmbedding("<x>", {n: 2 * row for n, row in rows.items()}))
    argv = ["mix", f'{world}/x.safetensors + "cat"', "--name", "<n>", "--pretrained_model_name_or_path", world / "xl"]
    assert run([*argv, "--output", world / "n.safetensors"], capsys)[0] == 0

    (new,) = read_embeddings(world / "n.safetensors")
    assert len(rows) == 2
    for name, row in rows.items():
        np.testing.assert_allclose(new.vectors[name], 3 * row, rtol=1e-6)


def test_words_go_back_towards_their_start(world, capsys):
    cat = concept("<cat>", 1, WIDTH, initializer_token="toy")
    write_safetensors(world / "own.safetensors", cat)
    argv = [
        "mix",
        f"{world}/own.safetensors",
        "--name",
        "<n>",
        "--from_start",
        "0.25",
        "--output",
        world / "n.safetensors",
    ]
    status, _, err = run([*argv, "--pretrained_model_name_or_path", world / "base"], capsys)

    start = word_vectors("toy", load_text_encoders(world / "base"))["text_encoder"].astype(np.float64)
    assert status == 0 and "its start is taken to be 'toy'" in err
    wanted = 0.75 * start + 0.25 * cat.vectors["text_encoder"]
    np.testing.assert_allclose(vectors(world / "n.safetensors"), wanted, rtol=1e-6)
    assert read_embeddings(world / "n.safetensors")[0].metadata["mixed_from_start"] == "0.25"


def test_parts_of_different_base_models_are_told(world, capsys):
    write_safetensors(world / "other.safetensors", concept("<o>", 1, WIDTH, base_model="someone/model"))
    argv = ["mix", f"{world}/cat.safetensors + {world}/other.safetensors", "--name", "<n>", "--output", world / "n.pt"]

    status, _, err = run(argv, capsys)
    assert (
        status == 0 and "other.safetensors on someone/model; vectors of different base models may mean nothing" in err
    )
    _, _, err = run([*argv, "--overwrite", "--pretrained_model_name_or_path", world / "base"], capsys)
    assert "part of the mix was learned on someone/model, which is not" in err


def test_a_word_with_blanks_in_its_name_can_be_mixed(world, capsys):
    argv = ["mix", f"{world}/blank.pt:{{two words}}*2", "--name", "<n>", "--output", world / "n.safetensors"]

    assert run(argv, capsys)[0] == 0
    assert (vectors(world / "n.safetensors") == 2).all()


# ------------------------------------------------------------------------------------------------------------ doctor


def verdict(world, capsys, name, *more):
    argv = ["doctor", world / name, "--pretrained_model_name_or_path", world / "base", *more]
    status, out, err = run(argv, capsys)
    assert err.count("error: ") == (status == 2) and "Traceback" not in err
    return status, out, err


def test_what_works_is_said_in_a_line(world, capsys):
    write_safetensors(
        world / "good.safetensors",
        LearnedEmbedding(
            "<g>", word_vectors("cat", load_text_encoders(world / "base")), {"base_model": str(world / "base")}
        ),
    )
    status, out, _ = verdict(world, capsys, "good.safetensors")

    assert (status, out) == (0, f"{world}/good.safetensors: works with {world}/base\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wide.safetensors", "no: <wide> holds vectors of 768 values (Stable Diffusion 1.x), and"),
        (
            "toy.safetensors",
            "no: the placeholder token 'toy' is a token of this base model already; choose another with",
        ),
        ("many.safetensors", "no: <many> has 80 vectors, and a prompt of"),
        ("nan.pt", "no: holds NaN or infinite values under '<n>'"),
        ("zero.pt", "no: <z> is all zeros and means nothing"),
        ("blank.pt", "no: the placeholder token 'two words' holds blanks"),
        ("cut.safetensors", "no: declares values for"),
        ("evil.pt", "no: asks for os.system, which could run any code; nothing in it was run"),
        ("text.pt", "no: it is a text of 1 lines"),
    ],
)
def test_what_does_not_work_is_said_with_the_way_out(world, capsys, name, said):
    before = tree(world)
    status, out, err = verdict(world, capsys, name)

    assert status == 2 and said.removeprefix("no: ") in err and f"error: {world}/{name} does not work with" in err
    assert "does not work with" in out.splitlines()[0] and said in out
    assert (
        all("; " in line for line in out.splitlines()[1:]) and tree(world) == before and not (world / "mark").exists()
    )
    (facts,) = json.loads(verdict(world, capsys, name, "--json")[1])
    assert facts["works"] is False and any(one["level"] == "no" for one in facts["findings"])


def test_without_a_base_model_it_says_what_the_file_says(world, capsys):
    status, out, _ = run(["doctor", world / "wide.safetensors", world / "many.safetensors"], capsys)

    assert status == 0 and "wide.safetensors: nothing speaks against it" in out
    assert "note: <wide> is for Stable Diffusion 1.x; name a base model to see whether it works there" in out
    assert "warning: <many> has 80 vectors, and prompts of CLIP have room for 75" in out
    status, out, err = run(["doctor", world / "wide.safetensors", world / "nan.pt"], capsys)
    assert status == 2 and "nothing speaks against it" in out and "nan.pt cannot be used: holds NaN" in err
    status, out, err = run(["doctor", world / "absent.pt", world / "nan.pt", world / "wide.safetensors"], capsys)
    assert (
        status == 2 and "nothing speaks against it" in out and err.count("error: ") == 1 and "absent.pt: No such" in err
    )


# ------------------------------------------------------------------------------------------------------ what does not

OUT = ["--name", "<n>", "--output", "{w}/new.safetensors"]
CAT = "{w}/cat.safetensors"
BASE = ["--pretrained_model_name_or_path", "{w}/base"]
ROWS = [
    # the mix
    (["mix"], "the following arguments are required: MIX; see python convert.py mix --help"),
    (["mix", "", *OUT], "the mix cannot be read at its end"),
    (["mix", f"{CAT} *", *OUT], "the mix cannot be read at its end; write such as 'a.safetensors*0.7"),
    (["mix", f"{CAT}; import os", *OUT], "the mix cannot be read at 'import os'"),
    (["mix", f"({CAT}", *OUT], "the mix cannot be read at its end"),
    (["mix", "(" * 900, *OUT], "more than 40 brackets"),
    (["mix", "a" * 5000, *OUT], "the mix has 5000 letters, more than 4000"),
    (["mix", f"1e99*{CAT}", *OUT], "the mix has the number 1e99, more than 1000000"),
    (["mix", f"{CAT}*{CAT}", *OUT], "multiplies words; multiply a word by a number"),
    (["mix", f"{CAT} + 1", *OUT], "adds a number to a word"),
    (["mix", "0.5", *OUT], "0.5 is a number and no word"),
    (["mix", f"{CAT} + {{w}}/wide.safetensors", *OUT], "has vectors of width 32 and"),
    (["mix", f"{CAT} + {{w}}/two.pdparams:<dog>", *OUT], "fill up the smaller one with --pad zeros or --pad repeat"),
    (["mix", f"{CAT} - {CAT}", "--norm", "mean", *OUT], "vector 1 of the mix is zero, to which --norm mean"),
    (["mix", f"{CAT}-{CAT}", *OUT], "between names, + and - want blanks around them"),
    # words and files
    (["mix", "{w}/absent.pt", *OUT], "absent.pt: No such file or directory; check the path"),
    (["mix", "{w}/two.pdparams", *OUT], "two.pdparams holds <cat>, <dog>; name one of them, as in FILE:<word>"),
    (["mix", f"{CAT}:<fox>", *OUT], "holds no '<fox>'; it holds <cat>"),
    (["mix", "{w}/nan.pt", *OUT], "nan.pt: holds NaN or infinite values under '<n>'"),
    (["mix", "{w}/evil.pt", *OUT], "evil.pt: asks for os.system"),
    (["mix", "{w}/text.pt", *OUT], "text.pt: is neither safetensors nor a pickle"),
    (["mix", "x" * 300, *OUT], "can be the name of no file; shorten it"),
    (["mix", '"cat"', *OUT], "--pretrained_model_name_or_path is missing: a vocabulary word is that of a base model"),
    (["mix", '""', *OUT, *BASE], "'' has no token in this base model's vocabulary"),
    (["mix", f'{CAT} + "cat toy"', *OUT, *BASE], "fill up the smaller one with --pad"),
    (["mix", "{w}/wide.safetensors", *OUT, *BASE], "holds vectors of 768 values (Stable Diffusion 1.x)"),
    # the result
    (["mix", CAT, "--output", "{w}/new.pt"], "--name is missing: give the placeholder token of the new word"),
    (["mix", CAT, "--name", "two words", "--output", "{w}/new.pt"], "the placeholder token 'two words' holds blanks"),
    (["mix", CAT, "--name", "", "--output", "{w}/new.pt"], "the placeholder token is empty"),
    (["mix", CAT, "--name", "toy", "--output", "{w}/n.pt", *BASE], "'toy' is a token of this base model already"),
    (["mix", CAT, "--name", "<n>"], "--output is missing: name the file or folder to write"),
    (["mix", CAT, "--name", "<n>", "--output", "{w}/new"], "--to is missing: say for which program to write"),
    (["mix", CAT, "--name", "<n>", "--output", "{w}/there.pt"], "there.pt is there already"),
    (["mix", CAT, "--name", "<n>", "--output", CAT, "--overwrite"], "cat.safetensors is a file that is read"),
    (["mix", CAT, "--name", "<n>", "--to", "gimp", "--output", "{w}/n.pt"], "--to: invalid choice: 'gimp'"),
    (["mix", f"{CAT}*1e6", *OUT, "--half"], "the mix: <n> holds values beyond 65504"),
    (["mix", CAT, *OUT, "--norm", "big"], "--norm: invalid choice: 'big'"),
    (["mix", CAT, *OUT, "--norm", "table"], "--pretrained_model_name_or_path is missing: the norm of a table"),
    (["mix", CAT, *OUT, "--pad", "ones"], "--pad: invalid choice: 'ones'"),
    (["mix", CAT, *OUT, "--from_start", "1.5"], "--from_start: must be between 0.0 and 1.0, not 1.5"),
    (["mix", CAT, *OUT, "--from_start", "0.5"], "is missing: the start of a training is that of a base model"),
    (["mix", CAT, *OUT, "--from_start", "0.5", *BASE], "says what it started from; mix it with that word instead"),
    (["mix", '"cat"', *OUT, "--cover", "auto", *BASE], "--cover auto: the mix names no learned word"),
    (["mix", CAT, *OUT, "--cover", "{w}/absent.png"], "absent.png"),
    (["mix", '"cat"', *OUT, "--from_start", "0.5", *BASE], "--from_start: the mix names no learned word"),
    (["mix", '"cat"', *OUT, "--pretrained_model_name_or_path", "{w}/absent/x/y"], "absent/x/y"),
    (["mix", CAT, *OUT, "--variant", "a b"], "--variant: must be part of a file name"),
    # the doctor
    (["doctor"], "the following arguments are required: FILE; see python convert.py doctor --help"),
    (["doctor", "{w}/absent.pt"], "absent.pt: No such file or directory; check the path"),
    (["doctor", "{w}/cat.safetensors", "{w}/absent.pt"], "absent.pt: No such file or directory; check the path"),
    (["doctor", ""], "FILE is empty"),
    (["doctor", "x" * 300], "is longer than a name can be"),
    (["doctor", CAT, "--pretrained_model_name_or_path", "{w}/absent/x/y"], "absent/x/y"),
    (["doctor", CAT, "--pretrained_model_name_or_path", "{w}/text.pt"], "text.pt"),
    (["doctor", CAT, "--pretrained_model_name_or_path", ""], "--pretrained_model_name_or_path is empty"),
    (["doctor", CAT, "--variant", "a b", *BASE], "--variant: must be part of a file name"),
    (["doctor", CAT, "--output", "x"], "--output is not a flag of convert.py doctor"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), ROWS, ids=[f"{said[:40]} {i}" for i, (_, said) in enumerate(ROWS)])
def test_a_refusal_is_one_line_and_changes_nothing(world, capsys, words, said):
    before = tree(world)

    refused([word.replace("{w}", str(world)) for word in words], capsys, said)

    assert tree(world) == before


def test_every_flag_with_a_range_or_a_choice_has_a_row():
    for config, subcommand in ((MixConfig, "mix"), (DoctorConfig, "doctor")):
        own = [row for row in ROWS if row[0][0] == subcommand]
        assert untried(config, subcommand, own) == set()
    assert len(ROWS) >= 50
