"""The settings of `convert.py` and of its subcommands, in groups of flags."""

from dataclasses import dataclass

from textual_inversion.formats.learned_embedding import composed
from textual_inversion.formats.targets import TARGETS
from textual_inversion.settings import shared
from textual_inversion.settings.flag import flag, group

_FILES = "embedding files of this and other programs, folders of runs, or repository ids"

# One or two lines per flag.
# fmt: off


@group("base model to compare with")
class ComparedModel:
    """The base model whose table and vocabulary embeddings are held against."""

    pretrained_model_name_or_path: str | None = flag(
        None, "folder or repository id of a base model; unset: nothing is compared", metavar="MODEL")
    tokenizer_name: str | None = flag(None, "a tokenizer other than the base model's", metavar="MODEL")
    revision: str | None = shared.revision_flag()
    variant: str | None = flag(None, "weights to prefer, such as fp16", type=shared.variant, metavar="NAME")
    cache_dir: str | None = shared.cache_dir_flag()
    hub_token: str | None = flag(
        None, "access token for gated models; unset: the one you logged in with", metavar="TOKEN", is_secret=True)


# ---------------------------------------------------------------------------------------------------------- convert


@group("embeddings")
class ConvertedFiles:
    """Which concepts are written, and what they are called."""

    files: tuple[str, ...] = flag((), _FILES, nargs="+", metavar="FILE", is_positional=True)
    words: tuple[str, ...] | None = flag(
        None, "placeholder tokens of the concepts to write; unset: all", nargs="+", type=composed, metavar="WORD")
    rename: tuple[str, ...] | None = shared.rename_flag("the concepts")


@group("output")
class ConvertOutput:
    """What is written, and where."""

    to: str | None = flag(None, "the program or layout to write for; must be given", choices=tuple(TARGETS))
    output: str | None = flag(
        None, "a file with the ending of --to, or a folder for a file per concept; must be given", metavar="FILE")
    half: bool = flag(False, "float16 instead of float32: half the size, rounded to three digits")
    cover: str | None = flag(
        None, "an image to show for the concept, or auto: the newest one in the folder of its run", metavar="FILE")
    overwrite: bool = flag(False, "replace files that are there; never one that is read")


@dataclass(frozen=True)
class ConvertConfig:
    """All settings of `convert.py FILE…`."""

    files: ConvertedFiles = ConvertedFiles()
    output: ConvertOutput = ConvertOutput()


# ---------------------------------------------------------------------------------------------------------- inspect


@group("files")
class InspectedFiles:
    """Which files are described, and how."""

    files: tuple[str, ...] = flag(
        (), "any files, folders of runs, or repository ids", nargs="*", metavar="FILE", is_positional=True)
    hub: str | None = flag(
        None, "a repository, an owner or a collection on a hub, whose embeddings are listed by name", metavar="NAME")
    json: bool = flag(False, "print JSON for programs instead of tables")


@dataclass(frozen=True)
class InspectConfig:
    """All settings of `convert.py inspect FILE…`."""

    files: InspectedFiles = InspectedFiles()
    model: ComparedModel = ComparedModel()


# fmt: on
