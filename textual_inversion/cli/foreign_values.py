"""What a value in another trainer's configuration is here: the settings that one key of it stands for.

Most keys are copied (`settings.other_names` says which flag is theirs). Those whose values look or mean otherwise are
in `_VALUES`. Nothing is guessed: what has no exact counterpart is not taken over, and said.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from textual_inversion.hub.data_sets import PREFIX
from textual_inversion.settings.bounds import truth
from textual_inversion.settings.choices import INTERPOLATIONS, LOSS_TYPES, OPTIMIZERS, PROPERTIES, SCHEDULERS, SCHEDULES
from textual_inversion.settings.other_names import OtherName

Flags = dict[str, tuple[str, ...]]  # name of a flag -> its values, as typed


class Value(NamedTuple):
    """The value of one key.

    Attributes:
        row: what the key is here.
        texts: its plain values.
        beside: all other keys of the file -> their values.
        key: the key itself.
    """

    row: OtherName
    texts: tuple[str, ...]
    beside: Mapping[str, tuple[str, ...]]
    key: str

    @property
    def text(self) -> str:
        """The value, or the first of several."""
        return self.texts[0]

    @property
    def flag(self) -> str:
        """The flag that the key is here."""
        return self.row.flag or ""


def counterpart(value: Value) -> Flags | None:
    """The settings that a key stands for, maybe none; None if it has no exact counterpart here.

    Raises:
        ValueError: it is of another type than such a value, for instance a word where a switch is wanted.
    """
    row = value.row
    if row.flag is None or (row.system, row.name) in _NEAREST_ONLY:
        return None
    convert = _VALUES.get((row.system, row.name)) or _BY_FLAG.get(row.flag)
    if convert is not None:
        return convert(value)
    if row.note and (row.system, row.name) not in _AS_IT_IS:
        return None
    return {row.flag: value.texts}


# Keys whose note is about something else than their values.
_AS_IT_IS = {
    ("kohya", "max_train_steps"), ("kohya", "train_data_dir"), ("kohya", "token_string"),
    ("kohya", "max_train_epochs"), ("kohya", "sample_prompts"), ("OneTrainer", "concepts.balancing"),
    ("OneTrainer", "epochs"), ("OneTrainer", "cache_dir"), ("invoke-training", "base_output_dir"),
    ("invoke-training", "initial_phrase"), ("invoke-training", "max_train_epochs"),
    ("invoke-training", "max_checkpoints"), ("Determined", "initializer_tokens"), ("Determined", "initializer_strs"),
    ("Determined", "metric_report_freq"),
}  # fmt: skip


def _switch(value: Value) -> bool:
    return truth(value.text.lower())


def _when_on(**flags: str) -> Callable[[Value], Flags]:
    """Some flags where a switch is on, and none where it is off."""
    return lambda value: {name: (text,) for name, text in flags.items()} if _switch(value) else {}


def _one_of(choices: tuple[str, ...]) -> Callable[[Value], Flags | None]:
    """One of the values of a flag, in any letters; others have no counterpart."""

    def convert(value: Value) -> Flags | None:
        names = tuple(text.lower().replace("-", "_") for text in value.texts)
        return {value.flag: names} if set(names) <= set(choices) else None

    return convert


def _flip(value: Value) -> Flags:
    """A switch, or already a share."""
    text = value.text.lower()
    return {"flip_p": ("0.5",) if text == "true" else ("0",) if text == "false" else (text,)}


def _schedule(value: Value) -> Flags | None:
    """The name of a schedule; OneTrainer's constant one has a warm-up, which is a schedule of its own here."""
    name = value.text.lower().replace("hard_", "")
    warmup = value.beside.get("learning_rate_warmup_steps", ("0",))[0]
    if value.row.system == "OneTrainer" and name == "constant" and warmup != "0":
        name = "constant_with_warmup"
    return {"lr_scheduler": (name,)} if name in SCHEDULES else None


def _whole(value: Value) -> Flags | None:
    """A number of steps; a share of the run, which it may be elsewhere, has no counterpart."""
    steps = float(value.text)
    return {value.flag: (str(int(steps)),)} if steps == int(steps) else None


