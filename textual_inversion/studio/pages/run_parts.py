"""The parts of one run: curve, images, log, checkpoints, settings, scores, sharing."""

from collections.abc import Callable

import streamlit as st

from textual_inversion.settings.choices import AI_STUDIO, HUGGING_FACE
from textual_inversion.sharing.model_card import FILE_NAME as CARD
from textual_inversion.studio import charts, children, command_lines, comparing, curves, marked
from textual_inversion.studio.pages.context import Context, lines
from textual_inversion.studio.pages.go_on import go_on
from textual_inversion.studio.runs import Run
from textual_inversion.system import user_files

LIVE = ("curve", "images", "log", "checkpoints")  # drawn anew while a run trains
_LINES = 200
_COLOURS = ("#9aa3ab", "#2a9da6", "#d9822b")  # loss, its mean, the fixed set
_REPORTS = ("report.html",)
_MOST_REPORT = 64 << 20


def curve(context: Context, run: Run) -> None:
    """The loss, its mean, the loss on the fixed set; below the learning rate."""
    points = run.curves.points
    if not points:
        context.notice("no_curve")
        return
    loss = points.get(curves.LOSS, [])
    shown = {
        context.plain("loss"): curves.thinned(loss),
        context.plain("loss_mean"): curves.thinned(curves.smoothed(loss)),
        context.plain("fixed"): curves.thinned(points.get(curves.FIXED, [])),
    }
    step = context.plain("steps_axis")
    context.chart(charts.lines(shown, step, _COLOURS), "curve")
    _last_figures(context, run)
    rate = {context.plain("rate"): curves.thinned(points.get(curves.RATE, []))}
    with st.expander(context.say("rate")):
        context.chart(charts.lines(rate, step, _COLOURS[1:]), "rate", 220)


def _last_figures(context: Context, run: Run) -> None:
    fixed = run.curves.points.get(curves.FIXED)
    with st.container(horizontal=True, gap="large"):
        if run.curves.last(curves.LOSS) is not None:
            st.metric(context.say("loss"), f"{run.curves.last(curves.LOSS):.4f}", width="content")
        if fixed:
            first, last = fixed[0][1], fixed[-1][1]
            change = f"{100 * (last / first - 1):+.1f} %" if first else None
            st.metric(context.say("fixed"), f"{last:.4f}", change, delta_color="inverse", width="content")
        if run.curves.last(curves.RATE) is not None:
            st.metric(context.say("rate"), f"{run.curves.last(curves.RATE):.2g}", width="content")


def images(context: Context, run: Run) -> None:
    """Validation images with a slider over the steps, and the overview."""
    samples = run.samples
    if not samples and not (run.folder / "overview.png").is_file():
        context.notice("no_samples")
        return
    if samples:
        by_step = dict(samples)
        steps = list(by_step)
        step = steps[-1]  # a new image is shown at once
        if len(steps) > 1:
            # With each image another slider: a browser that is late may still tell where the one before it stood.
            key = f"sample_step:{context.run_id(run.folder)}:{len(steps)}"
            step = st.select_slider(context.say("step"), steps, value=step, key=key)
        shown = context.pictures.shown(by_step[step], 1024)
        if shown is not None:
            st.image(shown, alt=context.plain("sample_at", step=step), caption=context.say("sample_at", step=step))
    overview = context.pictures.shown(run.folder / "overview.png", 1600)
    if overview is not None:
        st.markdown(f"**{context.say('overview')}**")
        st.image(overview, width="stretch", alt=context.plain("overview_alt"))


def log(context: Context, run: Run) -> None:
    """The last lines of its process."""
    if run.job is None:
        context.notice("no_log")
        return
    with st.container(height=420, autoscroll=True):
        lines(children.log_tail(context.workspace, run.folder)[-_LINES:])
    context.command(command_lines.shown("train", command_lines.words_of(run.job.argv)))


def checkpoints(context: Context, run: Run) -> None:
    """What it can be resumed from, and the embeddings that it saved."""
    if not run.checkpoints and not run.embeddings:
        context.notice("no_checkpoints")
    for step, _ in reversed(run.checkpoints):
        st.markdown(f":material/save: {context.say('checkpoint_line', step=step)}")
    for name, path in run.embeddings.items():
        content = user_files.read_bytes(path, user_files.IMAGE)
        st.download_button(
            f"{context.say('download')} {marked.code(path.name)}", content, file_name=path.name, key=f"file:{name}",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip


def settings(context: Context, run: Run) -> None:
    """All settings, or those that are not the default."""
    is_short = st.toggle(context.say("only_changed"), value=True, key="only_changed")
    wanted = st.text_input(context.say("filter"), key="settings_filter", icon=":material/search:").strip().lower()
    found = comparing.unusual(run) if is_short else comparing.settings_of(run)
    rows = [(name, value) for name, value in found.items() if wanted in name.lower() or wanted in value.lower()]
    head = (context.plain("setting"), context.plain("value"))
    lines(comparing.table(head, rows, 200))


def scores(context: Context, run: Run) -> None:
    """What was measured, and a report where there is one."""
    found = comparing.scores_of(run)
    for token, score in found.items():
        st.markdown(marked.code(token))
        with st.container(horizontal=True, gap="large"):
            for kind in ("image_similarity", "text_similarity"):
                after, before = (score.get(part, {}).get(kind) for part in ("concept", "baseline"))
                if isinstance(after, float):
                    told = context.say("before", value=f"{before:.3f}") if isinstance(before, float) else None
                    st.metric(context.say(kind), f"{after:.3f}", width="content")
                    if told:
                        st.caption(told)
    if not found and run.embeddings:
        st.markdown(context.say("no_scores"))
        path = next(iter(run.embeddings.values()))
        st.code(command_lines.shown("score", ["--embeds", str(path)]), language=None, wrap_lines=True)
    for name in _REPORTS:
        if (run.folder / name).is_file() and not (run.folder / name).is_symlink():
            content = user_files.read_bytes(run.folder / name, _MOST_REPORT)
            st.download_button(context.say("report"), content, file_name=name, icon=":material/description:",
                               mime="application/octet-stream", key=f"report:{name}", on_click="ignore")  # fmt: skip


def share(context: Context, run: Run) -> None:
    """The model card, and the upload to a hub."""
    card = run.folder / CARD
    if not card.is_file() or card.is_symlink():
        context.notice("no_card")
        return
    with st.expander(context.say("card"), icon=":material/article:"):
        st.code(user_files.read_text(card, user_files.PROMPTS), language=None, wrap_lines=True)
    if run.is_alive or not run.checkpoints:
        return
    st.markdown(context.say("share_lead"))
    with st.form("share", border=False):
        hub = st.selectbox(context.say("hub"), (HUGGING_FACE, AI_STUDIO), key="share_hub")
        name = st.text_input(context.say("hub_name"), key="share_name", placeholder="owner/name")
        is_sent = st.form_submit_button(context.say("upload"), icon=":material/upload:")
    more = {"push_to": hub, "hub_model_id": name.strip()}
    context.command(command_lines.shown("train", command_lines.going_on(run, **more)))
    if is_sent:
        go_on(context, run, **more)


PARTS: dict[str, Callable[[Context, Run], None]] = {
    "curve": curve, "images": images, "log": log, "checkpoints": checkpoints, "settings": settings, "scores": scores,
    "share": share,
}  # fmt: skip
