"""Prompts of validation images: files with options on each line."""

import pytest

from textual_inversion.generation.prompt_file import PromptLine, read_grid_prompts, read_prompts, validation_prompts
from textual_inversion.settings.ranges import Range
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.system.errors import SettingsError


def written(tmp_path, text):
    (tmp_path / "prompts.txt").write_text(text, encoding="utf-8")
    return str(tmp_path / "prompts.txt")


def test_lines_are_prompts_and_comments_are_not(tmp_path):
    file = written(tmp_path, "\ufeff# mine\n\n  a <cat-toy>  \r\n#a dog\na well-known <cat-toy> -- it's #1, 一张照片\n")

    assert read_prompts(file) == [
        ValidationPrompt("a <cat-toy>"),
        ValidationPrompt("a well-known <cat-toy> -- it's #1, 一张照片"),
    ]


@pytest.mark.parametrize(
    "options",
    [
        '--seed 3 --guidance 5 --steps 20 --negative "blurry --dark, it\'s"',
        '--d 3 --l 5.0 --s 20 --n "blurry --dark, it\'s"',
        '--num_inference_steps=20 --guidance_scale=5 --seed=3 --negative_prompt="blurry --dark, it\'s"',
    ],
)
def test_options_are_read_in_both_spellings(tmp_path, options):
    (prompt,) = read_prompts(written(tmp_path, f"a <cat-toy> on the beach {options}\n"))

    assert prompt == ValidationPrompt("a <cat-toy> on the beach", 3, 5.0, 20, "blurry --dark, it's")


def test_an_unquoted_negative_prompt_ends_at_the_next_option(tmp_path):
    (prompt,) = read_prompts(written(tmp_path, "a <cat-toy> --n blurry, too dark --d 7"))

    assert prompt == ValidationPrompt("a <cat-toy>", seed=7, negative_prompt="blurry, too dark")
    assert prompt.caption == "a <cat-toy> (seed 7, without blurry, too dark)"
    assert (prompt.first_seed, ValidationPrompt("a").first_seed, ValidationPrompt("a").caption) == (7, 0, "a")


def test_a_negative_prompt_may_be_empty(tmp_path):
    assert read_prompts(written(tmp_path, "a --n '' --d 7")) == [ValidationPrompt("a", seed=7)]


def test_the_command_lines_prompts_come_first(tmp_path):
    assert validation_prompts(["a --seed 3"], written(tmp_path, "b")) == [
        ValidationPrompt("a --seed 3"),
        ValidationPrompt("b"),
    ]
    assert validation_prompts(None, None) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb --steps 0", "line 2: --steps: must be between 1 and 1000, not 0"),
        ("a --seed x", "line 1: --seed: 'x' is not a whole number"),
        ("a --seed -1", "--seed: must be between 0"),
        ("a --guidance nan", "--guidance: must be between 0"),
        ("a --sede 1", "--sede is not an option of a prompt; did you mean --seed?"),
        ("a --q", "--q is not an option of a prompt; there are --seed, --guidance, --steps and --negative"),
        ("a --w 512 --h 512", "--w: validation images have the size of the training images"),
        ("a --seed", "--seed lacks its value"),
        ("a --n", "--n lacks its value"),
        ("a --seed ''", "--seed lacks its value"),
        ('a --n "blurry" , dark', "the quotation marks must enclose all of"),
        ("a --n 'blurry --dark, it's'", "the quotation marks must enclose all of 'blurry"),
        ("a --seed 1 --d 2", "--d sets what another option has set already"),
        ("--seed 1", "no prompt before the options"),
        ("# nothing\n\n", "holds no prompt"),
    ],
)
def test_what_is_not_understood_is_said_with_its_line(tmp_path, text, message):
    with pytest.raises(SettingsError) as caught:
        read_prompts(written(tmp_path, text))

    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SettingsError, match="--validation_prompts_file .*none.txt cannot be read"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(SettingsError, match="not UTF-8 text"):
        read_prompts(tmp_path / "bytes.txt")


# --------------------------------------------------------------------------------------------------------------- grids


def test_a_line_of_a_grid_has_the_options_of_a_validation_prompt_and_more(tmp_path):
    options = '--d 3 9 --l 1:5:3 --steps=20 --n "blurry, dark" --scheduler ddim dpm++ --eta 0 1 --w 64 128 --h 32'
    file = written(tmp_path, f"# mine\n\na {{red|blue}} <cat-toy> {options}\nb --size 64x32 96\nc")

    first, second, third = read_grid_prompts(file)

    assert first == PromptLine("a {red|blue} <cat-toy>", f"{file}, line 3", {
        "seed": (3, 9), "guidance_scale": (Range("1:5:3", (1.0, 3.0, 5.0)),), "num_inference_steps": (20,),
        "negative_prompt": ("blurry, dark",), "scheduler": ("ddim", "dpm++"), "eta": (0.0, 1.0), "width": (64, 128),
        "height": (32,),
    })  # fmt: skip
    assert second.settings == {"size": ((64, 32), (96, 96))} and (third.text, third.settings) == ("c", {})


@pytest.mark.parametrize(
    "line", ['a <cat-toy> --seed 3 --guidance 5 --steps 20 --negative "x, y"', "a --n '' --d 7", "a"]
)
def test_both_kinds_of_prompts_read_a_line_alike(tmp_path, line):
    (prompt,), (grid,) = (read(written(tmp_path, line)) for read in (read_prompts, read_grid_prompts))

    own = {name: value for name, (value,) in grid.settings.items()}
    assert prompt == ValidationPrompt(grid.text, **own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb --steps 0", "line 2: --steps: must be between 1 and 1000, not 0"),
        ("a --scheduler magic", "line 1: --scheduler: 'magic' is none of ddim, "),
        ("a --scheduler", "--scheduler lacks its value"),
        ("a --seed ' '", "--seed lacks its value"),
        ("a --guidance 5:1:3", "line 1: --guidance: 5:1:3 runs backwards"),
        ("a --w 60", "--w: must be a multiple of 8"),
        ("a --size 64 --h 64", "--size and a height or width both set the size"),
        ("a --w 64 --width 64", "--width sets what another option has set already"),
        ("a --etta 1", "--etta is not an option of a prompt; did you mean --eta?"),
        (
            "a --q",
            "there are --seed, --guidance, --steps, --negative, --scheduler, --eta, --height, --width and --size",
        ),
        ("--seed 1", "no prompt before the options"),
        ("# nothing", "--prompts_file"),
    ],
)
def test_a_bad_line_of_a_grid_is_named_by_its_number(tmp_path, text, message):
    with pytest.raises(SettingsError) as caught:
        read_grid_prompts(written(tmp_path, text))

    assert message in str(caught.value) and "\n" not in str(caught.value)
