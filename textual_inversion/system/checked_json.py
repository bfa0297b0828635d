"""JSON from outside: parsed within bounds, then checked against a schema, before anything else looks at it.

    parse_json(data)         the value in a text or in the bytes of a file
    checked(value, schema)   the same value, once it is known to be of a type

A JSON file is small and still may hold what breaks a program later: a nesting that no function can follow, halves of
characters that no file and no terminal takes, numbers that are none, text where a number should be. All that is an
`UnusableJson`, which is a ValueError as well, with a phrase that says what and where; callers add the file's name.

A schema is a type: `int`, `list[str]`, a TypedDict for an object, of which other entries may be there and stay. It is
checked strictly: `"1"` and `true` are no numbers. The checks are pydantic's.
"""

import functools
import json
import math
import re
from typing import Annotated, Any, TypeVar

from textual_inversion.system.errors import TextualInversionError
from textual_inversion.system.terminal_text import visible

MOST_LEVELS = 64  # of lists and objects in one another; a tokenizer.json has 8
# Of all kinds, names too; each takes some 60 bytes. The largest vocabulary here, of 250,000 words, has three a word.
MOST_ITEMS = 1_000_000
MOST_DIGITS = 64  # of a whole number; some tokenizers give 10 to the 30th as their greatest length
_SHOWN = 60  # letters of a value in a message
_HALVES = re.compile("[\ud800-\udfff]")
_HALVES_OF_NO_NAME = re.compile("[\ud800-\udc7f\udd00-\udfff]")

T = TypeVar("T")


class UnusableJson(TextualInversionError, ValueError):
    """A text that is no JSON, or JSON that is not of the type that it should be; the message is a phrase."""


def parse_json(
    data: bytes | str,
    *,
    allows_nan: bool = False,
    allows_duplicates: bool = True,
    allows_odd_names: bool = False,
    most_items: int = MOST_ITEMS,
) -> Any:
    """The value in a JSON text.

    Args:
        data: bytes in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.
        allows_nan: pass NaN and infinities, which some configurations hold although they are no JSON.
        allows_odd_names: pass U+DC80 to U+DCFF, by which Python writes bytes of file names that are no text.
        allows_duplicates: pass a name that occurs twice in an object; its last value counts.
        most_items: values of all kinds, names too, that such a text may have.

    Raises:
        UnusableJson: it is damaged, no text, nested too deeply, has too many values, or a number that is none or far
            too long.
    """
    refuse = None if allows_nan else _no_number
    _check_items(data, most_items)
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        text = text.removeprefix("\ufeff")
        value = json.loads(
            text,
            parse_constant=refuse,
            parse_int=_whole_number,
            parse_float=float if allows_nan else _finite_number,
            object_pairs_hook=None if allows_duplicates else _without_duplicates,
        )
    except UnusableJson:
        raise
    except json.JSONDecodeError as error:
        raise UnusableJson(f"is no readable JSON (line {error.lineno}: {error.msg})") from error
    except UnicodeDecodeError as error:
        raise UnusableJson("is no readable JSON (it is not text in UTF-8)") from error
    except RecursionError as error:
        raise UnusableJson(_TOO_DEEP) from error
    refused = _HALVES if "\\ud" in text or "\\uD" in text else None
    _check_levels(value, refused if refused is None or not allows_odd_names else _HALVES_OF_NO_NAME)
    return value


def _check_items(data: bytes | str, most: int) -> None:
    """Count what stands before a value. Commas within texts count too: a bound, and no exact number, is wanted."""
    begins = (b",", b"[", b"{") if isinstance(data, bytes) else (",", "[", "{")
    if sum(map(data.count, begins)) > most:
        raise UnusableJson(f"holds more than {most:,} values, far more than such a file has")


_TOO_DEEP = f"is no readable JSON (more than {MOST_LEVELS} lists or objects in one another)"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise UnusableJson("is no readable JSON (a name in it occurs twice)")
    return table


def _no_number(name: str) -> None:
    raise UnusableJson(f"is no readable JSON (it holds {name}, which is no number)")


def _finite_number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise UnusableJson(f"is no readable JSON (the number {_short(digits)} is too large)")
    return value


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise UnusableJson(f"is no readable JSON (it holds a number of {len(digits):,} digits)")
    return int(digits)


def _check_levels(value: Any, refused: re.Pattern | None) -> None:
    """Check a value and all in it, level by level: what is nested deeply must not be followed by calls.

    Args:
        refused: what no text may hold.
    """
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        if refused is not None and any(refused.search(item) for item in level if isinstance(item, str)):
            raise UnusableJson("is no readable JSON (a text in it holds half of a character)")
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
        if refused is not None:
            level += [key for item in containers if isinstance(item, dict) for key in item]
    raise UnusableJson(_TOO_DEEP)


def is_text(value: str) -> bool:
    """Whether a text holds whole characters only: an escape such as \\ud800 stands for half of one."""
    return _HALVES.search(value) is None


def checked(value: T, schema: Any) -> T:
    """A JSON value of a schema's type, unchanged.

    Raises:
        UnusableJson: it is of another type.
    """
    from pydantic import ValidationError

    try:
        _adapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        raise UnusableJson(_described(error.errors(include_url=False, include_context=False)[0])) from error
    return value


@functools.cache
def _adapter(schema: Any) -> Any:
    """The checks of a schema; pydantic is imported only where something is checked."""
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def whole_number(least: int, most: int) -> Any:
    """The schema of a whole number from `least` to `most`."""
    from annotated_types import Interval

    return Annotated[int, Interval(ge=least, le=most)]


def finite_number() -> Any:
    """The schema of a number that is neither NaN nor infinite."""
    from annotated_types import Predicate

    return Annotated[float, Predicate(math.isfinite)]


def _described(error: dict[str, Any]) -> str:
    """What is wrong with the first value that is, such as: holds 'x' as "settings.--seed"; it should be …"""
    place = ".".join(map(str, error["loc"])) or "the whole"
    wanted = error["msg"].removeprefix("Input ").removeprefix("should ").replace("a valid dictionary", "an object")
    if error["type"] == "predicate_failed":
        wanted = "be a finite number"
    if error["type"] == "missing":
        return f"lacks {visible(place)[:_SHOWN]}"
    return f"holds {_shown(error['input'])} as {visible(place)[:_SHOWN]}, which should {wanted}"


def _shown(value: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "nothing"}
    return names.get(type(value)) or visible(_short(repr(value[: _SHOWN + 1] if isinstance(value, str) else value)))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
