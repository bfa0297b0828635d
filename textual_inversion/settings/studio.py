"""The settings of the page, `apps/studio.py`."""

from dataclasses import dataclass

from textual_inversion.settings.bounds import count
from textual_inversion.settings.flag import LOCAL, flag, group

LOOPBACK = "127.0.0.1"
PASSWORD_VARIABLE = "TEXTUAL_INVERSION_PASSWORD"

# One or two lines per flag.
# fmt: off


@group("folders")
class StudioFolders:
    """Which folders the page uses."""

    workspace: str = flag("studio", "where runs, images, words and drawings of the page are kept", metavar="DIR",
        at_address=LOCAL)
    roots: tuple[str, ...] = flag(
        (".",), "other folders in which runs and images may be looked at; the page reads nothing else", nargs="+",
        metavar="DIR", at_address=LOCAL)


@group("address")
class StudioAddress:
    """Who can reach the page."""

    address: str = flag(
        LOOPBACK, "address that the page listens on; any other than this machine's own asks for --password",
        metavar="NAME")
    port: int = flag(8501, "port that the page listens on", type=count(1, 65_535), metavar="N")
    password: str | None = flag(
        None, f"what a visitor has to type; better in the environment as {PASSWORD_VARIABLE}, where no list of "
        "processes shows it", metavar="WORD", is_secret=True)
    headless: bool = flag(False, "do not open a browser")


@dataclass(frozen=True)
class StudioConfig:
    """All settings of the page."""

    folders: StudioFolders = StudioFolders()
    address: StudioAddress = StudioAddress()


# fmt: on
