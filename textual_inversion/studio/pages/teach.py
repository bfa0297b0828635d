"""Teach a word: images, the word, the model, the exact command, and the start."""

from pathlib import Path
from typing import Any

import streamlit as st

from textual_inversion.cli.parser import demo_defaults
from textual_inversion.settings.choices import PROPERTIES, RESIZE_MODES
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train import TrainConfig
from textual_inversion.studio import allowed, children, command_lines, image_sets, marked
from textual_inversion.studio.image_sets import ImageSet, SeenImage
from textual_inversion.studio.pages.context import Context, kept, value_of
from textual_inversion.studio.pages.fields import Form
from textual_inversion.system import atomic
from textual_inversion.system.errors import TextualInversionError
from textual_inversion.system.paths import ROOT, has_demo, is_demo

_DEMO_EVERY = 20  # steps between the images that show how the demo's word grows
_SMALL_SIDE, _SIDE = 64, 512
_COLUMNS = 6
_GOOD = range(3, 21)  # images


def show(context: Context) -> None:
    """Draw the page."""
    context.head("teach", "teach_lead")
    folders = context.runs()
    if has_demo():
        _offer_demo(context, is_first=not folders)
    st.subheader(context.say("images"), anchor=False)
    folder, mask_dir = _which_images(context)
    shown = st.container()
    form = Form(context, "train", "teach", _usual())
    st.subheader(context.say("the_word"), anchor=False)
    _the_word(form)
    st.subheader(context.say("how"), anchor=False)
    _how(context, form)
    with shown:
        found = _look(context, form, folder, mask_dir)
    _begin(context, form, found, mask_dir)


# --------------------------------------------------------------------------------------------------------------- demo


def _offer_demo(context: Context, *, is_first: bool) -> None:
    if not is_first:
        if st.button(context.say("demo_again"), key="demo", icon=":material/play_arrow:", type="tertiary"):
            _start_demo(context)
        return
    with st.container(border=True):
        left, right = st.columns([3, 2], vertical_alignment="center")
        with left:
            st.subheader(context.say("demo_title"), anchor=False)
            st.markdown(context.say("demo_lead"))
            if st.button(context.say("demo_start"), key="demo", icon=":material/play_arrow:", type="primary"):
                _start_demo(context)
        paths = sorted((ROOT / "cat_toy_images").glob("*.png"))[:3]
        shown = [one for path in paths if (one := context.pictures.shown(path, 256))]
        with right, st.container(horizontal=True, horizontal_alignment="center"):
            for one in shown:
                st.image(one, width=110, alt=context.plain("images"))


def _start_demo(context: Context) -> None:
    values = {
        "validation_prompt": ["a photo of a <cat-toy>", "a <cat-toy> in the snow"], "validation_steps": _DEMO_EVERY,
        "num_validation_images": 1, "overview": False,
    }  # fmt: skip
    _start(context, context.workspace.new_folder("runs", "demo"), values)


# ------------------------------------------------------------------------------------------------------------- images


