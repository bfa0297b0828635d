"""The library of learned words: inspect, convert, rename, mix, share; each by `convert.py`, whose call is shown."""

import functools
from collections.abc import Sequence

import streamlit as st

from textual_inversion.formats.targets import TARGETS
from textual_inversion.studio import children, command_lines, words
from textual_inversion.studio.pages.context import Context, lines
from textual_inversion.studio.words import WordFile
from textual_inversion.system import user_files
from textual_inversion.system.errors import TextualInversionError
from textual_inversion.system.terminal_text import one_line

_PARTS = ("inspect", "convert", "rename", "mix", "share")


def show(context: Context) -> None:
    """Draw the page."""
    context.head("words", "words_lead")
    st.file_uploader(context.say("drop_word"), key="words_dropped", on_change=_drop, args=(context,),
                     max_upload_size=words.MOST_BYTES >> 20)  # fmt: skip
    told = st.session_state.get("words_told")
    if told:
        if told[0]:
            context.notice("word_taken", name=told[0], tokens=told[1])
        else:
            context.problem("refused", told[1])
    library = words.library(context.workspace, context.runs())
    if not library:
        context.notice("nothing_here")
        return
    by_path = {str(one.path): one for one in library}
    chosen = st.selectbox(context.say("which_file"), list(by_path), key="chosen_word", format_func=_shown(by_path))
    one = by_path[chosen]
    if one.problem:
        context.problem("unreadable", one.problem)
        return
    names = {part: context.plain(part) for part in _PARTS}
    part = st.segmented_control(
        context.say("words"), _PARTS, default="inspect", key="word_part", format_func=names.get, required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    if part == "mix":
        _mix(context, by_path, one)
    else:
        {"inspect": _inspect, "convert": _convert, "rename": _rename, "share": _share}[part](context, one)


def _shown(by_path: dict[str, WordFile]):
    return lambda path: one_line(f"{' '.join(by_path[path].tokens)} · {by_path[path].label}").lstrip(" ·")[:100]


def _drop(context: Context) -> None:
    file = st.session_state.get("words_dropped")
    if file is None:
        st.session_state.pop("words_told", None)
        return
    try:
        path = words.keep(context.workspace, file.name, file.getvalue())
    except TextualInversionError as error:
        st.session_state["words_told"] = ("", str(error).replace(f"{context.workspace.part('words')}/", ""))
        return
    st.session_state["words_told"] = (path.name, " ".join(words.tokens_of(path)))
    st.session_state["chosen_word"] = str(path)


def _inspect(context: Context, one: WordFile) -> None:
    lines(words.described_in_lines(one.path))
    context.command(command_lines.shown("convert", ["inspect", str(one.path)]))
    _download(context, one)
    if one.is_own:
        with st.popover(context.say("delete"), icon=":material/delete:"):
            st.markdown(context.say("delete_sure", name=one.path.name))
            if st.button(context.say("delete_yes"), key="delete_word"):
                context.workspace.throw_away(one.path)
                st.rerun()


def _download(context: Context, one: WordFile) -> None:
    read = functools.partial(user_files.read_bytes, one.path, user_files.WEIGHTS)
    st.download_button(context.say("download"), read, file_name=one.path.name, key="get_word",
                       icon=":material/download:", on_click="ignore")  # fmt: skip


def _convert(context: Context, one: WordFile) -> None:
    target = st.selectbox(context.say("for_program"), list(TARGETS), key="convert_to")
    is_half = st.toggle(context.say("half"), key="convert_half")
    output = words.free_path(context.workspace, f"{_stem(one)}-{target}", TARGETS[target].ending)
    call = [str(one.path), f"--to={target}", f"--output={output}", *(["--half"] if is_half else [])]
    _offer(context, call, "convert_now", output.name)


def _rename(context: Context, one: WordFile) -> None:
    old = st.selectbox(context.say("rename_from"), list(one.tokens), key="rename_old", format_func=one_line)
    new = st.text_input(context.say("rename_to"), key="rename_new", placeholder="<my-toy>").strip()
    output = words.free_path(context.workspace, new or "renamed", ".safetensors")
    call = [str(one.path), f"--rename={old}={new}", f"--words={new}", "--to=safetensors", f"--output={output}"]
    _offer(context, call, "rename_now", output.name, is_ready=bool(new))


def _mix(context: Context, by_path: dict[str, WordFile], first: WordFile) -> None:
    st.markdown(context.say("mix_lead"))
    others = [path for path, one in by_path.items() if not one.problem]
    left, right = st.columns(2)
    with left:
        st.text(f"{context.plain('mix_first')}: {_shown(by_path)(str(first.path))}")
        one = st.selectbox(context.say("rename_from"), list(first.tokens), key="mix_one", format_func=one_line)
    with right:
        path = st.selectbox(context.say("mix_second"), others, key="mix_path", format_func=_shown(by_path))
        two = st.selectbox(context.say("rename_from"), list(by_path[path].tokens), key="mix_two", format_func=one_line)
    share = st.slider(context.say("mix_share"), 0.0, 1.0, 0.5, 0.05, key="mix_share")
    name = st.text_input(context.say("mix_name"), key="mix_name", placeholder="<mix>").strip()
    output = words.free_path(context.workspace, name or "mix", ".safetensors")
    expression = words.mix_expression([(first.path, one, 1 - share), (by_path[path].path, two, share)])
    call = ["mix", expression, f"--name={name}", "--pad=zeros", "--to=safetensors", f"--output={output}"]
    _offer(context, call, "mix_now", output.name, is_ready=bool(name))


def _share(context: Context, one: WordFile) -> None:
    st.markdown(context.say("share_words"))
    lines(words.described_in_lines(one.path)[:4])
    _download(context, one)


def _offer(context: Context, call: Sequence[str], key: str, name: str, *, is_ready: bool = True) -> None:
    """The command, and the button that runs it."""
    if is_ready:
        context.command(command_lines.shown("convert", call))
        refused = command_lines.refusal("convert", call)
        if refused:
            context.problem("", refused[1])
            return
    if st.button(context.say(key), key=key, type="primary", disabled=not is_ready):
        with st.spinner(context.say(key)):
            status, said = children.run_briefly(command_lines.process("convert", call))
        if status:
            context.problem("ended_with", children.last_word(said))
        else:
            context.notice("converted", name=name)
            lines(said)


def _stem(one: WordFile) -> str:
    return one.tokens[0] if len(one.tokens) == 1 else one.path.stem
