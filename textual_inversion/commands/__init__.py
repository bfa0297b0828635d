"""`textual-inversion COMMAND`: this project's commands, in a checkout or in an installed package.

The commands are the scripts at the top of the checkout, which import the library. A wheel holds copies of them beside
this file. Nothing here imports them by name. Only api and studio may import this package.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from textual_inversion.system.errors import SettingsError, run_command
from textual_inversion.system.paths import ROOT, SCRIPTS, script_file
from textual_inversion.system.progress import print_line

_USAGE = """usage: textual-inversion {train,infer,score,convert,compare,verify,sweep,teach,studio} [flags]

  train     teach a frozen Stable Diffusion model a concept from images
  infer     make images of learned concepts
  score     measure how well a concept was learned
  convert   describe embedding files, and write them as other programs read them
  compare   what differs between runs, and whether it means anything
  verify    train a run again, and say whether the bytes are the same
  sweep     search for the best settings of a training, on one machine or many
  teach     teach a list of concepts, on one machine or many
  studio    do all this in a browser

Each command has its own --help.
"""


def load(command: str) -> ModuleType:
    """The module of a command, one of `SCRIPTS`. It is executed on the first call, then kept in `sys.modules`."""
    script = SCRIPTS[command]
    name = Path(script).stem
    module = sys.modules.get(name)
    if module is not None:
        return module
    path = script_file(command)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # for the demo, which a checkout has
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names with the other arguments, and exit with its status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    run_command(lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> int | None:
    if not arguments or arguments[0] in ("-h", "--help"):
        for line in _USAGE.splitlines():
            print_line(line, is_aligned=True)
        return 0
    if arguments[0] not in SCRIPTS:
        raise SettingsError(f"{arguments[0]!r} is not a command; choose one of {', '.join(SCRIPTS)}")
    return load(arguments[0]).main(arguments[1:])
