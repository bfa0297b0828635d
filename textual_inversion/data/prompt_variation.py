"""How a sample's prompt differs from the caption or template that was drawn for it.

Captions are varied as kohya's scripts do it, so that a concept does not depend on the words around it: tags in random
order, some of them or the whole caption left out. Everything is drawn from the sample's own random numbers.

The placeholder token is always kept, since nothing is learned from a prompt without it: a tag that holds it is never
left out, and of a caption that is left out it is what remains.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from textual_inversion.data.alternatives import Template, parsed, tidied
from textual_inversion.data.random_streams import Purpose, generator
from textual_inversion.data.training_image import TrainingImage
from textual_inversion.models.placeholder_words import whole_words
from textual_inversion.settings.train_data import PromptSettings

_MOST_TRIED = 1000  # texts of one prompt with alternatives
_HIDDEN = "\0"  # stands for a placeholder token while a caption is cut at its commas


@dataclass(frozen=True)
class PromptVariation:
    """Makes the prompt of each sample.

    Attributes:
        placeholders: the concepts' placeholder tokens.
        has_alternatives: prompts are in the notation of `alternatives`; one of the texts that each stands for is drawn.
        template_share: probability, 0 to 1, that an image with captions gets a prompt from a template.
        dropout: probability that a caption is left out, all but the placeholder token.
        shuffle: put the tags of captions, which commas separate, in random order.
        tag_dropout: probability that a tag is left out.
        keep: so many tags at the beginning stay where they are.
    """

    placeholders: tuple[str, ...] = ()
    has_alternatives: bool = False
    template_share: float = 0.0
    dropout: float = 0.0
    shuffle: bool = False
    tag_dropout: float = 0.0
    keep: int = 0

    @property
    def varies(self) -> bool:
        """Whether a sample's prompt can differ from what was drawn for it."""
        return self.has_alternatives or self.shuffle or max(self.template_share, self.dropout, self.tag_dropout) > 0

    def drawn(self, random: np.random.Generator, image: TrainingImage, prompt: str) -> str:
        """The prompt of one sample.

        Args:
            random: the sample's own random numbers.
            prompt: the one of `image.prompts` that was drawn.
        """
        placeholder, is_caption = self.placeholders[image.concept], image.has_captions
        template_draw, dropout_draw = random.random(2)
        if is_caption and template_draw < self.template_share:
            prompt, is_caption = image.templates[random.integers(len(image.templates))], False
        elif is_caption and dropout_draw < self.dropout:
            return placeholder
        if self.has_alternatives:
            template = _template(prompt)
            prompt = tidied(template.drawn(random), template)
        if is_caption:
            prompt = self._varied_tags(random, with_placeholder(prompt, placeholder), placeholder)
        return with_placeholder(prompt, placeholder)

    def plain(self, image: TrainingImage) -> str:
        """The prompt of an image in the fixed set: the first, with the first of all alternatives."""
        text = image.prompts[0]
        if self.has_alternatives:
            text = tidied(_template(text).first, _template(text))
        return with_placeholder(text, self.placeholders[image.concept])

    def possible(self, image: TrainingImage) -> Iterator[str]:
        """The prompts that samples of an image can get, for checks: with the placeholder token as late as it can be.

        Of a prompt that stands for more than a thousand texts, a thousand that are always the same.
        """
        placeholder = self.placeholders[image.concept]
        for text in image.prompts:
            for one in self._texts(text):
                one = with_placeholder(one, placeholder)
                yield self._latest(one, placeholder) if image.has_captions else one
        for text in image.templates:
            yield from (with_placeholder(one, placeholder) for one in self._texts(text))
        if image.has_captions and self.dropout:
            yield placeholder

    def _texts(self, text: str) -> Iterator[str]:
        if not self.has_alternatives:
            yield text
            return
        template = _template(text)
        if template.count <= _MOST_TRIED:
            texts = template.texts()
        else:
            texts = (template.drawn(generator(0, Purpose.CAPTION, index=number)) for number in range(_MOST_TRIED))
        yield from (tidied(one, template) for one in islice(texts, _MOST_TRIED))

    def _varied_tags(self, random: np.random.Generator, caption: str, placeholder: str) -> str:
        if not (self.shuffle or self.tag_dropout):
            return caption
        tags, mark = _tags_of(caption, placeholder)
        kept, free = tags[: self.keep], tags[self.keep :]
        if self.shuffle:
            free = [free[i] for i in random.permutation(len(free))]
        if self.tag_dropout:
            draws = random.random(len(free))
            free = [tag for tag, draw in zip(free, draws, strict=True) if draw >= self.tag_dropout or _HIDDEN in tag]
        return mark.join(kept + free).replace(_HIDDEN, placeholder)

    def _latest(self, caption: str, placeholder: str) -> str:
        """A caption in the order that brings the placeholder token furthest back."""
        if not self.shuffle:
            return caption
        tags, mark = _tags_of(caption, placeholder)
        kept, free = tags[: self.keep], tags[self.keep :]
        return mark.join(kept + sorted(free, key=lambda tag: _HIDDEN in tag)).replace(_HIDDEN, placeholder)


def make_variation(settings: PromptSettings, placeholders: Sequence[str]) -> PromptVariation:
    """The variation that the settings ask for; `placeholders` in the order of the concepts."""
    return PromptVariation(
        placeholders=tuple(placeholders),
        has_alternatives=settings.enable_wildcard,
        template_share=settings.template_share,
        dropout=settings.caption_dropout_rate,
        shuffle=settings.shuffle_caption,
        tag_dropout=settings.caption_tag_dropout_rate,
        keep=settings.keep_tokens,
    )


def with_placeholder(prompt: str, placeholder: str) -> str:
    """A prompt with the placeholder token, behind a comma where it was not in it as a word of its own."""
    return prompt if holds_placeholder(prompt, placeholder) else f"{prompt}, {placeholder}"


def holds_placeholder(prompt: str, placeholder: str) -> bool:
    """Whether a prompt holds the placeholder token as a word of its own."""
    return bool(whole_words([placeholder]).search(prompt))


def _tags_of(caption: str, placeholder: str) -> tuple[list[str], str]:
    """The tags of a caption, with a mark for the placeholder token, and what stands between them."""
    hidden = whole_words([placeholder]).sub(_HIDDEN, caption)
    comma, mark = ("，", "，") if "，" in hidden and "," not in hidden else (",", ", ")
    return [tag for tag in (part.strip() for part in hidden.split(comma)) if tag], mark


@lru_cache(maxsize=1 << 14)
def _template(text: str) -> Template:
    return parsed(text, "a training prompt")
