"""Give a base model learned concepts: embedding vectors beside its tables, and prompt encoders for their tokens."""

from collections.abc import Mapping, Sequence

import numpy as np

from textual_inversion.embeddings.files import ConceptFile, common_reading
from textual_inversion.formats.errors import printable
from textual_inversion.formats.learned_embedding import check_width
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.concept_embedding import ConceptEmbedding, attach
from textual_inversion.models.identity import content_hash
from textual_inversion.models.prompt_encoder import PromptEncoder, check_placeholder


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
    """Give a base model the concepts of embedding files, and let it read prompts as they were learned.

    Raises:
        SettingsError: the files were learned with prompts read in different ways, or in one that is not the model's.
        EmbeddingFileError: the width of the vectors is not the model's, or a placeholder token cannot be used.
        ConceptError: a placeholder token cannot be used with this model.
    """
    concepts = [concept for file in files for concept in file.concepts]
    widths = {encoder.name: encoder.embedding_width for encoder in model.text_encoders}
    for concept in concepts:
        check_width(concept, widths, model.name)
        for encoder in model.text_encoders:
            check_placeholder(concept.placeholder_token, encoder.tokenizer, source=concept.source)
    open_questions = [name for name, value in model.asked_reading.items() if value is None]
    model.read_prompts_as(**common_reading(files, open_questions))
    vectors = {name: np.concatenate([concept.vectors[name] for concept in concepts]) for name in widths}
    attach_concepts(model, {concept.placeholder_token: concept.num_vectors for concept in concepts}, vectors)


def vae_notes(files: Sequence[ConceptFile], model: BaseModel) -> list[str]:
    """A line where the recorded VAE of a run is not what its name stands for today."""
    recorded = next((file.run["vae_sha256"] for file in files if file.run.get("vae_sha256")), None)
    if model.vae_name is None or recorded in (None, content_hash(model.vae_folder)):
        return []
    return [f"the VAE {printable(model.vae_name)} is another than the one that the embedding was learned with"]
