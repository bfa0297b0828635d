"""Tokenizers of the text encoders, from any set of files in which they are stored; folders are only read.

Each kind of tokenizer is one entry of `KINDS`: its class, its vocabulary files, and how a tokenizer.json is turned into
these files. Special tokens, added tokens and the longest prompt are handled alike for all kinds.
"""

import codecs
import importlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.models.sentencepiece_file import sentencepiece_bytes
from textual_inversion.system import atomic
from textual_inversion.system.errors import BaseModelError

_ENDS = ("bos_token", "eos_token", "unk_token", "pad_token")
_UNMERGED = 600  # vocabulary words that are not a merge: 512 letters, the special tokens, and some added by a user
_SHORTEST = 8  # tokens of a prompt
_MARKS = ("cls_token", "sep_token", "unk_token", "pad_token", "mask_token")


@dataclass(frozen=True)
class TokenizerKind:
    """How one class of tokenizer is stored.

    Attributes:
        class_name: in `ppdiffusers.transformers`.
        files: its vocabulary files, in the order of the class's arguments.
        special: its special tokens, where no file names them.
        rebuild: contents of a tokenizer.json -> contents of `files`; None for another kind of tokenizer.
        vocabulary: tokenizer -> contents of `files`, for saving.
        settings: names of further entries of tokenizer_config.json that decide how text is split.
        spaced: names of the special tokens that include the space before them.
    """

    class_name: str
    files: tuple[str, ...]
    special: dict[str, str]
    rebuild: Callable[[dict[str, Any]], Sequence[str | bytes] | None]
    vocabulary: Callable[[Any], Sequence[str | bytes]]
    settings: tuple[str, ...] = ()
    spaced: tuple[str, ...] = ()


def load_tokenizer(class_name: str, folder: Path, *, longest: int, settings_folder: Path | None = None) -> Any:
    """The tokenizer of a folder with its vocabulary files, or with tokenizer.json only.

    Args:
        class_name: a key of `KINDS`.
        longest: number of positions of the text encoder; `model_max_length` is at most this.
        settings_folder: a folder whose tokenizer_config.json, if there is one, takes precedence.

    Returns:
        A tokenizer of ppdiffusers with the special and added tokens that the folder names.

    Raises:
        BaseModelError: the files are missing, damaged or of another kind of tokenizer, or there are gaps in the ids.
    """
    kind = KINDS[class_name]
    config = _read(folder / "tokenizer_config.json") | _read(folder / "special_tokens_map.json")
    if settings_folder is not None:
        config |= _read(settings_folder / "tokenizer_config.json")
    whole = _read(folder / "tokenizer.json")
    settings = {name: _content(config.get(name)) or usual for name, usual in kind.special.items()}
    settings |= {name: config[name] for name in kind.settings if name in config}
    settings["model_max_length"] = _longest(config.get("model_max_length"), longest, folder)
    cls = getattr(importlib.import_module("ppdiffusers.transformers"), class_name)
    if all((folder / name).is_file() for name in kind.files):
        tokenizer = _from_files(cls, kind, [folder / name for name in kind.files], settings)
    elif whole:
        tokenizer = _rebuilt(cls, kind, whole, folder / "tokenizer.json", settings)
    else:
        names = " and ".join(kind.files)
        raise BaseModelError(f"{folder} lacks {names}, or tokenizer.json; download the tokenizer again")
    if kind is _CLIP and len(tokenizer.encoder) - len(tokenizer.bpe_ranks) > _UNMERGED:
        raise BaseModelError(f"{folder} has merges for only a part of its words; download {kind.files[1]} again")
    if tokenizer.pad_token_id is None:
        raise BaseModelError(f"{folder} lacks its special tokens in {kind.files[0]}; download the tokenizer again")
    _add_tokens(tokenizer, _added_tokens(folder, config, whole), folder)
    return tokenizer


def _longest(stored: Any, longest: int, folder: Path) -> int:
    """Tokens per prompt: the tokenizer's stored number, at most the number of the encoder's positions."""
    if stored is None:
        return longest
    if not isinstance(stored, (int, float)) or stored < _SHORTEST:
        raise BaseModelError(
            f"{folder} says model_max_length {stored!r}, which no model has; download the tokenizer again"
        )
    return int(min(stored, longest))


