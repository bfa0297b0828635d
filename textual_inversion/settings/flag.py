"""Settings that are also flags. Each is declared once, as a dataclass field whose metadata describes the flag.

    learning_rate: float = flag(1e-4, "peak learning rate", type=positive, metavar="RATE")

The parser, the YAML configuration, the check of a resumed run, the check that processes agree, and the records all read
this metadata. The program has no other list of flags.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_KEY = "flag"
# Metavars of flags whose value is a path, or a name that may be one.
_PATH_METAVARS = ("DIR", "FILE", "MODEL", "FILE[:SCALE]")

# What a value that is an address of object storage means: a file, or a folder of embeddings, to read; a folder to read,
# with all that is in it, or without checkpoints and pipelines; a folder or a CSV file with folders beside it; a model,
# or a VAE, of which the files are read that are used; a folder or a file to write; nothing, since the value must lie on
# this machine.
ADDRESSES = (FILE, TREE, RUN, LIST, MODEL, VAE, WRITTEN, WRITTEN_FILE, LOCAL) = (
    "file", "tree", "run", "list", "model", "vae", "written", "written file", "local",
)  # fmt: skip
_USES = {"FILE": FILE, "FILE[:SCALE]": FILE, "DIR": TREE, "MODEL": MODEL}


@dataclass(frozen=True)
class Flag:
    """What is known about a flag.

    Attributes:
        help: one line for `--help`.
        type: converts the text of the command line into a value; raises `argparse.ArgumentTypeError` out of bounds.
        choices: the allowed values; None: all that `type` allows.
        metavar: the name of the value in `--help`.
        nargs: "+" for several values, "?" for an optional value.
        const: the value of a flag that is given without one, where `nargs` is "?".
        decides_result: the value decides what a run learns, so a resumed run must not change it.
        same_everywhere: all processes of a run must have the same value.
        repeatable: written to the configuration that repeats a run.
        per_concept: takes one value, or one for each concept.
        is_secret: never recorded.
        recorded_portably: run.json holds the path in a form that is true in another clone and working directory.
        is_reused: `infer.py` and `score.py` take the value from the run.json beside an embedding.
        is_inside_output: a path relative to the output folder.
        at_address: what a value such as s3://bucket/run means, one of `ADDRESSES`; "" for what the metavar says.
        is_positional: given without a flag, as the files of `convert.py` are.
    """

    help: str
    type: Callable[[str], Any] | None = None
    choices: Sequence[str] | None = None
    metavar: str | None = None
    nargs: str | None = None
    const: Any = None
    decides_result: bool = True
    same_everywhere: bool = True
    repeatable: bool = True
    per_concept: bool = False
    is_secret: bool = False
    recorded_portably: bool = False
    is_reused: bool = False
    is_inside_output: bool = False
    at_address: str = ""
    is_positional: bool = False

    @property
    def use_of_address(self) -> str:
        """What is done with a value that is an address of object storage, one of `ADDRESSES`."""
        return self.at_address or _USES.get(self.metavar, LOCAL)

    @property
    def is_path(self) -> bool:
        """Whether the value is a path, or a name that may be one."""
        return self.metavar in _PATH_METAVARS


def flag(default: Any, help: str, **meaning: Any) -> Any:
    """A dataclass field for a flag; `meaning` holds the other attributes of `Flag`."""
    return field(default=default, metadata={_KEY: Flag(help, **meaning)})


def group(title: str) -> Callable[[type], type]:
    """A class decorator that makes a frozen dataclass of one group of flags, with the title that `--help` shows."""

    def make(cls: type) -> type:
        made = dataclass(frozen=True)(cls)
        made.title = title
        return made

    return make


def flags_of(settings: Any) -> dict[str, Flag]:
    """Name -> flag of one group, in the order of declaration. Takes the class or an instance."""
    return {one.name: one.metadata[_KEY] for one in dataclasses.fields(settings) if _KEY in one.metadata}


def groups_of(config: Any) -> Iterator[tuple[str, type]]:
    """(attribute, class) of each group of flags in a command's configuration. Takes the class or an instance."""
    for one in dataclasses.fields(config):
        if isinstance(one.type, type) and hasattr(one.type, "title"):
            yield one.name, one.type


def all_flags(config: Any) -> dict[str, Flag]:
    """Name -> flag of all groups in a command's configuration, in order."""
    return {name: one for _, cls in groups_of(config) for name, one in flags_of(cls).items()}


def values_of(config: Any) -> dict[str, Any]:
    """Name -> value of every flag of a command's configuration."""
    parts = [getattr(config, name) for name, _ in groups_of(config)]
    return {name: getattr(part, name) for part in parts for name in flags_of(part)}


def changed(config: Any, **values: Any) -> Any:
    """A copy of a configuration with other values of some flags; lists become tuples.

    Raises:
        KeyError: there is no such flag.
    """
    unknown = values.keys() - all_flags(config).keys()
    if unknown:
        raise KeyError(f"no such flag: {', '.join(sorted(unknown))}")
    parts = {}
    for name, cls in groups_of(config):
        own = {key: _frozen(values[key]) for key in flags_of(cls) if key in values}
        if own:
            parts[name] = dataclasses.replace(getattr(config, name), **own)
    return dataclasses.replace(config, **parts)


def filled(config_class: type, values: dict[str, Any], **rest: Any) -> Any:
    """A configuration made from name -> value of its flags; flags without a value keep their defaults.

    Args:
        rest: the attributes of the configuration that are not groups of flags.
    """
    parts = {}
    for name, cls in groups_of(config_class):
        parts[name] = cls(**{key: _frozen(values[key]) for key in flags_of(cls) if key in values})
    return config_class(**parts, **rest)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
