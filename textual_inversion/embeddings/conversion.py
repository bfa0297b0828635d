"""Write the concepts of embedding files in the layout of another program, and say what that layout cannot hold.

What is lost is not listed by hand: each file is read back before anything is written, and what it does not give back is
said.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from textual_inversion.embeddings.file_names import FINAL, safe_name
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import file_name, printable, quoted
from textual_inversion.formats.layouts import read_layout
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.formats.reader import read_embedding_content
from textual_inversion.formats.targets import TARGETS, Target, Writing
from textual_inversion.system import atomic
from textual_inversion.system.errors import EmbeddingFileError, OutputError, SettingsError
from textual_inversion.system.output_folder import make_output_folder

_RECORDED = ("base_model", "learnable_property", "initializer_token")
# What the metadata says about the old file: its container, its name for the concept, what was left out of it.
_OF_THE_OLD = ("format", "placeholder_token", "left_out")
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class NewFile:
    """A file to write.

    Attributes:
        path: where.
        tokens: the placeholder tokens of the concepts in it.
        content: its bytes.
        prompts: what the program's prompts say for each concept.
        notes: what of the concepts it does not hold.
    """

    path: Path
    tokens: tuple[str, ...]
    content: bytes
    prompts: tuple[str, ...]
    notes: tuple[str, ...]


def conversion(
    files: Sequence[ConceptFile],
    to: str,
    output: str,
    *,
    words: Sequence[str] | None = None,
    writing: Writing | None = None,
) -> tuple[list[NewFile], list[str]]:
    """The concepts of some files in the layout of another program. Nothing is written.

    Args:
        to: one of `targets.TARGETS`.
        output: a file with the ending of the layout, else a folder.
        words: placeholder tokens of the concepts; None: all.

    Returns:
        The files to write, and what is to be said of the concepts whichever file they are in.

    Raises:
        SettingsError: no such concept, or the output does not suit what is to be written.
        EmbeddingFileError: the layout cannot hold a concept.
    """
    target, writing = TARGETS[to], writing or Writing()
    _check_writing(target, writing)
    concepts, notes = _chosen(files, words), ()
    _check_encoders(concepts, target)
    if writing.is_half:
        concepts, notes = zip(*map(_rounded, concepts), strict=True)
    groups = [list(concepts)] if target.holds_many else [[concept] for concept in concepts]
    paths = _paths(groups, target, output)
    pairs = zip(groups, paths, strict=True)
    new = [one for group, path in pairs for one in _new_files(group, path, target, writing)]
    _refuse_equal_names(new)
    return new, list(notes)


def write(new: Sequence[NewFile], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Write files, none of them before it is known that all may be written.

    Args:
        inputs: files that must stay as they are.
        overwrite: replace what is there.

    Raises:
        SettingsError: a file is there, or is one of the inputs.
        OutputError: a file cannot be written.
    """
    inputs = list(inputs)
    for one in new:
        if any(_is_same(one.path, path) for path in inputs):
            raise SettingsError(f"--output {file_name(one.path)} is a file that is read; give another name")
        if os.path.lexists(one.path) and not overwrite:
            raise SettingsError(f"--output {file_name(one.path)} is there already; give another, or add --overwrite")
    for folder in dict.fromkeys(one.path.parent for one in new):
        make_output_folder(str(folder), "--output")
    for one in new:
        atomic.write_bytes(one.path, one.content)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------------------- what


def _check_writing(target: Target, writing: Writing) -> None:
    if writing.is_half and not target.holds_half:
        raise SettingsError(
            f"--half: {target.name} holds float32 alone; leave it out, or write {_others('holds_half')}"
        )
    if writing.cover is not None and not target.shows_cover:
        raise SettingsError(f"--cover: {target.name} has no room for an image; write {_others('shows_cover')}")


def _others(ability: str) -> str:
    *most, last = (name for name, target in TARGETS.items() if getattr(target, ability))
    return f"{', '.join(most)} or {last}"


