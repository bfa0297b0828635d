"""Text from outside, made harmless for a terminal, a log and a line of a record.

Names of images, captions, prompts, metadata, keys of a configuration and answers of a hub may hold whatever a stranger
likes: escape sequences that recolour, move or rename the terminal, characters that reverse the order of others, line
breaks behind which a forged `error: …` stands. All that is printed goes through `printed`: `streams.print_error` and
`progress.print_line` call it, and nothing else in the program prints (`tests/security/test_printing.py`).
"""

import re

from textual_inversion.system.addresses import shown

_BLANKS = re.compile(r"\s+")
_LONG_GAP = re.compile(" {8,}")  # it would push what follows to the beginning of the terminal's next line
_OTHER_BLANKS = frozenset({*"\u00a0\u1680\u202f\u205f\u3000", *map(chr, range(0x2000, 0x200B))})
HIDDEN = "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """The text on one line, with a sign in place of everything that a terminal would obey and not show.

    That is whatever Unicode calls a control, a format (which changes directions, or joins and hides letters), a line
    or paragraph separator, a surrogate, or not assigned. Blanks of other widths become blanks. The length stays.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter in _OTHER_BLANKS else HIDDEN


def printed(line: str, *, is_aligned: bool = False) -> str:
    """What is printed for a line: `visible`, and without the long runs of blanks that only a table has.

    A folder that stands for an address of object storage (`addresses`) is shown as that address.
    """
    line = shown(line)
    return visible(line) if is_aligned else _LONG_GAP.sub(" ", visible(line))


def one_line(text: object) -> str:
    """A message on one line: `visible`, and with one blank for each run of blanks and line breaks."""
    return visible(_BLANKS.sub(" ", str(text)).strip())
