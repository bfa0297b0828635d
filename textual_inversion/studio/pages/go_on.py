"""Resume a run, as it was or to upload it."""

from typing import Any

import streamlit as st

from textual_inversion.studio import children, command_lines
from textual_inversion.studio.pages.context import Context
from textual_inversion.studio.runs import Run


def go_on(context: Context, run: Run, **more: Any) -> None:
    """Resume a run in a process of its own."""
    words = command_lines.going_on(run, **more)
    command_lines.check("train", words)
    children.start(context.workspace, run.folder, command_lines.process("train", words))
    st.rerun()
