"""Starts Streamlit's server for the page, with the options that keep it safe and calm."""

import os
import sys
from pathlib import Path
from typing import Any

from textual_inversion.settings.studio import StudioConfig
from textual_inversion.studio.image_sets import MOST_BYTES
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.progress import print_line

# Also in apps/.streamlit/config.toml, which `streamlit run` reads; a test holds both together.
OPTIONS: dict[str, Any] = {
    "server.address": "127.0.0.1",
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "server.xsrfCookieSameSite": "strict",
    "server.maxUploadSize": MOST_BYTES >> 20,
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "runner.postScriptGC": False,  # a look at all objects after each refresh takes more than the refresh itself
    "server.showEmailPrompt": False,
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "theme.baseRadius": "0.5rem",
    "theme.showWidgetBorder": True,
    "theme.light.primaryColor": "#0b6b73",
    "theme.light.backgroundColor": "#faf9f6",
    "theme.light.secondaryBackgroundColor": "#f0eee9",
    "theme.light.textColor": "#26262a",
    "theme.light.borderColor": "#dad8d2",
    "theme.dark.primaryColor": "#1f808a",
    "theme.dark.backgroundColor": "#18191b",
    "theme.dark.secondaryBackgroundColor": "#232528",
    "theme.dark.textColor": "#e8e6e1",
    "theme.dark.borderColor": "#3a3c40",
}
_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "::1"]


def options_of(config: StudioConfig) -> dict[str, Any]:
    """Streamlit's options for the settings of the page."""
    own = config.address
    options = OPTIONS | {"server.address": own.address, "server.port": own.port}
    if own.headless:
        options["server.headless"] = True
    if own.password is None:  # nobody else has a name for this machine: a stranger's page that rebinds one is refused
        options["server.allowedHosts"] = list(dict.fromkeys([*_LOOPBACK_NAMES, own.address]))
    return options


def is_serving() -> bool:
    """Whether this script is run by Streamlit's server, and not by Python itself."""
    module = sys.modules.get("streamlit.runtime")
    return module is not None and module.exists()


def serve(script: Path, config: StudioConfig, argv: list[str]) -> None:
    """Serve the page until a signal ends it.

    Args:
        script: apps/studio.py, or an installed copy.
        argv: the words that the page gets, from which it reads its folders and its password.

    Raises:
        SettingsError: streamlit is not installed, or the port is taken.
    """
    os.environ.setdefault("STREAMLIT_LOGGER_LEVEL", "error")
    try:
        from streamlit.web import bootstrap
    except ImportError as error:
        raise SettingsError("the page needs a package: pip install -r requirements-studio.txt, or streamlit") from error
    refuse_taken_port(config.address.address, config.address.port)
    options = options_of(config)
    bootstrap.load_config_options(options)
    shown = f"[{config.address.address}]" if ":" in config.address.address else config.address.address
    print_line(f"the page is at http://{shown}:{config.address.port}; Ctrl+C ends it, trainings go on without it")
    bootstrap.run(str(script), False, argv, options)


def refuse_taken_port(address: str, port: int) -> None:
    """Raise SettingsError where another program listens on a port already."""
    import errno
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.strip("[]"), port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(f"--port {port} is taken by another program; choose another one") from error
            raise SettingsError(f"--address {address}: {error.strerror or error}; choose another one") from error
