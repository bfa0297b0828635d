"""The concepts that `teach.py` is to learn: from a folder of folders, or from a CSV file.

    images,word,initializer,property,captions,num_vectors
    photos/cat,<my-cat>,cat,object,yes,2

Every column but `images` may be left out, and so may a cell. Other columns are flags of the training command. Paths are
relative to the file, also where that is in object storage; a cell may be an address. Each concept is held against the
training command's own rules before any is learned.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.cli import train
from textual_inversion.cli.own_flags import refused_for_many
from textual_inversion.cluster.lessons import Group, Lesson
from textual_inversion.data.image_folder import find_images, natural
from textual_inversion.data.images import load_image
from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import check_token, composed
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system import user_files
from textual_inversion.system.addresses import address_of, is_address, path_of, shown
from textual_inversion.system.errors import SettingsError, TextualInversionError
from textual_inversion.system.progress import LateProgress

_FLAG = "--concepts"
_IMAGES, _WORD, _CAPTIONS = "images", "word", "captions"
_COLUMNS = {_WORD: "placeholder_token", "initializer": "initializer_token", "property": "learnable_property"}
_MOST = 100_000  # concepts


@dataclass(frozen=True)
class Broken:
    """A concept that cannot be learned.

    Attributes:
        token: its placeholder token, or what it is called where it has none.
        reason: why.
    """

    token: str
    reason: str


def read_concepts(path: str) -> list[Lesson]:
    """The concepts of a folder or file, not yet looked at.

    Raises:
        SettingsError: it is not there, or has none; a column is no flag; a word is there twice.
    """
    place = Path(path)
    if place.is_dir():
        found = list(_in_folder(place))
        if not found:
            raise SettingsError(f"{_FLAG} {path} has no folders; put the images of each concept into one of its own")
    else:
        found = list(_in_table(place))
        if not found:
            raise SettingsError(f"{_FLAG} {path} has no line below its columns; write one for each concept")
    if len(found) > _MOST:
        raise SettingsError(f"{_FLAG} {path} has {len(found)} concepts; at most {_MOST} are learned, so split it")
    _check_names(found)
    return found


def _check_names(found: Sequence[Lesson]) -> None:
    """Refuse words whose files would have the same names; raises SettingsError."""
    names: dict[str, str] = {}
    for one in found:
        other = names.get(one.name.casefold())
        if other is not None:
            same = "is there twice" if other == one.token else f"and {other} would have the same file names"
            raise SettingsError(f"{_FLAG}: {one.token} {same}; give every concept a word of its own")
        names[one.name.casefold()] = one.token


def _in_folder(folder: Path) -> Iterator[Lesson]:
    for name in sorted(os.listdir(folder), key=natural):
        if not name.startswith((".", "_")) and (folder / name).is_dir():
            token = composed(f"<{'-'.join(name.split())}>")
            yield Lesson(token, _place(folder / name), {}, {})


def _in_table(path: Path) -> Iterator[Lesson]:
    try:
        text = user_files.read_text(path, user_files.PROMPTS)
    except OSError as error:
        raise SettingsError(f"{_FLAG} {path} cannot be read ({error.strerror}); give a folder or a CSV file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{_FLAG} {path} is not UTF-8 text; save it as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        _check_columns(columns, path)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise SettingsError(f"{where}: it has more cells than there are columns; quote texts with commas")
            yield _of_row({name: (cell or "").strip() for name, cell in row.items()}, path.absolute().parent, where)
    except csv.Error as error:
        raise SettingsError(f"{path}, line {reader.reader.line_num}: this is not CSV ({error}); correct it") from None


def _check_columns(columns: Sequence[str], path: Path) -> None:
    if _IMAGES not in columns:
        raise SettingsError(f"{path}, line 1: there is no column {_IMAGES}; write {_IMAGES},word,initializer,property")
    flags = all_flags(TrainConfig)
    for name in columns:
        if columns.count(name) > 1:
            raise SettingsError(f"{path}, line 1: the column {printable(name)} is there twice; keep one of them")
        if name in (_IMAGES, _CAPTIONS, *_COLUMNS):
            continue
        reason = "it is no flag of the training command" if name not in flags else refused_for_many(name)
        if name in _COLUMNS.values() or name == "train_data_dir":
            reason = f"its column is called {next((c for c, f in _COLUMNS.items() if f == name), _IMAGES)}"
        if name == "config":
            reason = "give it to the command"
        if reason:
            raise SettingsError(f"{path}, line 1: {printable(name)} cannot be a column: {reason}")


def _place(path: Path, cell: str = "") -> str:
    """A path, or a cell that is an address, as every machine understands it: a folder of this one may stand for one."""
    return cell if is_address(cell) else address_of(path) or str(path.absolute())


def _of_row(row: Mapping[str, str], folder: Path, where: str) -> Lesson:
    if not row[_IMAGES]:
        raise SettingsError(f"{where}: it names no folder of images; fill the cell, or remove the line")
    images = folder / Path(row[_IMAGES]).expanduser()
    token = composed(row.get(_WORD) or f"<{'-'.join(images.resolve().name.split())}>")
    flags, own, shared = all_flags(TrainConfig), {}, {}
    for column, cell in row.items():
        name = _COLUMNS.get(column, column)
        if not cell or column in (_IMAGES, _WORD):
            continue
        if cell.startswith("--"):
            raise SettingsError(f"{where}: {printable(cell)!r} would be read as a flag; write another {column}")
        if column == _CAPTIONS:
            if cell.lower() not in ("yes", "no"):
                raise SettingsError(f"{where}: {_CAPTIONS} is yes or no, not {printable(cell)}")
            shared |= {"no_captions": "true"} if cell.lower() == "no" else {}
        elif flags[name].per_concept or name == "mask_dir":
            own[name] = _place(folder / cell, cell) if flags[name].is_path else cell
        else:
            shared[name] = _place(folder / cell) if flags[name].is_path and (folder / cell).exists() else cell
    return Lesson(token, _place(images, row[_IMAGES]), own, shared, own.get("learnable_property", "object"))


def check_recorded(lessons: Sequence[Lesson]) -> None:
    """Refuse concepts of a record that no list could have had; raises SettingsError."""
    flags = all_flags(TrainConfig)
    for one in lessons:
        check_token(one.token)
        names = [*one.own, *one.shared]
        odd = next((name for name in names if name not in flags or refused_for_many(name) or name == "config"), None)
        if odd is None:
            odd = next((text for text in (one.images, *one.own.values()) if text.startswith("--")), None)
        if odd is not None:
            raise SettingsError(f"the record of {one.token} holds {printable(odd)}, which no list has; begin a new one")
    if not lessons:
        raise SettingsError("the record holds no concept; begin a new list")
    _check_names(lessons)


# ---------------------------------------------------------------------------------------------------------- looking


def looked_at(
    lessons: Sequence[Lesson], training: Sequence[str]
) -> tuple[list[Lesson], dict[str, TrainConfig], list[Broken]]:
    """What can be learned, with the settings of each concept alone by its placeholder token, and what cannot.

    Args:
        training: the training command's arguments that all concepts have.
    """
    good, settings, broken = [], {}, []
    with LateProgress(len(lessons), "looking at concept") as progress:
        for one in lessons:
            try:
                settings[one.token] = _checked(one, training)
                good.append(one)
            except TextualInversionError as error:
                broken.append(Broken(one.token, shown(str(error))))
            progress.after(None)
    return good, settings, broken


def _checked(one: Lesson, training: Sequence[str]) -> TrainConfig:
    """The settings of a concept alone, all of whose images can be read."""
    check_token(one.token)
    settings = train.parse([*training, *Group((one,)).arguments()])
    for image in find_images(path_of(one.images)):  # an address is fetched by now
        load_image(image)
    return settings
