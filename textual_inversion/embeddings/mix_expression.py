"""Read what `convert.py mix` is told to mix: `a.safetensors*0.7 + b.pdparams:<dog>*0.3 - "toy"`.

    mix     := sum {"&" sum}               the vectors of one after those of the other
    sum     := product {("+" | "-") product}
    product := factor {"*" factor}         all but one of them numbers
    factor  := {"+" | "-"} (NUMBER | "(" mix ")" | FILE | FILE:WORD | '"' vocabulary word '"')

Inside a name, `+` and `-` belong to it; as signs they follow a blank, a number, a bracket or the end of a `<word>`. A
name with blanks or other signs stands in braces: `{my cat (2).pt}:{two words}`. Nothing is executed.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from textual_inversion.formats.errors import printable
from textual_inversion.system.errors import SettingsError

LONGEST = 4000  # letters
MOST_PARTS = 64  # files and words
_DEEPEST = 40  # brackets in one another
_MOST_TOKENS = 400
_LARGEST = 1e6  # of a number
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?=[\s*()&+-]|$)
    | (?P<sign>[-+*()&])
    | "(?P<known>[^"]*)"
    | (?:\{(?P<braced>[^{}]*)\} | (?P<plain>(?:(?!:[<{])[^\s*()&"{}])+))
      (?: :(?:(?P<angled><[^<>{}"\s]*>) | \{(?P<curly>[^{}]*)\}) )?
    )\s*""",
    re.VERBOSE,
)
# Files that need no braces, also with a word behind them, and words that need none.
_PLAIN = re.compile(r"(?![+-]|[\d.]+([eE]\d+)?([+-]|$))[^\s*()&\"{}:]+")
_PLAIN_WITH_WORD = re.compile(_PLAIN.pattern + r"(:[^\s*()&\"{}<]+)?")
_ANGLED = re.compile(r"<[^<>{}\"\s]*>")
_SHOWN = 60


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Learned:
    """A learned word.

    Attributes:
        file: a path or the name of a repository; where `word` is None perhaps with `:WORD` at its end.
        word: the placeholder token; None: the only one, or what the name of the file says.
    """

    file: str
    word: str | None = None


@dataclass(frozen=True)
class Known:
    """Words of a base model's vocabulary."""

    text: str


@dataclass(frozen=True)
class Sum:
    """One and another, or one without the other."""

    left: "Node"
    right: "Node"
    is_difference: bool = False


