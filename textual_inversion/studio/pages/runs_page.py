"""All runs, and one of them: how it stands, its curves, images, log and settings, and what can be done with it."""

from pathlib import Path

import streamlit as st

from textual_inversion.studio import children, marked, refresh, runs
from textual_inversion.studio.pages import fork, run_compare, run_parts
from textual_inversion.studio.pages.context import Context
from textual_inversion.studio.pages.go_on import go_on
from textual_inversion.studio.runs import Run

_COLOURS = {
    runs.STARTING: "blue", runs.RUNNING: "blue", runs.STOPPING: "orange", runs.FINISHED: "green",
    runs.STOPPED: "orange", runs.FAILED: "red", runs.UNKNOWN: "gray",
}  # fmt: skip
_PARTS = ("curve", "images", "log", "checkpoints", "settings", "scores", "share", "fork")
_SHOWN = 40  # runs in the list


def show(context: Context) -> None:
    """Draw the page."""
    folder = context.run_folder(st.query_params.get("run", ""))
    if folder is not None:
        _one(context, folder)
        return
    folders = context.runs()
    context.head("runs", "runs_lead")
    if not folders:
        context.notice("no_runs")
        return
    found = [runs.look_at(context.workspace, one) for one in folders[:_SHOWN]]
    period = refresh.period(found)
    context.repeated(_list, period, context, folders[:_SHOWN], period)
    if len(found) > 1:
        run_compare.show(context, found)


def _list(context: Context, folders: list[Path], period: float | None) -> None:
    found = [runs.look_at(context.workspace, folder) for folder in folders]
    for run in found:
        folder = run.folder
        with st.container(border=True, horizontal=True, vertical_alignment="center", gap="medium"):
            if st.button(marked.name(run.name, 60), key=f"open:{context.run_id(folder)}", type="tertiary"):
                st.query_params["run"] = context.run_id(folder)
                st.rerun()
            _badge(context, run)
            if run.words:
                st.caption(marked.code(" ".join(run.words), 60))
            if run.steps:
                st.caption(context.say("step_of", step=run.step, steps=run.steps) + _left(context, run))
    if refresh.period(found) != period:  # at the end: a button that was pressed is heard first
        st.rerun()


def _badge(context: Context, run: Run) -> None:
    st.badge(context.say(f"state_{run.state}"), color=_COLOURS[run.state])


def _left(context: Context, run: Run) -> str:
    """The time left, as the end of a line; "" where nobody knows or nothing is left."""
    return " · " + context.say("left", time=marked.Safe(run.left)) if run.left else ""


# ------------------------------------------------------------------------------------------------------------ one run


def _one(context: Context, folder: Path) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(context.say("all_runs"), icon=":material/arrow_back:", type="tertiary", key="all_runs"):
            del st.query_params["run"]
            st.rerun()
    st.title(marked.name(folder.name), anchor=False)
    run = runs.look_at(context.workspace, folder)
    known = (run.state, refresh.period([run]), st.session_state.get("run_part", _PARTS[0]))
    context.repeated(_live, known[1], context, folder, known)
    if not _is_live(run, known[2]):
        draw = fork.show if known[2] == "fork" else run_parts.PARTS[known[2]]
        draw(context, run)


def _is_live(run: Run, part: str) -> bool:
    return run.is_alive and part in run_parts.LIVE


def _live(context: Context, folder: Path, known: tuple[str, float | None, str]) -> None:
    """All that changes while a run trains, in one look, since the browser draws after each.

    The whole page is drawn anew when the state changes, how often it is looked at, or which part is shown.
    """
    run = runs.look_at(context.workspace, folder)
    _standing(context, run)
    _actions(context, run)
    names = {name: context.plain(name) for name in _PARTS}
    part = st.segmented_control(
        context.say("runs"), _PARTS, default=_PARTS[0], key="run_part", format_func=names.get, required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    if (run.state, refresh.period([run]), part) != known:  # below the buttons: one that was pressed is heard first
        st.rerun()
    if _is_live(run, part):
        run_parts.PARTS[part](context, run)


def _standing(context: Context, run: Run) -> None:
    """State and progress."""
    with st.container(horizontal=True, vertical_alignment="center"):
        _badge(context, run)
        if run.words:
            st.caption(marked.code(" ".join(run.words), 120))
    if run.steps:
        share = min(1.0, run.step / run.steps)
        st.progress(share, text=context.say("step_of", step=run.step, steps=run.steps) + _left(context, run))
    if run.said and run.state != runs.FINISHED:
        if run.state == runs.FAILED:
            context.problem("said", run.said)
        else:
            st.caption(context.say("said", line=run.said))
    elif run.is_alive and run.state != runs.RUNNING:
        lines = children.log_tail(context.workspace, run.folder)
        st.caption(marked.code(lines[-1], 160) if lines else "…")


def _actions(context: Context, run: Run) -> None:
    with st.container(horizontal=True):
        if run.is_alive:
            if st.button(context.say("stop"), key="stop", icon=":material/stop:", help=context.say("stop_help"),
                         disabled=run.state == runs.STOPPING):  # fmt: skip
                children.stop(context.workspace, run.folder)
                st.rerun()
            return
        if run.checkpoints and run.state != runs.FINISHED and _is_own(context, run):
            if st.button(context.say("go_on"), key="go_on", icon=":material/play_arrow:", type="primary",
                         help=context.say("go_on_help")):  # fmt: skip
                go_on(context, run)
        if run.embeddings and st.button(context.say("draw_with"), key="draw_with", icon=":material/brush:"):
            context.go("draw", run=context.run_id(run.folder))
        if context.workspace.part("runs") in run.folder.parents:
            _delete(context, run)


def _is_own(context: Context, run: Run) -> bool:
    return run.job is not None or run.configuration is not None


def _delete(context: Context, run: Run) -> None:
    with st.popover(context.say("delete"), icon=":material/delete:"):
        st.markdown(context.say("delete_sure", name=run.name))
        if st.button(context.say("delete_yes"), key="delete_yes", type="primary"):
            context.workspace.throw_away(run.folder)
            children.forget(context.workspace, run.folder)
            st.query_params.pop("run", None)
            st.cache_data.clear()
            st.rerun()
