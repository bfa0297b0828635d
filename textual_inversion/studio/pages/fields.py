"""Fields for the flags of a command, each with the line of the command that means it below."""

from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st

from textual_inversion.studio import forms, marked
from textual_inversion.studio.flag_help import help_of
from textual_inversion.studio.forms import CHOICE, SWITCH, Field
from textual_inversion.studio.pages.context import Context, kept
from textual_inversion.system.terminal_text import one_line

_COLUMNS = 3


class Form:
    """The fields that a page shows for a command.

    Args:
        prefix: of the keys of its widgets.
        defaults: flag -> the value that stands for an empty field, as far as it is not the command's default.

    Attributes:
        values: flag -> value of what was filled in.
    """

    def __init__(self, context: Context, command: str, prefix: str, defaults: dict[str, Any] | None = None):
        self._context, self._command, self._prefix = context, command, prefix
        self._defaults = defaults or {}
        self._slots: dict[str, Any] = {}
        self.values: dict[str, Any] = {}

    def key(self, name: str, default: Any = None) -> str:
        """The key of the widget of a flag."""
        return kept(f"{self._prefix}:{name}", default)

    def text(self, name: str, *, help_key: str | None = None, default: str = "", area: bool = False) -> str:
        """A field for a text."""
        label, note = self._context.say(name), self._context.say(help_key) if help_key else self._help(name)
        make = st.text_area if area else st.text_input
        more = {"height": 80} if area else {}
        shown = self._shown_default(name)
        value = make(label, key=self.key(name, default), help=note, placeholder=shown, **more) or ""
        return self.note(name, value.strip())

    def choice(self, name: str, options: Sequence[str], prefix: str, *, help_key: str | None = None) -> str:
        """A field for one of a few values, which have texts `PREFIX_VALUE`."""
        note = self._context.say(help_key) if help_key else self._help(name)
        label = self._context.say(name)
        show = {one: self._context.plain(f"{prefix}_{one}") for one in options}
        return self.note(
            name, st.selectbox(label, options, key=self.key(name, options[0]), format_func=show.get, help=note)
        )

    def rest(self, without: Iterable[str]) -> None:
        """All other flags of the command, by their groups."""
        groups = forms.fields(self._command, set(without) | set(self._slots))
        titles = list(groups)
        label = self._context.say("more_settings")
        with st.expander(label, icon=":material/tune:"):
            st.caption(self._context.say("several_hint"))
            for title in titles:
                st.markdown(f"**{marked.escaped(self._group(title))}**")
                columns = st.columns(_COLUMNS)
                for index, field in enumerate(groups[title]):
                    with columns[index % _COLUMNS]:
                        self._field(field)

    def _field(self, field: Field) -> None:
        label, default = f"`--{field.name}`", self._shown_default(field.name) or field.default
        note = marked.escaped(help_of(self._context.language, self._command, field.name))
        key = self.key(field.name)
        if field.kind in (SWITCH, CHOICE):
            options = ["true", "false"] if field.kind == SWITCH else list(field.flag.choices)
            names = (
                {"true": self._context.plain("on"), "false": self._context.plain("off")} if field.kind == SWITCH else {}
            )
            usual = self._context.plain("unset") + (f" ({names.get(default, default)})" if default else "")
            value = st.selectbox(label, options, index=None, key=key, help=note, placeholder=usual,
                                 format_func=lambda one: names.get(one, one))  # fmt: skip
            value = value == "true" if field.kind == SWITCH and value is not None else value
        else:
            value = st.text_input(label, key=key, help=note, placeholder=default)
        self.note(field.name, forms.typed(field, value))

    def note(self, name: str, value: Any) -> Any:
        """Take the value of a flag whose field was just drawn, below which it may be refused; returns the value."""
        self._slots[name] = st.empty()
        if value not in (None, "", []):
            self.values[name] = value
        return value

    def _help(self, name: str) -> str:
        return marked.escaped(help_of(self._context.language, self._command, name))

    def _group(self, title: str) -> str:
        return help_of(self._context.language, "groups", title)

    def _shown_default(self, name: str) -> str:
        value = self._defaults.get(name)
        return "" if value is None else one_line(forms.shown(value))[:80]

    def refuse(self, name: str, line: str) -> None:
        """Show a command's line below the field that it means, or where the next thing is drawn."""
        slot = self._slots.get(name, st)
        slot.error(marked.code(line, 1000), icon=":material/error:")
