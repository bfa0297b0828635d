"""Two runs or more beside each other: what differs in their settings, their curves, their last figures and images."""

from collections.abc import Sequence

import streamlit as st

from textual_inversion.studio import charts, comparing, curves, marked
from textual_inversion.studio.pages.context import Context, lines
from textual_inversion.studio.runs import Run
from textual_inversion.system.terminal_text import one_line


def show(context: Context, found: Sequence[Run]) -> None:
    """Draw the part of the page."""
    st.subheader(context.say("compare"), anchor=False)
    by_id = {context.run_id(run.folder): run for run in found}
    chosen = st.multiselect(
        context.say("compare_runs"), list(by_id), key="compared", format_func=lambda one: one_line(by_id[one].name),
        placeholder=context.plain("compare_two"),
    )  # fmt: skip
    compared = [by_id[one] for one in chosen]
    if len(compared) < 2:
        return
    names = _names(compared)
    for tag, key in ((curves.FIXED, "fixed"), (curves.LOSS, "loss_mean")):
        shown = {name: run.curves.points.get(tag, []) for name, run in zip(names, compared, strict=True)}
        if tag == curves.LOSS:
            shown = {name: curves.smoothed(points) for name, points in shown.items()}
        if any(shown.values()):
            st.markdown(f"**{context.say(key)}**")
            spec = charts.lines({n: curves.thinned(p) for n, p in shown.items()}, context.plain("steps_axis"))
            context.chart(spec, key)
    st.markdown(f"**{context.say('differs')}**")
    rows = [[name, *values] for name, values in comparing.differences(compared).items()]
    if rows:
        lines(comparing.table([context.plain("setting"), *names], rows, 40))
    else:
        st.caption(context.say("equal"))
    for column, name, run in zip(st.columns(len(compared)), names, compared, strict=True):
        samples = run.samples
        shown = context.pictures.shown(samples[-1][1], 768) if samples else None
        with column:
            st.caption(marked.name(name))
            if shown is not None:
                st.image(shown, width="stretch", alt=context.plain("sample_at", step=samples[-1][0]))


def _names(compared: Sequence[Run]) -> list[str]:
    """A name for each run; of those that are called alike also the number."""
    names = [one_line(run.name) for run in compared]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]
