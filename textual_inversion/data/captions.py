"""The prompts of each training image: its own captions, or prompt templates filled with the placeholder token."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.data.alternatives import literal, parsed
from textual_inversion.data.caption_files import FoundCaptions, find_captions
from textual_inversion.data.prompt_variation import holds_placeholder
from textual_inversion.data.templates import read_templates, templates, with_short_ones
from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import PromptSettings
from textual_inversion.system.errors import SettingsError


@dataclass(frozen=True)
class ImagePrompts:
    """The prompts of one image, with the placeholder token filled in.

    Attributes:
        prompts: its captions or, where it has none, those from templates.
        templates: those from templates beside captions, where samples are to get both.
        has_captions: the prompts are captions.
    """

    prompts: tuple[str, ...]
    templates: tuple[str, ...] = ()
    has_captions: bool = False


@dataclass(frozen=True)
class Captions:
    """How prompts are made for the images of one concept.

    Attributes:
        placeholder: the placeholder token.
        templates: prompt templates with one `{}` each.
        read_files: take captions from where `caption_files` finds them.
        append_file_name: put the words of the file name after each template.
        split_char: what separates words in file names.
        prefix, suffix: put before and behind each caption, with a blank.
        has_alternatives: captions and templates are in the notation of `alternatives`.
        adds_templates: images with captions get prompts from templates, too.
    """

    placeholder: str
    templates: Sequence[str]
    read_files: bool = True
    append_file_name: bool = False
    split_char: str = "_"
    prefix: str = ""
    suffix: str = ""
    has_alternatives: bool = False
    adds_templates: bool = False

    def of(
        self, images: Sequence[Path], note: Callable[[str], None] = lambda line: None, *, folder: Path | None = None
    ) -> list[tuple[str, ...]]:
        """The prompts of each image alone; see `read`."""
        return [one.prompts for one in self.read(images, note, folder=folder)]

    def read(
        self, images: Sequence[Path], note: Callable[[str], None] = lambda line: None, *, folder: Path | None = None
    ) -> list[ImagePrompts]:
        """The prompts of each image, with the placeholder token filled in.

        A caption without the placeholder token gets
        it appended after a comma, whatever other placeholder tokens it contains.

        Args:
            images: paths of the images.
            note: called with the number of captions and where they are from, with the number that the placeholder token
                was added to, and with captions that are not used.
            folder: that holds the images, some of them perhaps in subfolders; None: that of the first one.

        Raises:
            SettingsError: a caption cannot be read, or is no valid notation of alternatives.
        """
        folder = folder or (images[0].parent if images else Path())
        found = find_captions(images, folder, note) if self.read_files else [FoundCaptions()] * len(images)
        self._tell_sources(found, note)
        added = sum(not self._holds_token(self._framed(c)) for captions in found for c in captions.prompts)
        if added:
            note(f"{self.placeholder} was added to {added} caption(s) that did not hold it")
        shared = {}  # images with equal prompts share them
        prompts = []
        for image, captions in zip(images, found, strict=True):
            own, templates = tuple(map(self._complete, captions.prompts)), ()
            if not own or self.adds_templates:
                templates = self._from_templates(image)
            one = ImagePrompts(own, templates, has_captions=True) if own else ImagePrompts(templates)
            if self.has_alternatives:
                self._check(one, image)
            prompts.append(shared.setdefault(one, one))
        return prompts

    def _check(self, prompts: ImagePrompts, image: Path) -> None:
        for text in dict.fromkeys(prompts.prompts + prompts.templates):
            parsed(text, f"--enable_wildcard, a prompt of {printable(image.name)}")

    def _tell_sources(self, found: Sequence[FoundCaptions], note: Callable[[str], None]) -> None:
        beside = sum(captions.is_beside for captions in found)
        if beside:
            note(f"{beside} of {len(found)} image(s) of {self.placeholder} have captions beside them")
        elsewhere = Counter(captions.source for captions in found if captions.source and not captions.is_beside)
        for source, count in elsewhere.items():
            note(f"{count} of {len(found)} image(s) of {self.placeholder} have captions from {printable(source)}")

    def _from_templates(self, image: Path) -> tuple[str, ...]:
        words = self._as_text(file_words(image, self.split_char))
        prompts = []
        for template in self.templates:
            prompt = template.replace("{}", self._token).replace("[filewords]", words)
            prompts.append(f"{prompt} {words}" if self.append_file_name and words else prompt)
        return tuple(prompts)

    @property
    def _token(self) -> str:
        return self._as_text(self.placeholder)

    def _as_text(self, text: str) -> str:
        """A text that stands for itself alone."""
        return literal(text) if self.has_alternatives else text

    def _framed(self, caption: str) -> str:
        return " ".join(filter(None, (self.prefix, caption, self.suffix)))

    def _complete(self, caption: str) -> str:
        text = self._framed(caption)
        if not self._holds_token(text):
            return f"{text}, {self._token}"
        return text.replace("{}", self._token)

    def _holds_token(self, caption: str) -> bool:
        return "{}" in caption or holds_placeholder(caption, self.placeholder)


def prompts_of(
    concept: Concept,
    images: Sequence[Path],
    settings: PromptSettings,
    template_file: str | None,
    language: str,
    note: Callable[[str], None],
) -> list[ImagePrompts]:
    """The prompts of each image of a concept, according to the settings; see `Captions.read`.

    Args:
        images: paths of the images.
        template_file: the user's own templates, or None.
        language: of the built-in templates, one of `choices.LANGUAGES`.

    Raises:
        SettingsError: a caption or the template file cannot be used.
    """
    own = read_templates(template_file) if template_file else templates(concept.learnable_property, language)
    captions = Captions(
        concept.placeholder_token,
        with_short_ones(own, settings.num_blank_prompts, settings.num_a_prompts, language),
        read_files=not settings.no_captions,
        append_file_name=settings.append_file_name_to_text,
        split_char=settings.file_name_split_char,
        prefix=composed(settings.caption_prefix or ""),
        suffix=composed(settings.caption_suffix or ""),
        has_alternatives=settings.enable_wildcard,
        adds_templates=settings.template_share > 0,
    )
    return captions.read(images, note, folder=Path(concept.image_folder))


def check_effects(settings: PromptSettings, prompts: Iterable[ImagePrompts]) -> None:
    """Refuse flags about captions where there are none, and about templates where none is used.

    Raises:
        SettingsError: names the first such flag.
    """
    kinds = {one.has_captions for one in prompts}
    about_captions = (
        "shuffle_caption", "keep_tokens", "caption_dropout_rate", "caption_tag_dropout_rate", "caption_prefix",
        "caption_suffix", "template_share",
    )  # fmt: skip
    for name in about_captions:
        if getattr(settings, name) and True not in kinds:
            raise SettingsError(f"--{name} has no effect, since no image has a caption that is read; leave it out")
    for name in ("num_blank_prompts", "num_a_prompts"):
        if getattr(settings, name) and False not in kinds and not settings.template_share:
            raise SettingsError(
                f"--{name} has no effect, since every image has a caption; add --template_share, or leave it out"
            )


def file_words(image: Path, split_char: str) -> str:
    """The words of an image's file name: `on_a_beach.jpg` gives "on a beach"."""
    stem = composed(image.stem.encode("utf-8", "replace").decode("utf-8"))  # a name may contain bytes that are not text
    name = stem.replace(split_char, " ") if split_char else stem
    return re.sub(r"\s+", " ", name).strip()
