"""Tokenizers of the text encoders, from any set of files in which they are stored; folders are only read.

How a kind of tokenizer is stored is said in `tokenizer_kinds`. Special tokens, added tokens and the longest prompt are
handled alike for all kinds.
"""

import codecs
import importlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textual_inversion.formats.errors import printable
from textual_inversion.models.tokenizer_kinds import CLIP, KINDS, TokenizerKind
from textual_inversion.models.weight_files import LARGEST_LIST, read_bytes, read_json
from textual_inversion.system import atomic
from textual_inversion.system.errors import BaseModelError

_UNMERGED = 600  # vocabulary words that are not a merge: 512 letters, the special tokens, and some added by a user
_SHORTEST = 8  # tokens of a prompt


def load_tokenizer(
    class_name: str, folder: Path, *, longest: int, rows: int | None = None, settings_folder: Path | None = None
) -> Any:
    """The tokenizer of a folder with its vocabulary files, or with tokenizer.json only.

    Args:
        class_name: a key of `tokenizer_kinds.KINDS`.
        longest: number of positions of the text encoder; `model_max_length` is at most this.
        rows: number of rows of the text encoder's embedding table, which all ids must be within.
        settings_folder: a folder whose tokenizer_config.json, if there is one, takes precedence.

    Returns:
        A tokenizer of ppdiffusers with the special and added tokens that the folder names.

    Raises:
        BaseModelError: the files are missing, damaged or of another kind of tokenizer, or ids are no whole numbers,
            outside the table, used twice or with gaps.
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
    if all(os.path.lexists(folder / name) for name in kind.files):
        tokenizer = _from_files(cls, kind, [folder / name for name in kind.files], settings)
    elif whole:
        tokenizer = _rebuilt(cls, kind, whole, folder / "tokenizer.json", settings)
    else:
        names = " and ".join(kind.files)
        raise BaseModelError(f"{folder} lacks {names}, or tokenizer.json; download the tokenizer again")
    if kind is CLIP and len(tokenizer.encoder) - len(tokenizer.bpe_ranks) > _UNMERGED:
        raise BaseModelError(f"{folder} has merges for only a part of its words; download {kind.files[1]} again")
    if tokenizer.pad_token_id is None:
        raise BaseModelError(f"{folder} lacks its special tokens in {kind.files[0]}; download the tokenizer again")
    _add_tokens(tokenizer, _added_tokens(folder, config, whole), folder)
    _check_ids(tokenizer, kind, rows, folder)
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


def load_clip_tokenizer(folder: Path, *, longest: int, rows: int | None = None) -> Any:
    """`load_tokenizer` for a CLIPTokenizer."""
    return load_tokenizer("CLIPTokenizer", folder, longest=longest, rows=rows)


def holds_vocabulary(folder: Path) -> bool:
    """Whether a folder holds the vocabulary of any kind of tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.json", *(kind.files[0] for kind in KINDS.values())))


def added_words(tokenizer: Any) -> dict[str, list[str]]:
    """The tokens that were added to a vocabulary, as ppdiffusers' and diffusers' pipelines read them in a prompt.

    Returns:
        Token -> the tokens that it stands for: `<word>` for `<word>`, `<word>_1`, … as far as these go without a gap.
    """
    # Tokens that no text is split at, other than the special ones, were added too, with ids of the vocabulary's own.
    added = dict.fromkeys((*tokenizer.get_added_vocab(), *tokenizer.unique_no_split_tokens))
    words = {}
    for token in added.keys() - set(tokenizer.all_special_tokens):
        names = [token]
        while (following := f"{token}_{len(names)}") in added:
            names.append(following)
        words[token] = names
    return words


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


