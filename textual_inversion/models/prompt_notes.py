"""What a user should know of how prompts are read, a line each, and the training prompts that cannot be used."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import shorten

from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError


def cut_notes(encode_ids: PromptEncoder, texts: Iterable[str]) -> list[str]:
    """A line for each text that is longer than the model reads, with the part that is cut."""
    most, found = encode_ids.max_length * encode_ids.num_chunks, []
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


def check_prompts(
    encode_ids: PromptEncoder,
    concepts: Sequence[Concept],
    prompts: Iterable[tuple[int, str]],
    note: Callable[[str], None],
) -> None:
    """Check that every training prompt holds its image's placeholder, and report how many prompts are cut.

    Args:
        prompts: (index of the concept that it must hold, prompt).
        note: called with the number of cut prompts, and the first of them as an example.

    Raises:
        ConceptError: a prompt does not hold the placeholder as a whole word, or the model's length cuts it off, so that
            nothing would be learned from the prompt.
    """
    cut, most = [], encode_ids.room * encode_ids.num_chunks
    for index, prompt in dict.fromkeys(prompts):
        ids, token = encode_ids.token_ids(prompt), concepts[index].placeholder_token
        if not set(encode_ids.token_ids(token)) <= set(ids):
            raise ConceptError(
                f"the prompt {shorten(prompt, 60)!r} does not hold {token} as a word of its own; put spaces around it"
            )
        read = encode_ids.read_ids(prompt)
        if len(ids) == len(read):
            continue
        cut.append(prompt)
        if not set(encode_ids.token_ids(token)) <= set(read):
            raise ConceptError(
                f"the prompt {shorten(prompt, 60)!r} has {len(ids)} tokens and the model reads {most}, "
                f"which cuts off {token}; shorten it, put {token} first, or raise --max_token_length"
            )
    if cut:
        note(
            f"{len(cut)} training prompt(s) are longer than the {most} tokens the model reads, and are "
            f"cut; {shorten(cut[0], 60)!r} loses {shorten(encode_ids.dropped(cut[0]), 100)!r}"
        )
