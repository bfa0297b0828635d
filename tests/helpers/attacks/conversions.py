"""What a stranger gives to convert.py: files that cost or deceive, records, mixes, and names with escapes."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helpers.attacks.attack import EITHER, REFUSED, Attack, Kit
from helpers.attacks.base_models import RAW, VALUES, _setting, _unfile
from helpers.attacks.embeddings import every_file
from helpers.attacks.inputs import EVIL, TEXTS, UNFILES
from textual_inversion.formats.safetensors_file import safetensors_bytes

_RECORDED = ("base_model", "placeholder_token", "initializer_token", "num_vectors", "seed", "settings.num_vectors",
             "settings.initializer_embeds", "learnable_property", "embedding_width")  # fmt: skip
_MIXES = {
    "brackets": "(" * 3_000 + "x" + ")" * 3_000,
    "signs": "-" * 3_900 + "1",
    "products": "*".join(["1e6"] * 199),
    "a million letters": "x" * 1_000_000,
    "numbers of many digits": "9" * 3_900,
    "exponents": "1e999999999*{x}",
    "a program": "__import__('os').system('touch owned')",
    "commands": "$(touch owned) + `touch owned`",
    "formats": "{x.__class__.__mro__}:{0[0]}",
    "many words": " & ".join(["x.pt"] * 190),
    "blanks": " " * 3_900,
    "colons": ":" * 3_900,
    "a vocabulary word without end": '"' + "x" * 3_900 + '"',
    "marks on a letter": '"' + "a" + "\u0301" * 3_900 + '"',
}


def attacks(kit: Kit, chance: random.Random) -> Iterator[Attack]:
    """Of each kind."""
    for name, data in sorted(every_file().items()):
        for command in _COMMANDS:
            yield Attack(3, f"{command}: {name}", _with_file(kit, command, data), EITHER, look=_is_left_alone)
    for kind, data in TEXTS.items():
        for command in _COMMANDS:
            yield Attack(4, f"{command}: a text that is {kind}", _with_file(kit, command, data), EITHER)
    for kind in UNFILES:
        for command in _COMMANDS:
            right = EITHER if command == "inspect" else REFUSED  # it says of any file what it is
            yield Attack(4, f"{command}: a file that is {kind}", _with_unfile(kit, command, kind), right)
    for kind, text in _MIXES.items():
        yield Attack(4, f"a mix of {kind}", _mix(kit, text), EITHER, look=_is_left_alone)
    yield from _of_records(kit)
    yield from _of_names(kit)


def _inspect(kit: Kit, file: Path) -> list[str]:
    return ["convert", "inspect", str(file), "--pretrained_model_name_or_path", str(kit.folder / "base")]


def _doctor(kit: Kit, file: Path) -> list[str]:
    return ["convert", "doctor", str(file), "--pretrained_model_name_or_path", str(kit.folder / "base")]


def _convert(kit: Kit, file: Path) -> list[str]:
    return ["convert", str(file), "--to", "safetensors", "--output", str(file.parent / "out") + "/"]


def _mixed(kit: Kit, file: Path) -> list[str]:
    return ["convert", "mix", f"{{{file}}}*0.5 + {{{file}}}", "--name", "<n>", "--output", str(file.parent / "n.pt")]


_COMMANDS = {"inspect": _inspect, "doctor": _doctor, "convert": _convert, "mix": _mixed}


def _with_file(kit: Kit, command: str, data: bytes | None):
    def build(place: Path) -> list[str]:
        if data is None:
            with open(place / "x.pt", "wb") as file:
                file.truncate(1 << 30)
        else:
            (place / "x.pt").write_bytes(data)
        return _COMMANDS[command](kit, place / "x.pt")

    return build


def _with_unfile(kit: Kit, command: str, kind: str):
    def build(place: Path) -> list[str]:
        (place / "x.pt").write_bytes(b"x")
        _unfile(place / "x.pt", kind)
        return _COMMANDS[command](kit, place / "x.pt")

    return build


def _mix(kit: Kit, text: str):
    def build(place: Path) -> list[str]:
        (place / "x.pt").write_bytes((kit.folder / "run/learned_embeds.safetensors").read_bytes())
        base = ["--pretrained_model_name_or_path", str(kit.folder / "base")]
        return ["convert", "mix", text, "--name", "<n>", "--output", str(place / "n.safetensors"), *base]

    return build


def _is_left_alone(place: Path, said: str) -> Iterator[str]:
    if (place / "owned").exists():
        yield "ran what it was given"


def _of_records(kit: Kit) -> Iterator[Attack]:
    """Records beside an embedding, of which each command looks at another part."""
    spoils = {f"whose {key} is {kind}": _setting(tuple(key.split(".")), value)
              for key in _RECORDED for kind, value in VALUES.items()}  # fmt: skip
    spoils |= {f"that is {kind}": lambda file, data=data: file.write_bytes(data) for kind, data in RAW.items()}
    for what, spoil in spoils.items():
        for command in ("mix", "doctor", "inspect"):

            def build(place: Path, spoil=spoil, command: str = command) -> list[str]:
                run = kit.copy("run", place / "run")
                spoil(run / "run.json")
                words = _COMMANDS[command](kit, run / "learned_embeds.safetensors")
                base = ["--from_start", "0.5", "--pretrained_model_name_or_path", str(kit.folder / "base")]
                return [*words, *base] if command == "mix" else words

            yield Attack(9, f"convert.py {command}: a record {what}", build, EITHER)


def _of_names(kit: Kit) -> Iterator[Attack]:
    """Escapes in the names of files, in placeholder tokens, in metadata, and in what is mixed."""
    width = json.loads((kit.folder / "run/run.json").read_text())["embedding_width"]["text_encoder"]
    vectors = np.ones((1, width), np.float32)
    files = {
        "token": safetensors_bytes({EVIL: vectors}, {}),
        "metadata": safetensors_bytes({"<x>": vectors}, {"base_model": EVIL, "initializer_token": EVIL, EVIL: EVIL}),
    }
    for command in _COMMANDS:
        for what, data in files.items():
            yield Attack(11, f"{command}: escapes in the {what}", _with_file(kit, command, data), EITHER)

        def named(place: Path, command: str = command) -> list[str]:
            (place / f"{EVIL}.pt").write_bytes(files["metadata"])
            return _COMMANDS[command](kit, place / f"{EVIL}.pt")

        yield Attack(11, f"{command}: escapes in the name of the file", named, EITHER)
    for text in (EVIL, f'"{EVIL}"', f"{{{EVIL}}}:{{{EVIL}}}", f"x.pt:{{{EVIL}}}", f"x.pt:<{EVIL}>"):
        yield Attack(11, f"a mix of escapes, {len(text)} letters", _mix(kit, text), EITHER)