def _chosen(files: Sequence[ConceptFile], words: Sequence[str] | None) -> list[LearnedEmbedding]:
    """The concepts to write, with what the records beside their files say; raises SettingsError."""
    found = {concept.placeholder_token: _with_record(concept, file) for file in files for concept in file.concepts}
    missing = next((word for word in words or () if word not in found), None)
    if missing is not None:
        held = ", ".join(printable(token, 60) for token in list(found)[:20])
        raise SettingsError(f"--words: no file holds {quoted(missing)}; the files hold {held}")
    return list(found.values()) if words is None else [found[word] for word in dict.fromkeys(words)]


def _with_record(concept: LearnedEmbedding, file: ConceptFile) -> LearnedEmbedding:
    recorded = {key: file.recorded(key, concept.placeholder_token) for key in _RECORDED}
    if type(file.run.get("seed")) is int:
        recorded["seed"] = str(file.run["seed"])
    known = {key: value for key, value in recorded.items() if value is not None}
    kept = {key: value for key, value in concept.metadata.items() if key not in _OF_THE_OLD}
    return replace(concept, metadata={**known, **kept})


def _check_encoders(concepts: Sequence[LearnedEmbedding], target: Target) -> None:
    for concept in concepts:
        if len(concept.vectors) > target.most_encoders:
            raise EmbeddingFileError(
                f"{file_name(concept.source)}: {printable(concept.placeholder_token)} has vectors for two text "
                f"encoders, and {target.name} holds those of one; write webui-pt or safetensors"
            )


def _rounded(concept: LearnedEmbedding) -> tuple[LearnedEmbedding, str]:
    """A concept in values that float16 has, and a note on how far they moved; raises EmbeddingFileError."""
    token, arrays = printable(concept.placeholder_token, 60), concept.vectors
    if any(np.abs(array).max() > _LARGEST_HALF for array in arrays.values()):
        raise EmbeddingFileError(
            f"{file_name(concept.source)}: {token} holds values beyond {_LARGEST_HALF:.0f}, the largest of float16; "
            "leave out --half"
        )
    rounded = {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}
    moved = max(float(np.abs(rounded[name] - array).max()) for name, array in arrays.items())
    return replace(concept, vectors=rounded), f"float16 moves values of {token} by up to {moved:.1e}"


# ------------------------------------------------------------------------------------------------------------ where


def _paths(groups: Sequence[Sequence[LearnedEmbedding]], target: Target, output: str) -> list[Path]:
    """Where each group of concepts goes; raises SettingsError."""
    path = Path(output)
    is_folder = path.is_dir() or output.endswith(("/", os.sep))
    endings = {one.ending for one in TARGETS.values()}
    if not is_folder and path.suffix.lower() in endings - {target.ending}:
        raise SettingsError(
            f"--output {file_name(output)}: files for {target.name} end in {target.ending}, by which it knows them"
        )
    if is_folder or path.suffix.lower() != target.ending:
        if path.exists() and not path.is_dir():
            raise SettingsError(f"--output {file_name(output)} is a file, and no name that ends in {target.ending}")
        return [path / f"{_stem(group)}{target.ending}" for group in groups]
    if len(groups) > 1:
        raise SettingsError(
            f"--output {file_name(output)}: {target.name} has a file per concept, here {len(groups)}; name a folder"
        )
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"--output {file_name(output)}: there is no such folder; make it first")
    return [path]


def _stem(group: Sequence[LearnedEmbedding]) -> str:
    return safe_name(group[0].placeholder_token) if len(group) == 1 else FINAL


def _refuse_equal_names(new: Sequence[NewFile]) -> None:
    """Raise SettingsError for files that would be one where capitals do not count, as on macOS and Windows."""
    seen: dict[str, NewFile] = {}
    for one in new:
        other = seen.setdefault(str(one.path).casefold(), one)
        if other is not one:
            both = f"{', '.join(other.tokens)} and {', '.join(one.tokens)}"
            raise SettingsError(f"{both} would both be {file_name(one.path)}; give one another name with --rename")


