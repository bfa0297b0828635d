"""The settings of `convert.py` and of its subcommands, in groups of flags."""

from dataclasses import dataclass

from textual_inversion.formats.learned_embedding import composed
from textual_inversion.formats.targets import TARGETS
from textual_inversion.settings import shared
from textual_inversion.settings.bounds import share
from textual_inversion.settings.choices import KEEP, NORMS, PADDINGS
from textual_inversion.settings.flag import WRITTEN_FILE, flag, group

_FILES = "embedding files of this and other programs, folders of runs, or repository ids"

# One or two lines per flag.
# fmt: off


@group("base model")
class ComparedModel:
    """The base model whose table and vocabulary embeddings are held against."""

    pretrained_model_name_or_path: str | None = flag(
        None, "folder or repository id of a base model; unset: none is loaded", metavar="MODEL")
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

    to: str | None = flag(
        None, "the program or layout to write for; must be given, but mix can go by the ending of --output",
        choices=tuple(TARGETS))
    output: str | None = flag(
        None, "a file with the ending of --to, or a folder for a file per concept; must be given", metavar="FILE",
        at_address=WRITTEN_FILE)
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


# -------------------------------------------------------------------------------------------------------------- mix


@group("mix")
class MixedWords:
    """What is mixed, and how."""

    expression: str | None = flag(
        None, "what to mix: FILE*0.7 + FILE:<word>*0.3, \"toy\" for a vocabulary word, & to put vectors in a row; one "
        "word of the shell, so in quotes", metavar="MIX", is_positional=True)
    name: str | None = flag(None, "placeholder token of the result; must be given", type=composed, metavar="WORD")
    norm: str = flag(KEEP, "the norm of each vector: as it comes, the mean of its parts, or of the base model's table",
                     choices=NORMS)
    from_start: float | None = flag(
        None, "take each learned word so far from its start (0) to what was learned (1)", type=share, metavar="SHARE")
    pad: str | None = flag(
        None, "add words with different numbers of vectors: the smaller is filled up with zeros or its last vector; "
        "unset: they are refused", choices=PADDINGS)


@dataclass(frozen=True)
class MixConfig:
    """All settings of `convert.py mix MIX`."""

    mix: MixedWords = MixedWords()
    output: ConvertOutput = ConvertOutput()
    model: ComparedModel = ComparedModel()


# ----------------------------------------------------------------------------------------------------------- doctor


@group("files")
class ExaminedFiles:
    """Which files are examined, and how."""

    files: tuple[str, ...] = flag((), _FILES, nargs="+", metavar="FILE", is_positional=True)
    json: bool = flag(False, "print JSON for programs instead of lines")


@dataclass(frozen=True)
class DoctorConfig:
    """All settings of `convert.py doctor FILE…`."""

    files: ExaminedFiles = ExaminedFiles()
    model: ComparedModel = ComparedModel()


# fmt: on
