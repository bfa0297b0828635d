"""Files of prompts with options on each line: for validation images, and for the grids of `infer.py`.

    # blank lines and lines that begin with # are skipped
    a photo of a <cat-toy>
    a <cat-toy> on the beach --seed 3 --guidance 5 --steps 20 --negative "blurry, dark"
    a <cat-toy> in the snow --d 3 --l 5 --s 20 --n blurry, dark

The second form of the options is that of kohya's trainers. The command's flags supply whatever a line leaves out.

A line of a grid may also set scheduler, eta and size (`--w 768 --h 512`, or `--size 768x512`), and its numbers may be
several values or ranges, as on the command line: `--steps 10 20`, `--guidance 1:9:5`.
"""

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual_inversion.settings.bounds import seed_number
from textual_inversion.settings.choices import SCHEDULERS
from textual_inversion.settings.flag import flags_of
from textual_inversion.settings.generation import ImagesToMake, InferSampling
from textual_inversion.settings.shared import guidance, inference_steps
from textual_inversion.settings.validation_prompt import ValidationPrompt
from textual_inversion.system import user_files
from textual_inversion.system.errors import SettingsError

_NAMES = {
    "seed": ("seed", "d"),
    "guidance_scale": ("guidance", "guidance_scale", "l"),
    "num_inference_steps": ("steps", "num_inference_steps", "s"),
    "negative_prompt": ("negative", "negative_prompt", "n"),
}
_GRID_NAMES = _NAMES | {
    "scheduler": ("scheduler",),
    "eta": ("eta",),
    "height": ("height", "h"),
    "width": ("width", "w"),
    "size": ("size",),
}
_SIZES = ("w", "h", "width", "height", "size")
# --name, then its value: quoted, or all up to the next --name or the end.
_OPTION = re.compile(r"""(?:^|\s)--([A-Za-z_]+)(?:[ \t=]+("[^"]*"|'[^']*'|.*?))?(?=\s--[A-Za-z_]|\s*$)""")

_Types = Mapping[str, Callable[[str], Any]]


@dataclass(frozen=True)
class PromptLine:
    """A prompt of a grid.

    Attributes:
        text: the prompt, with alternatives (`alternatives.parsed`) and placeholder tokens.
        location: where it stands, for messages.
        settings: what holds for this prompt alone: name of an axis -> its values, as the flag of this name has them.
        is_literal: braces in the text are no alternatives.
    """

    text: str
    location: str = "--prompt"
    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    is_literal: bool = False


def validation_prompts(typed: Sequence[str] | None, file: str | None) -> list[ValidationPrompt]:
    """The prompts of --validation_prompt, then those of --validation_prompts_file.

    Raises:
        SettingsError: the file cannot be read, or one of its lines is not a valid prompt.
    """
    return [ValidationPrompt(text) for text in typed or ()] + (read_prompts(file) if file else [])


def read_prompts(path: str | Path) -> list[ValidationPrompt]:
    """The prompts of a file, one per line.

    Raises:
        SettingsError: the file cannot be read or holds no prompt, or an option does not exist or is out of range.
    """
    types = {"seed": seed_number, "guidance_scale": guidance, "num_inference_steps": inference_steps}
    found = []
    for location, line in _lines(path, "--validation_prompts_file"):
        text, options = _parsed(line, location, _NAMES)
        settings = {name: _value(name, option, types.get(name, str), location) for name, option in options.items()}
        found.append(ValidationPrompt(text, **settings))
    return found


def read_grid_prompts(path: str | Path) -> list[PromptLine]:
    """The prompts of a grid, one per line.

    Raises:
        SettingsError: as for `read_prompts`.
    """
    types = {name: one.type for group in (ImagesToMake, InferSampling) for name, one in flags_of(group).items()}
    types |= {"negative_prompt": str, "scheduler": _scheduler}
    found = []
    for location, line in _lines(path, "--prompts_file"):
        text, options = _parsed(line, location, _GRID_NAMES)
        if "size" in options and {"height", "width"} & options.keys():
            raise SettingsError(f"{location}: --size and a height or width both set the size; keep one of them")
        settings = {name: _values(name, option, types, location) for name, option in options.items()}
        found.append(PromptLine(text, location, settings))
    return found


def _lines(path: str | Path, flag: str) -> list[tuple[str, str]]:
    """(location, text) of the lines with a prompt."""
    try:
        lines = user_files.read_text(path, user_files.PROMPTS).splitlines()
    except OSError as error:
        raise SettingsError(f"{flag} {path} cannot be read ({error.strerror}); give a readable file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{flag} {path} is not UTF-8 text; write one prompt per line") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    found = [(f"{path}, line {number}", line) for number, line in numbered if line and not line.startswith("#")]
    if not found:
        raise SettingsError(f"{flag} {path} holds no prompt; write one per line")
    return found


def _parsed(line: str, location: str, names: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The text of a line, and setting -> (the option as it is called there, its value)."""
    first = _OPTION.search(line)
    text = line[: first.start()].strip() if first else line
    if not text:
        raise SettingsError(f"{location}: there is no prompt before the options; begin the line with one")
    options: dict[str, tuple[str, str]] = {}
    for name, value in _OPTION.findall(line[len(text) :]):
        setting = _setting(name, location, names)
        if setting in options:
            raise SettingsError(f"{location}: --{name} sets what another option has set already; keep one of them")
        options[setting] = name, value
    return text, options


def _setting(name: str, location: str, names: Mapping[str, Sequence[str]]) -> str:
    known = {one: setting for setting, several in names.items() for one in several}
    if name in known:
        return known[name]
    if name in _SIZES:
        raise SettingsError(
            f"{location}: --{name}: validation images have the size of the training images; leave it out"
        )
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    *most, last = [f"--{several[0]}" for several in names.values()]
    hint = f"did you mean --{near[0]}?" if near else f"there are {', '.join(most)} and {last}"
    raise SettingsError(f"{location}: --{name} is not an option of a prompt; {hint}")


def _values(setting: str, option: tuple[str, str], types: _Types, location: str) -> tuple[Any, ...]:
    """The values of an option: a text, or several of anything else."""
    text, kind = _unquoted(option, location, may_be_empty=setting == "negative_prompt"), types[setting]
    words = [text] if setting == "negative_prompt" else text.split()
    return tuple(_converted(word, option[0], kind, location) for word in words)


def _value(setting: str, option: tuple[str, str], kind: Callable[[str], Any], location: str) -> Any:
    text = _unquoted(option, location, may_be_empty=setting == "negative_prompt")
    return _converted(text, option[0], kind, location)


def _unquoted(option: tuple[str, str], location: str, *, may_be_empty: bool) -> str:
    name, text = option
    quoted = text[:1] in ("'", '"') and text[:1] == text[-1:] and len(text) > 1
    if text[:1] in ("'", '"') and not quoted:
        raise SettingsError(
            f"{location}: --{name}: the quotation marks must enclose all of {text}; move the second one to its end"
        )
    text = text[1:-1] if quoted else text
    if not text.strip() and not (quoted and may_be_empty):
        raise SettingsError(f"{location}: --{name} lacks its value")
    return text


def _converted(text: str, name: str, kind: Callable[[str], Any], location: str) -> Any:
    try:
        return kind(text)
    except argparse.ArgumentTypeError as error:
        raise SettingsError(f"{location}: --{name}: {error}") from None


def _scheduler(text: str) -> str:
    if text not in SCHEDULERS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SCHEDULERS)}")
    return text
