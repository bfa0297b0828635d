"""What the vectors of a learned word started from, computed anew from what its run recorded.

Initial values are no part of an embedding file, nor of a checkpoint: they follow from the base model, the initializer
and the seed, as a resumed run finds them too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from textual_inversion.data.random_streams import initial_vectors_generator
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.formats.budget import MOST_NAMES
from textual_inversion.formats.errors import file_name, printable
from textual_inversion.formats.learned_embedding import LearnedEmbedding, check_width
from textual_inversion.models.text_encoders import TextEncoder
from textual_inversion.models.vocabulary import known_ids
from textual_inversion.settings.choices import AUTO
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError
from textual_inversion.training.initialization import initial_vectors

_LARGEST_SEED = 2**63 - 1


def start_vectors(
    file: ConceptFile, learned: LearnedEmbedding, encoders: Sequence[TextEncoder], model_name: str
) -> tuple[dict[str, np.ndarray], str | None]:
    """The initial values of a learned word's vectors.

    Args:
        encoders: of the base model that it was learned on.
        model_name: what this is called in messages.

    Returns:
        float32 [N, D] by text encoder, and what the user should know about them, None for nothing. With the run.json of
        the run they are those of the run to the last bit.

    Raises:
        ConceptError: nothing says what they started from, or they started from an embedding.
        WrongWidth: it was learned on another base model.
    """
    token = learned.placeholder_token
    check_width(learned, {encoder.name: encoder.embedding_width for encoder in encoders}, model_name)
    concepts, seed, note = _of_run(file, learned), file.run.get("seed"), None
    if concepts is None:
        concepts, seed, note = _of_metadata(file, learned, encoders)
    own = next(index for index, concept in enumerate(concepts) if concept.placeholder_token == token)
    found = initial_vectors(encoders, concepts, initial_vectors_generator(seed))
    first = sum(concept.num_vectors for concept in concepts[:own])
    return {name: array[first : first + learned.num_vectors] for name, array in found.items()}, note


def _of_run(file: ConceptFile, learned: LearnedEmbedding) -> list[Concept] | None:
    """The concepts of a run in its order, as it settled them; None where the record does not say all."""
    tokens, settings = file.recorded_tokens, file.run.get("settings", {})
    if settings.get("initializer_embeds") is not None:
        raise ConceptError(
            f"{_shown(file, learned)} started from another embedding, which its run.json names; mix the two with "
            "weights instead of --from_start"
        )
    counts, asked = _each(file.run.get("num_vectors"), tokens), _each(settings.get("num_vectors"), tokens)
    words = _each(file.run.get("initializer_token"), tokens)
    if learned.placeholder_token not in tokens or not _is_seed(file.run.get("seed")) or not _are_counts(counts):
        return None
    if counts[tokens.index(learned.placeholder_token)] != learned.num_vectors or None in (asked, words):
        return None
    rows = zip(tokens, counts, asked, words, strict=True)
    return [Concept(token, count, word, one_vector_per_token=way == AUTO) for token, count, way, word in rows]


def _of_metadata(
    file: ConceptFile, learned: LearnedEmbedding, encoders: Sequence[TextEncoder]
) -> tuple[list[Concept], int, str]:
    """The concept as the file alone describes it, the seed, and a note on what is not known."""
    word, token = file.recorded("initializer_token", learned.placeholder_token), learned.placeholder_token
    if word is None:
        raise ConceptError(
            f"neither {_shown(file, learned)} nor a run.json beside it says what it started from; mix it with that "
            "word instead of --from_start, as in 'FILE*0.6 + \"toy\"*0.4'"
        )
    seed = learned.metadata.get("seed", "")
    is_seed = seed.isascii() and seed.isdecimal() and len(seed) < 20 and int(seed) <= _LARGEST_SEED
    is_one_each = learned.num_vectors > 1 and len(known_ids(word, encoders[0].tokenizer)) == learned.num_vectors
    note = f"no run.json describes {_shown(file, learned)}; its start is taken to be {printable(word, 40)!r}"
    concept = Concept(token, learned.num_vectors, word, one_vector_per_token=is_one_each)
    return [concept], int(seed) if is_seed else 0, note


def _shown(file: ConceptFile, learned: LearnedEmbedding) -> str:
    return f"{file_name(file.path)}: {printable(learned.placeholder_token, 60)}"


def _each(value: Any, tokens: Sequence[str]) -> list | None:
    """A recorded value for each concept; None where the record is not about as many."""
    if not isinstance(value, list):
        return [value] * len(tokens)
    return value if len(value) == len(tokens) else None


def _are_counts(counts: list | None) -> bool:
    return counts is not None and all(type(n) is int and n > 0 for n in counts) and sum(counts) <= MOST_NAMES


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_SEED