@dataclass(frozen=True)
class Product:
    """One times another."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True)
class Joined:
    """The vectors of one, then those of another."""

    left: "Node"
    right: "Node"


Node = Number | Learned | Known | Sum | Product | Joined


def parse(text: str) -> Node:
    """What a text says to mix.

    Raises:
        SettingsError: it cannot be read, or asks for more than anybody mixes.
    """
    if len(text) > LONGEST:
        raise SettingsError(f"the mix has {len(text)} letters, more than {LONGEST}; mix in several steps")
    reader = _Reader(text)
    node = reader.mix(0)
    if reader.token is not None:
        raise reader.refusal()
    if sum(1 for _ in parts_of(node)) > MOST_PARTS:
        raise SettingsError(f"the mix has more than {MOST_PARTS} parts; mix in several steps")
    return node


def parts_of(node: Node) -> Iterator[Learned | Known]:
    """The learned and vocabulary words in a mix, from left to right."""
    if isinstance(node, (Learned, Known)):
        yield node
    elif not isinstance(node, Number):
        yield from parts_of(node.left)
        yield from parts_of(node.right)


def _itself(word: "Learned") -> "Learned":
    return word


def written(node: Node, name: Callable[[Learned], Learned] = _itself) -> str:
    """A mix as text that `parse` reads again.

    Args:
        name: what a learned word is called in it.
    """
    match node:
        case Number(value):
            return f"{value:.12g}"
        case Known(text):
            return f'"{text}"'
        case Learned():
            return _written_word(name(node))
        case Sum(left, right, is_difference):
            return f"{_within(left, Joined, name)} {'-' if is_difference else '+'} {_within(right, Sum, name)}"
        case Product(left, right):
            return f"{_within(left, Sum, name)}*{_within(right, Product, name)}"
        case Joined(left, right):
            return f"{written(left, name)} & {_within(right, Joined, name)}"
    raise TypeError(type(node).__name__)


def _written_word(one: Learned) -> str:
    file = one.file if (_PLAIN if one.word is not None else _PLAIN_WITH_WORD).fullmatch(one.file) else f"{{{one.file}}}"
    if one.word is None:
        return file
    return f"{file}:{one.word}" if _ANGLED.fullmatch(one.word) else f"{file}:{{{one.word}}}"


_BINDS = (Joined, Sum, Product)  # the loosest first


def _within(node: Node, loosest: type, name: Callable[[Learned], Learned]) -> str:
    """A part of something, in brackets where it binds no closer than `loosest`."""
    is_loose = any(isinstance(node, kind) for kind in _BINDS[: _BINDS.index(loosest) + 1])
    is_negative = isinstance(node, Number) and node.value < 0
    text = written(node, name)
    return f"({text})" if is_loose or is_negative else text


class _Reader:
    """The tokens of a text, one at a time.

    Attributes:
        token: (kind, text) of the next one; None at the end.
    """

    def __init__(self, text: str):
        self._text, self._end, self._begin, self._count = text, 0, 0, 0
        self._next()

    def _next(self) -> None:
        self._begin = self._end
        if not self._text[self._begin :].strip():
            self.token = None
            return
        found = _TOKEN.match(self._text, self._begin)
        if found is None:
            raise self.refusal()
        self._end, self._match, self._count = found.end(), found, self._count + 1
        if self._count > _MOST_TOKENS:
            raise SettingsError(f"the mix has more than {_MOST_TOKENS} signs and names; mix in several steps")
        self.token = found["sign"] or ("number" if found["number"] else "known" if found["known"] is not None else "")

    def refusal(self) -> SettingsError:
        """What to say where the text cannot go on as it does."""
        rest = self._text[self._begin :].strip()
        where = f"at {printable(rest, _SHOWN)!r}" if rest else "at its end"
        return SettingsError(
            f"the mix cannot be read {where}; write such as 'a.safetensors*0.7 + b.pdparams:<dog>*0.3', a vocabulary "
            'word in "quotes", and a name with blanks or signs in {braces}'
        )

    def mix(self, depth: int) -> Node:
        """Sums, joined."""
        return self._chain(("&",), self._sum, depth)

    def _sum(self, depth: int) -> Node:
        return self._chain(("+", "-"), self._product, depth)

    def _product(self, depth: int) -> Node:
        return self._chain(("*",), self._factor, depth)

    def _chain(self, signs: tuple[str, ...], part: Callable[[int], Node], depth: int) -> Node:
        node = part(depth)
        while self.token in signs:
            sign = self.token
            self._next()
            right = part(depth)
            if sign == "&":
                node = Joined(node, right)
            elif sign == "*":
                node = Product(node, right)
            else:
                node = Sum(node, right, sign == "-")
        return node

    def _factor(self, depth: int) -> Node:
        is_negative = False
        while self.token in ("+", "-"):
            is_negative ^= self.token == "-"
            self._next()
        node = self._operand(depth)
        if not is_negative:
            return node
        return Number(-node.value) if isinstance(node, Number) else Product(Number(-1.0), node)

    def _operand(self, depth: int) -> Node:
        if self.token == "(":
            if depth >= _DEEPEST:
                raise SettingsError(f"the mix has more than {_DEEPEST} brackets in one another; mix in several steps")
            self._next()
            node = self.mix(depth + 1)
            if self.token != ")":
                raise self.refusal()
        elif self.token == "number":
            node = Number(_bounded(self._match["number"]))
        elif self.token == "known":
            node = Known(self._match["known"].strip())
        elif self.token == "":
            node = self._learned()
        else:
            raise self.refusal()
        self._next()
        return node

    def _learned(self) -> Learned:
        found = self._match
        file = found["plain"] or (found["braced"] or "").strip()
        if not file:
            raise self.refusal()
        return Learned(file, found["angled"] if found["angled"] is not None else found["curly"])


def _bounded(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value > _LARGEST:
        raise SettingsError(f"the mix has the number {text[:_SHOWN]}, more than {_LARGEST:.0f}; take a smaller one")
    return value
