"""The prompts of each training image: its own captions, or prompt templates filled with the placeholder token."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.data.templates import read_templates, templates
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.models.prompt_encoder import whole_words
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train import PromptSettings
from textual_inversion.system.errors import SettingsError


@dataclass(frozen=True)
class Captions:
    """How prompts are made for the images of one concept.

    Attributes:
        placeholder: the placeholder token.
        templates: prompt templates with one `{}` each.
        read_files: take captions from `.txt` files beside the images.
        append_file_name: put the words of the file name after each template.
        split_char: what separates words in file names.
    """

    placeholder: str
    templates: Sequence[str]
    read_files: bool = True
    append_file_name: bool = False
    split_char: str = "_"

    def of(self, images: Sequence[Path], note: Callable[[str], None] = lambda line: None) -> list[tuple[str, ...]]:
        """The prompts of each image, with the placeholder token filled in.

        The prompts of an image with a caption file are the lines of that file, and nothing else. A caption without the
        placeholder token gets it appended after a comma, whatever other placeholder tokens it contains.

        Args:
            images: paths of the images.
            note: called with the number of captions, and with the number that the placeholder token was added to.

        Raises:
            SettingsError: a caption file cannot be read.
        """
        prompts, captioned, added = [], 0, 0
        for image in images:
            captions = read_captions(image) if self.read_files else ()
            captioned += bool(captions)
            added += sum(not self._holds_token(caption) for caption in captions)
            prompts.append(tuple(map(self._complete, captions)) or self._from_templates(image))
        if captioned:
            note(f"{captioned} of {len(images)} image(s) of {self.placeholder} have captions beside them")
        if added:
            note(f"{self.placeholder} was added to {added} caption(s) that did not hold it")
        return prompts

    def _from_templates(self, image: Path) -> tuple[str, ...]:
        words = file_words(image, self.split_char)
        prompts = []
        for template in self.templates:
            prompt = template.replace("{}", self.placeholder).replace("[filewords]", words)
            prompts.append(f"{prompt} {words}" if self.append_file_name and words else prompt)
        return tuple(prompts)

    def _complete(self, caption: str) -> str:
        if not self._holds_token(caption):
            return f"{caption}, {self.placeholder}"
        return caption.replace("{}", self.placeholder)

    def _holds_token(self, caption: str) -> bool:
        return "{}" in caption or bool(whole_words([self.placeholder]).search(caption))


def prompts_of(
    concept: Concept,
    images: Sequence[Path],
    settings: PromptSettings,
    template_file: str | None,
    language: str,
    note: Callable[[str], None],
) -> list[tuple[str, ...]]:
    """The prompts of each image of a concept, according to the settings; see `Captions.of`.

    Args:
        images: paths of the images.
        template_file: the user's own templates, or None.
        language: of the built-in templates, one of `choices.LANGUAGES`.

    Raises:
        SettingsError: a caption file or the template file cannot be used.
    """
    captions = Captions(
        concept.placeholder_token,
        read_templates(template_file) if template_file else templates(concept.learnable_property, language),
        read_files=not settings.no_captions,
        append_file_name=settings.append_file_name_to_text,
        split_char=settings.file_name_split_char,
    )
    return captions.of(images, note)


def read_captions(image: Path) -> tuple[str, ...]:
    """The lines of the `.txt` file beside an image, without empty ones; () if there is no such file.

    Raises:
        SettingsError: the file cannot be read.
    """
    path = image.with_suffix(".txt")
    try:
        text = composed(path.read_text(encoding="utf-8-sig"))
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise SettingsError(f"the caption {path} is not UTF-8 text; save it as UTF-8, or add --no_captions") from None
    except OSError as error:
        raise SettingsError(
            f"the caption {path} cannot be read ({error.strerror}); repair it, or add --no_captions"
        ) from None


def file_words(image: Path, split_char: str) -> str:
    """The words of an image's file name: `on_a_beach.jpg` gives "on a beach"."""
    stem = composed(image.stem.encode("utf-8", "replace").decode("utf-8"))  # a name may contain bytes that are not text
    name = stem.replace(split_char, " ") if split_char else stem
    return re.sub(r"\s+", " ", name).strip()
