"""The site: every text of it has a Chinese one that says the same, and both languages build without a warning."""

import re
import subprocess
import sys

import pytest

from helpers.documents import PAGES, flags, headings, read
from helpers.paths import ROOT

pofile = pytest.importorskip("babel.messages.pofile", reason="pip install -r requirements-docs.txt")

LOCALE = ROOT / "docs" / "locale" / "zh_CN" / "LC_MESSAGES"
CODE = re.compile(r"`[^`]+`")
TARGET = re.compile(r"\]\(([^)\s]+)\)")
CHINESE = re.compile("[\u4e00-\u9fff]")
# Words that this project does not use in Chinese, and what it says instead.
UNWANTED = {"试画": "验证图", "pipeline": "流水线", "词向量": "嵌入向量", "剩余时长": "剩余时间", "新词": "占位词"}


def catalogue(page: str) -> dict:
    """message -> babel's Message of a page's catalogue."""
    path = (LOCALE / page.removeprefix("docs/")).with_suffix(".po")
    with path.open("rb") as file:
        return {message.id: message for message in pofile.read_po(file, locale="zh_CN") if message.id}


def words_of(message: str) -> str:
    """What of a message is language: without code, targets of links, numbers and units."""
    return re.sub(r"[\d.,]+ ?(s|ms|GB|MB|kB|x)\b|[^A-Za-z]+", " ", TARGET.sub("]", CODE.sub("", message))).strip()


def is_name(message: str) -> bool:
    return re.fullmatch(r"[\w.]+\.py", message) is not None


@pytest.mark.parametrize("page", PAGES)
def test_every_message_is_translated(page):
    messages = catalogue(page)

    assert messages
    assert [text for text, message in messages.items() if message.fuzzy] == []
    missing = [text for text, message in messages.items() if words_of(text) and not message.string]
    assert [text for text in missing if not is_name(text)] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_translation_has_the_code_the_links_and_the_words_of_the_vocabulary(page):
    for text, message in catalogue(page).items():
        if not message.string:
            continue
        assert sorted(CODE.findall(message.string)) == sorted(CODE.findall(text)), text
        assert sorted(TARGET.findall(message.string)) == sorted(TARGET.findall(text)), text
        prose = CODE.sub("", TARGET.sub("", message.string))
        assert [word for word in UNWANTED if word in prose] == [], message.string


def test_the_chinese_readme_has_the_words_of_the_vocabulary_too():
    prose = CODE.sub("", re.sub(r"^```.*?^```", "", read("README_zh.md"), flags=re.MULTILINE | re.DOTALL))

    assert [word for word in UNWANTED if word in prose] == []


@pytest.mark.parametrize("page", PAGES)
def test_headings_are_translated(page):
    messages = catalogue(page)

    for _, title in headings(read(page)):
        assert title in messages, "bring the catalogues up to date (CONTRIBUTING.md)"
        assert is_name(title) or CHINESE.search(messages[title].string), title


@pytest.mark.parametrize("command", flags.PARSERS)
def test_every_flag_means_something_in_chinese(command):
    messages = catalogue(f"docs/reference/{command}.md")

    for title, actions in flags.groups(command).items():
        assert CHINESE.search(messages[title[0].upper() + title[1:]].string)
        for action in actions:
            meaning = flags.meaning(action)
            assert meaning in messages, f"{flags.name(action)}: bring the catalogues up to date"
            assert CHINESE.search(messages[meaning].string), flags.name(action)


# ----------------------------------------------------------------------------------------------------------- builds


def build(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", *map(str, words)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_site_builds_without_a_warning(language, tmp_path):
    build("-b", "html", "-d", tmp_path / "doctrees", "-D", f"language={language}", "docs", tmp_path / "site")

    pages = {path.relative_to(tmp_path / "site").with_suffix("").as_posix() for path in tmp_path.glob("site/**/*.html")}
    assert {page[5:-3] for page in PAGES} <= pages
    text = (tmp_path / "site" / "reference" / "train.html").read_text(encoding="utf-8")
    other = {"en": "zh_CN", "zh_CN": "en"}[language]
    assert "--train_data_dir" in text and f'href="../../{other}/reference/train.html"' in text
    assert ("基础模型" in text) == (language == "zh_CN")
    unread = [name for name in pages if "**" in (tmp_path / "site" / f"{name}.html").read_text(encoding="utf-8")]
    assert unread == [], "emphasis that was not read as such"


@pytest.mark.slow
def test_the_catalogues_hold_what_the_pages_say_now(tmp_path):
    build("-b", "gettext", "-d", tmp_path / "doctrees", "docs", tmp_path / "gettext")

    for page in PAGES:
        template = (tmp_path / "gettext" / page[5:]).with_suffix(".pot")
        with template.open("rb") as file:
            wanted = {message.id for message in pofile.read_po(file) if message.id and words_of(message.id)}
        there = {text for text in catalogue(page) if words_of(text)}
        assert wanted == there, f"{page}: bring the catalogues up to date (CONTRIBUTING.md)"
