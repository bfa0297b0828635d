"""The two files in which diffusers' script for Stable Diffusion XL saves one concept, joined into one.

    learned_embeds.safetensors      {TOKEN: [N, 768]}, for the first text encoder
    learned_embeds_2.safetensors    {TOKEN: [N, 1280]}, for the second one

Also with `-steps-N` at the end of the name, and in the other formats. The widths say which is which: the second text
encoder is the wider one. Only where they are equal do the names decide.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings
from textual_inversion.formats.errors import WrongValues, file_name

_NAME = re.compile(r"learned_embeds(_2)?((?:-steps-\d+)?)\.(safetensors|bin|pdparams|pt)")
_ENDINGS = ("safetensors", "bin", "pdparams", "pt")
_WIDTHS_OF_ALONE = {1024}  # Stable Diffusion 2.x, which has one text encoder


@dataclass(frozen=True)
class ReadFile:
    """What was read from an embedding file, or from two that are one concept.

    Attributes:
        path: the file that was named.
        concepts: the learned embeddings in it.
        partner: the other file of a pair.
    """

    path: Path
    concepts: tuple[LearnedEmbedding, ...]
    partner: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """The file, and its partner."""
        return [self.path] if self.partner is None else [self.path, self.partner]

    @property
    def tokens(self) -> list[str]:
        """The placeholder tokens of the concepts."""
        return [concept.placeholder_token for concept in self.concepts]


def partner_names(name: str) -> list[str]:
    """Names that the other file of a pair may have, likeliest first; [] for a file that is none of a pair."""
    match = _NAME.fullmatch(name)
    if match is None:
        return []
    endings = sorted(_ENDINGS, key=lambda ending: ending != match[3])
    return [f"learned_embeds{'' if match[1] else '_2'}{match[2]}.{ending}" for ending in endings]


def read_files(paths: Sequence[Path]) -> list[ReadFile]:
    """Read embedding files; pairs among them, and files whose partner lies beside them, become one.

    Raises:
        EmbeddingFileError: a file, or the partner of one, cannot be used.
    """
    waiting = [ReadFile(path, tuple(read_embeddings(path))) for path in paths]
    found = []
    while waiting:
        one = waiting.pop(0)
        other = next((other for other in waiting if _are_pair(one, other)), None)
        if other is not None:
            waiting.remove(other)
        else:
            other = _beside(one)
        found.append(one if other is None else _joined(one, other))
    return found


def _beside(one: ReadFile) -> ReadFile | None:
    """The other file of a pair, in the same folder."""
    if any(len(concept.vectors) > 1 for concept in one.concepts):
        return None
    for path in (one.path.with_name(name) for name in partner_names(one.path.name)):
        if path.is_file():
            other = ReadFile(path, tuple(read_embeddings(path)))
            return other if _are_pair(one, other) else None
    return None


def _are_pair(one: ReadFile, other: ReadFile) -> bool:
    """Whether two files hold the same concepts, each for one text encoder of Stable Diffusion XL."""
    if sorted(one.tokens) != sorted(other.tokens) or one.path == other.path:
        return False
    if any(len(concept.vectors) > 1 for concept in (*one.concepts, *other.concepts)):
        return False
    widths, others = _widths(one), _widths(other)
    if len(widths) > 1 or len(others) > 1 or (widths | others) & _WIDTHS_OF_ALONE:
        return False
    return widths != others or other.path.name in partner_names(one.path.name)


def _widths(file: ReadFile) -> set[int]:
    return {width for concept in file.concepts for width in concept.widths.values()}


def _joined(one: ReadFile, other: ReadFile) -> ReadFile:
    """A pair as one file of concepts for two text encoders; raises WrongValues."""
    first, second = sorted((one, other), key=lambda file: (max(_widths(file)), "_2" in file.path.name))
    seconds = {concept.placeholder_token: concept for concept in second.concepts}
    concepts = []
    for concept in first.concepts:
        more = seconds[concept.placeholder_token]
        if more.num_vectors != concept.num_vectors:
            raise WrongValues(
                f"{file_name(first.path)} holds {concept.num_vectors} vectors for {concept.placeholder_token} and "
                f"{file_name(second.path)} {more.num_vectors}; both text encoders need as many: {WrongValues.way_out}"
            )
        vectors = {"text_encoder": concept.vectors["text_encoder"], "text_encoder_2": more.vectors["text_encoder"]}
        concepts.append(replace(concept, vectors=vectors, metadata={**more.metadata, **concept.metadata}))
    return ReadFile(one.path, tuple(concepts), other.path)
