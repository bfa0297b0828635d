"""A CLIP tokenizer of the real size, 49,408 tokens, made of the words of this project's prompts and of syllables."""

import json
from itertools import product
from pathlib import Path

VOCABULARY = 49408
POSITIONS = 77
_START, _END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer of the real size: its tokens are the words of the training prompts, then syllables."""
    letters = _byte_letters()
    merges = _merges(VOCABULARY - 2 * len(letters) - 2)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), _START, _END]
    special = dict(bos_token=_START, eos_token=_END, unk_token=_END, pad_token=_END)
    config = dict(special, model_max_length=POSITIONS, tokenizer_class="CLIPTokenizer")
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _byte_letters() -> list[str]:
    """CLIP's letter for each byte, bytes that print first."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = 256 - len(printing)
    return [chr(byte) for byte in printing] + [chr(256 + number) for number in range(rest)]


def _merges(count: int) -> list[tuple[str, str]]:
    """So many pairs of pieces, each of which makes a token that no other pair makes."""
    pairs: dict[str, tuple[str, str]] = {}
    for word in known_words():
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        for pair in pairs.values():
            pieces = _merged(pieces, pair)
        while len(pieces) > 1:
            first, second = pieces[:2]
            pairs[first + second] = (first, second)
            pieces = [first + second, *pieces[2:]]
    syllables = ["".join(letters) for letters in product("bcdfghjklmnpqrstvwxz", "aeiou")]
    made = [(c, v + end) for end in ("", "</w>") for c, v in syllables]
    made += [(first, second + end) for end in ("", "</w>") for first in syllables for second in syllables]
    made += [(a + b, c + "</w>") for a in syllables for b in syllables for c in syllables[:5]]
    for first, second in made:
        if len(pairs) == count:
            break
        pairs.setdefault(first + second, (first, second))
    return list(pairs.values())


def known_words() -> list[str]:
    """The words of the English training prompts and edit prompts, each of which is one token."""
    from textual_inversion.data.templates import templates
    from textual_inversion.generation.eval_prompts import EDITS
    from textual_inversion.settings.choices import GENERIC_WORDS, PROPERTIES

    prompts = [*GENERIC_WORDS.values(), *(text for kind in PROPERTIES for text in templates(kind))]
    prompts += [text for texts in EDITS.values() for text in texts]
    words = " ".join(prompts).lower().replace("{}", " ").split()
    return sorted({word for word in words if word.isalpha() and len(word) > 1})


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result


def write_json(path: Path, value: object) -> None:
    """Write a small file and the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
