"""Prompts of validation images: from the command line, and from a file with options on each line.

    # blank lines and lines that begin with # are skipped
    a photo of a <cat-toy>
    a <cat-toy> on the beach --seed 3 --guidance 5 --steps 20 --negative "blurry, dark"
    a <cat-toy> in the snow --d 3 --l 5 --s 20 --n blurry, dark

The second form of the options is that of kohya's trainers. The command's flags supply whatever a line leaves out.
"""

import argparse
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textual_inversion.settings.bounds import seed_number
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
_OPTIONS = {name: field for field, names in _NAMES.items() for name in names}
_SIZES = ("w", "h", "width", "height")
# --name, then its value: quoted, or all up to the next --name or the end.
_OPTION = re.compile(r"""(?:^|\s)--([A-Za-z_]+)(?:[ \t=]+("[^"]*"|'[^']*'|.*?))?(?=\s--[A-Za-z_]|\s*$)""")


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
    try:
        lines = user_files.read_text(path, user_files.PROMPTS).splitlines()
    except OSError as error:
        raise SettingsError(
            f"--validation_prompts_file {path} cannot be read ({error.strerror}); give a readable file"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"--validation_prompts_file {path} is not UTF-8 text; write one prompt per line") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    prompts = [_parsed(line, f"{path}, line {n}") for n, line in numbered if line and not line.startswith("#")]
    if not prompts:
        raise SettingsError(f"--validation_prompts_file {path} holds no prompt; write one per line")
    return prompts


def _parsed(line: str, location: str) -> ValidationPrompt:
    first = _OPTION.search(line)
    text = line[: first.start()].strip() if first else line
    if not text:
        raise SettingsError(f"{location}: there is no prompt before the options; begin the line with one")
    settings = {}
    for name, value in _OPTION.findall(line[len(text) :]):
        field = _field(name, location)
        if field in settings:
            raise SettingsError(f"{location}: --{name} sets what another option has set already; keep one of them")
        settings[field] = _value(field, name, value, location)
    return ValidationPrompt(text, **settings)


def _field(name: str, location: str) -> str:
    if name in _OPTIONS:
        return _OPTIONS[name]
    if name in _SIZES:
        raise SettingsError(
            f"{location}: --{name}: validation images have the size of the training images; leave it out"
        )
    near = difflib.get_close_matches(name, _OPTIONS, n=1, cutoff=0.7)
    hint = f"did you mean --{near[0]}?" if near else "there are --seed, --guidance, --steps and --negative"
    raise SettingsError(f"{location}: --{name} is not an option of a prompt; {hint}")


def _value(field: str, name: str, text: str, location: str) -> Any:
    quoted = text[:1] in ("'", '"') and text[:1] == text[-1:] and len(text) > 1
    if text[:1] in ("'", '"') and not quoted:
        raise SettingsError(
            f"{location}: --{name}: the quotation marks must enclose all of {text}; move the second one to its end"
        )
    text = text[1:-1] if quoted else text
    if not text and not (quoted and field == "negative_prompt"):
        raise SettingsError(f"{location}: --{name} lacks its value")
    kinds = {"seed": seed_number, "guidance_scale": guidance, "num_inference_steps": inference_steps}
    try:
        return kinds.get(field, str)(text)
    except argparse.ArgumentTypeError as error:
        raise SettingsError(f"{location}: --{name}: {error}") from None
