"""A SentencePiece model file, made from the tokenizer.json of an XLM-RoBERTa tokenizer.

The format is a protocol buffer (sentencepiece_model.proto of the SentencePiece project): pieces with their scores and
kinds, a trainer's settings, and a table of character replacements.
"""

import base64
from typing import Any

# XLM-RoBERTa counts its four special tokens first; SentencePiece counts <unk>, <s>, </s>, and the pieces after that.
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_MASK = "<mask>"


def sentencepiece_bytes(whole: dict[str, Any]) -> bytes:
    """The contents of sentencepiece.bpe.model.

    Args:
        whole: contents of a tokenizer.json with a Unigram model whose vocabulary begins with XLM-RoBERTa's specials.
    """
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = proto.ModelProto()
    kinds = proto.ModelProto.SentencePiece
    for piece, kind in (("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)):
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for piece, score in whole["model"]["vocab"]:
        if piece not in (*_SPECIAL, _MASK):
            model.pieces.add(piece=piece, score=score, type=kinds.NORMAL)
    model.trainer_spec.model_type = proto.TrainerSpec.UNIGRAM
    model.normalizer_spec.name = "nmt_nfkc"
    model.normalizer_spec.precompiled_charsmap = _replacements(whole.get("normalizer") or {})
    return model.SerializeToString()


def _replacements(normalizer: dict[str, Any]) -> bytes:
    """The table of character replacements, wherever the normalizer keeps it."""
    for part in (normalizer, *normalizer.get("normalizers", ())):
        if part.get("precompiled_charsmap"):
            return base64.b64decode(part["precompiled_charsmap"])
    return b""
