"""What a run works with, in typed parts. The command puts them together; other functions take the parts they need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.data.dataset import TrainingSet
from textual_inversion.data.sampler import SampleStream
from textual_inversion.distributed.ranks import Ranks
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.concept_embedding import ConceptEmbedding
from textual_inversion.settings.concept import Concept
from textual_inversion.system.progress import print_line
from textual_inversion.system.signals import Signals
from textual_inversion.system.timing import Phases
from textual_inversion.system.written_files import WrittenFiles
from textual_inversion.training.checkpoints import Checkpoint
from textual_inversion.training.exports import Export
from textual_inversion.training.step_plan import StepPlan


@dataclass
class RunContext:
    """Where a run happens.

    Attributes:
        ranks: this process among its peers.
        folder: where everything is written.
        stop: whether a signal has asked for the end.
        phases: seconds per phase.
        files: the list of what the run wrote into the folder, on the main process; else None.
    """

    ranks: Ranks
    folder: Path
    stop: Signals = field(default_factory=Signals)
    phases: Phases = field(default_factory=Phases)
    files: WrittenFiles | None = None

    def say(self, line: str) -> None:
        """Print a line, on the main process only."""
        if self.ranks.is_main:
            print_line(line)


@dataclass
class Record:
    """What a run has measured so far, and where it comes from.

    Attributes:
        figures: name -> figure, for run.json and the last lines.
        fingerprint: what decides the result of the run, for its checkpoints.
        history: after which steps the run was resumed, and what had changed then.
        resumed: the checkpoint that the run resumes, or None.
        exports: what was written for other programs.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    fingerprint: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    resumed: Checkpoint | None = None
    exports: Sequence[Export] = ()


@dataclass
class ConceptVectors:
    """The embedding vectors of all concepts: the only trainable parameters.

    N counts the vectors of all concepts together, in the order of the concepts; D is the width of the text encoder.

    Attributes:
        concepts: with the number of their vectors settled.
        embeddings: text encoder name -> ConceptEmbedding, with one parameter per concept.
        initial: text encoder name -> what the vectors started from, float32 [N, D].
    """

    concepts: list[Concept]
    embeddings: dict[str, ConceptEmbedding]
    initial: dict[str, np.ndarray]

    @property
    def parameters(self) -> list:
        """For each text encoder one parameter per concept, float32 [N of the concept, D]."""
        return [part for embedding in self.embeddings.values() for part in embedding.parts]

    def parameters_of(self, concepts: Iterable[int]) -> list:
        """The parameters of some concepts, named by their index, in all text encoders."""
        return [embedding.parts[index] for embedding in self.embeddings.values() for index in sorted(concepts)]

    @property
    def named_parameters(self) -> dict[str, Any]:
        """The parameters by a name that holds in any process: "TEXT_ENCODER/INDEX OF THE CONCEPT"."""
        return {
            f"{encoder}/{index}": part
            for encoder, embedding in self.embeddings.items()
            for index, part in enumerate(embedding.parts)
        }

    @property
    def tokens(self) -> list[str]:
        """The placeholder tokens."""
        return [concept.placeholder_token for concept in self.concepts]

    def set_values(self, values: Mapping[str, np.ndarray]) -> None:
        """Let the vectors be others of the same shapes: text encoder name -> float32 [N, D], as `values` gives them."""
        for name, embedding in self.embeddings.items():
            first = 0
            for part in embedding.parts:
                last = first + int(part.shape[0])
                part.set_value(np.ascontiguousarray(values[name][first:last]))
                first = last

    def values(self) -> dict[str, np.ndarray]:
        """Text encoder name -> the vectors as they are now, float32 [N, D]."""
        return {name: embedding.vectors.numpy() for name, embedding in self.embeddings.items()}


@dataclass
class Run:
    """Everything a run works with.

    Attributes:
        context: processes, output folder, signals, phases.
        record: figures, and the checkpoint that is resumed.
        model: the frozen base model, with the concepts attached.
        vectors: the vectors that are trained.
        data: the training images.
        samples: the stream of training samples.
        plan: steps, global batch and peak learning rate.
        held_out: the images that the fixed set is of, on the main process; None: it is of training images.
    """

    context: RunContext
    record: Record
    model: BaseModel
    vectors: ConceptVectors
    data: TrainingSet
    samples: SampleStream
    plan: StepPlan
    held_out: TrainingSet | None = None
