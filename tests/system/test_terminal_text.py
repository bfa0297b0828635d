"""Text for a terminal: what is shown of what a terminal would obey."""

import pytest

from textual_inversion.system.terminal_text import HIDDEN, one_line, printed, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <cat-toy>, 猫", "a <cat-toy>, 猫"),
        ("\x1b[31mred", f"{HIDDEN}[31mred"),
        ("a\nb\rc\td", f"a{HIDDEN}b{HIDDEN}c{HIDDEN}d"),
        ("\u202eabc\u2066", f"{HIDDEN}abc{HIDDEN}"),
        ("a\u3000b\u00a0c", "a b c"),
        ("\ud800\U000e0041\ue000", HIDDEN * 3),
    ],
)
def test_what_a_terminal_would_obey_is_seen(text, shown):
    assert visible(text) == shown


def test_a_message_has_single_blanks():
    assert one_line("  a \n\n b\u3000 c\x07 ") == f"a b c{HIDDEN}"


def test_only_tables_have_long_runs_of_blanks():
    row = f"a{' ' * 20}b  c"

    assert printed(row) == "a b  c" and printed(row, is_aligned=True) == row