_PRECISIONS = {
    "no": {"mixed_precision": ("no",)}, "float32": {"mixed_precision": ("no",)}, "float": {"mixed_precision": ("no",)},
    "fp16": {"mixed_precision": ("fp16",)}, "float16": {"mixed_precision": ("fp16",)},
    "bf16": {"mixed_precision": ("bf16",)}, "bfloat16": {"mixed_precision": ("bf16",)},
    "tfloat32": {"mixed_precision": ("no",), "allow_tf32": ("true",)},
}  # fmt: skip


def _precision(value: Value) -> Flags | None:
    return _PRECISIONS.get(value.text.lower().replace("_", ""))


def _clipping(value: Value) -> Flags:
    return {"max_grad_norm": ("-1" if float(value.text) <= 0 else value.text,)}


def _resolution(value: Value) -> Flags:
    """One side, or width and height: `512`, `512,768`, `[512, 768]`; invoke-training has the height first."""
    sides = [side.strip() for text in value.texts for side in text.split(",")]
    if len(set(sides)) == 1:
        return {"resolution": (sides[0],)}
    if len(sides) != 2:
        raise ValueError("is not a side, nor a width and a height")
    if value.row.system == "invoke-training":
        sides.reverse()
    return {"width": (sides[0],), "height": (sides[1],)}


def _optimizer(value: Value) -> Flags | None:
    """The name of an optimizer, in any letters, with or without dashes.

    kohya's Adafactor has a rate of its own unless its arguments say otherwise, and is relative to the vectors.
    """
    names = {name.replace("_", ""): name for name in OPTIMIZERS}
    name = names.get(value.text.lower().replace("-", "").replace("_", ""))
    if name == "adafactor" and value.row.system == "kohya":
        given = _arguments(_beside(value, "optimizer_args", ()))
        is_relative = {} if "scale_parameter" in given else {"adafactor_scale_parameter": ("true",)}
        return {"optimizer": (name,)} | is_relative if given.get("relative_step") == "false" else None
    return {"optimizer": (name,)} if name else None


