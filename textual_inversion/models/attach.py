"""Give a base model learned concepts: embedding vectors beside its tables, and prompt encoders for their tokens."""

from collections.abc import Mapping, Sequence

import numpy as np

from textual_inversion.embeddings.files import ConceptFile, common_reading
from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import LearnedEmbedding, check_width, composed, token_names
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.concept_embedding import ConceptEmbedding, attach
from textual_inversion.models.identity import content_hash
from textual_inversion.models.placeholder_words import check_placeholder
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.system.errors import ConceptError, SettingsError


def attach_concepts(
    model: BaseModel, num_vectors: Mapping[str, int], vectors: Mapping[str, np.ndarray]
) -> dict[str, ConceptEmbedding]:
    """Give each text encoder the vectors of concepts, beside its table, and a prompt encoder that knows the concepts.

    Args:
        num_vectors: placeholder token -> number of its vectors, in the order of the vectors.
        vectors: text encoder name -> float32 [N, D], the vectors of all concepts in that order.

    Returns:
        Text encoder name -> its embedding, with one part for each concept.
    """
    embeddings = {}
    for encoder in model.text_encoders:
        # One part for each concept, so that the optimizer can skip a concept that no sample of a step shows.
        parts = np.split(np.asarray(vectors[encoder.name]), np.cumsum(list(num_vectors.values()))[:-1])
        embeddings[encoder.name] = attach(encoder.layer, parts)
        encoder.encode_ids = PromptEncoder(
            encoder.tokenizer,
            dict(num_vectors),
            embeddings[encoder.name].first_id,
            num_chunks=encoder.num_chunks,
        )
    return embeddings


def attach_files(model: BaseModel, files: Sequence[ConceptFile]) -> None:
    """Give a base model the concepts of embedding files, in place of those that it had.

    The model then reads prompts as they were learned.

    Raises:
        SettingsError: the files were learned with prompts read in different ways, or in one that is not the model's.
        EmbeddingFileError: the width of the vectors is not the model's, or a placeholder token cannot be used.
        ConceptError: a placeholder token cannot be used with this model.
    """
    concepts = [concept for file in files for concept in file.concepts]
    _check(model, concepts)
    model.read_prompts_as(**_reading(model, files))
    _attach(model, {concept.placeholder_token: concept.vectors for concept in concepts})


def add_files(model: BaseModel, files: Sequence[ConceptFile]) -> None:
    """Give a base model the concepts of embedding files, beside those that it has.

    A concept with the placeholder token of one that is there takes its place.

    Raises:
        SettingsError: the files were learned with prompts read in another way than the concepts that are there.
        EmbeddingFileError, ConceptError: as `attach_files`; also where the names of vectors would be the same. The
            model then stays as it was.
    """
    concepts = [concept for file in files for concept in file.concepts]
    _check(model, concepts)
    there, reading = attached_vectors(model), _reading(model, files)
    kept = set(there) - {concept.placeholder_token for concept in concepts}
    if kept and any(getattr(model, name) != value for name, value in reading.items()):
        held = ", ".join(printable(token, 60) for token in sorted(kept))
        named = ", ".join(printable(file.path.name, 60) for file in files)
        raise SettingsError(
            f"{named} was learned with prompts read in another way than {held}; "
            "detach those first, or load another model"
        )
    vectors = there | {concept.placeholder_token: concept.vectors for concept in concepts}
    _refuse_equal_names(vectors)
    model.read_prompts_as(**reading)
    _attach(model, vectors)


def attached_vectors(model: BaseModel) -> dict[str, dict[str, np.ndarray]]:
    """Placeholder token -> text encoder name -> float32 [N, D], of the concepts that a base model has."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for encoder in model.text_encoders:
        layer = encoder.layer.get_input_embeddings()
        parts = layer.parts if isinstance(layer, ConceptEmbedding) else ()
        for token, part in zip(encoder.encode_ids.num_vectors, parts, strict=True):
            found.setdefault(token, {})[encoder.name] = part.numpy()
    return found


def detach(model: BaseModel, tokens: Sequence[str]) -> None:
    """Take concepts from a base model again; the others stay as they are.

    Args:
        tokens: their placeholder tokens.

    Raises:
        ConceptError: the model has no such concept. It then stays as it was.
    """
    vectors = attached_vectors(model)
    for token in map(composed, tokens):
        if token not in vectors:
            held = ", ".join(printable(own, 60) for own in vectors) or "none"
            raise ConceptError(f"{printable(token, 60)} is not attached to this model; attached: {held}")
    _attach(model, {token: own for token, own in vectors.items() if token not in set(map(composed, tokens))})


def _check(model: BaseModel, concepts: Sequence[LearnedEmbedding]) -> None:
    widths = {encoder.name: encoder.embedding_width for encoder in model.text_encoders}
    for concept in concepts:
        check_width(concept, widths, model.name)
        for encoder in model.text_encoders:
            check_placeholder(concept.placeholder_token, encoder.tokenizer, source=concept.source)


def _reading(model: BaseModel, files: Sequence[ConceptFile]) -> dict[str, int | None]:
    """How prompts were read when the files were learned, as far as whoever loaded the model did not settle it."""
    open_questions = [name for name, value in model.asked_reading.items() if value is None]
    return common_reading(files, open_questions)


def _refuse_equal_names(vectors: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    holders: dict[str, str] = {}
    for token, own in vectors.items():
        for name in token_names(token, len(next(iter(own.values())))):
            other = holders.setdefault(name, token)
            if other != token:
                raise ConceptError(f"{name} is a vector of {other} and of {token}; give one another name, with rename=")


def _attach(model: BaseModel, vectors: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    counts = {token: len(next(iter(own.values()))) for token, own in vectors.items()}
    for encoder in model.text_encoders:
        parts = [own[encoder.name] for own in vectors.values()]
        embedding = attach(encoder.layer, parts)
        encoder.encode_ids = PromptEncoder(encoder.tokenizer, counts, embedding.first_id, num_chunks=encoder.num_chunks)


def vae_notes(files: Sequence[ConceptFile], model: BaseModel) -> list[str]:
    """A line where the recorded VAE of a run is not what its name stands for today."""
    recorded = next((file.run["vae_sha256"] for file in files if file.run.get("vae_sha256")), None)
    if model.vae_name is None or recorded in (None, content_hash(model.vae_folder)):
        return []
    return [f"the VAE {printable(model.vae_name)} is another than the one that the embedding was learned with"]
