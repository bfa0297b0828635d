"""Captions that lie in a folder of images: text files beside them, metadata of a data set, and names of folders.

For the image `0.png` the first of these that holds text is its caption:

    0.txt          a prompt in each line; the ending in small or capital letters
    0.caption      the same, kohya's ending
    0.png.txt      the same, under the image's whole name; then 0.png.caption
    metadata.jsonl a row with "file_name" and "text", as in data sets for Hugging Face's diffusers
    metadata.csv   the same as a table
    10_cat toy/    the name of the folder that the image lies in, kohya's way of naming repeats and concept

Which one is used where an image has several, and which of them are used for no image, is said in a line each.
"""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from textual_inversion.data.image_folder import (
    CAPTION_EXTENSIONS,
    METADATA_NAMES,
    is_quiet,
    listed,
    natural,
    repeat_folder,
)
from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.system import user_files
from textual_inversion.system.checked_json import UnusableJson, parse_json
from textual_inversion.system.errors import SettingsError

_FILE_NAME = "file_name"
_TEXT_COLUMNS = ("text", "caption", "prompt")  # the first that a row has
_WAY_OUT = "repair it, or add --no_captions"

Note = Callable[[str], None]


@dataclass(frozen=True)
class FoundCaptions:
    """The captions of one image.

    Attributes:
        prompts: one a line; () where the image has no caption.
        source: the name of the file, or of the folder, that they are from; "" where there are none.
        is_beside: they are from a text file beside the image.
    """

    prompts: tuple[str, ...] = ()
    source: str = ""
    is_beside: bool = False


def find_captions(images: Sequence[Path], folder: Path, note: Note) -> list[FoundCaptions]:
    """The captions of each image.

    Args:
        images: in `folder` or in its subfolders.
        note: called with a line about images with several captions, and about captions without an image.

    Raises:
        SettingsError: a caption or a row of metadata cannot be read.
    """
    places = [folder, *sorted({image.parent for image in images} - {folder})]
    beside = {place: _TextFiles(place) for place in places}
    metadata = [file for place in places for file in _metadata_in(place)]
    found, several = [], []
    for image in images:
        texts = beside[image.parent].of(image) if image.parent in beside else []
        rows = [(file.path, file.of(image)) for file in metadata]
        sources = [FoundCaptions(prompts, path.name, True) for path, prompts in texts if prompts]
        sources += [FoundCaptions(prompts, path.name) for path, prompts in rows if prompts]
        if len(sources) > 1:
            several.append(f"{image.name} ({', '.join(source.source for source in sources)})")
        found.append(sources[0] if sources else _from_folder(image, folder))
    if several:
        note(f"{folder}: {len(several)} image(s) have several captions, and the first is used: {listed(several)}")
    for place in places:
        beside[place].tell(note)
    for file in metadata:
        file.tell(note)
    return found


def _from_folder(image: Path, folder: Path) -> FoundCaptions:
    meaning = repeat_folder(image.parent.name) if image.parent != folder else None
    if meaning is None or not meaning.caption:
        return FoundCaptions()
    return FoundCaptions((composed(meaning.caption),), image.parent.name)


# --------------------------------------------------------------------------------------------------- beside images


class _TextFiles:
    """The text files of one folder, each read when its image asks for it."""

    def __init__(self, folder: Path):
        self._folder, self._by_stem = folder, {}
        self._unused, self._empty = {}, []
        for name in _files_in(folder):
            stem, extension = os.path.splitext(name)
            if extension.lower() in CAPTION_EXTENSIONS:
                self._by_stem.setdefault(composed(stem), []).append(name)
                self._unused[name] = None
        for names in self._by_stem.values():
            names.sort(key=_rank)

    def of(self, image: Path) -> list[tuple[Path, tuple[str, ...]]]:
        """The text files of an image with their lines, in the order in which they count."""
        stems = dict.fromkeys((composed(image.stem), composed(image.name)))  # the same where the name has no ending
        found = []
        for name in (name for stem in stems for name in self._by_stem.get(stem, [])):
            found.append((self._folder / name, read_lines(self._folder / name)))
            if name in self._unused:
                del self._unused[name]
                self._empty += [] if found[-1][1] else [name]
        return found

    def tell(self, note: Note) -> None:
        """Say which text files are without an image, or without text."""
        unused = [name for name in self._unused if not is_quiet(name)]
        if unused:
            note(f"{self._folder}: {len(unused)} text file(s) without an image of that name: {listed(unused)}")
        if self._empty:
            note(f"{self._folder}: {len(self._empty)} caption file(s) without text: {listed(self._empty)}")