def load_clip_tokenizer(folder: Path, *, longest: int) -> Any:
    """`load_tokenizer` for a CLIPTokenizer."""
    return load_tokenizer("CLIPTokenizer", folder, longest=longest)


def holds_vocabulary(folder: Path) -> bool:
    """Whether a folder holds the vocabulary of any kind of tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.json", *(kind.files[0] for kind in KINDS.values())))


def tokenizer_files(tokenizer: Any, tokens: Sequence[str]) -> dict[str, Any]:
    """All files of a tokenizer with some new tokens added, for ppdiffusers to load.

    Returns:
        File name -> contents: text, bytes, or a dictionary to be written as JSON.
    """
    kind = KINDS[type(tokenizer).__name__]
    special = {name: str(getattr(tokenizer, name)) for name in kind.special}
    added = dict(tokenizer.get_added_vocab())
    added |= {token: len(tokenizer) + number for number, token in enumerate(tokens)}
    settings = {name: tokenizer.init_kwargs[name] for name in kind.settings if name in tokenizer.init_kwargs}
    # Not as plain text, for which the class of ppdiffusers 0.29 builds an AddedToken that paddlenlp does not have.
    spaced = {name: {"__type": "AddedToken", "content": special[name], "lstrip": True} for name in kind.spaced}
    settings |= special | spaced | {"model_max_length": tokenizer.model_max_length, "tokenizer_class": kind.class_name}
    return {
        **dict(zip(kind.files, kind.vocabulary(tokenizer), strict=True)),
        "tokenizer_config.json": settings,
        "special_tokens_map.json": special,
        "added_tokens.json": added,
    }


# --------------------------------------------------------------------------------------------------------- the kinds


def _clip_from_json(whole: dict[str, Any]) -> Sequence[str] | None:
    model = whole.get("model") or {}
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") != "</w>" or not model.get("vocab"):
        return None
    pairs = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", ())]
    return json.dumps(model["vocab"], ensure_ascii=False), _lines(["#version: 0.2", *pairs])


def _clip_vocabulary(tokenizer: Any) -> Sequence[str]:
    vocabulary = json.dumps(tokenizer.encoder, ensure_ascii=False)
    return vocabulary, _lines(["#version: 0.2", *(" ".join(pair) for pair in tokenizer.bpe_ranks)])


def _bert_from_json(whole: dict[str, Any]) -> Sequence[str] | None:
    model = whole.get("model") or {}
    if model.get("type") != "WordPiece" or not model.get("vocab"):
        return None
    return (_lines(sorted(model["vocab"], key=model["vocab"].get)),)


def _bert_vocabulary(tokenizer: Any) -> Sequence[str]:
    words = tokenizer.vocab.token_to_idx
    return (_lines(sorted(words, key=words.get)),)


def _roberta_from_json(whole: dict[str, Any]) -> Sequence[bytes] | None:
    model = whole.get("model") or {}
    if model.get("type") != "Unigram" or not model.get("vocab"):
        return None
    return (sentencepiece_bytes(whole),)


def _roberta_vocabulary(tokenizer: Any) -> Sequence[bytes]:
    return (tokenizer.sp_model.serialized_model_proto(),)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


_CLIP = TokenizerKind(
    "CLIPTokenizer",
    ("vocab.json", "merges.txt"),
    dict.fromkeys(_ENDS, "<|endoftext|>") | {"bos_token": "<|startoftext|>"},
    _clip_from_json,
    _clip_vocabulary,
)
_BERT = TokenizerKind(
    "BertTokenizer",
    ("vocab.txt",),
    {name: f"[{name.removesuffix('_token').upper()}]" for name in _MARKS},
    _bert_from_json,
    _bert_vocabulary,
    ("do_lower_case", "tokenize_chinese_chars", "strip_accents"),
)
_ROBERTA = TokenizerKind(
    "XLMRobertaTokenizer",
    ("sentencepiece.bpe.model",),
    {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    _roberta_from_json,
    _roberta_vocabulary,
    spaced=("mask_token",),
)
KINDS = {kind.class_name: kind for kind in (_CLIP, _BERT, _ROBERTA)}

# All files that tokenizers are stored in.
FILES = (
    *(name for kind in KINDS.values() for name in kind.files),
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


# ---------------------------------------------------------------------------------------------------------- reading


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BaseModelError(f"{path} is not a readable JSON file; download it again") from error
    return value if isinstance(value, dict) else {}


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _from_files(cls: type, kind: TokenizerKind, files: list[Path], settings: dict[str, Any]) -> Any:
    """A tokenizer from its vocabulary files. Byte-order marks, which editors put in, are no part of a vocabulary."""
    try:
        contents = [path.read_bytes() for path in files]
    except OSError as error:
        raise BaseModelError(f"{error.filename} cannot be read ({error.strerror}); change its permissions") from error
    if not any(content.startswith(codecs.BOM_UTF8) for content in contents):
        return _built(cls, kind, files, settings)
    return _from_contents(cls, kind, [content.removeprefix(codecs.BOM_UTF8) for content in contents], settings)


def _from_contents(cls: type, kind: TokenizerKind, contents: Sequence[bytes], settings: dict[str, Any]) -> Any:
    """A tokenizer whose vocabulary files are in a temporary folder, which is removed with it."""
    folder = tempfile.TemporaryDirectory(prefix="tokenizer-")
    files = [Path(folder.name, name) for name in kind.files]
    for path, content in zip(files, contents, strict=True):
        atomic.write_new(path, content)
    tokenizer = _built(cls, kind, files, settings)
    tokenizer._files = folder  # ppdiffusers copies the files when it saves a pipeline
    return tokenizer


def _built(cls: type, kind: TokenizerKind, files: list[Path], settings: dict[str, Any]) -> Any:
    from paddlenlp.transformers.tokenizer_utils_base import AddedToken

    spaced = {name: AddedToken(settings[name], lstrip=True) for name in kind.spaced}
    try:
        tokenizer = cls(*map(str, files), **settings | spaced, verbose=False)
    except Exception as error:  # damaged files make these classes raise nearly everything
        raise BaseModelError(f"{files[0]} is damaged; download the tokenizer again") from error
    tokenizer.init_kwargs = {**settings, **getattr(tokenizer, "init_kwargs", {})}
    return tokenizer


def _rebuilt(cls: type, kind: TokenizerKind, whole: dict[str, Any], source: Path, settings: dict[str, Any]) -> Any:
    """A tokenizer from a tokenizer.json."""
    contents = kind.rebuild(whole)
    if contents is None:
        name = kind.class_name.removesuffix("Tokenizer")
        raise BaseModelError(
            f"{source} is not a {name} tokenizer; save it with {' and '.join(kind.files)}, or choose another "
            "with --tokenizer_name"
        )
    normalizer = whole.get("normalizer") or {}
    known = {"lowercase": "do_lower_case", "handle_chinese_chars": "tokenize_chinese_chars"}
    stored = {known.get(key, key): value for key, value in normalizer.items()}
    settings = {name: stored[name] for name in kind.settings if name in stored} | settings
    encoded = [content if isinstance(content, bytes) else content.encode("utf-8") for content in contents]
    return _from_contents(cls, kind, encoded, settings)


def _added_tokens(folder: Path, config: dict[str, Any], whole: dict[str, Any]) -> dict[str, int]:
    """Added tokens -> ids, from all three files that may list them."""
    added = {_content(token): int(number) for number, token in (config.get("added_tokens_decoder") or {}).items()}
    added |= {token["content"]: int(token["id"]) for token in whole.get("added_tokens") or ()}
    return added | _read(folder / "added_tokens.json")


def _add_tokens(tokenizer: Any, added: dict[str, int], folder: Path) -> None:
    vocabulary = tokenizer.get_vocab()
    for token, number in sorted(added.items(), key=lambda item: item[1]):
        if vocabulary.get(token) == number:
            continue
        following = len(tokenizer)
        tokenizer.add_tokens(token)
        if tokenizer.get_vocab().get(token) != number:
            raise BaseModelError(
                f"{folder} gives its added token {token} the id {number}, where {following} would be next; "
                "save the tokenizer again, or choose another with --tokenizer_name"
            )
