"""Draw with learned words: prompt and settings, a place in the queue, and the gallery below."""

import secrets
from typing import Any

import streamlit as st

from textual_inversion.cli.parser import demo_defaults
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.studio import allowed, command_lines, drawings, image_sets, marked, words
from textual_inversion.studio.draw_queue import DRAWING, WAITING, QueueFull, Ticket
from textual_inversion.studio.pages import gallery
from textual_inversion.studio.pages.context import KEPT, Context, kept, value_of
from textual_inversion.studio.pages.fields import Form
from textual_inversion.studio.words import WordFile
from textual_inversion.system.errors import TextualInversionError
from textual_inversion.system.paths import has_demo
from textual_inversion.system.terminal_text import one_line

_REFRESH = "0.5s"
_OWN = ("embeds", "compare", "image", "strength", "mask_image")
_MOST_BUTTONS = 12


def show(context: Context) -> None:
    """Draw the page."""
    context.head("draw", "draw_lead")
    _take_up_run(context)
    left, right = st.columns([2, 3], gap="large")
    with left:
        _ask(context)
    with right:
        _under_way(context)
        gallery.show(context)


def _take_up_run(context: Context) -> None:
    """Choose the words of the run that the address names, once."""
    asked = st.query_params.get("run")
    if asked and st.session_state.get("taken_up") != asked:
        st.session_state["taken_up"] = asked
        folder = context.run_folder(asked)
        found = words.steps_of(folder) if folder is not None else []
        if found:
            st.session_state[KEPT + "draw:embeds"] = [str(found[0][1])]
            tokens = words.tokens_of(found[0][1])
            if tokens:
                st.session_state[KEPT + "draw:prompt"] = f"a photo of a {tokens[0]}"


def _ask(context: Context) -> None:
    library = [one for one in words.library(context.workspace, context.runs()) if not one.problem]
    by_path = {str(one.path): one for one in library}
    form = Form(context, "infer", "draw", demo_defaults() if has_demo() else {})
    chosen = _which_words(context, by_path)
    _word_buttons(context, [by_path[path] for path in chosen])
    prompts = [line for line in form.text("prompt", help_key="prompt_help", area=True).splitlines() if line.strip()]
    form.text("negative_prompt")
    one, two, three = st.columns(3)
    with one:
        form.text("num_images", default="2")
    with two:
        form.text("seed", default=str(value_of("draw:first_seed") or _first_seed()))
        st.button(context.say("new_seed"), key="new_seed", type="tertiary", on_click=_new_seed)
    with three:
        form.text("guidance_scale")
    one, two = st.columns(2)
    with one:
        form.text("num_inference_steps")
    with two:
        _scheduler(context, form)
    values, offer = form.values, st.container()
    with st.expander(context.say("from_image"), icon=":material/image:"):
        values |= _from_image(context)
    with st.expander(context.say("compare"), icon=":material/compare:"):
        compared = _columns(context, by_path)
    form.rest(without=_OWN)
    _several(form)
    values |= {"prompt": prompts, "embeds": chosen, "compare": compared}
    values.setdefault("batch_size", "1")  # an image is then the same to the last bit however many are drawn with it
    with offer:
        _offer(context, form, {name: value for name, value in values.items() if value not in ([], "")})


def _which_words(context: Context, by_path: dict[str, WordFile]) -> list[str]:
    key = kept("draw:embeds", [next(iter(by_path))] if by_path else [])
    st.session_state[key] = [path for path in st.session_state.get(key, []) if path in by_path]
    chosen = st.multiselect(
        context.say("which_words"), list(by_path), key=key, placeholder=context.plain("which_words"),
        format_func=lambda path: one_line(f"{' '.join(by_path[path].tokens)} · {by_path[path].label}")[:90],
    )  # fmt: skip
    st.file_uploader(context.say("drop_word"), key="draw_dropped", on_change=_drop, args=(context,),
                     max_upload_size=words.MOST_BYTES >> 20)  # fmt: skip
    told = st.session_state.get("dropped_word")
    if told:
        if told[0]:
            context.notice("word_taken", name=told[0], tokens=told[1])
        else:
            context.problem("refused", told[1])
    return chosen


def _drop(context: Context) -> None:
    """Keep an embedding file that was dropped, and choose it."""
    file = st.session_state.get("draw_dropped")
    if file is None:
        st.session_state.pop("dropped_word", None)
        return
    try:
        path = words.keep(context.workspace, file.name, file.getvalue())
    except TextualInversionError as error:
        st.session_state["dropped_word"] = ("", str(error).replace(str(context.workspace.part("words")), ""))
        return
    st.session_state["dropped_word"] = (path.name, " ".join(words.tokens_of(path)))
    key = KEPT + "draw:embeds"
    st.session_state[key] = [*st.session_state.get(key, []), str(path)]


def _word_buttons(context: Context, chosen: list[WordFile]) -> None:
    tokens = list(dict.fromkeys(token for one in chosen for token in one.tokens))[:_MOST_BUTTONS]
    if KEPT + "draw:prompt" not in st.session_state and tokens:
        st.session_state[KEPT + "draw:prompt"] = f"a photo of a {tokens[0]}"
    if not tokens:
        return
    st.caption(context.say("words_buttons"))
    with st.container(horizontal=True, gap="small"):
        for index, token in enumerate(tokens):
            st.button(marked.code(token, 40), key=f"word:{index}", on_click=_insert, args=(token,))


def _insert(token: str) -> None:
    key = KEPT + "draw:prompt"
    before = st.session_state.get(key) or ""
    st.session_state[key] = f"{before}{'' if not before or before[-1].isspace() else ' '}{token}"


