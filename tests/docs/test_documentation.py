"""Both READMEs against each other and against the code: flags, defaults, commands, links. Nothing here needs paddle."""

import os
import re
import shlex
from pathlib import Path

import pytest

import infer
import score
from textual_inversion.cli import train_arguments
from textual_inversion.cli.parser import demo_defaults
from textual_inversion.system.paths import ROOT

READMES = ("README.md", "README_zh.md")
COMMANDS = {
    "train_textual_inversion.py": (train_arguments.build_parser, train_arguments.parse_arguments),
    "infer.py": (infer.build_parser, lambda argv: infer.build_parser().parse_args(argv)),
    "score.py": (score.build_parser, lambda argv: score.build_parser().parse_args(argv)),
}
# Where a README's pictures and figures are still missing, it says this.
UNMEASURED = "(to be measured)"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(readme: str) -> str:
    return (ROOT / readme).read_text(encoding="utf-8")


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, contents) of every fenced block."""
    return _FENCE.findall(text)


def headings(text: str) -> list[tuple[int, str]]:
    """(level, title) of every heading outside code."""
    return [(len(m[1]), m[2]) for m in re.finditer(r"^(#+) (.+)$", _FENCE.sub("", text), re.MULTILINE)]


def section(text: str, number: int) -> str:
    """What stands under heading `number`, up to the next one."""
    return re.split(r"^#+ .+$", _FENCE.sub("", text), flags=re.MULTILINE)[number + 1]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, without its head."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def flag_tables(readme: str, command: str) -> list[list[list[str]]]:
    text = read(readme)
    return tables(section(text, [title for _, title in headings(text)].index(command)))


def shown(value) -> str:
    """A default as a README shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    values = value if isinstance(value, list) else [value]
    return f"`{' '.join(map(_plain, values))}`"


def _plain(value) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and os.path.isabs(value):
        return Path(value).relative_to(ROOT).as_posix()
    return str(value) if value != "" else '""'


def groups(command: str) -> list[list]:
    """The flags of a command's parser, group by group."""
    parser = COMMANDS[command][0]()
    actions = [[a for a in group._group_actions if a.dest != "help"] for group in parser._action_groups]
    return [group for group in actions if group]


