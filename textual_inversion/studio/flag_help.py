"""What the flags mean, in both languages: English as it is declared, Chinese as the pages of the documentation have it.

`flag_help_zh.json` is written by `python docs/studio_help.py` from the catalogues of the pages.
"""

import functools
from pathlib import Path

from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.generation import InferConfig
from textual_inversion.settings.train import TrainConfig
from textual_inversion.studio.texts import CHINESE
from textual_inversion.system import user_files
from textual_inversion.system.checked_json import parse_json

CHINESE_FILE = Path(__file__).with_name("flag_help_zh.json")


@functools.cache
def _english() -> dict[str, dict[str, str]]:
    configs = {"train": TrainConfig, "infer": InferConfig}
    return {command: {name: flag.help for name, flag in all_flags(one).items()} for command, one in configs.items()}


@functools.cache
def _chinese() -> dict[str, dict[str, str]]:
    return parse_json(user_files.read_bytes(CHINESE_FILE, 1 << 20))


def help_of(language: str, command: str, name: str) -> str:
    """What a flag means, on one line; of the command "groups" the title of a group of flags.

    A flag that no catalogue has is explained in English.
    """
    english = name if command == "groups" else _english()[command].get(name, "")
    return _chinese().get(command, {}).get(name, english) if language == CHINESE else english
