"""What a user should know of how prompts are read, a line each."""

from collections.abc import Iterable, Sequence
from textwrap import shorten

from textual_inversion.models.prompt_encoder import PromptEncoder


def cut_notes(encode_ids: PromptEncoder, texts: Iterable[str]) -> list[str]:
    """A line for each text that is longer than the model reads, with the part that is cut."""
    most, found = encode_ids.max_length, []
    for text in dict.fromkeys(texts):
        if dropped := encode_ids.dropped(text):
            counts = encode_ids.too_large(text).values()
            why = "".join(f"a word of {n} vectors cannot fit in a prompt of {encode_ids.room} tokens: " for n in counts)
            found.append(f"{why}{shorten(text, 60)!r} is longer than the model reads ({most} tokens); cut: {dropped!r}")
    return found


def reading_notes(encoders: Sequence[PromptEncoder], texts: Iterable[str], *, prompt_weights: bool) -> list[str]:
    """What the user should know of how prompts are read: text that is cut, marks of weights that are read as text.

    Args:
        encoders: one for each text encoder.
        prompt_weights: the marks are read and nothing is cut, so there is nothing to say.

    Raises:
        SettingsError: with `prompt_weights`, a prompt cannot be encoded.
    """
    texts = list(dict.fromkeys(texts))
    if prompt_weights:
        for text in texts:
            for encode_ids in encoders:
                encode_ids.chunks(text)
        return []
    found, marked = cut_notes(encoders[0], texts), [text for text in texts if encoders[0].holds_marks(text)]
    if marked:
        more = f" (and {len(marked) - 1} more)" if len(marked) > 1 else ""
        found.append(
            f"{shorten(marked[0], 60)!r}{more} holds brackets or backslashes, which are read as text; "
            "--prompt_weights reads them as weights, such as (word:1.3)"
        )
    return found
