"""Say by the exit status whether files are at an address: for a shell that chooses between two command lines.

    python -m textual_inversion.storage.look s3://bucket/run 'checkpoint-*/SHA256SUMS'

0: there are; 3: there are none; 2: nobody can say, which one line explains.
"""

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from textual_inversion.storage.client import Client
from textual_inversion.storage.fetching import below
from textual_inversion.storage.reading import address
from textual_inversion.system.errors import SettingsError, run_command

NONE = 3  # 1 is the status of a fault of the program, which says nothing


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; `argv` without the program's name. Returns the exit status.

    Raises:
        SettingsError: it is no address, or there are not two arguments.
        StorageError: it cannot be asked.
    """
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 2:
        raise SettingsError("give an address and a pattern of names below it")
    place = address(words[0])
    names = below(place, Client(place).listed(place.key))
    return 0 if any(fnmatchcase(name, words[1]) for name in names) else NONE


if __name__ == "__main__":
    run_command(main)
