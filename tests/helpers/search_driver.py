"""A search whose trials only pretend to train, as a process that a test may kill: FOLDER ADDRESS METHOD."""

import json
import sys
from pathlib import Path

from helpers.fake_cluster import search_of, trained_slowly
from textual_inversion.cluster import pool
from textual_inversion.cluster.search import TRIALS, trials_from

RUNGS = (20, 60, 100)


def main(folder: Path, address: str, method: str) -> None:
    """Search, or go on, and write which trial is best."""
    how = dict(rungs=RUNGS, method=method, task=trained_slowly)
    search = search_of(folder, **how)
    if (folder / TRIALS).exists():
        entries = json.loads((folder / TRIALS).read_text())
        search = search_of(folder, **how, trials=trials_from(entries, search.plan))
    with pool.opened(address, pool.Room(1), folder) as tasks:
        print("begun", flush=True)
        search.run(tasks, 2)
    (folder / "best").write_text(str(search.ladder().best()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
