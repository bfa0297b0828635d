"""Embedding files of the same placeholder tokens, to be compared: each is a column, with the same prompts and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from textual_inversion.embeddings.file_names import FINAL
from textual_inversion.embeddings.files import ConceptFile, read_concept_files, refuse_duplicates
from textual_inversion.embeddings.sources import find_embedding_file, step_files
from textual_inversion.formats.errors import file_name, printable
from textual_inversion.system.errors import SettingsError

_MOST_FOLDERS, _LONGEST = 2, 80  # in a label


def read_columns(
    embeds: Sequence[str], compared: Sequence[str], renaming: Sequence[str] | None = None
) -> tuple[list[ConceptFile], dict[str, ConceptFile]]:
    """Read the files that are used in all columns, and those that are compared.

    Args:
        embeds: files that are used in every column, as `paths` of `read_concept_files`.
        compared: the same; a folder of a run stands for all its steps and its last embedding.
        renaming: as of `read_concept_files`.

    Returns:
        The files for every column, and label -> file of each column; of files with equal bytes the first.

    Raises:
        EmbeddingFileError: a file cannot be used.
        SettingsError: the columns do not hold the same tokens, or hold one that a file for every column holds too.
    """
    named = list(dict.fromkeys(path for source in compared for path in _expanded(source)))
    files = read_concept_files([*embeds, *named], renaming, may_share_tokens=True)
    paths = set(named)
    common = [file for file in files if not paths & {file.path, file.partner}]
    columns = _distinct(file for file in files if paths & {file.path, file.partner})
    refuse_duplicates(common)
    for file in columns:
        if set(file.placeholder_tokens) != set(columns[0].placeholder_tokens):
            raise SettingsError(
                f"--compare: {_held(columns[0])} and {_held(file)}; a comparison is between files of the same tokens: "
                "use --embeds, or give one another name with --rename FILE=NEW"
            )
        refuse_duplicates([*common, file])
    return common, dict(zip(labels([file.path for file in columns]), columns, strict=True))


def labels(paths: Sequence[Path]) -> list[str]:
    """A short name for each file: no more of its folders than tell it from the others.

    `a/learned_embeds-steps-5.pdparams` and `a/learned_embeds-steps-9.pdparams` give `steps-5` and `steps-9`.
    """
    whole = [path.resolve() for path in paths]
    bare = [path.with_name(_short(path.stem)) for path in whole]
    for names in (bare, whole):
        for depth in range(1, _MOST_FOLDERS + 2):
            found = [printable("/".join(path.parts[-depth:]), _LONGEST) for path in names]
            if len(set(found)) == len(found):
                return found
    return [f"{number}: {printable(path.name, _LONGEST)}" for number, path in enumerate(bare, start=1)]


def _short(stem: str) -> str:
    return stem.removeprefix(f"{FINAL}-") if stem != FINAL else "final"


def _expanded(source: str) -> list[Path]:
    folder = Path(source).expanduser()
    steps = step_files(folder) if folder.is_dir() else []
    return [*steps, find_embedding_file(source)] if steps else [find_embedding_file(source)]


def _distinct(files: Iterable[ConceptFile]) -> list[ConceptFile]:
    """Files without those that hold the same bytes as an earlier one, such as a run's last step and its final file."""
    found: Mapping[tuple, ConceptFile] = {}
    for file in files:
        found.setdefault((file.sha256, file.partner_sha256, tuple(file.placeholder_tokens)), file)
    return list(found.values())


def _held(file: ConceptFile) -> str:
    return f"{file_name(file.path)} holds {', '.join(printable(token, 60) for token in file.placeholder_tokens)}"
