"""Sphinx configuration of the site. English is the source; Chinese comes from the catalogues in `locale/`.

Build it strictly, in both languages:

    sphinx-build -W -b html docs docs/_build/en
    sphinx-build -W -b html -D language=zh_CN docs docs/_build/zh_CN

After a change of the English text, bring the catalogues up to date and translate what is new in them:

    sphinx-build -b gettext docs docs/_build/gettext
    sphinx-intl update -p docs/_build/gettext -d docs/locale -l zh_CN -w 0 --no-obsolete
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import flags  # noqa: E402
import other_names  # noqa: E402

project = "Textual Inversion"
author = "the authors of this project"
html_title = "Textual Inversion"
language = "en"

extensions = ["myst_parser"]
exclude_patterns = ["_build", "locale", "transcripts"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# "--flag" must not become a dash, nor a quoted string typographic.
smartquotes = False

# One catalogue per page, without line numbers, so that a change touches only the page that it is about.
locale_dirs = ["locale"]
gettext_compact = False
gettext_location = False

templates_path = ["_templates"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/languages.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}


def _complete(app, docname: str, source: list[str]) -> None:
    """Put flags and their other names into the pages; hand on Markdown files of other folders as files, no pages."""
    text = re.sub(r"<!-- flags: (\w+) -->", lambda match: flags.markdown(match[1]), source[0])
    text = text.replace("<!-- defaults of the demo -->", flags.demo_markdown())
    text = text.replace("<!-- their flags -->", other_names.figure(app.config.language))
    text = text.replace("<!-- other names -->", other_names.markdown())
    source[0] = re.sub(r"\]\(((?:\.\./)+(?:benchmarks|demo)/\w+\.md)\)", r"](path:\1)", text)


def _pages_with_flags(app, env, added, changed, removed) -> list[str]:
    """These are read anew in every build: what they say is in the code."""
    pages = ["other-systems", *(f"reference/{command}" for command in flags.PARSERS)]
    return [page for page in pages if page in env.found_docs]


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("env-get-outdated", _pages_with_flags)
    app.connect("source-read", _complete)
