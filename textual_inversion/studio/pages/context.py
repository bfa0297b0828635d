"""What every page has: the workspace, the queue, the language; and the one place for messages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from textual_inversion.studio import marked, runs
from textual_inversion.studio.draw_queue import DrawQueue
from textual_inversion.studio.pictures import Pictures
from textual_inversion.studio.workspace import Workspace
from textual_inversion.system.errors import TextualInversionError

# What a page keeps while another one is shown has a key that begins so.
KEPT = "kept:"


@dataclass(frozen=True)
class Context:
    """What a page works with.

    Attributes:
        pages: name -> the page, to switch to.
    """

    workspace: Workspace
    queue: DrawQueue
    pictures: Pictures
    language: str
    pages: dict[str, Any]

    def say(self, key: str, **values: Any) -> str:
        """A text of the page, in Markdown."""
        return marked.say(self.language, key, **values)

    def plain(self, key: str, **values: Any) -> str:
        """A text of the page where no Markdown is read."""
        return marked.plain(self.language, key, **values)

    def head(self, key: str, lead: str) -> None:
        """The title of a page and what it is for."""
        st.title(self.say(key), anchor=False)
        st.caption(self.say(lead))

    def problem(self, key: str, line: str = "") -> None:
        """Say that something is wrong; `line` is a command's own."""
        st.error(self.say(key, line=line) if key else marked.code(line, 1000), icon=":material/error:")

    def notice(self, key: str, **values: Any) -> None:
        """Say something that is no fault."""
        st.info(self.say(key, **values), icon=":material/info:")

    def told(self, draw: Callable[..., None], *values: Any) -> None:
        """Draw something; an error of the commands is a line in its place."""
        try:
            draw(*values)
        except TextualInversionError as error:
            self.problem("", str(error))

    def repeated(self, draw: Callable[..., None], every: float | None, *values: Any) -> None:
        """Draw something now and again by itself, `every` so many seconds; None: only when one of its widgets is used.

        What draws the page does not hear of an error then, so it is told here.
        """
        st.fragment(self.told, run_every=every)(draw, *values)

    def careful(self, text: str) -> None:
        """Show a warning that is Markdown already."""
        st.warning(text, icon=":material/warning:")

    def chart(self, spec: dict[str, Any], key: str, height: int = 320) -> None:
        """Show a chart; `key` is the text that says what it shows."""
        st.vega_lite_chart(spec, width="stretch", height=height, alt=self.plain(key), key=f"chart:{key}")

    def command(self, line: str) -> None:
        """Show a command line, to be copied."""
        with st.expander(self.say("command"), icon=":material/terminal:"):
            st.code(line, language=None, wrap_lines=True)

    def go(self, page: str, **parameters: str) -> None:
        """Show another page."""
        st.switch_page(self.pages[page], query_params={"lang": self.language, **parameters})

    def runs(self) -> list[Path]:
        """The folders of all runs, the newest first."""
        return _found(self.workspace)

    def run_folder(self, asked: str) -> Path | None:
        """The folder of the run that an address asks for; None where there is none.

        A run that has just begun is not among those that are remembered, so they are looked for once more.
        """
        folder = self._remembered(asked)
        if folder is None and asked:
            _found.clear()
            folder = self._remembered(asked)
        return folder

    def _remembered(self, asked: str) -> Path | None:
        return next((one for one in self.runs() if self.run_id(one) == asked), None)

    def run_id(self, folder: Path) -> str:
        """What stands for a run in an address: no path."""
        return self.workspace.job_folder(folder).name[:12]


@st.cache_data(ttl=2.0, show_spinner=False, hash_funcs={Workspace: lambda one: (str(one.folder), str(one.roots))})
def _found(workspace: Workspace) -> list[Path]:
    return runs.find(workspace)


def kept(name: str, default: Any = None) -> str:
    """The key of a widget whose value outlives a look at another page; the value is set if there is none."""
    key = KEPT + name
    if key not in st.session_state and default is not None:
        st.session_state[key] = default
    return key


def value_of(name: str, default: Any = None) -> Any:
    """The value of such a widget."""
    return st.session_state.get(KEPT + name, default)


def keep_all() -> None:
    """Streamlit forgets the widgets that a page does not show; these are told to stay."""
    for key in list(st.session_state):
        if str(key).startswith(KEPT):
            st.session_state[key] = st.session_state[key]


def lines(texts: Sequence[str]) -> None:
    """Show lines of a command as they are."""
    st.code("\n".join(texts) or " ", language=None, wrap_lines=True)
