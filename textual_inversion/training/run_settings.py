"""What decides the course of a run, in a form that a checkpoint keeps and a resumed run is held against.

Plain settings are compared by value, everything that comes from files by a hash of what was read: pictures as they were
decoded, masks, sentences (captions, templates, names of files), learned embeddings, the base model. So files may move
and be renamed, and a change in them is found.

Not compared, because the course stays the same, bit for bit on a CPU unless it says "to rounding":

    names and places      config, output_dir, logging_dir, train_data_dir, mask_dir, cache_dir, revision, variant, …
    how sentences come    template_file, no_captions, append_file_name_to_text, …: the sentences are compared
    how it is cut         train_batch_size, gradient_accumulation_steps, the number of processes: to rounding; their
                          product, the global batch, is compared
    the machine           num_threads, device, gradient_checkpointing, efficient attention, low_memory, compile: to
                          rounding; dataloader_num_workers
    the length            max_train_steps, num_train_epochs, repeats, as long as the learning rate does not depend on it
                          (constant, constant_with_warmup)
    what is looked at     eval_steps, sample pictures, overview, keep_best, report_to, save_steps, checkpoints, the hub

`eval_samples` is compared, although it decides nothing: losses on two fixed sets cannot stand in one curve.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from textual_inversion.distributed.consistency import short

_FREE = set(
    # names and places
    """config output_dir logging_dir train_data_dir mask_dir alpha_mask initializer_embeds cache_dir revision variant
    pretrained_model_name_or_path tokenizer_name demo demo_defaults explicit concepts
    template_file no_captions append_file_name_to_text file_name_split_char
    train_batch_size gradient_accumulation_steps num_train_epochs repeats epoch_samples
    num_threads device gradient_checkpointing enable_xformers_memory_efficient_attention dataloader_num_workers
    low_memory compile
    eval_steps validation_prompt validation_prompts_file sample_prompts validation_epochs validation_steps
    num_validation_images guidance_scale num_inference_steps overview keep_best clip_model report_to
    save_steps only_save_embeds checkpointing_steps checkpoints_total_limit resume_from_checkpoint
    allow_changed_settings push_to_hub hub_whole_pipeline hub_token hub_model_id""".split()
    # what others say already: --learning_rate is compared as the peak, the picture's size as height and width
    + ["peak_learning_rate", "scale_lr", "resolution", "height", "width", "center_crop"]
)
_ENDLESS_SCHEDULES = ("constant", "constant_with_warmup")
_VALUES_A_TENSOR = 4096


def of_arguments(args) -> dict[str, Any]:
    """The settings that decide the course of a run, once `settle_steps` has filled them in: name -> JSON value.

    A flag that is not known to be harmless counts.
    """
    settings = {f"--{name}": value for name, value in vars(args).items() if name not in _FREE}
    settings["the global batch"] = settings.pop("--global_batch")
    settings["--learning_rate"] = args.peak_learning_rate
    return json.loads(json.dumps(settings, default=str))


def of_data(images: Iterable, pictures: Iterable, masks: Iterable) -> dict[str, str]:
    """Hashes of what is learned from.

    Args:
        images: `sampler.TrainingImage`s.
        pictures, masks: PIL images, in the order of `images`.
    """
    sentences = [[image.concept, *image.prompts] for image in images]
    return {
        "the training pictures": _hash(_of_picture(picture) for picture in pictures),
        "the sentences (captions, templates)": _hash([json.dumps(sentences).encode()]),
        "the masks": _hash(_of_picture(mask) for mask in masks),
    }


def of_model(model, learned: Iterable, height: int, width: int, sentences: Iterable[str]) -> dict[str, Any]:
    """What a base model with the new words attached decides: its identity, and the size of the pictures.

    Of every tensor some thousands of values are hashed, evenly spread: two trained models differ in nearly all of them,
    and reading gigabytes would take longer than many a run. Its name, place, layout and file format do not count.

    Args:
        learned: `LearnedEmbedding`s that the rows start from.
        height, width: of the training pictures, in pixels.
        sentences: of which the tokenizers' ids count.
    """
    arrays = [np.asarray(model.noise_scheduler.alphas_cumprod)]
    arrays += [encoder.encode_ids(list(sentences)) for encoder in model.text_encoders]
    weights = [*_weights(model.unet), *_weights(model.vae)]
    weights += [weight for encoder in model.text_encoders for weight in _weights(encoder.layer, encoder.kind.idle)]
    pieces = [model.prediction_type.encode(), *map(_of_array, arrays)]
    pieces += [piece for name, tensor in weights for piece in _of_tensor(name, tensor)]
    return {
        "the base model": _hash(pieces),
        "the embeddings to start from": _hash(_of_array(rows) for one in learned for rows in one.vectors.values()),
        "--height": height,
        "--width": width,
    }


def changes(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What differs, one phrase each, such as "--learning_rate 0.01, now 0.02"; [] where nothing does."""
    found = []
    for name, value in current.items():
        if name == "--max_train_steps" and _is_endless(current):
            continue
        before = recorded.get(name, "not recorded")
        if before != value:
            plain = name.startswith("--") or name == "the global batch"
            found.append(f"{name} {short(before)}, now {short(value)}" if plain else name)
    return found


def _is_endless(settings: dict[str, Any]) -> bool:
    """Whether no step knows how many there will be; the last ones may be averaged."""
    return settings.get("--lr_scheduler") in _ENDLESS_SCHEDULES and not settings.get("--average_last_steps")


def _hash(pieces: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(len(piece).to_bytes(8, "little"))
        whole.update(piece)
    return whole.hexdigest()


def _of_picture(picture) -> bytes:
    head = f"{picture.mode} {picture.size}".encode()
    return hashlib.sha256(head + picture.tobytes()).digest()


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
