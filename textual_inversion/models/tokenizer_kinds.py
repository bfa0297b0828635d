"""The kinds of tokenizers: for each its class, its vocabulary files, and how a tokenizer.json is turned into these.

Each is one entry of `KINDS`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textual_inversion.models.sentencepiece_file import sentencepiece_bytes

_ENDS = ("bos_token", "eos_token", "unk_token", "pad_token")
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


CLIP = TokenizerKind(
    "CLIPTokenizer",
    ("vocab.json", "merges.txt"),
    dict.fromkeys(_ENDS, "<|endoftext|>") | {"bos_token": "<|startoftext|>"},
    _clip_from_json,
    _clip_vocabulary,
)
BERT = TokenizerKind(
    "BertTokenizer",
    ("vocab.txt",),
    {name: f"[{name.removesuffix('_token').upper()}]" for name in _MARKS},
    _bert_from_json,
    _bert_vocabulary,
    ("do_lower_case", "tokenize_chinese_chars", "strip_accents"),
)
ROBERTA = TokenizerKind(
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
KINDS = {kind.class_name: kind for kind in (CLIP, BERT, ROBERTA)}

# All files that tokenizers are stored in.
FILES = (
    *(name for kind in KINDS.values() for name in kind.files),
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
