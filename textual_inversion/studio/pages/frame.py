"""The frame around the pages: who may come in, the language, and the way from one page to another."""

import functools
import hmac
import threading
import time

import streamlit as st
from PIL import Image, ImageDraw

from textual_inversion.cli.studio import check_access, settled
from textual_inversion.settings.studio import StudioConfig
from textual_inversion.studio.draw_queue import DrawQueue
from textual_inversion.studio.marked import say
from textual_inversion.studio.pages import context, draw, runs_page, teach, words_page
from textual_inversion.studio.pages.context import Context
from textual_inversion.studio.pictures import Pictures
from textual_inversion.studio.texts import LANGUAGES, NAMES, preferred, text
from textual_inversion.studio.workspace import Workspace
from textual_inversion.system.errors import SettingsError

_PAGES = {
    "teach": (teach.show, ":material/school:"),
    "runs": (runs_page.show, ":material/monitoring:"),
    "draw": (draw.show, ":material/brush:"),
    "words": (words_page.show, ":material/dictionary:"),
}
_WRONG_SECONDS = 1.0  # between two tries of a password, for all visitors together
_trying = threading.Lock()
# Of this program alone; nothing that comes from outside goes through st.html.
_STYLE = """<style>
.block-container { padding-top: 4.2rem; padding-bottom: 4rem; max-width: 76rem; }
[data-testid="stImage"] img { border-radius: 0.4rem; }
[data-testid="stMetricValue"] { font-size: 1.5rem; }
h1 { font-size: 1.9rem !important; padding: 0 0 0.2rem 0 !important; }
h3 { font-size: 1.15rem !important; padding: 0.8rem 0 0.2rem 0 !important; }
@media (max-width: 640px) { .block-container { padding: 4rem 1rem 3rem 1rem; } h1 { font-size: 1.5rem !important; } }
</style>"""


@st.cache_resource(show_spinner=False)
def _parts(folder: str, roots: tuple[str, ...]) -> tuple[Workspace, DrawQueue, Pictures]:
    """What all visitors share."""
    return Workspace.at(folder, roots), DrawQueue(), Pictures()


def show(argv: list[str]) -> None:
    """Show the page that a visitor asks for."""
    st.set_page_config(page_title="Textual Inversion", page_icon=_icon(), layout="wide")
    st.html(_STYLE)
    language = _language()
    try:
        config = settled(argv)
        check_access(st.get_option("server.address"), config.address.password)
    except SettingsError as error:
        st.title(say(language, "title"), anchor=False)
        st.error(say(language, "not_safe"), icon=":material/lock:")
        st.code(str(error), language=None, wrap_lines=True)
        return
    if not _may_enter(config, language):
        return
    workspace, queue, pictures = _parts(config.folders.workspace, tuple(config.folders.roots))
    context.keep_all()
    pages: dict = {}
    current = Context(workspace, queue, pictures, language, pages)
    for name, (draw_page, icon) in _PAGES.items():
        pages[name] = st.Page(
            _page(draw_page, current), title=text(language, name), icon=icon, url_path=name, default=name == "teach"
        )
    st.navigation(list(pages.values()), position="top").run()


@functools.cache
def _icon() -> Image.Image:
    """The page's sign: a named icon would be fetched from another machine."""
    image = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((2, 2, 61, 61), 14, fill="#0b6b73")
    pen.line((20, 18, 10, 32, 20, 46), fill="white", width=6, joint="curve")
    pen.line((44, 18, 54, 32, 44, 46), fill="white", width=6, joint="curve")
    pen.ellipse((26, 26, 38, 38), fill="white")
    return image


def _page(draw_page, current: Context):
    """A page with the choice of language above it, in which an error of the commands is a line."""

    def shown() -> None:
        _choose_language(current.language)
        current.told(draw_page, current)

    return shown


def _language() -> str:
    asked = st.query_params.get("lang")
    if asked in LANGUAGES:
        st.session_state.setdefault("language", asked)
    return st.session_state.setdefault("language", preferred(st.context.locale))


def _choose_language(language: str) -> None:
    def chosen() -> None:
        picked = st.session_state.get("language_choice")
        if picked in LANGUAGES:
            st.session_state["language"] = picked
            st.query_params["lang"] = picked

    with st.container(horizontal=True, horizontal_alignment="right"):
        st.segmented_control(
            say(language, "language"), LANGUAGES, default=language, format_func=NAMES.get, key="language_choice",
            on_change=chosen, label_visibility="collapsed", required=True,
        )  # fmt: skip


def _may_enter(config: StudioConfig, language: str) -> bool:
    """Whether a visitor has given the password, where there is one; asks for it."""
    password = config.address.password
    if password is None or st.session_state.get("may_enter") == password:
        return True
    _choose_language(language)
    st.title(say(language, "title"), anchor=False)
    st.caption(say(language, "password_why"))
    with st.form("password_form", border=False):
        typed = st.text_input(say(language, "password"), type="password", key="typed_password")
        is_sent = st.form_submit_button(say(language, "password_enter"), type="primary")
    if is_sent:
        with _trying:  # one at a time, and slowly: nobody tries thousands
            is_right = hmac.compare_digest(typed.encode(), password.encode())
            if not is_right:
                time.sleep(_WRONG_SECONDS)
        if is_right:
            st.session_state["may_enter"] = password
            st.rerun()
        st.error(say(language, "password_wrong"), icon=":material/lock:")
    return False