def command_lines(readme: str) -> list[list[str]]:
    """Every command in the bash blocks as its words, exported variables filled in."""
    found = []
    for language, block in code_blocks(read(readme)):
        if language != "bash":
            continue
        block = block.replace("\\\n", " ")
        for name, value in re.findall(r'^export (\w+)="(.*)"$', block, re.MULTILINE):
            block = block.replace(f"${name}", value)
        for line in block.splitlines():
            words = shlex.shlex(line, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            found += _split(list(words))
    return found


def _split(words: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part and part[0] != "export"]


def own_commands(readme: str) -> list[tuple[str, list[str]]]:
    """(program, its arguments) of every call of one of the three commands, launched or not."""
    found = []
    for words in command_lines(readme):
        program = next((word for word in words if word in COMMANDS), None)
        if program:
            found.append((program, words[words.index(program) + 1 :]))
    return found


# -------------------------------------------------------------------------------------- one README against the other


def test_both_readmes_have_the_same_headings_in_the_same_order():
    levels = [[level for level, _ in headings(read(readme))] for readme in READMES]

    assert levels[0] == levels[1]
    assert len(levels[0]) > 10


def test_both_readmes_have_the_same_code():
    english, chinese = (code_blocks(read(readme)) for readme in READMES)

    assert english == chinese
    assert {language for language, _ in english} == {"bash", "python", "text"}


def test_both_readmes_have_the_same_tables_but_for_their_words():
    english, chinese = (tables(_FENCE.sub("", read(readme))) for readme in READMES)

    def without_words(cells: list[str]) -> list:
        return [re.findall("`[^`]*`|–|off", cell) for cell in cells[:-1]]

    assert [[without_words(row) for row in table] for table in english] == [
        [without_words(row) for row in table] for table in chinese
    ]


def test_both_readmes_point_to_the_same_places():
    english, chinese = (links(read(readme)) for readme in READMES)

    assert [link for link in english if link not in READMES] == [link for link in chinese if link not in READMES]


# ------------------------------------------------------------------------------------------- READMEs against the code


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("readme", READMES)
def test_each_flag_stands_in_its_group_with_the_default_of_the_code(readme, command):
    documented = [[row[:2] for row in table] for table in flag_tables(readme, command)]

    in_code = [[[f"`{action.option_strings[-1]}`", shown(action.default)] for action in g] for g in groups(command)]
    assert documented == in_code


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("readme", READMES)
def test_each_choice_of_a_flag_is_named(readme, command):
    meanings = {row[0]: row[2] for table in flag_tables(readme, command) for row in table}

    for action in (action for group in groups(command) for action in group if action.choices):
        meaning = meanings[f"`{action.option_strings[-1]}`"]
        assert [choice for choice in action.choices if f"`{choice}`" not in meaning] == []


@pytest.mark.parametrize("readme", READMES)
def test_the_table_of_the_demo_holds_its_defaults(readme):
    documented = next(table for table in tables(read(readme)) if len(table[0]) == 2 and "`--" in table[0][0])

    assert documented == [[f"`--{name}`", shown(value)] for name, value in demo_defaults().items()]


@pytest.mark.parametrize("readme", READMES)
def test_every_flag_in_the_text_exists(readme):
    flags = {a.option_strings[-1] for command in COMMANDS for group in groups(command) for a in group}
    elsewhere = {"--help", "--guidance", "--steps", "--negative"}  # the last three stand in files of prompts

    # Only the first column of the comparison speaks of this project.
    kept = re.sub(r"^(\|[^|]*)(\|[^|]*){4}\|$", r"\1", _FENCE.sub("", read(readme)), flags=re.MULTILINE)
    prose = "".join(re.findall("`[^`]*`", kept))
    assert set(re.findall(r"--\w+", prose)) - elsewhere == flags


def _comparison(readme: str) -> list[list[str]]:
    """The rows of the table that compares with other systems: here, their three names, a test."""
    return next(table for table in tables(read(readme)) if len(table[0]) == 5 and "img_dirs" in str(table))


@pytest.mark.parametrize("readme", READMES)
def test_what_is_said_to_be_proved_names_a_test_that_is_there(readme):
    proofs = next(table for table in tables(read(readme)) if len(table[0]) == 8)
    others = _comparison(readme)

    assert len(proofs) >= 10 and len(others) >= 20
    for row in others:
        ((file, name),) = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[-1])
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
    for row in proofs:
        for file, name in re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[-1]):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert "::" in row[-1] and set(row[1:-1]) <= {"✓", "–"}


# What the three systems of the documents let their users say: the ppdiffusers example under the same names here, the
# other two under names of their own.
PPDIFFUSERS = """pretrained_model_name_or_path train_data_dir placeholder_token initializer_token learnable_property
    num_train_epochs max_train_steps save_steps gradient_accumulation_steps enable_xformers_memory_efficient_attention
    language learning_rate scale_lr lr_scheduler lr_warmup_steps train_batch_size center_crop height width resolution
    repeats gradient_checkpointing output_dir validation_prompt validation_epochs seed adam_beta1 adam_beta2
    adam_weight_decay adam_epsilon max_grad_norm logging_dir report_to push_to_hub hub_token hub_model_id""".split()
OTHERS = """learnable_properties concept_tokens concept_strs initializer_tokens initializer_strs train_img_dirs img_dirs
    inference_prompts max_length HF_AUTH_TOKEN uuids generate_grid.yaml const.yaml const_advanced.yaml
    --data_path --save_path --infer_during_train infer_interval --total_step --weight --textual_inversion_weight
    --prompt --num_cols --config --device_target""".split()


