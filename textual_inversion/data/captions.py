"""The prompts of each training image: its own captions, or prompt templates filled with the placeholder token."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.data.caption_files import FoundCaptions, find_captions
from textual_inversion.data.templates import read_templates, templates
from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.models.prompt_encoder import whole_words
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train import PromptSettings


@dataclass(frozen=True)
class Captions:
    """How prompts are made for the images of one concept.

    Attributes:
        placeholder: the placeholder token.
        templates: prompt templates with one `{}` each.
        read_files: take captions from where `caption_files` finds them.
        append_file_name: put the words of the file name after each template.
        split_char: what separates words in file names.
    """

    placeholder: str
    templates: Sequence[str]
    read_files: bool = True
    append_file_name: bool = False
    split_char: str = "_"

    def of(
        self, images: Sequence[Path], note: Callable[[str], None] = lambda line: None, *, folder: Path | None = None
    ) -> list[tuple[str, ...]]:
        """The prompts of each image, with the placeholder token filled in.

        The prompts of an image with captions are these, and nothing else. A caption without the placeholder token gets
        it appended after a comma, whatever other placeholder tokens it contains.

        Args:
            images: paths of the images.
            note: called with the number of captions and where they are from, with the number that the placeholder token
                was added to, and with captions that are not used.
            folder: that holds the images, some of them perhaps in subfolders; None: that of the first one.

        Raises:
            SettingsError: a caption cannot be read.
        """
        folder = folder or (images[0].parent if images else Path())
        found = find_captions(images, folder, note) if self.read_files else [FoundCaptions()] * len(images)
        self._tell_sources(found, note)
        added = sum(not self._holds_token(caption) for captions in found for caption in captions.prompts)
        if added:
            note(f"{self.placeholder} was added to {added} caption(s) that did not hold it")
        shared = {}  # images with equal prompts share them
        prompts = []
        for image, captions in zip(images, found, strict=True):
            own = tuple(map(self._complete, captions.prompts)) or self._from_templates(image)
            prompts.append(shared.setdefault(own, own))
        return prompts

    def _tell_sources(self, found: Sequence[FoundCaptions], note: Callable[[str], None]) -> None:
        beside = sum(captions.is_beside for captions in found)
        if beside:
            note(f"{beside} of {len(found)} image(s) of {self.placeholder} have captions beside them")
        elsewhere = Counter(captions.source for captions in found if captions.source and not captions.is_beside)
        for source, count in elsewhere.items():
            note(f"{count} of {len(found)} image(s) of {self.placeholder} have captions from {printable(source)}")

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
        SettingsError: a caption or the template file cannot be used.
    """
    captions = Captions(
        concept.placeholder_token,
        read_templates(template_file) if template_file else templates(concept.learnable_property, language),
        read_files=not settings.no_captions,
        append_file_name=settings.append_file_name_to_text,
        split_char=settings.file_name_split_char,
    )
    return captions.of(images, note, folder=Path(concept.image_folder))


def file_words(image: Path, split_char: str) -> str:
    """The words of an image's file name: `on_a_beach.jpg` gives "on a beach"."""
    stem = composed(image.stem.encode("utf-8", "replace").decode("utf-8"))  # a name may contain bytes that are not text
    name = stem.replace(split_char, " ") if split_char else stem
    return re.sub(r"\s+", " ", name).strip()
