r"""Prompts with alternatives, in the notation of dynamicprompts.

    a {red|blue|} <cat-toy>                  one of them; one may be empty
    a {{dark|light} red|blue} <cat-toy>      alternatives within alternatives
    {2$$beach|snow|night}                    two of them in every order: "beach,snow", "snow,beach", ...
    {1-2$$ and $$a cat|a dog}                one or two, joined by " and "; `2-$$` at least, `-2$$` at most two
    {3::red|blue}                            drawn at random, red comes three times as often
    \{not a choice\}                         braces as they are; within braces also \|

Wildcards (`__colors__`) and variables (`${color=red}`), which that library has too, would read files or keep state:
the first are text here, the second are refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import inf

import numpy as np

from textual_inversion.system.errors import SettingsError
from textual_inversion.system.terminal_text import one_line

MOST = 10**18  # texts are counted up to here
_LONGEST = 10_000  # letters of a text, as much as text encoders are given
_LONGEST_NOTATION = 100_000
_DEEPEST = 50
_MOST_PICKED = 17  # of so many, the orders alone are more than 10**14
_PICKED = re.compile(r"(?:(\d{1,6})?(-)?(\d{1,6})?)\$\$(?:([^{}$]*)\$\$)?")
_WEIGHT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)::")
_TOKEN = re.compile(r"\\[{}|]|[{}|]|\$(?=\{)")
_ESCAPED = re.compile(r"[{}|]")


@dataclass(frozen=True)
class Template:
    """A text with alternatives in it.

    Attributes:
        parts: texts, and choices between them.
    """

    parts: tuple["str | Choice", ...]

    @property
    def count(self) -> int:
        """The number of texts that it stands for, at most `MOST`; equal ones count."""
        number = 1
        for part in self.parts:
            number = min(MOST, number * (1 if isinstance(part, str) else part.count))
        return number

    @property
    def longest(self) -> int:
        """Letters of the longest text."""
        return sum(len(part) if isinstance(part, str) else part.longest for part in self.parts)

    @property
    def has_choices(self) -> bool:
        """Whether there is anything to choose."""
        return any(not isinstance(part, str) for part in self.parts)

    def texts(self) -> Iterator[str]:
        """All texts, the choices further right changing faster. Look at `count` first."""
        every = [(part,) if isinstance(part, str) else tuple(part.texts()) for part in self.parts]
        return ("".join(pieces) for pieces in product(*every))

    @property
    def first(self) -> str:
        """The text with the first of all alternatives."""
        return "".join(part if isinstance(part, str) else part.first for part in self.parts)

    def drawn(self, generator: np.random.Generator) -> str:
        """One text, with every choice drawn by its weights."""
        return "".join(part if isinstance(part, str) else part.drawn(generator) for part in self.parts)


@dataclass(frozen=True)
class Choice:
    """Alternatives, of which some are taken.

    Attributes:
        options: the alternatives.
        weights: how often each is drawn; they matter only where texts are drawn at random.
        least, most: how many of them are taken.
        separator: between those that are taken.
    """

    options: tuple[Template, ...]
    weights: tuple[float, ...]
    least: int = 1
    most: int = 1
    separator: str = ","

    @property
    def count(self) -> int:
        """The number of texts, at most `MOST`: of every number of options, those in every order."""
        if self.most > _MOST_PICKED:
            return MOST
        sums = [1] + [0] * self.most  # elementary symmetric polynomials of the options' counts
        for own in [option.count for option in self.options]:
            for taken in range(self.most, 0, -1):
                sums[taken] = min(MOST, sums[taken] + own * sums[taken - 1])
        total, orders = 0, 1
        for taken in range(self.most + 1):
            orders *= max(1, taken)
            total += orders * sums[taken] if taken >= self.least else 0
        return min(MOST, total)

    @property
    def longest(self) -> int:
        """Letters of the longest text."""
        lengths = sorted((option.longest for option in self.options), reverse=True)[: self.most]
        return sum(lengths) + len(self.separator) * max(0, self.most - 1)

    def texts(self) -> Iterator[str]:
        """All texts, in the order of the options."""
        every = [tuple(option.texts()) for option in self.options]
        for number in range(self.least, self.most + 1):
            for taken in permutations(every, number):
                yield from map(self.separator.join, product(*taken))

    @property
    def first(self) -> str:
        """The text of as few options as can be, the first ones."""
        return self.separator.join(option.first for option in self.options[: self.least])

    def drawn(self, generator: np.random.Generator) -> str:
        """One text: a number of options, each number equally often, without taking one twice."""
        number = int(generator.integers(self.least, self.most + 1))
        shares = np.array(self.weights) / sum(self.weights)
        taken = generator.choice(len(self.options), size=number, replace=False, p=shares)
        return self.separator.join(self.options[i].drawn(generator) for i in taken)


def parsed(text: str, location: str) -> Template:
    """A prompt with alternatives.

    Args:
        location: where it stands, for messages.

    Raises:
        SettingsError: the braces do not match, or a choice cannot be made.
    """
    if len(text) > _LONGEST_NOTATION:
        raise SettingsError(f"{location}: a prompt of {len(text)} letters; keep below {_LONGEST_NOTATION}")
    template = _Parser(text, location).template()
    if template.longest > _LONGEST:
        raise SettingsError(
            f"{location}: this stands for a text of {template.longest} letters, more than a text encoder can be "
            f"given; keep below {_LONGEST}"
        )
    return template


def tidied(text: str, template: Template) -> str:
    """A text of a template without the blanks that an empty alternative leaves; one without choices stays as it is."""
    return " ".join(text.split()) if template.has_choices else text


def literal(text: str) -> str:
    """A text in the notation that stands for itself alone."""
    return _ESCAPED.sub(lambda found: "\\" + found[0], text)


class _Parser:
    """Goes over a prompt once, from left to right."""

    def __init__(self, text: str, location: str):
        self._text, self._location, self._at = text, location, 0
        self._tokens = [(found.start(), found.end(), found[0]) for found in _TOKEN.finditer(text)]
        self._next = 0

    def template(self) -> Template:
        """The whole prompt."""
        return self._sequence(depth=0)

    def _refused(self, message: str) -> SettingsError:
        return SettingsError(f"{self._location}: {message} in {one_line(self._text[:80])!r}")

    def _sequence(self, depth: int) -> Template:
        """Text and choices up to the end of an option, or of the prompt."""
        parts: list[str | Choice] = []
        while self._next < len(self._tokens):
            begin, end, token = self._tokens[self._next]
            parts.append(self._text[self._at : begin])
            if depth and token in "|}":
                self._at = begin
                break
            self._at, self._next = end, self._next + 1
            if token == "$":
                raise self._refused("variables such as ${name=text} are not read; write \\{ for a brace itself,")
            if token == "{":
                parts.append(self._choice(depth + 1))
            elif token == "}":
                raise self._refused("a } without its {; write \\} for a brace itself,")
            else:
                parts.append(token[-1])  # a bar outside braces, or a character after a backslash
        else:
            if depth:
                raise self._refused("a { without its }; write \\{ for a brace itself,")
            parts.append(self._text[self._at :])
        return _joined(parts)

    def _choice(self, depth: int) -> Choice:
        """A choice whose opening brace has been read."""
        if depth > _DEEPEST:
            raise self._refused(f"braces more than {_DEEPEST} deep")
        picked = _PICKED.match(self._text, self._at)
        if picked:
            self._skip_to(picked.end())
        options, weights, ended = [], [], False
        while not ended:
            weights.append(self._weight())
            options.append(self._sequence(depth))
            ended = self._tokens[self._next][2] == "}"
            self._at, self._next = self._tokens[self._next][1], self._next + 1
        least, most, separator = self._bounds(picked, len(options))
        return Choice(tuple(options), tuple(weights), least, most, separator)

    def _skip_to(self, position: int) -> None:
        self._at = position
        while self._next < len(self._tokens) and self._tokens[self._next][0] < position:
            self._next += 1  # a bar in the separator

    def _weight(self) -> float:
        """The weight before an option, and the blanks, which do not belong to it."""
        found = _WEIGHT.match(self._text, self._at)
        if found:
            self._at = found.end()
        weight = float(found[1]) if found else 1.0
        if not 0 < weight < inf:
            raise self._refused(f"the weight {found[1][:20]}:: must be greater than 0")
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return weight

    def _bounds(self, picked: re.Match | None, options: int) -> tuple[int, int, str]:
        """How many options are taken, and what stands between them."""
        if picked is None:
            return 1, 1, ","
        first, dash, last, separator = picked.groups()
        if first is None and last is None:
            raise self._refused("a number is missing before $$, as in {2$$a|b|c},")
        least = 1 if first is None else int(first)
        most = least if dash is None else options if last is None else int(last)
        if not 0 <= least <= most <= options or most == 0:
            raise self._refused(f"{picked[0].partition('$$')[0]} of {options} alternatives cannot be taken")
        return least, most, "," if separator is None else separator


def _joined(parts: Sequence["str | Choice"]) -> Template:
    """A template without empty parts, and with neighbouring texts joined."""
    found: list[str | Choice] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        elif part != "":
            found.append(part)
    return Template(tuple(found))
