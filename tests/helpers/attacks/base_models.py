"""Base models, CLIP models and tokenizers whose files are wrong, or announce what no model has."""

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from helpers.attacks.attack import EITHER, Attack, Kit, edit_json

VALUES: dict[str, Any] = {
    "nothing": None,
    "zero": 0,
    "minus one": -1,
    "a billion": 10**9,
    "nine million": 9_000_000,
    "seventy thousand": 70_000,
    "2**70": 2**70,
    "1e308": 1e308,
    "infinity": float("inf"),
    "NaN": float("nan"),
    "a half": 0.5,
    "true": True,
    "a word": "x",
    "no letters": "",
    "digits": "1000000000",
    "a path": "../../../etc/passwd",
    "an escape": "\x1b]0;x\x07\x1b[31m\nerror: forged",
    "turned letters": "\u202ex",
    "a surrogate": "\ud800",
    "an empty list": [],
    "a list of a billion": [10**9] * 4,
    "a long list": [32] * 20_000,
    "lists in lists": json.loads("[" * 300 + "1" + "]" * 300),
    "an object": {},
    "an object of itself": {"layers": {"layers": 10**9}},
}
SIZES = (
    "a billion",
    "nine million",
    "seventy thousand",
    "2**70",
    "1e308",
    "infinity",
    "NaN",
    "a list of a billion",
    "a long list",
    "an object of itself",
)
CONFIGS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "model_index.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "safety_checker/config.json",
    "feature_extractor/preprocessor_config.json",
)
OF_CLIP = ("config.json", "preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json")
# Keys that the tiny models leave to their defaults.
MORE_KEYS = {
    "unet/config.json": (
        "transformer_layers_per_block",
        "num_class_embeds",
        "time_embedding_dim",
        "dropout",
        "conv_in_kernel",
        "projection_class_embeddings_input_dim",
        "class_embed_type",
        "cross_attention_norm",
        "mid_block_type",
        "num_attention_heads",
        "encoder_hid_dim",
        "reverse_transformer_layers_per_block",
        "addition_embed_type",
        "downsample_padding",
    ),
    "vae/config.json": ("force_upcast", "norm_num_groups", "latents_mean"),
    "scheduler/scheduler_config.json": (
        "trained_betas",
        "solver_order",
        "timestep_spacing",
        "prediction_type",
        "rescale_betas_zero_snr",
        "dynamic_thresholding_ratio",
        "variance_type",
    ),
    "tokenizer/tokenizer_config.json": (
        "added_tokens_decoder",
        "tokenizer_file",
        "tokenizer_class",
        "auto_map",
        "chat_template",
    ),
    "model_index.json": ("_name_or_path", "requires_safety_checker", "force_zeros_for_empty_prompt"),
}
RAW = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"7",
    "nested": b'{"a":' * 100_000,
    "nested lists": b'{"a":' + b"[" * 100_000,
    "not text": b"\xff\xfe\xff",
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "many digits": b'{"a": ' + b"9" * 5_000 + b"}",
    "the same key": b"{" + b'"a":1,' * 500_000 + b'"b":1}',
    "17 MB": b'{"a": "' + b"x" * (17 << 20) + b'"}',
    "many keys": json.dumps({str(i): i for i in range(300_000)}).encode(),
}


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Of each kind."""
    yield from _of_configurations(kit, chance)
    yield from _of_raw_files(kit)
    yield from _of_tokenizers(kit, chance)
    yield from _of_weights(kit)
    yield from _of_indexes(kit)


def spoiled(kit: Kit, name: str, spoil: Callable[[Path], None], *, command: str = "infer"):
    """An attack's builder: a copy of base/ or clip/, of which one file is spoiled."""
    folder, _, file = name.partition("/")

    def build(place: Path) -> list[str]:
        copy = kit.copy(folder, place / folder)
        spoil(copy / file if file else copy)
        if folder == "clip":
            return kit.score(place, clip_model=copy)
        more = {"safety_checker": "true"} if file.startswith(("safety", "feature")) and command == "infer" else {}
        line = getattr(kit, command)(place, pretrained_model_name_or_path=copy)
        return [*line, *(["--safety_checker"] if more else [])]

    return build


