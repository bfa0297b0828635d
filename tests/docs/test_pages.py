"""READMEs and pages against the code: flags, commands, tests named as proofs, links. Nothing here needs paddle."""

import re
import subprocess
import sys

import pytest

from helpers.documents import (
    DOCUMENTS,
    PAGES,
    READMES,
    code_blocks,
    command_lines,
    flags,
    headings,
    links,
    own_commands,
    prose,
    read,
    script_of_docs,
    split_command,
    tables,
)
from helpers.paths import ROOT
from textual_inversion.cli.parser import OneLineParser
from textual_inversion.data import image_memory
from textual_inversion.settings.flag import values_of

ALL_FLAGS = {
    flags.name(action) for command in flags.PARSERS for actions in flags.groups(command).values() for action in actions
}


# ---------------------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize("command", flags.PARSERS)
def test_the_reference_holds_every_flag_of_the_parser_with_its_default(command):
    text = flags.markdown(command)

    assert f"<!-- flags: {command} -->" in read(f"docs/reference/{command}.md")
    documented = [row[:2] for table in tables(text) for row in table]
    parser = flags.PARSERS[command]()
    assert documented == [
        [f"`{flags.name(action)}`", flags.default(action.default)]
        for action in parser._actions
        if action.dest != "help"
    ]
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.dest != "help"]
        assert not shown or group.title.capitalize() in [title for _, title in headings(text)]


@pytest.mark.parametrize("command", flags.PARSERS)
def test_the_reference_names_choices_ranges_and_meanings(command):
    rows = {row[0]: row for table in tables(flags.markdown(command).replace(r"\|", "")) for row in table}

    for action in flags.PARSERS[command]()._actions:
        if action.dest == "help":
            continue
        _, _, values, meaning = rows[f"`{flags.name(action)}`"]
        assert [choice for choice in action.choices or () if f"`{choice}`" not in values] == []
        assert len(meaning) > 4, "every flag says what it means"


def test_ranges_are_those_that_the_parser_takes():
    rows = {action.dest: action for actions in flags.groups("train").values() for action in actions}
    names = "max_train_steps flip_p learning_rate guidance_scale token_dropout seed output_dir num_vectors".split()
    shown = {name: flags.values(rows[name]) for name in names}

    assert shown == {
        "max_train_steps": "`1 … 1e9`",
        "flip_p": "`0 … 1`",
        "learning_rate": "`> 0`",
        "guidance_scale": "`0 … 1000`",
        "token_dropout": "`0 … 0.99`",
        "seed": "`0 … 2^63 - 1`",
        "output_dir": "`DIR`",
        "num_vectors": r"`1 … 1e9 \| auto …`",
    }
    height = next(a for actions in flags.groups("infer").values() for a in actions if a.dest == "height")
    assert flags.values(height) == "`8, 16 … 16384 …`"


def test_the_table_of_the_demo_holds_its_defaults():
    assert "<!-- defaults of the demo -->" in read("docs/reference/train.md")
    (table,) = tables(flags.demo_markdown())
    assert [row[0] for row in table] == [f"`--{name}`" for name in flags.demo_defaults()]
    assert ["`--learning_rate`", "`0.025`"] in table and ["`--antithetic_noise`", "`on`"] in table


