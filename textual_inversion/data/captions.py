"""The sentences each training picture is shown with: its own captions, or templates around the new word."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.data.templates import read_templates, templates
from textual_inversion.models.prompt_encoder import whole_words
from textual_inversion.system.errors import SettingsError


@dataclass(frozen=True)
class Captions:
    """How sentences are made for the pictures of one concept.

    Attributes:
        placeholder: the new word.
        templates: sentences with one `{}` each.
        read_files: take captions from `.txt` files beside the pictures.
        append_file_name: put the words of the file name after each template.
        split_char: what stands between words in file names.
    """

    placeholder: str
    templates: Sequence[str]
    read_files: bool = True
    append_file_name: bool = False
    split_char: str = "_"

    def of(self, pictures: Sequence[Path], note: Callable[[str], None] = lambda line: None) -> list[tuple[str, ...]]:
        """The sentences of each picture, placeholder in its place.

        A picture with a caption file is shown with its lines, and with nothing else. A caption that does not hold
        the placeholder gets it after a comma, whatever other new words it holds.

        Args:
            pictures: paths of the pictures.
            note: told how many captions there are, and to how many the placeholder was added.

        Raises:
            SettingsError: a caption file cannot be read.
        """
        prompts, captioned, added = [], 0, 0
        for picture in pictures:
            captions = read_captions(picture) if self.read_files else ()
            captioned += bool(captions)
            added += sum(not self._holds_word(caption) for caption in captions)
            prompts.append(tuple(map(self._complete, captions)) or self._from_templates(picture))
        if captioned:
            note(f"{captioned} of {len(pictures)} picture(s) of {self.placeholder} have captions beside them")
        if added:
            note(f"{self.placeholder} was added to {added} caption(s) that did not hold it")
        return prompts

    def _from_templates(self, picture: Path) -> tuple[str, ...]:
        words = file_words(picture, self.split_char)
        sentences = []
        for template in self.templates:
            sentence = template.replace("{}", self.placeholder).replace("[filewords]", words)
            sentences.append(f"{sentence} {words}" if self.append_file_name and words else sentence)
        return tuple(sentences)

    def _complete(self, caption: str) -> str:
        if not self._holds_word(caption):
            return f"{caption}, {self.placeholder}"
        return caption.replace("{}", self.placeholder)

    def _holds_word(self, caption: str) -> bool:
        return "{}" in caption or bool(whole_words([self.placeholder]).search(caption))


def sentences_of(args, place: int, pictures: Sequence[Path], note: Callable[[str], None]) -> list[tuple[str, ...]]:
    """The sentences of each picture of the concept at `place`, as the settings ask for; see `Captions.of`."""
    concept = args.concepts[place]
    own = args.template_file[place] if args.template_file else None
    captions = Captions(
        concept.placeholder_token,
        read_templates(own) if own else templates(concept.learnable_property, args.language),
        read_files=not args.no_captions,
        append_file_name=args.append_file_name_to_text,
        split_char=args.file_name_split_char,
    )
    return captions.of(pictures, note)


def read_captions(picture: Path) -> tuple[str, ...]:
    """The lines of the `.txt` file beside a picture, empty ones left out; () where there is none.

    Raises:
        SettingsError: the file cannot be read.
    """
    path = picture.with_suffix(".txt")
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise SettingsError(f"the caption {path} is not UTF-8 text; save it as UTF-8, or add --no_captions") from None
    except OSError as error:
        raise SettingsError(
            f"the caption {path} cannot be read ({error.strerror}); mend it, or add --no_captions"
        ) from None


def file_words(picture: Path, split_char: str) -> str:
    """The words of a picture's file name: `on_a_beach.jpg` gives "on a beach"."""
    stem = picture.stem.encode("utf-8", "replace").decode("utf-8")  # a name may hold bytes that are no text
    name = stem.replace(split_char, " ") if split_char else stem
    return re.sub(r"\s+", " ", name).strip()
