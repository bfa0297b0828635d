"""An attack on a command, and the kit of harmless things that attacks are made from."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_BYTES = 200_000_000
REFUSED = (2,)
HARMLESS = (0,)
EITHER = (0, 2)  # where a value may be one that can be worked with


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        rule: which rule of `attack_commands.RULES` holds it off.
        name: what it does, in words.
        build: writes what it needs into an empty folder, and returns the command's name and arguments.
        right: the exit statuses that are right.
        most_bytes: that it may take above the start.
        look: what must not be in the folder afterwards, or in what was said on stderr, in words.
    """

    rule: int
    name: str
    build: Callable[[Path], list[str]] = field(repr=False)
    right: tuple[int, ...] = REFUSED
    most_bytes: int = MOST_BYTES
    look: Callable[[Path, str], Iterable[str]] = field(default=lambda place, said: (), repr=False)


@dataclass(frozen=True)
class Kit:
    """Harmless things, all in one folder; attacks change copies of them.

    Attributes:
        folder: with base/ (a base model), clip/, images/ and run/ (of a finished run, with two checkpoints).
    """

    folder: Path

    def copy(self, name: str, target: Path) -> Path:
        """A copy of one of the folders, or files, that an attack may spoil."""
        source = self.folder / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return target

    def infer(self, place: Path, **changes: Any) -> list[str]:
        """A command line of infer.py that makes one image."""
        return _words(
            "infer",
            dict(embeds=self.folder / "run/learned_embeds.safetensors", prompt="a <cat>", num_images=1,
                 num_inference_steps=1, seed=1, pretrained_model_name_or_path=self.folder / "base",
                 output_dir=place / "out"),
            changes,
        )  # fmt: skip

    def score(self, place: Path, **changes: Any) -> list[str]:
        """A command line of score.py that makes one image for each prompt."""
        return _words(
            "score",
            dict(embeds=self.folder / "run/learned_embeds.safetensors", clip_model=self.folder / "clip", num_images=1,
                 num_inference_steps=1, train_data_dir=self.folder / "images", output=place / "score.json",
                 pretrained_model_name_or_path=self.folder / "base"),
            changes,
        )  # fmt: skip

    def train(self, place: Path, **changes: Any) -> list[str]:
        """A command line of the training command that takes one step."""
        return _words(
            "train_textual_inversion",
            dict(pretrained_model_name_or_path=self.folder / "base", train_data_dir=self.folder / "images",
                 output_dir=place / "out", max_train_steps=1, train_batch_size=1, learning_rate=0.01, lr_warmup_steps=0,
                 eval_samples=1, num_inference_steps=1, seed=3, report_to="none", placeholder_token="<cat>",
                 initializer_token="cat", overview="false"),
            changes,
        )  # fmt: skip


def _words(command: str, flags: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    words = [command]
    for name, value in (flags | changes).items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *map(str, values)]
    return words


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Write what `change` makes of a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