# -------------------------------------------------------------------------------------------------------------- how


def _new_files(
    group: Sequence[LearnedEmbedding],
    path: Path,
    target: Target,
    writing: Writing,
) -> list[NewFile]:
    """The files of a group of concepts: one, or one for each text encoder."""
    if target.splits_encoders and len(group[0].vectors) > 1:
        second = path.with_name(f"{path.stem}_2{path.suffix}")
        places = {"text_encoder": path, "text_encoder_2": second}
        notes = {path: (), second: (f"{file_name(second)} is for the second text encoder and its tokenizer",)}
        parts = [
            (place, [replace(concept, vectors={"text_encoder": concept.vectors[name]}) for concept in group])
            for name, place in places.items()
        ]
    else:
        notes, parts = {path: ()}, [(path, group)]
    return [_new_file(part, place, target, writing, notes[place]) for place, part in parts]


def _new_file(
    group: Sequence[LearnedEmbedding],
    path: Path,
    target: Target,
    writing: Writing,
    notes: tuple[str, ...],
) -> NewFile:
    try:
        content = target.encode(group, writing)
    except (OutputError, EmbeddingFileError) as error:
        raise type(error)(f"cannot write {file_name(path)}: {error}") from error
    again = _read_back(content, path, group)
    lost = list(dict.fromkeys(key for one, other in zip(group, again, strict=True) for key in _lost(one, other)))
    if lost:
        notes += (f"{file_name(path)}: {target.name} has no place for {', '.join(printable(key, 40) for key in lost)}",)
    if target.is_for_diffusers:
        notes += tuple(_about_capitals(one, path) for one in group if _loses_vectors(one))
    prompts = tuple(target.prompt.format(token=one.placeholder_token, stem=path.stem) for one in group)
    return NewFile(path, tuple(one.placeholder_token for one in group), content, prompts, notes)


def _loses_vectors(one: LearnedEmbedding) -> bool:
    return one.num_vectors > 1 and one.placeholder_token != one.placeholder_token.lower()


def _about_capitals(one: LearnedEmbedding, path: Path) -> str:
    token = printable(one.placeholder_token, 60)
    return (
        f"{file_name(path)}: diffusers with transformers 5 reads only the first vector of {token}, because of its "
        "capitals; give it another name with --rename, or load it there with token=…"
    )


def _read_back(content: bytes, path: Path, group: Sequence[LearnedEmbedding]) -> list[LearnedEmbedding]:
    """What a new file gives back; raises EmbeddingFileError unless these are the concepts, to the last bit."""
    tokens = ", ".join(printable(one.placeholder_token, 60) for one in group)
    try:
        budget = Budget.of_embedding(len(content))
        again = read_layout(*read_embedding_content(memoryview(content), budget), path.stem, budget)
    except EmbeddingFileError as error:
        raise EmbeddingFileError(f"cannot write {file_name(path)}: of {tokens} such a file {error}") from error
    is_same = len(again) == len(group) and all(map(_equal_vectors, group, again))
    if not is_same:
        raise EmbeddingFileError(
            f"cannot write {file_name(path)}: {tokens} would be read as something else; give another name with --rename"
        )
    return again


def _equal_vectors(one: LearnedEmbedding, other: LearnedEmbedding) -> bool:
    names = set(one.vectors)
    return names == set(other.vectors) and all(np.array_equal(one.vectors[n], other.vectors[n]) for n in names)


def _lost(one: LearnedEmbedding, again: LearnedEmbedding) -> list[str]:
    """What of a concept a file does not give back. A base model that is still named for people is not lost."""
    lost = [] if again.placeholder_token == one.placeholder_token else ["the placeholder token"]
    kept = set(again.metadata.values())
    return lost + [key for key, value in one.metadata.items() if again.metadata.get(key) != value and value not in kept]
