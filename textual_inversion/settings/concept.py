"""A concept: what a run teaches the base model."""

from dataclasses import dataclass

from textual_inversion.formats.learned_embedding import composed, token_names


@dataclass(frozen=True)
class Concept:
    """One concept and its placeholder token.

    Attributes:
        placeholder_token: the token that represents the concept in prompts, e.g. `<cat-toy>`; in the composed form.
        num_vectors: embedding vectors of the concept (N); None: one for each token of the initializer.
        initializer_token: a word or phrase of the base model's vocabulary that the vectors start from; None: random.
        learnable_property: what is learned from the images, one of `choices.PROPERTIES`.
        image_folder: where its training images are.
        one_vector_per_token: each vector starts from one token of the initializer.
        contrast_folder: where the images are that its vectors are trained away from; "": there are none.
    """

    placeholder_token: str
    num_vectors: int | None = 1
    initializer_token: str | None = "toy"
    learnable_property: str = "object"
    image_folder: str = ""
    one_vector_per_token: bool = False
    contrast_folder: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "placeholder_token", composed(self.placeholder_token))

    @property
    def tokens(self) -> list[str]:
        """One token for each vector: `<cat-toy>`, `<cat-toy>_1`, …, the names that ppdiffusers' pipelines expand."""
        return token_names(self.placeholder_token, self.num_vectors)

    @property
    def loses_vectors_in_diffusers(self) -> bool:
        """Whether diffusers with transformers 5, which reads capitals as small letters, finds only its first vector."""
        return self.num_vectors not in (None, 1) and self.placeholder_token != self.placeholder_token.lower()
