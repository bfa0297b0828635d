"""CLIP tokenizers from any of the file sets in which they are stored; the folder is only read."""

import json
import tempfile
from pathlib import Path
from typing import Any

from textual_inversion.errors import BaseModelError

_SPECIAL = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}


def load_clip_tokenizer(folder: Path, *, longest: int):
    """The CLIP tokenizer of a folder with vocab.json and merges.txt, or with tokenizer.json only.

    Args:
        longest: tokens that the text encoder has positions for; `model_max_length` is at most this.

    Returns:
        A ppdiffusers CLIPTokenizer with the special and added tokens that the folder names.

    Raises:
        BaseModelError: the files are missing, damaged, of another kind of tokenizer, or leave gaps in the ids.
    """
    from ppdiffusers.transformers import CLIPTokenizer

    config = _read(folder / "tokenizer_config.json") | _read(folder / "special_tokens_map.json")
    whole = _read(folder / "tokenizer.json")
    special = {name: _content(config.get(name)) or usual for name, usual in _SPECIAL.items()}
    special["verbose"] = False
    special["model_max_length"] = min(int(config.get("model_max_length") or longest), longest)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), **special)
    elif whole:
        tokenizer = _rebuilt(CLIPTokenizer, whole, folder / "tokenizer.json", special)
    else:
        raise BaseModelError(f"{folder} lacks vocab.json and merges.txt, or tokenizer.json; fetch the tokenizer again")
    _add_tokens(tokenizer, _added_tokens(folder, config, whole), folder)
    return tokenizer


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} is no readable JSON file; fetch it again") from error
    return value if isinstance(value, dict) else {}


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _rebuilt(cls, whole: dict[str, Any], source: Path, special: dict[str, Any]):
    """Write vocabulary and merges of a tokenizer.json to a temporary folder that lives as long as the tokenizer."""
    model = whole.get("model") or {}
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") != "</w>" or not model.get("vocab"):
        raise BaseModelError(
            f"{source} is no CLIP tokenizer; save it with vocab.json and merges.txt or name another by --tokenizer_name"
        )
    pairs = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", ())]
    folder = tempfile.TemporaryDirectory(prefix="tokenizer-")
    vocabulary, merges = Path(folder.name, "vocab.json"), Path(folder.name, "merges.txt")
    vocabulary.write_text(json.dumps(model["vocab"], ensure_ascii=False), "utf-8")
    merges.write_text("\n".join(["#version: 0.2", *pairs]) + "\n", "utf-8")
    tokenizer = cls(str(vocabulary), str(merges), **special)
    tokenizer._files = folder  # ppdiffusers copies both files when it saves a pipeline
    return tokenizer


def _added_tokens(folder: Path, config: dict[str, Any], whole: dict[str, Any]) -> dict[str, int]:
    """Added tokens -> ids, from whichever of the three places names them."""
    added = {_content(token): int(number) for number, token in (config.get("added_tokens_decoder") or {}).items()}
    added |= {token["content"]: int(token["id"]) for token in whole.get("added_tokens") or ()}
    return added | _read(folder / "added_tokens.json")


def _add_tokens(tokenizer, added: dict[str, int], folder: Path) -> None:
    vocabulary = tokenizer.get_vocab()
    for token, number in sorted(added.items(), key=lambda item: item[1]):
        if vocabulary.get(token) == number:
            continue
        following = len(tokenizer)
        tokenizer.add_tokens(token)
        if tokenizer.get_vocab().get(token) != number:
            raise BaseModelError(
                f"{folder} gives its added token {token} the id {number}, where {following} would be next; "
                "save the tokenizer again or name another by --tokenizer_name"
            )
