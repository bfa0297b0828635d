"""Texts from outside in Markdown: as they are, and as nothing else."""

import re

from textual_inversion.system.terminal_text import one_line


def code(text: str) -> str:
    """A text as it is, as code in Markdown: it cannot end the code and become a link, a picture or HTML."""
    shown = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    blank = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def cell(text: str) -> str:
    """`code` in a cell of a table."""
    return code(text).replace("|", "\\|")