# ---------------------------------------------------------------------------------------------------------- reading


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, LARGEST_LIST) if os.path.lexists(path) else {}


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _from_files(cls: type, kind: TokenizerKind, files: list[Path], settings: dict[str, Any]) -> Any:
    """A tokenizer from its vocabulary files. Byte-order marks, which editors put in, are no part of a vocabulary."""
    contents = [read_bytes(path, LARGEST_LIST) for path in files]
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
    listed = _read(folder / "added_tokens.json")
    try:
        decoder = config.get("added_tokens_decoder") or {}
        added = {_content(token): int(number) for number, token in decoder.items()}
        added |= {token["content"]: token["id"] for token in whole.get("added_tokens") or ()} | listed
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BaseModelError(
            f"{folder} lists its added tokens in no known way; download the tokenizer again"
        ) from error
    for token, number in added.items():
        if not isinstance(token, str) or type(number) is not int:
            shown = f"the token {printable(repr(token), 40)} the id {printable(repr(number), 40)}"
            raise BaseModelError(f"{folder} gives {shown}, which is no whole number; download the tokenizer again")
    return added


def _add_tokens(tokenizer: Any, added: dict[str, int], folder: Path) -> None:
    vocabulary, special = tokenizer.get_vocab(), set(tokenizer.all_special_tokens)
    for token, number in sorted(added.items(), key=lambda item: item[1]):
        following = len(tokenizer)
        if vocabulary.get(token) == number:
            if token not in special:  # else a text would be split within the token
                tokenizer.add_tokens(token, special_tokens=True)
            continue
        tokenizer.add_tokens(token)
        if tokenizer.convert_tokens_to_ids(_as_added(tokenizer, token)) != number:
            raise BaseModelError(
                f"{folder} gives its added token {token} the id {number}, where {following} would be next; "
                "save the tokenizer again, or choose another with --tokenizer_name"
            )


def _as_added(tokenizer: Any, token: str) -> str:
    """An added token as paddlenlp keeps it: in small letters if that is how the tokenizer reads all text."""
    return token.lower() if getattr(tokenizer, "do_lower_case", False) else token


# --------------------------------------------------------------------------------------------------------- checking


def _check_ids(tokenizer: Any, kind: TokenizerKind, rows: int | None, folder: Path) -> None:
    """Refuse a vocabulary whose words would be read as other words, or as learned ones; raises BaseModelError."""
    vocabulary = tokenizer.encoder | tokenizer.get_added_vocab() if kind is CLIP else tokenizer.get_vocab()
    holders, size = {}, len(tokenizer)
    for token, number in vocabulary.items():
        fault = None
        if type(number) is not int or number < 0:
            fault = "which is no whole number; download the tokenizer again"
        elif rows is not None and number >= rows:
            fault = f"and its text encoder has {rows} tokens; they belong to different models"
        elif number >= size:  # a learned word would get the id of one behind the gap
            fault = f"although it has {size} tokens; download the tokenizer again"
        elif holders.setdefault(number, token) != token:
            fault = f"which is {printable(repr(holders[number]), 40)}'s; download the tokenizer again"
        if fault:
            shown = f"the token {printable(repr(token), 40)} the id {printable(repr(number), 40)}"
            raise BaseModelError(f"{folder} gives {shown}, {fault}")
    _check_special(tokenizer, kind, folder)


def _check_special(tokenizer: Any, kind: TokenizerKind, folder: Path) -> None:
    """Refuse a tokenizer without one of its special tokens, or whose texts begin and end alike."""
    for name in kind.special:
        token = str(getattr(tokenizer, name))
        number = tokenizer.convert_tokens_to_ids(token)
        if number is None or (number == tokenizer.unk_token_id and token != str(tokenizer.unk_token)):
            raise BaseModelError(
                f"{folder} names {printable(repr(token), 40)} as {name}, and its vocabulary has no such token; "
                "download the tokenizer again"
            )
    begin, *_, end = tokenizer.build_inputs_with_special_tokens([])
    if begin == end:
        raise BaseModelError(
            f"{folder} has one token for the beginning and the end of a text; download the tokenizer again"
        )