def _beside(value: Value, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """The values of another key, whatever section it stands in."""
    return next((own for key, own in value.beside.items() if key.rpartition(".")[2] == name), default)


def _arguments(texts: Iterable[str]) -> dict[str, str]:
    """kohya's `["weight_decay=0.01", "betas=0.9,0.999"]`: name -> value, in small letters."""
    return {name.strip(): given.strip().lower() for name, _, given in (text.partition("=") for text in texts)}


def _optimizer_arguments(value: Value) -> Flags | None:
    """A flag for each of kohya's arguments; None if one of them has no counterpart."""
    found: Flags = {}
    arguments = _arguments(value.texts)
    for name, given in arguments.items():
        parts = given.strip("() ").split(",")
        if name == "betas" and len(parts) == 2:
            found |= {"adam_beta1": (parts[0].strip(),), "adam_beta2": (parts[1].strip(),)}
        elif name in _ARGUMENTS and len(parts) == 1:
            found[_ARGUMENTS[name]] = (given,)
        elif _AS_HERE.get(name) != given:
            return None
    is_coupled = _beside(value, "optimizer_type", ("",))[0].lower() == "dadaptadam" and "decouple" not in arguments
    return None if is_coupled and float(arguments.get("weight_decay", 0)) else found


_ARGUMENTS = {"weight_decay": "adam_weight_decay", "eps": "adam_epsilon", "momentum": "sgd_momentum", "d0": "d0",
              "d_coef": "d_coef", "scale_parameter": "adafactor_scale_parameter"}  # fmt: skip
# Arguments and the value that is the only one here.
_AS_HERE = {"decouple": "true", "use_bias_correction": "false", "safeguard_warmup": "false", "relative_step": "false",
            "warmup_init": "false"}  # fmt: skip


def _unless_adafactor(value: Value) -> Flags | None:
    """OneTrainer's epsilon; Adafactor's is that of its paper and no setting here."""
    if value.beside.get("optimizer.optimizer", ("",))[0].upper() == "ADAFACTOR":
        return {} if float(value.text) == _EPSILON_OF_ADAFACTOR else None
    return {value.flag: value.texts}


_EPSILON_OF_ADAFACTOR = 1e-30


def _ema(value: Value) -> Flags | None:
    """OneTrainer's device of the mean, or OFF; with its interval of some steps it is another mean."""
    if value.text.upper() == "OFF":
        return {}
    interval = value.beside.get("ema_update_step_interval", ("5",))[0]
    return {"use_ema": ("true",)} if value.text.upper() in ("GPU", "CPU") and float(interval) == 1 else None


def _coarser_noises(value: Value) -> Flags:
    """kohya adds none where the number is 0."""
    return {value.flag: value.texts} if float(value.text) else {}


def _loss_type(value: Value) -> Flags | None:
    """kohya's Huber losses have a schedule unless they are told another one."""
    name = value.text.lower()
    is_told = name == "l2" or _beside(value, "huber_schedule", ())
    usual = {} if is_told else {"huber_schedule": ("snr",)}
    return {"loss_type": (name,)} | usual if name in LOSS_TYPES else None


def _if_on(switch: str) -> Callable[[Value], Flags]:
    """A number that counts only where a switch beside it is on."""
    return lambda value: {value.flag: value.texts} if truth(value.beside.get(switch, ("false",))[0].lower()) else {}


def _variants(value: Value) -> Flags:
    """OneTrainer's number of cached variations; one is no variation."""
    return {"augmented_variants": value.texts} if int(value.text) > 1 else {}


def _data_set(value: Value) -> Flags:
    """invoke-training's data set of the hub, with its revision if it has one."""
    revision = value.beside.get("data_loader.dataset.revision", ("",))[0]
    return {"train_data_dir": (f"{PREFIX}{value.text}" + (f"@{revision}" if revision else ""),)}


def _every(flags: Mapping[str, str]) -> Callable[[Value], Flags | None]:
    """OneTrainer's interval, whose unit is beside it; a unit of time has no counterpart."""

    def convert(value: Value) -> Flags | None:
        flag = flags.get(value.beside.get(f"{value.key}_unit", ("",))[0])
        return {flag: value.texts} if flag and float(value.text) > 0 else None

    return convert


def _loss_weight(value: Value) -> Flags | None:
    """OneTrainer's weight function; its strength is beside it."""
    strength = value.beside.get("loss_weight_strength", ("5",))
    functions: dict[str, Flags] = {"CONSTANT": {}, "MIN_SNR_GAMMA": {"snr_gamma": strength},
                                   "DEBIASED_ESTIMATION": {"debiased_estimation_loss": ("true",)}}  # fmt: skip
    return functions.get(value.text)


def _huber(value: Value) -> Flags | None:
    """OneTrainer's strengths of losses: pure Huber loss only."""
    if float(value.text) == 0:
        return {}
    pure = value.text == "1" and value.beside.get("mse_strength", ("1",))[0] == "0"
    return {"loss_type": ("huber",)} if pure else None


def _device(value: Value) -> Flags | None:
    name = value.text.lower().replace("cuda", "gpu")
    return {"device": (name,)} if name.partition(":")[0] in ("cpu", "gpu") else None


def _token(value: Value) -> Flags | None:
    """Determined's access token, among variables of the environment; what stands in its example is none."""
    token = value.text
    return None if token.startswith("YOUR_") else {"hub_token": (token,)}


# Names of schedulers that are not made of ours by small letters and other dashes.
_SCHEDULERS = {"lms-discrete": "lms", "dpmsolver++": "dpm++", "dpmsolver": "dpm++", "dpmsingle": "dpm++-single",
               "dpm-2": "kdpm2", "dpm-2-a": "kdpm2-a", "k-lms": "lms", "k-euler": "euler", "k-euler-a": "euler-a",
               "k-dpm-2": "kdpm2", "k-dpm-2-a": "kdpm2-a"}  # fmt: skip


def _scheduler(value: Value) -> Flags | None:
    name = value.text.lower().replace("_", "-")
    name = _SCHEDULERS.get(name, name)
    return {"scheduler": (name,)} if name in SCHEDULERS else None


_VALUES: dict[tuple[str, str], Callable[[Value], Flags | None]] = {
    ("kohya", "use_object_template"): _when_on(learnable_property="object", no_captions="true"),
    ("kohya", "use_style_template"): _when_on(learnable_property="style", no_captions="true"),
    ("kohya", "enable_bucket"): _when_on(resize_mode="bucket"),
    ("kohya", "random_crop"): _when_on(resize_mode="random_crop"),
    ("kohya", "torch_compile"): _when_on(compile="true"),
    ("kohya", "optimizer_args"): _optimizer_arguments,
    ("kohya", "use_lion_optimizer"): _when_on(optimizer="lion"),
    ("kohya", "loss_type"): _loss_type,
    ("kohya", "multires_noise_iterations"): _coarser_noises,
    ("OneTrainer", "optimizer.eps"): _unless_adafactor,
    ("OneTrainer", "ema"): _ema,
    ("OneTrainer", "ema_update_step_interval"): lambda value: {} if float(value.text) == 1 else None,
    ("OneTrainer", "aspect_ratio_bucketing"): _when_on(resize_mode="bucket"),
    **{
        ("OneTrainer", f"concepts.image.random_{name}"): _if_on(f"concepts.image.enable_random_{switch}")
        for name, switch in (
            ("rotate_max_angle", "rotate"),
            ("brightness_max_strength", "brightness"),
            ("contrast_max_strength", "contrast"),
            ("saturation_max_strength", "saturation"),
            ("hue_max_strength", "hue"),
        )
    },
    **{
        ("OneTrainer", f"concepts.image.enable_random_{name}"): lambda value: {}
        for name in ("rotate", "brightness", "contrast", "saturation", "hue")
    },
    ("OneTrainer", "concepts.image.enable_crop_jitter"): lambda value: {},
    ("OneTrainer", "concepts.image_variations"): _variants,
    ("invoke-training", "data_loader.dataset.dataset_name"): _data_set,
    ("OneTrainer", "save_every"): _every({"STEP": "save_steps"}),
    ("OneTrainer", "backup_after"): _every({"STEP": "checkpointing_steps"}),
    ("OneTrainer", "sample_after"): _every({"STEP": "validation_steps", "EPOCH": "validation_epochs"}),
    ("OneTrainer", "loss_weight_fn"): _loss_weight,
    ("OneTrainer", "loss_weight_strength"): lambda value: {},
    ("OneTrainer", "mse_strength"): lambda value: {} if value.text in ("0", "1") else None,
    ("OneTrainer", "mae_strength"): lambda value: {} if value.text == "0" else None,
    ("OneTrainer", "log_cosh_strength"): lambda value: {} if value.text == "0" else None,
    ("OneTrainer", "huber_strength"): _huber,
    ("OneTrainer", "train_device"): _device,
    ("OneTrainer", "concepts.balancing"): _whole,
    ("OneTrainer", "concepts.text.keep_tags_count"): _whole,
    ("OneTrainer", "learning_rate_cycles"): _whole,
    ("invoke-training", "data_loader.center_crop"): lambda value: (
        {"center_crop": ("true",)} if _switch(value) else {"resize_mode": ("random_crop",)}
    ),
    ("invoke-training", "data_loader.aspect_ratio_buckets.target_resolution"): lambda value: (
        {"resize_mode": ("bucket",), "resolution": value.texts}
    ),
    ("invoke-training", "data_loader.shuffle_caption_delimiter"): lambda value: (
        {"shuffle_caption": ("true",)} if value.text.strip() in ("", ",") else None
    ),
    ("invoke-training", "optimizer.use_8bit"): lambda value: None if _switch(value) else {},
    ("Determined", "HF_AUTH_TOKEN"): _token,
}
# Keys whose flag is the nearest one here, but takes no such value.
_NEAREST_ONLY = {("kohya", name) for name in (
    "use_8bit_adam", "full_fp16", "full_bf16", "lr_scheduler_type", "lr_scheduler_args",
    "lr_decay_steps", "lr_scheduler_timescale", "lr_scheduler_min_lr_ratio", "optimizer_schedulefree_wrapper",
    "schedulefree_wrapper_args", "color_aug", "face_crop_aug_range",
)}  # fmt: skip
# Of flags whose values are written in another way in more than one program.
_BY_FLAG: dict[str, Callable[[Value], Flags | None]] = {
    "flip_p": _flip,
    "lr_scheduler": _schedule,
    "lr_warmup_steps": _whole,
    "mixed_precision": _precision,
    "max_grad_norm": _clipping,
    "resolution": _resolution,
    "optimizer": _optimizer,
    "interpolation": _one_of(INTERPOLATIONS),
    "learnable_property": _one_of(PROPERTIES),
    "loss_type": _one_of(LOSS_TYPES),
    "scheduler": _scheduler,
}
