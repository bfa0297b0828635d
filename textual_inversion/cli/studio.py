"""The command line of the page, `apps/studio.py`, and who may reach it."""

import ipaddress
import os
from collections.abc import Mapping, Sequence

from textual_inversion.cli.parser import OneLineParser, parser_of
from textual_inversion.settings.flag import changed, filled
from textual_inversion.settings.studio import PASSWORD_VARIABLE, StudioConfig
from textual_inversion.system.errors import SettingsError

SCRIPT = "apps/studio.py"
_SHORTEST = 8  # letters of a password
# How Streamlit calls them; both names may be used.
_OTHER_NAMES = {"--server.address": "--address", "--server.port": "--port", "--server.headless": "--headless"}


def build_parser() -> OneLineParser:
    """The parser of the page's command."""
    description = (
        "Teach, watch, draw and keep words in a browser. Needs streamlit: pip install -r requirements-studio.txt"
    )
    return parser_of(StudioConfig, prog=SCRIPT, description=description)


def parse(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> StudioConfig:
    """The settings for a command line; the password may come from the environment.

    Raises:
        SettingsError: a flag is unknown or out of bounds; or the page would be open to others without a password.
    """
    config = settled(argv, environment)
    check_access(config.address.address, config.address.password)
    return config


def settled(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> StudioConfig:
    """As `parse`, for a server whose address is decided elsewhere; raises SettingsError."""
    words = None if argv is None else [_renamed(word) for word in argv]
    config = filled(StudioConfig, vars(build_parser().parse_args(words)))
    if config.address.password is None and environment.get(PASSWORD_VARIABLE):
        config = changed(config, password=environment[PASSWORD_VARIABLE])
    if config.address.password is not None and len(config.address.password) < _SHORTEST:
        raise SettingsError(
            f"--password is shorter than {_SHORTEST} letters, which a program guesses; take a longer one"
        )
    return config


def _renamed(word: str) -> str:
    name, sign, value = word.partition("=")
    return _OTHER_NAMES.get(name, name) + sign + value


def is_loopback(address: str | None) -> bool:
    """Whether only this machine reaches an address; None and "" stand for all of the machine's addresses."""
    if not address:
        return False
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def check_access(address: str | None, password: str | None) -> None:
    """Refuse a page that others could use without a password; raises SettingsError."""
    if password is None and not is_loopback(address):
        raise SettingsError(
            f"--address {address or '0.0.0.0'} lets other machines in, and whoever opens the page can start "
            f"programs and read the chosen folders: give a --password (or {PASSWORD_VARIABLE}), or leave --address out"
        )
