"""What decides the result of a run, in a form that a checkpoint keeps and a resumed run is compared with.

Plain settings are compared by value: the flags whose declaration says `decides_result`. Whatever comes from files is
compared by a hash of what was read: images as they were decoded, masks, prompts (captions, templates, file names),
learned embeddings, the base model. So files may move and be renamed, and a change in them is found.

Other flags may change: the result stays the same, bit for bit on a CPU; how the global batch is cut, the machine and
memory change it by rounding only. The number of steps may change where the learning rate does not depend on it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from textual_inversion.data.read_images import ReadImages
from textual_inversion.distributed.consistency import short
from textual_inversion.formats.learned_embedding import LearnedEmbedding
from textual_inversion.models.base_model import BaseModel
from textual_inversion.settings.flag import all_flags, values_of
from textual_inversion.settings.rates import text_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.training.step_plan import StepPlan

_ENDLESS_SCHEDULES = ("constant", "constant_with_warmup")
_VALUES_A_TENSOR = 4096
_HELD_OUT = "the held-out images"
_AWAY = b"away"  # behind the digest of an image that a word is trained away from


def of_settings(config: TrainConfig, plan: StepPlan) -> dict[str, Any]:
    """The settings that decide the result of a run: "--NAME" -> JSON value.

    The learning rate is the peak, or all of several; the global batch stands for batch size, accumulation and
    processes.
    """
    flags, values = all_flags(TrainConfig), values_of(config)
    found = {f"--{name}": values[name] for name, flag in flags.items() if flag.decides_result}
    if config.training.stop_when_settled:  # it ends where a look at the fixed set says so
        found["--eval_steps"] = config.validation.eval_steps
    found["the global batch"] = plan.global_batch
    found["--learning_rate"] = text_of(plan.rates) if plan.rates else plan.peak_learning_rate
    return json.loads(json.dumps(found, default=str))


def of_data(read: ReadImages, held_out: ReadImages | None = None) -> dict[str, str | None]:
    """Hashes of what is learned from, and of what the loss is measured on where that is something else."""
    prompts = [[image.concept, *image.prompts, *_named(image.templates)] for image in read.images]
    repeats = [image.repeats for image in read.images]
    pairs = zip(read.files, read.images, strict=True)
    found = {
        "the training images": _hash(file.digest + _AWAY * image.is_contrast for file, image in pairs),
        "the prompts (captions, templates)": _hash([json.dumps(prompts).encode()]),
        "the masks": _hash(mask.digest for mask in read.masks),
    }
    if len(set(repeats)) > 1:  # where all are equal, they only say how long an epoch is
        found["the repeats of the images"] = _hash([json.dumps(repeats).encode()])
    found[_HELD_OUT] = None
    if held_out is not None:  # losses on two fixed sets do not belong in one curve
        own = [file.digest for file in held_out.files] + [mask.digest for mask in held_out.masks]
        texts = [json.dumps([image.concept, *image.prompts]).encode() for image in held_out.images]
        found[_HELD_OUT] = _hash(own + texts)
    return found


def of_model(
    model: BaseModel, learned: Iterable[LearnedEmbedding], size: tuple[int, int], prompts: Sequence[str]
) -> dict[str, Any]:
    """What a base model with the concepts attached decides: its identity, and the size of the images.

    Of every tensor some thousands of values are hashed, evenly spread: two trained models differ in nearly all of them,
    and reading gigabytes would take longer than many a run. Its name, location, layout and file format do not count.

    Args:
        learned: what the vectors start from.
        size: (height, width) of the training images, in pixels.
        prompts: the tokenizers' ids of these count.
    """
    arrays = [np.asarray(model.noise_scheduler.alphas_cumprod)]
    arrays += [encoder.encode_ids(list(prompts)) for encoder in model.text_encoders]
    weights = [*_weights(model.unet), *_weights(model.vae)]
    weights += [weight for encoder in model.text_encoders for weight in _weights(encoder.layer, encoder.kind.idle)]
    pieces = [model.prediction_type.encode(), *map(_of_array, arrays)]
    pieces += [piece for name, tensor in weights for piece in _of_tensor(name, tensor)]
    return {
        "the base model": _hash(pieces),
        "the embeddings to start from": _hash(_of_array(rows) for one in learned for rows in one.vectors.values()),
        "--height": size[0],
        "--width": size[1],
    }


def _named(templates: Sequence[str]) -> list[list[str]]:
    """The templates beside captions, told apart from these; [] where there are none."""
    return [list(templates)] if templates else []


# Names in checkpoints of earlier versions -> today's.
_EARLIER_NAMES = {
    "the training pictures": "the training images",
    "the sentences (captions, templates)": "the prompts (captions, templates)",
}


def changes(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What differs, one phrase each, such as "--learning_rate 0.01, now 0.02"; [] where nothing does."""
    recorded = {_EARLIER_NAMES.get(name, name): value for name, value in recorded.items()}
    # An earlier version, which did not have the flag, did what its default does.
    defaults = {f"--{name}": value for name, value in values_of(TrainConfig()).items()}
    defaults = json.loads(json.dumps(defaults, default=str)) | {_HELD_OUT: None}
    found = []
    for name, value in current.items():
        if name == "--max_train_steps" and _is_endless(current):
            continue
        before = recorded.get(name, defaults.get(name, "not recorded"))
        if before != value:
            plain = name.startswith("--") or name == "the global batch"
            found.append(f"{name} {short(before)}, now {short(value)}" if plain else name)
    return found


def _is_endless(fingerprint: dict[str, Any]) -> bool:
    """Whether no step depends on how many there will be; the last ones may be averaged."""
    return fingerprint.get("--lr_scheduler") in _ENDLESS_SCHEDULES and not fingerprint.get("--average_last_steps")


def _hash(pieces: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(len(piece).to_bytes(8, "little"))
        whole.update(piece)
    return whole.hexdigest()


def _of_array(array: np.ndarray) -> bytes:
    return f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()


def _weights(layer, idle: tuple[str, ...] = ()) -> list[tuple]:
    """(name, tensor) of what is frozen in a module, but for weights that nothing depends on and files may leave out."""
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())  # the table beside the rows is a buffer
    chosen = (name for name in sorted(tensors) if tensors[name].stop_gradient and not name.startswith(idle))
    return [(name, tensors[name]) for name in chosen]


def _of_tensor(name: str, tensor) -> Iterable[bytes]:
    flat = tensor.flatten()
    yield f"{name} {list(tensor.shape)}".encode()
    yield flat[:: max(1, flat.shape[0] // _VALUES_A_TENSOR)].astype("float32").numpy().tobytes()
