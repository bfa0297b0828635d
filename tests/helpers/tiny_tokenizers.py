"""Tiny tokenizers of the three kinds, built in code; each knows `WORDS` and is stored in either of two file sets."""

import base64
import io
import json
from pathlib import Path

import numpy as np

WORDS = (
    "a an the photo picture rendering painting of in on at with and my one toy cat dog rabbit style backpack beach "
    "snow grass table night room small large good bad dark bright clean dirty cool nice weird close up cropped "
    "depiction illustration red blue green orange pink teal striped spotted art"
).split()
CHINESE = "一张的照片玩具猫狗在海滩上画风格好坏大小明亮暗红蓝绿夜雪"
START, END = "<|startoftext|>", "<|endoftext|>"
POSITIONS = 77


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def write_tokenizer(folder: Path, *, json_only: bool = False, pad: str = END) -> dict[str, int]:
    """Write a CLIP tokenizer that knows `WORDS` and, byte by byte, every text; returns its vocabulary."""
    letters = _byte_letters()
    merges = _merges(WORDS)
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *dict.fromkeys("".join(m) for m in merges),
        START,
        END,
    ]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    special = dict(bos_token=START, eos_token=END, unk_token=END, pad_token=pad)
    write_json(
        folder / "tokenizer_config.json", dict(special, model_max_length=POSITIONS, tokenizer_class="CLIPTokenizer")
    )
    if json_only:
        model = dict(type="BPE", end_of_word_suffix="</w>", vocab=vocabulary, merges=[list(pair) for pair in merges])
        added = [dict(id=vocabulary[token], content=token, special=True) for token in (START, END)]
        write_json(folder / "tokenizer.json", dict(version="1.0", added_tokens=added, model=model))
        return vocabulary
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return vocabulary


def _byte_letters() -> list[str]:
    """CLIP's letter for each byte, bytes that print first."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printing]
    return [chr(byte) for byte in printing] + [chr(256 + number) for number in range(len(other))]


def _merges(words) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        for pair in merges:
            pieces = _merged(pieces, pair)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _merged(pieces, merges[-1])
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result


def write_bert_tokenizer(folder: Path, *, json_only: bool = False) -> dict[str, int]:
    """Write a BERT tokenizer that knows `WORDS`, every letter, and some Chinese characters; returns its vocabulary."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!'<>-_"
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    words = dict.fromkeys([*special.values(), *letters, *(f"##{letter}" for letter in letters), *WORDS, *CHINESE])
    vocabulary = {word: number for number, word in enumerate(words)}
    config = dict(special, model_max_length=POSITIONS, tokenizer_class="BertTokenizer", do_lower_case=True)
    write_json(folder / "tokenizer_config.json", config)
    if json_only:
        added = [dict(id=vocabulary[token], content=token, special=True) for token in special.values()]
        model = dict(type="WordPiece", unk_token="[UNK]", continuing_subword_prefix="##", vocab=vocabulary)
        normalizer = dict(type="BertNormalizer", lowercase=True, handle_chinese_chars=True, strip_accents=None)
        write_json(folder / "tokenizer.json", dict(added_tokens=added, normalizer=normalizer, model=model))
    else:
        write_json(folder / "special_tokens_map.json", special)
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    return vocabulary


def write_roberta_tokenizer(folder: Path, *, json_only: bool = False) -> dict[str, int]:
    """Write an XLM-RoBERTa tokenizer, as SentencePiece learns it from `WORDS`; returns its vocabulary."""
    special = dict(bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", unk_token="<unk>")
    special |= dict(pad_token="<pad>", mask_token="<mask>")
    config = dict(special, model_max_length=POSITIONS, tokenizer_class="XLMRobertaTokenizer")
    write_json(folder / "tokenizer_config.json", config)
    model = _learned_pieces()
    pieces = [(piece.piece, piece.score) for piece in model.pieces[3:]]
    whole = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, ("<mask>", 0.0)]
    if json_only:
        table = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
        normalizer = dict(type="Sequence", normalizers=[dict(type="Precompiled", precompiled_charsmap=table)])
        content = dict(normalizer=normalizer, model=dict(type="Unigram", unk_id=3, vocab=whole), added_tokens=[])
        write_json(folder / "tokenizer.json", content)
    else:
        write_json(folder / "special_tokens_map.json", special)
        (folder / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())
    return {piece: number for number, (piece, _) in enumerate(whole)}


def _learned_pieces():
    """A SentencePiece model of sentences in both languages."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    generator, written = np.random.default_rng(0), io.BytesIO()
    sentences = [" ".join(generator.permutation(WORDS)[:8]) for _ in range(60)] + list(CHINESE)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        vocab_size=150,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
