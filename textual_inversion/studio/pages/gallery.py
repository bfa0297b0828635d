"""The gallery below the queue: images that were drawn, each with its settings, its command, and "again with"."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from textual_inversion.studio import command_lines, drawings, marked
from textual_inversion.studio.drawings import Drawing, DrawnImage
from textual_inversion.studio.pages.context import KEPT, Context
from textual_inversion.system import user_files

_FIRST, _MORE = 6, 12  # requests that are shown
_MOST_IMAGES = 48  # of one request
_WIDTH = 150
_AGAIN = ("prompt", "negative_prompt", "seed", "guidance_scale", "num_inference_steps")


def show(context: Context) -> None:
    """Draw the gallery."""
    st.subheader(context.say("gallery"), anchor=False)
    folders = drawings.folders(context.workspace)
    is_open = {ticket.folder for ticket in context.queue.open_tickets()}
    found = [folder for folder in folders if folder not in is_open]
    if not found:
        st.caption(context.say("gallery_empty"))
    count = st.session_state.setdefault("gallery_count", _FIRST)
    for folder in found[:count]:
        _request(context, drawings.read(folder))
    if len(found) > count and st.button(context.say("older"), type="tertiary", icon=":material/expand_more:"):
        st.session_state["gallery_count"] = count + _MORE
        st.rerun()


def _request(context: Context, one: Drawing) -> None:
    if not one.images:
        return
    with st.container(border=True):
        if one.sheet is not None:
            shown = context.pictures.shown(one.sheet, 1600)
            if shown is not None:
                st.image(shown, width="stretch", alt=context.plain("sheet_alt"))
        with st.container(horizontal=True):
            for image in one.images[:_MOST_IMAGES]:
                with st.container(width=_WIDTH, gap="small"):
                    _image(context, image)
        context.command(command_lines.shown("infer", one.words)) if one.words else None
        with st.popover(context.say("delete"), icon=":material/delete:", type="tertiary"):
            st.markdown(context.say("delete_sure", name=one.folder.name))
            if st.button(context.say("delete_yes"), key=f"delete:{one.folder.name}"):
                context.workspace.throw_away(one.folder)
                st.rerun()


def _image(context: Context, image: DrawnImage) -> None:
    seed = image.facts.get("seed")
    shown = context.pictures.shown(image.path, 512)
    if shown is None:
        return
    st.image(shown, width="stretch", alt=context.plain("image_of", prompt=image.prompt, seed=seed))
    name = f"{image.path.parent.name}-{image.path.name}"
    with st.popover(context.say("details"), width="stretch", type="tertiary"):
        st.markdown(marked.code(image.prompt))
        st.code("\n".join(drawings.shown_facts(image.facts)), language=None, wrap_lines=True)
        st.code(image.command, language=None, wrap_lines=True)
        with st.container(horizontal=True):
            st.download_button(context.say("download"), _bytes_of(image.path), file_name=name, mime="image/png",
                               key=f"get:{name}", icon=":material/download:", on_click="ignore")  # fmt: skip
            st.button(context.say("again"), key=f"again:{name}", icon=":material/replay:", on_click=_again,
                      args=(dict(image.facts),))  # fmt: skip


def _bytes_of(path: Path) -> Callable[[], bytes]:
    """What reads a file when somebody asks for it."""
    return lambda: user_files.read_bytes(path, user_files.IMAGE)


def _again(facts: dict[str, Any]) -> None:
    """Fill the fields with what an image was made with."""
    for name in _AGAIN:
        if facts.get(name) is not None:
            st.session_state[f"{KEPT}draw:{name}"] = str(facts[name])
    st.session_state[f"{KEPT}draw:num_images"] = "1"
