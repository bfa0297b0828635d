"""A list of concepts, cut into runs: which concepts are learned together, and with which command line.

How the list is cut is a function of the list alone, never of the cluster or of time, since a concept's bytes depend on
what it is learned together with. In a run of k concepts the global batch is k times that of one, so that in each step
every concept gets as many samples as it would get alone. The vectors of each concept are parameters of their own, whose
Adam does not depend on the factor 1/k by which the gradient becomes smaller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.embeddings.file_names import safe_name
from textual_inversion.settings.train import TrainConfig

Words = tuple[str, ...]


@dataclass(frozen=True)
class Lesson:
    """A concept that is to be learned.

    Attributes:
        token: its placeholder token.
        images: its folder of training images, as an absolute path or an address of object storage.
        own: flag -> value, of flags that each concept of a run may have its own of, without those two.
        shared: flag -> value, of flags that all concepts of a run have in common.
        learnable_property: what is learned of the images.
    """

    token: str
    images: str
    own: Mapping[str, str]
    shared: Mapping[str, str]
    learnable_property: str = "object"

    @property
    def name(self) -> str:
        """What its files are called."""
        return safe_name(self.token)


@dataclass(frozen=True)
class Group:
    """Concepts that are learned in one run.

    Attributes:
        lessons: in the order of the list.
        batch: micro-batch size and number of micro-batches of a step; None: as the command line says.
    """

    lessons: tuple[Lesson, ...]
    batch: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """What its run is called: by its first concept, and by how many others there are."""
        more = f"-and-{len(self.lessons) - 1}-more" if len(self.lessons) > 1 else ""
        return self.lessons[0].name + more

    @property
    def tokens(self) -> Words:
        """The placeholder tokens."""
        return tuple(one.token for one in self.lessons)

    def alone(self) -> list["Group"]:
        """The same concepts, each in a run of its own."""
        return [Group((one,)) for one in self.lessons]

    def arguments(self) -> list[str]:
        """What the training command is told about the concepts."""
        words = ["--placeholder_token", *self.tokens, "--train_data_dir", *(one.images for one in self.lessons)]
        for name in self.lessons[0].own:
            words += [f"--{name}", *(one.own[name] for one in self.lessons)]
        words += [f"--{name}={value}" for name, value in self.lessons[0].shared.items()]
        if self.batch is not None:
            words += [f"--train_batch_size={self.batch[0]}", f"--gradient_accumulation_steps={self.batch[1]}"]
        return words


def why_not_together(settings: TrainConfig) -> str | None:
    """The flag because of which a concept that is learned with others would not be learned as if alone; None."""
    reasons = {
        f"--optimizer {settings.optimizer.optimizer}": settings.optimizer.optimizer not in ("adam", "adamw"),
        "--max_grad_norm": settings.optimizer.max_grad_norm > 0,
        "--norm_reg_weight": settings.regularizers.norm_reg_weight,
        "--initial_reg_weight": settings.regularizers.initial_reg_weight,
        "--hidden_reg_weight": settings.regularizers.hidden_reg_weight,
        "--resize_mode bucket": settings.images.resize_mode == "bucket",
        "--keep_best": settings.validation.keep_best,
        "--initializer_embeds": settings.concept.initializer_embeds,
        "--scale_lr": settings.training.scale_lr,
        "--num_train_epochs": {"num_train_epochs", "max_train_steps"} & settings.given == {"num_train_epochs"},
    }
    return next((flag for flag, is_so in reasons.items() if is_so), None)


def groups(lessons: Sequence[Lesson], most: int, settings: Mapping[str, TrainConfig]) -> list[Group]:
    """The runs of a list: concepts with the same flags together, at most so many, in the order of the list.

    Args:
        most: concepts in a run.
        settings: placeholder token -> what the training command would be told of the concept alone.
    """
    open_runs: dict[Any, list[Lesson]] = {}
    runs: list[list[Lesson]] = []
    for one in lessons:
        key = (tuple(sorted(one.shared.items())), tuple(one.own))
        run = open_runs.get(key)
        if run is None or len(run) >= most or why_not_together(settings[one.token]):
            run = []
            runs.append(run)
            open_runs[key] = run
        run.append(one)
    return [Group(tuple(run), _batch(len(run), settings[run[0].token])) for run in runs]


def _batch(count: int, settings: TrainConfig) -> tuple[int, int] | None:
    """Micro-batch and number of micro-batches of a step for so many concepts.

    A larger micro-batch would take more memory, so a step has more of them. The demo's model is so small that what a
    micro-batch costs by itself counts, and memory does not.
    """
    if count == 1:
        return None
    size, accumulation = settings.training.train_batch_size, settings.training.gradient_accumulation_steps
    return (size * count, accumulation) if settings.demo else (size, accumulation * count)


def run_folder(output: Path, group: Group) -> Path:
    """The folder of a run."""
    return output / "runs" / group.name