def _first_seed() -> int:
    st.session_state[KEPT + "draw:first_seed"] = secrets.randbelow(10_000)
    return st.session_state[KEPT + "draw:first_seed"]


def _new_seed() -> None:
    st.session_state[KEPT + "draw:seed"] = str(secrets.randbelow(10_000))


def _scheduler(context: Context, form: Form) -> None:
    value = st.selectbox(context.say("scheduler"), list(SCHEDULERS), index=None, key=form.key("scheduler"),
                         placeholder=context.plain("unset"))  # fmt: skip
    form.note("scheduler", value)


def _several(form: Form) -> None:
    """Numbers with several values make a grid, as on the command line."""
    from textual_inversion.studio import forms

    for name in ("seed", "guidance_scale", "num_inference_steps"):
        if isinstance(form.values.get(name), str):
            form.values[name] = forms.several(form.values[name])


def _from_image(context: Context) -> dict[str, Any]:
    st.file_uploader(context.say("start_image"), key="start_image", on_change=_keep_start, args=(context,),
                     max_upload_size=image_sets.MOST_BYTES >> 20)  # fmt: skip
    for line in st.session_state.get("refused_start", []):
        context.problem("refused", line)
    path = st.session_state.get("start_path")
    if not path:
        return {}
    from pathlib import Path

    shown = context.pictures.shown(Path(path), 256)
    if shown is not None:
        st.image(shown, width=128, alt=context.plain("start_image"))
    strength = st.slider(context.say("strength"), 0.05, 1.0, 0.6, 0.05, key="start_strength")
    return {"image": path, "strength": [strength]}


def _keep_start(context: Context) -> None:
    file = st.session_state.get("start_image")
    st.session_state["start_path"] = None
    st.session_state["refused_start"] = []
    if file is not None:
        folder, refused = image_sets.keep(context.workspace, "start-image", [(file.name, file.getvalue())])
        st.session_state["refused_start"] = refused
        st.session_state["start_path"] = None if folder is None else str(next(folder.iterdir()))


def _columns(context: Context, by_path: dict[str, WordFile]) -> list[str]:
    st.caption(context.say("compare_lead"))
    empty = context.plain("compare_files")
    return st.multiselect(
        context.say("compare_files"), list(by_path), key=kept("draw:compare"), placeholder=empty,
        format_func=lambda path: one_line(f"{by_path[path].label} · {' '.join(by_path[path].tokens)}")[:90],
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- the queue


def _offer(context: Context, form: Form, values: dict[str, Any]) -> None:
    """The command, what it refuses, and the button that puts it into the queue."""
    if "compare" in values:  # a word must not be there twice
        values.pop("embeds", None)
    problem = "" if "embeds" in values or "compare" in values else "need_words"
    problem = problem or ("" if "prompt" in values else "need_prompt")
    folder = context.workspace.new_drawing()
    arguments = command_lines.arguments("infer", {**values, "output_dir": str(folder)}) if not problem else []
    refused = None
    if not problem:
        context.command(command_lines.shown("infer", arguments))
        refused = allowed.refusal(context.workspace, "infer", values) or command_lines.refusal("infer", arguments)
    if problem:
        st.caption(context.say(problem))
    if refused:
        form.refuse(*refused)
    is_ready = not problem and refused is None
    if st.button(
        context.say("draw_now"), key="draw_now", type="primary", icon=":material/brush:", disabled=not is_ready
    ):
        drawings.begin(folder, arguments)
        try:
            ticket = context.queue.ask(arguments, folder)
        except QueueFull:
            context.careful(context.say("queue_full"))
            return
        st.session_state["tickets"] = [*_tickets(), ticket][-5:]


def _tickets() -> list[Ticket]:
    return st.session_state.get("tickets", [])


def _under_way(context: Context) -> None:
    """The visitor's own requests that are not over, and how the last one ended."""
    if any(not one.is_over for one in _tickets()):
        context.repeated(_progress, _REFRESH, context)
    else:
        _endings(context)


def _progress(context: Context) -> None:
    tickets = _tickets()
    open_ones = [one for one in tickets if not one.is_over]
    if not open_ones or st.session_state.get("open_tickets") not in (None, len(open_ones)):
        st.session_state["open_tickets"] = len(open_ones) or None
        st.rerun()
    st.session_state["open_tickets"] = len(open_ones)
    for index, ticket in enumerate(open_ones):
        with st.container(border=True):
            _one_under_way(context, ticket)
            if st.button(context.say("cancel"), key=f"cancel:{index}", type="tertiary"):
                context.queue.cancel(ticket)


def _one_under_way(context: Context, ticket: Ticket) -> None:
    if ticket.state == WAITING:
        st.progress(0.0, text=context.say("queue_place", n=context.queue.place(ticket)))
        return
    told = ticket.progress if ticket.state == DRAWING else None
    if told is None:
        st.progress(0.0, text=context.say("loading"))
    else:
        done, total, left = told
        rest = f" · {context.say('left', time=marked.Safe(left))}" if left else ""
        st.progress(min(1.0, done / total), text=context.say("drawing") + rest)
    there = drawings.read(ticket.folder).images
    with st.container(horizontal=True):
        for one in there:
            shown = context.pictures.shown(one.path, 256)
            if shown is not None:
                st.image(shown, width=128, alt=context.plain("image_of", prompt=one.prompt, seed=one.facts.get("seed")))


def _endings(context: Context) -> None:
    tickets = _tickets()
    if tickets and tickets[-1].state == "failed":
        context.problem("failed", tickets[-1].said)
    elif tickets and tickets[-1].state == "cancelled":
        st.caption(context.say("cancelled"))
