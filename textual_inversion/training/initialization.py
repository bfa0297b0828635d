"""What the vectors of a concept start from: a word, a phrase, random numbers, or an embedding learned before.

add_concepts   gives a base model the concepts of a run: vectors beside its embedding tables, prompts that know them
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from textual_inversion.data.random_streams import initial_vectors_generator
from textual_inversion.data.read_images import ReadImages
from textual_inversion.embeddings.file_names import safe_name, without_time
from textual_inversion.formats.embedding_file import LearnedEmbedding, check_width
from textual_inversion.formats.layouts import group_vectors
from textual_inversion.models.attach import attach_concepts
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.placeholder_words import check_placeholder
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.models.prompt_notes import check_prompts
from textual_inversion.models.text_encoders import TextEncoder
from textual_inversion.models.vocabulary import known_ids
from textual_inversion.settings.concept import Concept
from textual_inversion.system.errors import ConceptError
from textual_inversion.training.diagnostics import unread_tokens
from textual_inversion.training.state import ConceptVectors

# Spread of the vectors of one concept around the initializer, as a share of the table's own std: enough to tell them
# apart, too little to leave the word's neighbourhood.
_VECTOR_SPREAD = 0.1
# Tokens that the longest prompt template has besides the placeholder token.
_LONGEST_TEMPLATE = 12


def add_concepts(
    concepts: Sequence[Concept],
    model: BaseModel,
    learned: Sequence[LearnedEmbedding],
    seed: int,
    read: ReadImages,
    say: Callable[[str], None],
) -> ConceptVectors:
    """Give the base model the concepts of a run, and say what each starts from.

    Args:
        learned: embeddings to start from.
        seed: of the run; it decides random initial values.
        read: the training images, whose prompts must show the concepts.

    Raises:
        ConceptError: a concept cannot be learned with this base model, or from these prompts.
        WrongWidth: a learned embedding was made for a base model of another width.
    """
    concepts = settle(concepts, model, learned)
    initial = initial_vectors(model.text_encoders, concepts, initial_vectors_generator(seed), learned)
    counts = {concept.placeholder_token: concept.num_vectors for concept in concepts}
    vectors = ConceptVectors(concepts, attach_concepts(model, counts, initial), initial)
    possible = read.possible_prompts
    check_prompts(model.text_encoders[0].encode_ids, concepts, possible, note=say)
    for warning in unread_tokens(model.text_encoders, vectors.tokens, sorted({text for _, text in possible})):
        say(warning)
    for concept in concepts:
        known = matching(concept, learned, alone=len(concepts) == 1)
        start = describe(concept, known)
        say(f"{concept.placeholder_token} as {concept.num_vectors} vector(s), starting from {start}")
    if halved := [concept.placeholder_token for concept in concepts if concept.loses_vectors_in_diffusers]:
        say(
            f"note: diffusers with transformers 5 reads only the first vector of {', '.join(halved)}, because of the "
            "capitals; choose a --placeholder_token in small letters, or load it there as the model card shows"
        )
    return vectors


def settle(concepts: Sequence[Concept], model, learned: Sequence[LearnedEmbedding] = ()) -> list[Concept]:
    """Concepts with the number of their vectors decided, all of them usable with a base model.

    Args:
        model: a `base_model.BaseModel`.
        learned: embeddings to start from, see `matching`; they bring their own number of vectors.

    Raises:
        ConceptError: a placeholder or an initializer cannot be used with this base model, no concept starts from a
            learned embedding, or the vectors leave no room for a prompt.
    """
    tokenizer = model.text_encoders[0].tokenizer
    _check_learned(concepts, learned)
    settled = []
    for concept in concepts:
        for encoder in model.text_encoders:  # the concept's own name first, whatever else may be wrong
            check_placeholder(concept.placeholder_token, encoder.tokenizer)
        known = matching(concept, learned, alone=len(concepts) == 1)
        if known is not None:
            check_width(known, {encoder.name: encoder.embedding_width for encoder in model.text_encoders}, model.name)
            if concept.num_vectors not in (None, 1, known.num_vectors):
                raise ConceptError(
                    f"{known.source} holds {known.num_vectors} vectors and --num_vectors says {concept.num_vectors} "
                    f"for {concept.placeholder_token}; leave --num_vectors out"
                )
            concept = replace(concept, num_vectors=known.num_vectors)
        elif concept.num_vectors is None:
            count = len(_initializer_ids(concept, tokenizer))
            concept = replace(concept, num_vectors=count, one_vector_per_token=True)
        settled.append(concept)
    _check_room(settled, PromptEncoder(tokenizer).room, is_learned=bool(learned))
    for concept in settled:
        for encoder in model.text_encoders:
            check_placeholder(concept.placeholder_token, encoder.tokenizer, num_vectors=concept.num_vectors)
    _check_tokens(settled)
    return settled


def matching(concept: Concept, learned: Sequence[LearnedEmbedding], *, alone: bool) -> LearnedEmbedding | None:
    """The learned embedding a concept starts from: the one of its own name, or the only one for the only concept."""
    named = [one for one in learned if one.placeholder_token == concept.placeholder_token]
    if named:
        return named[0]
    return learned[0] if alone and len(learned) == 1 else None


def _check_learned(concepts: Sequence[Concept], learned: Sequence[LearnedEmbedding]) -> None:
    """Refuse learned embeddings that no concept would start from: the name was mistyped."""
    if learned and not any(matching(concept, learned, alone=len(concepts) == 1) for concept in concepts):
        words = ", ".join(one.placeholder_token for one in learned)
        own = ", ".join(concept.placeholder_token for concept in concepts)
        raise ConceptError(
            f"--initializer_embeds holds {words}, and none of them is for {own}; name --placeholder_token as in "
            "the file, say --rename OLD=NEW, or give a file of one concept for one concept"
        )


def initial_vectors(
    text_encoders: Sequence[TextEncoder],
    concepts: Sequence[Concept],
    generator: np.random.Generator,
    learned: Sequence[LearnedEmbedding] = (),
) -> dict[str, np.ndarray]:
    """What the vectors of all settled concepts start from, for each text encoder.

    Args:
        text_encoders: all of a base model, in its order.

    Returns:
        Text encoder name -> float32 [N, D], N over all concepts.

    Raises:
        ConceptError: an initializer is unknown to the base model.
    """
    from textual_inversion.models.concept_embedding import table_of

    rows = {}
    for encoder in text_encoders:
        table = EmbeddingTable(table_of(encoder.layer).numpy())
        parts = []
        for concept in concepts:
            known = matching(concept, learned, alone=len(concepts) == 1)
            parts.append(
                known.vectors[encoder.name] if known else vectors_of(concept, encoder.tokenizer, table, generator)
            )
        rows[encoder.name] = np.concatenate(parts).astype(np.float32)
    return rows


class EmbeddingTable:
    """A frozen embedding table, whose statistics are computed once for all concepts.

    Attributes:
        values: float [V, D].
    """

    def __init__(self, values: np.ndarray):
        self.values = values

    @cached_property
    def mean(self) -> np.ndarray:
        """[D]."""
        return self.values.mean(axis=0)

    @cached_property
    def std(self) -> np.ndarray:
        """[D]."""
        return self.values.std(axis=0)

    @cached_property
    def overall_std(self) -> float:
        """Of all numbers."""
        return float(self.values.std())


def vectors_of(concept: Concept, tokenizer, table: EmbeddingTable, generator: np.random.Generator) -> np.ndarray:
    """The vectors one concept starts from.

    Without an initializer: normal numbers with the table's mean and std in each dimension. With a vector for
    each token of the initializer: the rows of those tokens. Else the mean of its tokens' rows for every vector. Vectors
    that would be copies of an earlier one get a small random shift.

    Args:
        table: of the text encoder.
        generator: source of the random numbers.

    Returns:
        float32 [N, D].

    Raises:
        ConceptError: the initializer is empty or unknown to the tokenizer.
    """
    shape = (concept.num_vectors, table.values.shape[1])
    noise = generator.standard_normal(shape, dtype=np.float32)
    if concept.initializer_token is None:
        return (table.mean + table.std * noise).astype(np.float32)
    ids = _initializer_ids(concept, tokenizer)
    if concept.one_vector_per_token:
        rows = table.values[ids].astype(np.float32)
    else:
        rows = np.repeat(table.values[ids].astype(np.float32).mean(axis=0)[None], concept.num_vectors, axis=0)
    first_of_its_kind = np.unique(rows, axis=0, return_index=True)[1]
    noise[first_of_its_kind] = 0.0
    return rows + _VECTOR_SPREAD * table.overall_std * noise


def _initializer_ids(concept: Concept, tokenizer) -> list[int]:
    """Token ids of a concept's initializer; raises ConceptError where it has none or one that is unknown."""
    if concept.initializer_token is None:
        raise ConceptError(
            f"--num_vectors auto counts the tokens of --initializer_token, and {concept.placeholder_token} has none; "
            "give one of the two"
        )
    ids = known_ids(concept.initializer_token, tokenizer)
    if not ids:
        raise ConceptError(
            f"the initializer {concept.initializer_token!r} has no token in this base model's vocabulary; "
            "give a word that it knows, such as toy, person or style"
        )
    return ids


