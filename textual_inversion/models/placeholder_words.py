"""Placeholder tokens as words: how they are found in a text, and which ones a base model leaves free."""

import re
from collections.abc import Iterable
from typing import Any

from textual_inversion.formats.errors import TokenTaken
from textual_inversion.formats.learned_embedding import check_token, composed, from_source, other_name, token_names
from textual_inversion.models.tokenizers import added_words

# Characters of scripts that put no spaces between words, so that the end of a word cannot be seen.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED += "\U00020000-\U0003ffff"
_COUNTED = re.compile(r"(.+)_([1-9]\d*)", re.DOTALL)
_WITHIN_WORD = rf"(?:(?![{_UNSPACED}])\w|-)"


def whole_words(words: Iterable[str]) -> re.Pattern | None:
    """A pattern, with one group, that finds any of the words where it is not part of a longer word.

    Next to characters of scripts that are written without spaces, a word is found in any case: `一张det-logo的照片`.
    """
    if not words:
        return None
    alternatives = []
    for word in sorted(words, key=len, reverse=True):
        left = rf"(?<!{_WITHIN_WORD})" if re.match(_WITHIN_WORD, word[0]) else ""
        right = rf"(?!{_WITHIN_WORD})" if re.match(_WITHIN_WORD, word[-1]) else ""
        alternatives.append(f"{left}{re.escape(word)}{right}")
    return re.compile("(" + "|".join(alternatives) + ")")


def check_placeholder(placeholder: str, tokenizer: Any, *, num_vectors: int = 1, source: str = "") -> None:
    """Refuse a placeholder token that is unusable, or that the tokenizer's vocabulary holds already.

    Args:
        num_vectors: the names of its further vectors, `token_names`, must be free as well.
        source: the file that it comes from, for messages.

    Raises:
        UnusableToken, TokenTaken: both are ConceptErrors.
    """
    check_token(placeholder, source=source)
    begin, vocabulary = f"{from_source(source)}the placeholder token {placeholder!r}", tokenizer.get_vocab()
    words = {composed(word): names for word, names in added_words(tokenizer).items()}
    for name in token_names(placeholder, num_vectors):
        pieces = tokenizer.tokenize(name)
        is_one = len(pieces) == 1 and tokenizer.convert_tokens_to_ids(pieces[0]) != tokenizer.unk_token_id
        if is_one or name in vocabulary or name in words:
            which = "is" if name == placeholder else f"has a vector {name!r}, which is"
            raise TokenTaken(f"{begin} {which} a token of this base model already; " + other_name(placeholder, source))
    counted = _COUNTED.fullmatch(placeholder)
    if counted and len(words.get(counted[1], ())) == int(counted[2]):
        raise TokenTaken(
            f"{begin} would be read as one more vector of {counted[1]}, a word of this base model; "
            + other_name(placeholder, source)
        )