def _rank(name: str) -> tuple[int, bool]:
    """Sort key of text files with the same stem: by their kind, and endings in small letters first."""
    extension = os.path.splitext(name)[1]
    return CAPTION_EXTENSIONS.index(extension.lower()), not extension.islower()


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a caption file, without empty ones.

    Raises:
        SettingsError: the file cannot be read.
    """
    return tuple(line.strip() for line in _read_text(path, "caption", user_files.CAPTION).splitlines() if line.strip())


def _read_text(path: Path, what: str, most: int) -> str:
    try:
        return composed(user_files.read_text(path, most))
    except UnicodeDecodeError:
        raise SettingsError(f"the {what} {path} is not UTF-8 text; save it as UTF-8, or add --no_captions") from None
    except OSError as error:
        raise SettingsError(f"the {what} {path} cannot be read ({error.strerror}); {_WAY_OUT}") from None


def _files_in(folder: Path) -> list[str]:
    try:
        names = sorted(os.listdir(folder), key=natural)
    except OSError:
        return []  # there are no captions where there is no folder
    return [name for name in names if not name.startswith(".") and os.path.isfile(folder / name)]


# -------------------------------------------------------------------------------------------------------- metadata


class _Metadata:
    """The rows of one metadata file.

    Args:
        path: ends in .jsonl or .csv.

    Raises:
        SettingsError: a row cannot be read; the message gives its line.
    """

    def __init__(self, path: Path):
        self.path = path
        self._prompts: dict[str, tuple[str, ...]] = {}
        self._lines: dict[str, int] = {}
        self._used: set[str] = set()
        text = _read_text(path, "metadata", user_files.METADATA)
        rows = _json_rows(text, path) if path.suffix.lower() == ".jsonl" else _table_rows(text, path)
        for line, row in rows:
            self._add(line, row)

    def _add(self, line: int, row: dict) -> None:
        name = row.get(_FILE_NAME)
        if not isinstance(name, str) or not name.strip():
            raise _bad_line(self.path, line, f'has no "{_FILE_NAME}"')
        key = str(PurePosixPath(composed(name.strip()).replace("\\", "/")))
        if key in self._lines:
            raise _bad_line(self.path, line, f"names {printable(key)}, as line {self._lines[key]} does")
        self._lines[key] = line
        column = next((column for column in _TEXT_COLUMNS if row.get(column) not in (None, "")), None)
        texts = [] if column is None else row[column]
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(map(_is_text, texts)):
            raise _bad_line(self.path, line, f'holds something else than text under "{column}"')
        self._prompts[key] = tuple(composed(" ".join(text.split())) for text in texts if text.strip())

    def of(self, image: Path) -> tuple[str, ...]:
        """The prompts of an image; () where no row names it."""
        try:
            key = composed(image.relative_to(self.path.parent).as_posix())
        except ValueError:  # it lies elsewhere
            return ()
        if key in self._lines:
            self._used.add(key)
        return self._prompts.get(key, ())

    def tell(self, note: Note) -> None:
        """Say which rows are without an image, or without text."""
        unused = [key for key in self._lines if key not in self._used]
        if unused:
            note(f"{self.path}: {len(unused)} row(s) without their image: {listed(unused)}")
        empty = [key for key in self._lines if key in self._used and not self._prompts[key]]
        if empty:
            columns = ", ".join(f'"{column}"' for column in _TEXT_COLUMNS)
            note(f"{self.path}: {len(empty)} row(s) without any of {columns}: {listed(empty)}")


def _is_text(value: object) -> bool:
    """Whether a value of JSON is text; an escaped half of a character is none."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _metadata_in(folder: Path) -> list[_Metadata]:
    """The metadata files of a folder, in the order in which they count."""
    found = [name for name in _files_in(folder) if name.lower() in METADATA_NAMES]
    return [_Metadata(folder / name) for name in sorted(found, key=lambda name: METADATA_NAMES.index(name.lower()))]


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(text.split("\n"), 1):  # a text may hold what else counts as the end of a line
        if not line.strip():
            continue
        try:
            row = parse_json(line, allows_nan=True)  # tables of other programs write NaN into empty cells
        except UnusableJson:
            raise _bad_line(path, number, "is not JSON") from None
        if not isinstance(row, dict):
            raise _bad_line(path, number, "is not a JSON object")
        yield number, row


def _table_rows(text: str, path: Path) -> Iterator[tuple[int, dict]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = reader.fieldnames or []
        if _FILE_NAME not in columns or not set(_TEXT_COLUMNS) & set(columns):
            raise _bad_line(path, 1, f'does not name the columns "{_FILE_NAME}" and "{_TEXT_COLUMNS[0]}"')
        for row in reader:
            if None in row:
                raise _bad_line(path, reader.line_num, "has more cells than there are columns; quote texts with commas")
            yield reader.line_num, row
    except csv.Error as error:
        raise _bad_line(path, reader.reader.line_num, f"is not CSV ({error})") from None


def _bad_line(path: Path, number: int, what: str) -> SettingsError:
    return SettingsError(f"{path}, line {number}: {what}; {_WAY_OUT}")
