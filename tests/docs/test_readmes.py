"""Both READMEs against each other: length, headings, code, tables, links. Nothing here needs paddle."""

import re

import pytest

from helpers.documents import READMES, code_blocks, headings, links, prose, read, tables

LONGEST = 220  # lines


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_is_short(readme):
    assert len(read(readme).splitlines()) <= LONGEST


def test_both_readmes_have_the_same_headings_in_the_same_order():
    english, chinese = (headings(read(readme)) for readme in READMES)

    assert [level for level, _ in english] == [level for level, _ in chinese]
    assert len(english) > 8
    assert [title for _, title in chinese if not re.search("[\u4e00-\u9fff]", title)] == []


def test_both_readmes_have_the_same_code():
    english, chinese = (code_blocks(read(readme)) for readme in READMES)

    assert english == chinese
    assert {language for language, _ in english} == {"bash", "text"}


def test_both_readmes_have_the_same_tables_but_for_their_words():
    english, chinese = (tables(read(readme)) for readme in READMES)

    def without_words(cells: list[str]) -> list:
        return [re.findall(r"`[^`]*`|\([^)]*\.md\)", cell) for cell in cells]

    assert [[without_words(row) for row in table] for table in english] == [
        [without_words(row) for row in table] for table in chinese
    ]


def test_both_readmes_point_to_the_same_places():
    english, chinese = (links(read(readme)) for readme in READMES)

    assert [link for link in english if link not in READMES] == [link for link in chinese if link not in READMES]


def test_both_readmes_hold_the_same_figures():
    """In prose and tables alike; a number of the one that the other lacks is a slip."""

    def figures(text: str) -> list[str]:
        text = re.sub(r"\]\([^)]*\)|`[^`]*`|arXiv \S+", "", prose(text))
        return sorted(re.findall(r"\d[\d.,]*\d|\d", text))

    english, chinese = (figures(read(readme)) for readme in READMES)
    # "three to six" and "all three" are words in one language and in the other.
    assert english == chinese