def test_flags_are_read_without_paddle():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import flags; print('paddle' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_flag_in_the_text_exists(document):
    elsewhere = {"--help", "--guidance", "--steps", "--negative", "--name", "--no-obsolete", "--figure"}
    elsewhere |= {
        "--max_restart",
        "--elastic_level",
        "--elastic_timeout",
        "--nnodes",
        "--figure",
    }  # of Paddle's launcher and docs/other_names.py
    elsewhere |= {"--retries", "--nodes", "--ray_secret", "--claim"}  # of deploy/render.py

    # Only the first column of the comparison speaks of this project.
    kept = re.sub(r"^(\|[^|]*)(\|[^|]*){4}\|$", r"\1", prose(read(document)), flags=re.MULTILINE)
    named = set(re.findall(r"--\w[\w-]*", "".join(re.findall("`[^`]*`", kept))))
    assert named - elsewhere - ALL_FLAGS == set()


def test_every_flag_that_a_user_sets_is_explained_or_listed():
    """A flag stands in prose or, at least, in the generated reference; the flags about learning stand in prose."""
    text = "".join(read(page) for page in PAGES)

    wanted = {action.option_strings[-1] for title in ("concepts", "prompts", "images", "objective", "regularizers")
              for action in flags.groups("train").get(title, [])}  # fmt: skip
    beyond = {"--height", "--width", "--interpolation", "--center_crop", "--dataloader_num_workers"}
    assert sorted(flag for flag in wanted - beyond if flag not in text) == []


# -------------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_are_understood_by_their_parsers(document, monkeypatch):
    monkeypatch.setattr(OneLineParser, "fetches", False)  # no bucket of a page is asked for
    for command, argv in own_commands(document):
        assert not set(argv) & {"<", ">", "|", ";"}, f"a shell would not hand on {argv} as it stands"
        settings = values_of(flags.PARSE[command](argv))
        assert not any("$" in value for value in settings.values() if isinstance(value, str))


def test_all_commands_are_shown():
    for readme in READMES:
        assert {command for command, _ in own_commands(readme)} == set(flags.SCRIPTS)
    assert sum(len(own_commands(page)) for page in PAGES) > 12


def test_launches_on_cards_on_two_machines_and_on_cpus_are_shown():
    launched = [
        words for words in command_lines("docs/guides/several-cards.md") if "paddle.distributed.launch" in words
    ]

    before_script = [words[: words.index("train_textual_inversion.py")] for words in launched]
    start = ["python", "-u", "-m", "paddle.distributed.launch"]
    cards, nodes = ["--gpus", "0,1,2,3"], ["--master", "10.0.0.1:8090", "--nnodes", "2", "--rank", "0"]
    assert before_script == [[*start, *cards], [*start, *nodes, *cards], [*start, "--nproc_per_node", "2"]]
    assert launched[0] in command_lines("README.md")


def test_the_python_examples_are_python():
    examples = [block for page in PAGES for language, block in code_blocks(read(page)) if language == "python"]

    assert len(examples) >= 3
    for example in examples:
        compile(example, "example", "exec")


def test_scripts_and_tests_in_commands_exist():
    """In fenced blocks and, for the table of reliability, in its last column."""
    commands = [words for document in DOCUMENTS for words in command_lines(document)]
    proved = [row[-1].strip("`") for row in tables(read("docs/explanation/reliability.md"))[0]]
    commands += [words for line in proved for words in split_command(line)]

    assert len(proved) >= 18 and all(line.startswith(("python ", "unshare ")) for line in proved)
    files = {word for words in commands if "python" in words for word in words if re.fullmatch(r"[\w/]+\.py", word)}
    assert {name for name in files if not (ROOT / name).is_file()} == set()
    for line in proved:
        script, _, arguments = line.partition("train_textual_inversion.py")
        if arguments:
            flags.PARSE["train"](arguments.split())


def test_the_continuous_check_runs_the_tests_and_builds_the_site_as_contributing_says():
    steps = read(".ci/run")
    shown = command_lines("CONTRIBUTING.md")

    assert ["python", "-m", "pytest"] in shown and ["python", "-m", "pytest", "-m", "not slow"] in shown
    assert re.search(r"^pip install --quiet -r requirements.txt\b", steps, re.MULTILINE)
    assert re.search(r"^python -m pytest\b", steps, re.MULTILINE)
    for step in (["ruff", "check"], ["ruff", "format", "--check"]):
        assert step in shown and " ".join(step) in steps
    builds = [words for words in shown if words[:3] == ["sphinx-build", "-W", "-b"]]
    assert len(builds) == 2 and {tuple(words) for words in builds} <= {
        tuple(words) for words in command_lines("docs/install.md")
    }
    assert "sphinx-build -q -W -b html docs" in steps and "-D language=zh_CN docs" in steps
    assert "-r requirements-docs.txt" in steps


def test_the_index_of_gpu_packages_is_the_one_that_is_installed_from():
    index = re.search(r"^--extra-index-url (\S+)", read("requirements-gpu.txt"), re.MULTILINE)[1]

    assert [document for document in (*READMES, "docs/install.md") if index not in read(document)] == []


# ----------------------------------------------------------------------------------------- proofs and other systems


def named_tests(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::(test_\w+)`", text)


@pytest.mark.parametrize("page", ["docs/reference/base-models.md", "docs/other-systems.md"])
def test_what_is_said_to_be_tested_names_a_test_that_is_there(page):
    for file, name in named_tests(read(page)):
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_each_capability_and_each_name_elsewhere_has_its_test():
    proofs = next(table for table in tables(read("docs/reference/base-models.md")) if len(table[0]) == 8)
    _, others = tables(read("docs/other-systems.md"))

    assert len(proofs) >= 10 and len(others) >= 20
    for row in proofs:
        assert named_tests(row[-1]) and set(row[1:-1]) <= {"✓", "–"}
    for row in others:
        assert len(named_tests(row[-1])) == 1


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
    assert set(PPDIFFUSERS) <= {action.dest for actions in flags.groups("train").values() for action in actions}


def test_what_other_systems_call_a_thing_has_its_place_in_the_table():
    _, comparison = tables(read("docs/other-systems.md"))

    elsewhere = "\n".join(cell for row in comparison for cell in row[1:-1])
    assert [name for name in OTHERS if name not in elsewhere] == []
    assert set(re.findall(r"--\w+", " ".join(row[0] for row in comparison))) <= ALL_FLAGS


# ------------------------------------------------------------------------------------------------ links and pictures


def _anchors(text: str) -> set[str]:
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in headings(text)}


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, "benchmarks/README.md", "benchmarks/EXPERIMENTS.md", "demo/README.md"]
)
def test_links_and_images_exist(document):
    for link in links(read(document)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), link


def test_every_page_is_reached_from_the_index_and_from_the_readme_or_another_page():
    index = read("docs/index.md")

    assert [page for page in PAGES if page != "docs/index.md" and page[5:-3] not in index] == []


def test_the_picture_of_the_folders_shows_the_imports_of_the_code():
    rooms = script_of_docs("rooms")

    assert read("docs/rooms.svg") == rooms.svg(), "imports between folders have changed: run python docs/rooms.py"
    folders = {path.name for path in (ROOT / rooms.PACKAGE).iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(rooms.FLOORS)
    described = read("docs/architecture.md")
    assert [name for name in folders if f"| `{name}/` |" not in described] == []


@pytest.mark.parametrize("document", ["docs/architecture.md", "docs/explanation/threat-model.md"])
def test_the_places_of_the_rules_are_files_of_the_library(document):
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", read(document)))

    assert len(named) > 10
    assert [
        name for name in named if not (ROOT / "textual_inversion" / name).is_file() and not (ROOT / name).is_file()
    ] == []


# Places of rules whose tests stand under another name.
TESTED_ELSEWHERE = {
    "system/watchers.py": ("tests/system/test_atomic.py", "watchers"),
    "system/write_errors.py": ("tests/system/test_atomic.py", "ENOSPC"),
    "sharing/markdown.py": ("tests/security/test_printing.py", "markdown"),
}


@pytest.mark.parametrize("document", ["docs/architecture.md", "docs/explanation/threat-model.md"])
def test_every_place_of_a_rule_has_tests(document):
    for name in set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", read(document))):
        if not (ROOT / "textual_inversion" / name).is_file():
            continue  # of the demo or a command
        folder, _, own = name.rpartition("/")
        tests, word = TESTED_ELSEWHERE.get(name, (f"tests/{folder}/test_{own}", "def test_"))
        assert (ROOT / tests).is_file() and word in (ROOT / tests).read_text(), f"{name} has no tests"


def test_what_an_image_may_take_is_on_the_pages_as_in_the_code():
    for document in ("docs/explanation/threat-model.md", "docs/guides/own-images.md"):
        said = read(document)
        for amount in (image_memory.MOST_BYTES, image_memory.PHOTO_BYTES):
            assert f"{amount // 1_000_000} MB" in said, document
        for pixels in (image_memory.MAX_PIXELS, image_memory.PHOTO_PIXELS):
            assert f"{pixels // 1_000_000} million" in said, document