def _which_images(context: Context) -> tuple[str | None, str | None]:
    """(folder of images, folder of masks)."""
    ways = {"drop": context.plain("from_drop"), "folder": context.plain("from_folder")}
    way = st.segmented_control(
        context.say("images"), list(ways), key=kept("teach:way", "drop"), format_func=ways.get, required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    if way == "folder":
        left, right = st.columns(2)
        with left:
            folder = st.text_input(context.say("folder"), key=kept("teach:folder"), placeholder="cat_toy_images")
        with right:
            masks = st.text_input(context.say("mask_folder"), key=kept("teach:masks"), help=context.say("mask_help"))
        return folder or None, masks or None
    st.file_uploader(
        context.say("drop_here"), accept_multiple_files=True, key="dropped_images", on_change=_keep, args=(context,),
        max_upload_size=image_sets.MOST_BYTES >> 20,
    )  # fmt: skip
    for line in st.session_state.get("refused_images", []):
        context.problem("refused", line)
    return value_of("teach:dropped"), None


def _keep(context: Context) -> None:
    files = st.session_state.get("dropped_images") or []
    if not files:
        return
    wanted = value_of("teach:placeholder_token") or "images"
    contents = [(one.name, one.getvalue()) for one in files]
    folder, st.session_state["refused_images"] = image_sets.keep(context.workspace, wanted, contents)
    if folder is not None:
        st.session_state[kept("teach:dropped")] = str(folder)


def _look(context: Context, form: Form, folder: str | None, mask_dir: str | None) -> ImageSet | None:
    """Show the images as the model will see them."""
    if not folder:
        return None
    side = _side(form.values)
    try:
        found = image_sets.look_at(
            context.workspace, folder, side=side, resize_mode=form.values.get("resize_mode", "squash"),
            interpolation=form.values.get("interpolation", "bilinear"), mask_dir=mask_dir,
        )  # fmt: skip
    except TextualInversionError as error:
        context.problem("", str(error))
        return None
    st.caption(context.say("as_seen", n=len(found.images), size=marked.Safe(f"{side} × {side}")))
    is_own = context.workspace.part("images") in found.folder.parents
    for start in range(0, len(found.images), _COLUMNS):
        columns = st.columns(_COLUMNS)
        for column, one in zip(columns, found.images[start : start + _COLUMNS], strict=False):
            with column:
                _show_image(context, one, is_own=is_own)
    if not is_own:
        label, how = context.say("copy_captions"), dict(type="tertiary", icon=":material/edit:")
        st.button(label, key="copy_captions", on_click=_copy, args=(context, found), **how)
    _warn(context, found)
    return found


def _copy(context: Context, found: ImageSet) -> None:
    st.session_state[kept("teach:dropped")] = str(image_sets.copied(context.workspace, found))
    st.session_state[kept("teach:way")] = "drop"


def _show_image(context: Context, one: SeenImage, *, is_own: bool) -> None:
    st.image(one.shown, width="stretch", alt=one.caption or context.plain("images"))
    if not is_own:
        st.caption(marked.code(one.caption, 80) if one.caption else context.say("caption_none"))
        return

    def changed(key: str) -> None:
        image_sets.write_caption(context.workspace, one.path, st.session_state[key])

    key = f"caption:{one.path}"
    st.text_input(
        context.say("caption", name=marked.Safe(one.path.name)), one.caption, key=key, label_visibility="collapsed",
        placeholder=context.plain("caption_none"), help=None, on_change=changed, args=(key,), max_chars=4000,
    )  # fmt: skip


def _warn(context: Context, found: ImageSet) -> None:
    warnings = [context.say("duplicates", names=", ".join(names)) for names in found.duplicates]
    if found.small:
        warnings.append(context.say("small", names=", ".join(found.small[:6])))
    count = len(found.images)
    if count < _GOOD.start:
        warnings.append(context.say("few"))
    if count >= _GOOD.stop:
        warnings.append(context.say("many", n=count))
    warnings += [marked.code(note) for note in found.notes[:10]]
    if warnings:
        context.careful("  \n".join(warnings))


def _side(values: dict[str, Any]) -> int:
    """The side that images are shown at: as asked, else the demo's or what most models have."""
    asked = str(values.get("resolution", ""))
    if asked.isdecimal() and 8 <= int(asked[:6]) <= 2048:
        return int(asked)
    return _demo_side() if is_demo(values.get("pretrained_model_name_or_path", _default_model())) else _SIDE


def _demo_side() -> int:
    from textual_inversion.system import user_files
    from textual_inversion.system.checked_json import parse_json
    from textual_inversion.system.paths import DEMO_MODEL

    config = parse_json(user_files.read_bytes(DEMO_MODEL / "unet" / "config.json", 1 << 20))
    vae = parse_json(user_files.read_bytes(DEMO_MODEL / "vae" / "config.json", 1 << 20))
    size = config.get("sample_size")
    levels = len(vae.get("block_out_channels") or [1])
    return size * 2 ** (levels - 1) if isinstance(size, int) else _SMALL_SIDE


# ------------------------------------------------------------------------------------------------------ word and model


def _default_model() -> str:
    return all_flags_defaults()["pretrained_model_name_or_path"]


def all_flags_defaults() -> dict[str, Any]:
    """Flag -> default of the training command."""
    from textual_inversion.settings.flag import values_of

    return values_of(TrainConfig())


def _usual() -> dict[str, Any]:
    """What empty fields stand for: with the demo's model its defaults, else those of the command."""
    model = value_of("teach:pretrained_model_name_or_path")
    usual = {name: value for name, value in all_flags_defaults().items() if name != "pretrained_model_name_or_path"}
    if has_demo() and (not model or is_demo(str(model))):
        usual |= {name: value for name, value in demo_defaults().items() if name in usual}
    return usual | {"initializer_token": "toy" if not model else None, "placeholder_token": "<cat-toy>"}


def _the_word(form: Form) -> None:
    one, two, three, four = st.columns([3, 3, 2, 2])
    with one:
        form.text("placeholder_token", help_key="placeholder_help")
    with two:
        form.text("initializer_token", help_key="initializer_help")
    with three:
        form.choice("learnable_property", PROPERTIES, "property")
    with four:
        form.text("num_vectors", help_key="vectors_help")


def _how(context: Context, form: Form) -> None:
    known = all_flags(TrainConfig)
    left, right = st.columns([3, 2])
    with left:
        form.values |= _base_model(context, form)
    with right:
        if "preset" in known:
            form.text("preset")
        else:
            form.choice("resize_mode", RESIZE_MODES, "resize")
    one, two, three, four = st.columns(4)
    for column, name in zip((one, two, three, four), ("max_train_steps", "learning_rate", "train_batch_size", "seed"),
                            strict=True):  # fmt: skip
        with column:
            form.text(name)
    left, right = st.columns([3, 1])
    with left:
        prompts = form.text("validation_prompt", help_key="validation_prompt_help", area=True)
    with right:
        form.text("validation_steps")
        form.text("resolution")
    if prompts:
        form.values["validation_prompt"] = [line for line in prompts.splitlines() if line.strip()]
    form.rest(without=("train_data_dir", "mask_dir"))


def _base_model(context: Context, form: Form) -> dict[str, Any]:
    name = "pretrained_model_name_or_path"
    value = st.text_input(
        context.say("base_model"), key=form.key(name), help=context.say("base_model_help"),
        placeholder="demo/model" if has_demo() else "",
    )  # fmt: skip
    form.note(name, (value or "").strip())
    return {}


# -------------------------------------------------------------------------------------------------------------- start


def _begin(context: Context, form: Form, found: ImageSet | None, mask_dir: str | None) -> None:
    word = form.values.get("placeholder_token", "<cat-toy>")
    name = st.text_input(context.say("run_name"), key=kept("teach:run_name"), placeholder=str(word).strip("<>"))
    values = dict(form.values)
    if found is not None:
        values["train_data_dir"] = str(found.folder)
    if mask_dir:
        values["mask_dir"] = mask_dir
    folder = context.workspace.new_folder("runs", name or str(word))
    words = command_lines.arguments("train", {**values, "output_dir": str(folder)})
    context.command(command_lines.shown("train", words))
    refused = allowed.refusal(context.workspace, "train", values) or command_lines.refusal("train", words)
    if refused:
        form.refuse(*refused)
    if found is None:
        st.caption(context.say("need_images"))
    is_ready = found is not None and refused is None
    if st.button(context.say("start"), type="primary", disabled=not is_ready, key="start", icon=":material/school:"):
        image_sets.refuse_links_out(context.workspace, [one.path for one in found.images])
        _start(context, folder, values)


def _start(context: Context, folder: Path, values: dict[str, Any]) -> None:
    words = command_lines.arguments("train", {**values, "output_dir": str(folder)})
    command_lines.check("train", words)
    atomic.make_folder(folder)
    children.start(context.workspace, folder, command_lines.process("train", words))
    context.go("runs", run=context.run_id(folder))