def _check_tokens(concepts: Sequence[Concept]) -> None:
    """Refuse concepts whose tokens are the same, as `<a>` with two vectors and `<a>_1` are, or would be one word."""
    owner: dict[str, str] = {}
    for concept in concepts:
        for token in concept.tokens:
            if token in owner:
                raise ConceptError(
                    f"the placeholders {owner[token]} and {concept.placeholder_token} both want the token {token}; "
                    "rename one of them"
                )
            owner[token] = concept.placeholder_token
    for word, tokens in group_vectors(owner).items():
        if owner[tokens[-1]] != owner[word]:  # so do this project's files and all pipelines read them
            raise ConceptError(
                f"{owner[tokens[-1]]} would be read as one more vector of {owner[word]}; rename one of them"
            )
    files: dict[str, str] = {}
    for word in (concept.placeholder_token for concept in concepts):
        other = files.setdefault(safe_name(word).casefold(), word)
        if other != word:
            raise ConceptError(f"{other} and {word} would be saved under one file name; rename one of them")
    for name, word in files.items():
        if other := files.get(without_time(name)):
            raise ConceptError(f"{word} and a step of {other} would be saved under one file name; rename one of them")


def _check_room(concepts: Sequence[Concept], room: int, *, is_learned: bool) -> None:
    """A prompt must fit beside the vectors of any one concept."""
    largest, most = max(concepts, key=lambda concept: concept.num_vectors), room - _LONGEST_TEMPLATE
    if largest.num_vectors <= most:
        return
    if is_learned:
        way_out = f"start from an embedding of at most {most} vectors"
    elif largest.one_vector_per_token:
        way_out = f"--num_vectors auto takes a vector for each token of its initializer; give a number up to {most}"
    else:
        way_out = f"--num_vectors can be at most {most}"
    raise ConceptError(
        f"a word of {largest.num_vectors} vectors cannot fit in a prompt: {largest.placeholder_token} leaves no room "
        f"for other words in the {room} tokens that this base model reads; {way_out}"
    )


def describe(concept: Concept, learned: LearnedEmbedding | None = None) -> str:
    """What a concept starts from, for a line to the user."""
    if learned is not None:
        return f"the vectors of {learned.placeholder_token} in {learned.source}"
    if concept.initializer_token is None:
        return "random numbers like the table's"
    how = ", a vector per token" if concept.one_vector_per_token else ""
    return f"{concept.initializer_token!r}{how}"