def test_every_flag_of_the_ppdiffusers_example_is_here():
    assert set(PPDIFFUSERS) <= {action.dest for group in groups("train_textual_inversion.py") for action in group}


@pytest.mark.parametrize("readme", READMES)
def test_what_other_systems_call_a_thing_has_its_place_in_the_table(readme):
    comparison = _comparison(readme)

    elsewhere = "\n".join(cell for row in comparison for cell in row[1:-1])
    assert [name for name in OTHERS if name not in elsewhere] == []
    ours = {a.option_strings[-1] for command in COMMANDS for group in groups(command) for a in group}
    assert set(re.findall(r"--\w+", " ".join(row[0] for row in comparison))) <= ours


@pytest.mark.parametrize("readme", READMES)
def test_the_commands_are_understood_by_their_parsers(readme):
    commands = own_commands(readme)

    assert {program for program, _ in commands} == set(COMMANDS)
    for program, argv in commands:
        assert not set(argv) & {"<", ">", "|", ";"}, f"a shell would not hand on {argv} as it stands"
        settings = COMMANDS[program][1](argv)
        assert not any("$" in value for value in vars(settings).values() if isinstance(value, str))


def test_the_readme_shows_a_launch_on_cards_one_on_two_machines_and_one_on_cpus():
    launched = [words for words in command_lines("README.md") if "paddle.distributed.launch" in words]

    before_program = [words[: words.index("train_textual_inversion.py")] for words in launched]
    start = ["python", "-u", "-m", "paddle.distributed.launch"]
    cards, nodes = ["--gpus", "0,1,2,3"], ["--master", "10.0.0.1:8090", "--nnodes", "2", "--rank", "0"]
    assert before_program == [[*start, *cards], [*start, *nodes, *cards], [*start, "--nproc_per_node", "2"]]


@pytest.mark.parametrize("readme", READMES)
def test_the_python_examples_are_python(readme):
    examples = [block for language, block in code_blocks(read(readme)) if language == "python"]

    assert len(examples) == 3
    for example in examples:
        compile(example, readme, "exec")


def test_the_continuous_check_runs_the_tests_as_the_readme_says():
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert ["python", "-m", "pytest"] in command_lines("README.md")
    assert "pip install --quiet -r requirements.txt" in steps
    assert re.search(r"^python -m pytest\b", steps, re.MULTILINE)


def test_the_index_of_gpu_packages_is_the_one_that_is_installed_from():
    index = re.search(r"^--extra-index-url (\S+)", read("requirements-gpu.txt"), re.MULTILINE)[1]

    assert [readme for readme in READMES if index not in read(readme)] == []


# ----------------------------------------------------------------------------------------------- links and pictures


def links(text: str) -> list[str]:
    """Targets of links and pictures outside code."""
    text = _FENCE.sub("", text)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img[^>]* src="([^"]+)"', text)


@pytest.mark.parametrize("readme", READMES)
def test_links_and_pictures_exist(readme):
    local = [link for link in links(read(readme)) if not re.match(r"https://|#", link)]

    assert local
    assert [link for link in local if not (ROOT / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("readme", READMES)
def test_every_output_that_is_shown_was_measured(readme):
    assert UNMEASURED not in read(readme)


def test_the_figures_of_speed_are_those_of_the_results():
    """A row has the label and the figures of one row of RESULTS.md, or only figures that stand there."""
    text = read("README.md")
    rows = [
        row
        for table in tables(section(text, [t for _, t in headings(text)].index("Speed and memory")))
        for row in table
    ]
    results = [row for table in tables(read("benchmarks/RESULTS.md")) for row in table]
    figures = {cell for row in results for cell in row}

    assert len(rows) > 8
    for label, *cells in rows:
        own = [row for row in results if row[0] == label]
        assert set(cells) <= (set(own[0]) if own else figures), label
