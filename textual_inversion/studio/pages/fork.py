"""A new run with the settings of another one, and some of them changed."""

import streamlit as st

from textual_inversion.studio import allowed, children, command_lines, forms
from textual_inversion.studio.pages.context import Context
from textual_inversion.studio.pages.fields import Form
from textual_inversion.studio.runs import Run
from textual_inversion.system import atomic

_FIRST = ("max_train_steps", "learning_rate", "num_vectors", "initializer_token", "train_batch_size", "seed")


def show(context: Context, run: Run) -> None:
    """Draw the part of the page."""
    st.markdown(context.say("fork_lead"))
    form = Form(context, "train", f"fork:{context.run_id(run.folder)}", dict(run.settings))
    columns = st.columns(3)
    for index, name in enumerate(_FIRST):
        with columns[index % 3]:
            form.text(name)
    form.rest(without=())
    changed = forms.changed(run.settings, {n: _typed(n, v) for n, v in form.values.items()})
    begins = {0: context.plain("fork_beginning")}
    begins |= {step: context.plain("fork_checkpoint", step=step) for step, _ in run.checkpoints}
    step = st.selectbox(context.say("fork_from"), list(begins), format_func=begins.get, key="fork_from")
    name = st.text_input(context.say("run_name"), key="fork_name", placeholder=f"{run.name}-fork")
    folder = context.workspace.new_folder("runs", name or f"{run.name}-fork")
    checkpoint = dict(run.checkpoints).get(step) if step else None
    words = command_lines.forked(run, folder, changed, checkpoint)
    if changed:
        st.caption(context.say("fork_changed", names=", ".join(f"--{one}" for one in changed)))
    context.command(command_lines.shown("train", words))
    refused = allowed.refusal(context.workspace, "train", changed) or command_lines.refusal("train", words)
    if refused:
        form.refuse(*refused)
    if st.button(context.say("fork_start"), type="primary", disabled=refused is not None, key="fork_start",
                 icon=":material/fork_right:"):  # fmt: skip
        atomic.make_folder(folder)
        children.start(context.workspace, folder, command_lines.process("train", words))
        st.toast(context.say("started", name=folder.name))
        context.go("runs", run=context.run_id(folder))


def _typed(name: str, value):
    """Several values of a flag that takes several."""
    flag = forms.flags("train")[name]
    return forms.several(value) if flag.nargs == "+" and isinstance(value, str) else value
