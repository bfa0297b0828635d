"""The page: teach a word, watch it being learned, draw with it, and keep it, in a browser.

    python apps/studio.py                       starts the page at http://127.0.0.1:8501
    streamlit run apps/studio.py                the same, by Streamlit's own command
    textual-inversion studio                    the same, where the program is installed

Everything that it does is done by the commands of this project, whose lines it shows. See docs/guides/studio.md.
"""

import sys
from pathlib import Path

# Streamlit runs a script with its own folder on the path, where the library of a checkout is not.
_TOP = Path(__file__).resolve().parents[1]
if (_TOP / "textual_inversion").is_dir() and str(_TOP) not in sys.path:
    sys.path.insert(0, str(_TOP))

from textual_inversion.cli.studio import build_parser, parse  # noqa: E402
from textual_inversion.studio import server  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> None:
    """Start the page; `argv` without the program's name."""
    words = sys.argv[1:] if argv is None else list(argv)
    server.serve(Path(__file__).resolve(), parse(words), words)


if __name__ == "__main__":
    if server.is_serving():
        from textual_inversion.studio.pages import frame

        frame.show(sys.argv[1:])
    else:
        run_command(main)