def _of_configurations(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Every key of every configuration, with every value."""
    for name in [*(f"base/{name}" for name in CONFIGS), *(f"clip/{name}" for name in OF_CLIP)]:
        content = json.loads((kit.folder / name).read_text())
        paths = [(key,) for key in content] + [
            (key, inner) for key, value in content.items() if isinstance(value, dict) for inner in value
        ]
        paths += [(key,) for key in MORE_KEYS.get(name.removeprefix("base/"), ())]
        for path in paths:
            for kind, value in VALUES.items():
                rule = 8 if kind in SIZES else 7
                yield Attack(
                    rule, f"{name}: {'.'.join(path)} is {kind}", spoiled(kit, name, _setting(path, value)), EITHER
                )


def _setting(path: tuple[str, ...], value: Any) -> Callable[[Path], None]:
    def change(content: dict) -> dict:
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return content

    return lambda file: edit_json(file, change)


def _of_raw_files(kit: Kit) -> Iterator[Attack]:
    texts = ("tokenizer/vocab.json", "tokenizer/merges.txt", *CONFIGS)
    for name in [
        *(f"base/{name}" for name in texts),
        *(f"clip/{name}" for name in (*OF_CLIP, "vocab.json", "merges.txt")),
    ]:
        for kind, data in RAW.items():
            yield Attack(7, f"{name} is {kind}", spoiled(kit, name, lambda file, data=data: _write(file, data)), EITHER)
        for kind in ("a folder", "a pipe", "a link to nowhere", "a link to itself", "endless", "unreadable"):
            yield Attack(
                7, f"{name} is {kind}", spoiled(kit, name, lambda file, kind=kind: _unfile(file, kind)), EITHER
            )


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


def _unfile(file: Path, kind: str) -> None:
    """Put something that is no readable file in the place of one."""
    import os

    file.unlink()
    if kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    elif kind == "unreadable":  # even for root
        file.symlink_to("/proc/self/mem")
    else:
        file.symlink_to(file if kind == "a link to itself" else file.parent / "nothing")


def _of_tokenizers(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Vocabularies with ids that are none, or lie elsewhere."""
    vocab = json.loads((kit.folder / "base/tokenizer/vocab.json").read_text())
    words, size = sorted(vocab, key=vocab.get), len(vocab)
    ids = {
        "the table's size": size,
        "far behind": 10**9,
        "2**70": 2**70,
        "below zero": -1,
        "a half": 0.5,
        "a word": "3",
        "true": True,
        "nothing": None,
        "a list": [1],
        "NaN": float("nan"),
        "another's": vocab[words[0]],
    }
    for place, of in {"any": words[len(words) // 2], "the first": words[0], "the last": words[-1]}.items():
        for kind, number in ids.items():
            for name in ("base/tokenizer/vocab.json", "clip/vocab.json"):
                attack = spoiled(kit, name, _setting((of,), number))
                yield Attack(7, f"{name}: the id of {place} word is {kind}", attack, EITHER)
    for kind, entries in {
        "more words": {f"w{i}": size + i for i in range(5)},
        "a gap": {"w": size + 7},
        "half a million words": {f"w{i}": size + i for i in range(500_000)},
        "a word of a million letters": {"x" * 1_000_000: size},
    }.items():
        for name in ("base/tokenizer/vocab.json", "clip/vocab.json"):
            change = lambda file, more=entries: edit_json(file, lambda content: content | more)  # noqa: E731
            yield Attack(7, f"{name} holds {kind}", spoiled(kit, name, change))
    for word in words[-2:]:
        change = lambda file, word=word: edit_json(file, lambda c: {k: v for k, v in c.items() if k != word})  # noqa: E731
        yield Attack(7, f"base/tokenizer/vocab.json lacks {word}", spoiled(kit, "base/tokenizer/vocab.json", change))
    merges = {
        "many": "#version: 0.2\n" + "a b\n" * 2_000_000,
        "long": "a " + "b" * 5_000_000,
        "without a second": "a\nb\n",
        "of surrogates": "\udcff",
        "of three": "a b c\n",
    }
    for kind, content in merges.items():
        data = content.encode("utf-8", "surrogateescape")
        attack = spoiled(kit, "base/tokenizer/merges.txt", lambda file, data=data: _write(file, data))
        yield Attack(7, f"merges that are {kind}", attack, EITHER)


def _tensors(file: Path) -> tuple[dict, bytes]:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _weights_with(change: Callable[[dict, bytearray], dict]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (file,) = folder.glob("*.safetensors")
        header, values = _tensors(file)
        values = bytearray(values)
        head = json.dumps(change(header, values)).encode()
        file.write_bytes(struct.pack("<Q", len(head)) + head + values)

    return spoil


def _filled(number: float, share: float) -> Callable[[dict, bytearray], dict]:
    def change(header: dict, values: bytearray) -> dict:
        array = np.frombuffer(values, "<f4")
        array[: max(1, int(len(array) * share))] = number
        return header

    return change


def _one_more(entry: dict) -> Callable[[dict, bytearray], dict]:
    return lambda header, values: header | {"more.weight": entry}


def _of_weights(kit: Kit) -> Iterator[Attack]:
    """Weights that are no numbers, or of which there are too many, too few or other ones."""
    parts = ("base/unet", "base/vae", "base/text_encoder", "base/safety_checker", "clip")
    for part in parts:
        for number in ("nan", "inf", "-inf"):
            for share in (0, 1):
                name = f"{part}: {'all' if share else 'one'} of the weights {number}"
                attack = spoiled(kit, part, _weights_with(_filled(float(number), share)))
                build = attack if part != "base/safety_checker" else _with_checker(attack)
                yield Attack(7, name, build)
        changes: dict[str, Callable[[dict, bytearray], dict]] = {
            "no tensor": lambda header, values: {k: v for k, v in header.items() if k == "__metadata__"},
            "one of a huge shape": _one_more({"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}),
            "one of a negative shape": _one_more({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}),
            "one of another type": _one_more({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}),
            "one that is no object": lambda header, values: header | {"more": 1},
            "metadata that is a list": lambda header, values: header | {"__metadata__": []},
            "metadata of numbers": lambda header, values: header | {"__metadata__": {"format": 1}},
            "shapes turned around": lambda header, values: {
                k: v if k == "__metadata__" else v | {"shape": v["shape"][::-1]} for k, v in header.items()
            },
            "a hundred thousand more": lambda header, values: (
                header | {f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}
            ),
        }
        for kind, change in changes.items():
            attack = spoiled(kit, part, _weights_with(change))
            yield Attack(
                7, f"{part}: weights with {kind}", attack if "safety" not in part else _with_checker(attack), EITHER
            )
        yield Attack(7, f"{part}: weights cut short", _with_checker(spoiled(kit, part, _cut), part))
        yield Attack(7, f"{part}: weights that are endless", _with_checker(spoiled(kit, part, _endless), part))
        yield Attack(8, f"{part}: a header of 90 MB", _with_checker(spoiled(kit, part, _long_header), part))


def _with_checker(build, part: str = "base/safety_checker"):
    return (lambda place: [*build(place), "--safety_checker"]) if part == "base/safety_checker" else build


def _cut(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-5])


def _endless(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.unlink()
    file.symlink_to("/dev/zero")


def _long_header(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    head = b"{" + b'"x":[' * 1 + b"1," * (45 << 20) + b"1]}"
    file.write_bytes(struct.pack("<Q", len(head)) + head)


def _of_indexes(kit: Kit) -> Iterator[Attack]:
    """Weights in several files, whose index leads elsewhere."""
    maps: dict[str, Any] = {
        "a path out": {"a": "../../vae/diffusion_paddle_model.safetensors"},
        "an absolute path": {"a": "/etc/passwd"},
        "a number": {"a": 7},
        "nothing": {},
        "a list": [],
        "a folder": {"a": "."},
        "itself": {"a": "INDEX"},
        "a hundred thousand files": {str(i): f"{i}.safetensors" for i in range(100_000)},
        "one file many times": {str(i): "x.safetensors" for i in range(300_000)},
        "a zero byte": {"a": "x\0y"},
        "a long name": {"a": "x" * 100_000},
        "an escape": {"a": "\x1b[2Jx"},
    }
    for part, stem in {"unet": "diffusion_paddle_model", "text_encoder": "model"}.items():
        for kind, content in maps.items():

            def spoil(folder: Path, stem: str = stem, content: Any = content) -> None:
                for file in folder.glob("*.safetensors"):
                    file.unlink()
                index = folder / f"{stem}.safetensors.index.json"
                index.write_text(json.dumps({"weight_map": content}).replace("INDEX", index.name))

            yield Attack(7, f"base/{part}: an index that names {kind}", spoiled(kit, f"base/{part}", spoil))
