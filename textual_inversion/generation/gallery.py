"""A folder of generated images: numbered files that record how they were made, and a manifest of all runs.

Images of another run are never overwritten: the numbers continue. A run that has not drawn all of its images is
continued: an image that is on record with its key, and whole on the disk, is not drawn again. Any number of processes
may draw the images of one run, each its share, and none waits for another.

Before an image appears it is in the record, whatever then ends the process; `manifest` has the files of the record.
"""

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from PIL import Image

from textual_inversion.generation import infotext, manifest, png_files
from textual_inversion.system import atomic, journal, user_files
from textual_inversion.system.errors import OutputError
from textual_inversion.system.process_share import ProcessShare

_UPDATE_SHARE = 50  # the manifest is updated after this many times what the last update took: 2 % of the time
_KEY_WITHIN = 1 << 16  # bytes from a file's beginning
_ALONE = ProcessShare()


@dataclass(frozen=True)
class PlannedImages:
    """The images that a run is to draw, by their position in it.

    Attributes:
        keys: from `image_key.image_keys`.
        seeds: of each image, which is in its file's name.
        is_grid: a folder holds one grid; it is continued also when it is complete.
        settings: `manifest.plan_key` of the same images with 0 in place of the seed that the program drew; "" where
            the user gave it.
        drawn_seed: that seed.
    """

    keys: Sequence[str]
    seeds: Sequence[int]
    is_grid: bool = False
    settings: str = ""
    drawn_seed: int | None = None


@dataclass(frozen=True)
class RunState:
    """How far a run has come, over all its processes.

    Attributes:
        images: entries of its complete images, in the order of their numbers.
        total: images that it is to have.
        run: its entry in the manifest, without the images.
    """

    images: list[dict[str, Any]]
    total: int
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether all of its images are there."""
        return len(self.images) == self.total


class Gallery:
    """The images of one run, as one process draws them.

    Args:
        folder: exists and can be written.
        settings: what all images of the run have in common; they are written to the manifest beside `images`.
        clock: monotonic, in seconds.

    Attributes:
        folder: as given.
        embeds: what the settings say about the embedding files.

    Raises:
        OutputError: the folder has a manifest.json that this program did not write.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], clock: Callable[[], float] = time.monotonic):
        self.folder = Path(folder)
        manifest.runs_in(self.folder)
        self._settings, self.embeds = settings, settings.get("embeds", [])
        self._run: dict[str, Any] = {}  # without its images
        self._planned = PlannedImages((), ())
        self._journal: journal.Journal | None = None
        self._clock, self._next_update = clock, 0.0

    def drawn_seed(self, settings: str, share: ProcessShare = _ALONE) -> int | None:
        """The seed that the program drew for a run of these settings which is to be continued; None: there is none.

        Args:
            settings: as in `PlannedImages`.
        """
        there = manifest.sizes_in(self.folder)
        for run in reversed(manifest.recorded_runs(self.folder)):
            plan = run.get("plan", {})
            if plan.get("settings") == settings and "seed" in plan:
                is_ours = share.launch and plan.get("launch") == share.launch
                if is_ours or self._is_unfinished(run, there):
                    return plan["seed"]
        return None

    def begin(self, planned: PlannedImages, share: ProcessShare = _ALONE) -> set[int]:
        """Take the numbers of the images, or those of a run of the same images that is to be continued.

        Returns:
            The positions of the images that are complete.

        Raises:
            OutputError: the folder holds another grid, or a file of somebody else has the number of an image; or the
                manifest cannot be read or written. Then nothing was changed.
        """
        self._planned, begun = planned, self._clock()
        with manifest.changing(self.folder) as runs:
            there, key = manifest.sizes_in(self.folder), manifest.plan_key(planned.keys)
            run = next((run for run in reversed(runs) if self._continues(run, key, there)), None)
            if run is None:
                self._refuse_another_grid(runs, key)
                taken = max([*map(manifest.number_of, there), *map(manifest.last_number, runs)], default=-1)
                run = self._new_run(key, taken + 1)
                runs.append(run)
            run["plan"] |= {"is_grid": planned.is_grid or run["plan"].get("is_grid", False), "launch": share.launch}
            self._run = {name: value for name, value in run.items() if name != "images"}
            done = self._complete(run, there)
            self._refuse_foreign(there, done)
            self._journal = manifest.new_journal(self.folder, self._run, secrets.token_hex(4))
        self._updated(begun)
        return done

    def save(self, position: int, image: Image.Image, facts: dict[str, Any]) -> Path:
        """Write image number `position` of the run, and return its path.

        Args:
            facts: `prompt`, `seed` and everything else it was made with; stored in the PNG and in the manifest.

        Raises:
            OutputError: the file cannot be written.
        """
        path = self.folder / self.name_of(position)
        facts = {**facts, "key": self._planned.keys[position]}
        own = [one for one in self.embeds if one.get("column") in (None, facts.get("embeds"))]
        content = png_files.png_bytes(image, text=_text_chunks(facts, own, image.size))
        self._journal.add({"file": path.name, **facts, "bytes": len(content)})
        atomic.write_bytes(path, content)
        if self._clock() >= self._next_update:
            begun = self._clock()
            with manifest.changing(self.folder):
                pass
            self._updated(begun)
        return path

    def name_of(self, position: int) -> str:
        """The file name of an image of the run."""
        return f"{self._run['plan']['first'] + position:04d}-seed{self._planned.seeds[position]}.png"

    def drawn(self) -> set[int]:
        """Positions of the run's images that are in the folder, whichever process drew them."""
        first, count = self._run["plan"]["first"], len(self._planned.keys)
        numbers = (manifest.number_of(name) - first for name in manifest.sizes_in(self.folder))
        return {number for number in numbers if 0 <= number < count}

    def finish(self) -> RunState:
        """Bring the manifest up to date; a run without images leaves no entry.

        Raises:
            OutputError: the manifest cannot be written.
        """
        with manifest.changing(self.folder) as runs:
            there = manifest.sizes_in(self.folder)
            run = next((run for run in runs if run.get("id") == self._run["id"]), {})
            images = run.get("images", [])
            if not images and manifest.journals_in(self.folder, self._run["id"]) == [self._journal.path]:
                runs[:] = [other for other in runs if other is not run]
        names = {self.name_of(position) for position in self._complete(run, there)}
        complete = [entry for entry in images if manifest.file_of(entry) in names]
        return RunState(complete, len(self._planned.keys), self._run)

    def close(self) -> None:
        """Remove this process's journal, which says that it is at work: when all that it had to write is written."""
        self._journal.remove()

    # ------------------------------------------------------------------------------------------------------ its run

    def _new_run(self, key: str, first: int) -> dict[str, Any]:
        planned = self._planned
        plan: dict[str, Any] = {"key": key, "first": first, "count": len(planned.keys)}
        if planned.drawn_seed is not None:
            plan |= {"settings": planned.settings, "seed": planned.drawn_seed}
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {"id": secrets.token_hex(8), "created": created, **self._settings, "plan": plan, "images": []}

    def _continues(self, run: dict[str, Any], key: str, there: dict[str, int]) -> bool:
        """Whether this run is to be continued: a grid always, another one if it was left unfinished.

        Who gives the same command twice at once wants the images twice.
        """
        plan = run.get("plan", {})
        if plan.get("key") != key or plan.get("count") != len(self._planned.keys):
            return False
        if "first" not in plan or "id" not in run:  # somebody else's
            return False
        return plan.get("is_grid") or self._planned.is_grid or self._is_unfinished(run, there)

    def _is_unfinished(self, run: dict[str, Any], there: dict[str, int]) -> bool:
        """Whether a run was left before its end; a grid, whose processes do not wait for one another, has images left.

        A process that is killed after its last image leaves its journal.
        """
        if run.get("plan", {}).get("is_grid"):
            return _missing(run, there)
        left = manifest.journals_in(self.folder, run.get("id", ""))
        return all(map(journal.is_abandoned, left)) and (bool(left) or _missing(run, there))

    def _complete(self, run: dict[str, Any], there: dict[str, int]) -> set[int]:
        """Positions of the images that are whole under their numbers, and were recorded with their keys."""
        recorded = {manifest.file_of(entry): entry for entry in run.get("images", ())}
        names = map(self.name_of, range(len(self._planned.keys)))
        return {
            position
            for position, (name, key) in enumerate(zip(names, self._planned.keys, strict=True))
            if (entry := recorded.get(name)) and entry.get("key") == key and is_whole(entry, there)
        }

    def _refuse_another_grid(self, runs: list[dict[str, Any]], key: str) -> None:
        if self._planned.is_grid and any(run.get("plan", {}).get("is_grid") for run in runs):
            raise OutputError(
                f"{self.folder} holds another grid; choose another --output_dir, or repeat that grid's command to "
                "continue it"
            )

    def _refuse_foreign(self, there: dict[str, int], done: set[int]) -> None:
        images = {self.name_of(position): key for position, key in enumerate(self._planned.keys)}
        whole = {self.name_of(position) for position in done}
        first = self._run["plan"]["first"]
        refuse_foreign(self.folder, there, range(first, first + len(images)), images, whole)

    def _updated(self, begun: float) -> None:
        now = self._clock()
        self._next_update = now + _UPDATE_SHARE * (now - begun)


def refuse_foreign(
    folder: Path, there: Iterable[str], numbers: range, images: Mapping[str, str], whole: Collection[str]
) -> None:
    """Refuse files under numbers of a run that hold none of its images: they would be overwritten, or mistaken for it.

    Args:
        there: the names of the numbered images in the folder.
        numbers: of the run.
        images: file name -> key of its images.
        whole: names of those that are complete.

    Raises:
        OutputError: there is such a file.
    """
    for name in there:
        if name in whole or manifest.number_of(name) not in numbers:
            continue
        if name not in images or not _is_left_of(folder / name, images[name]):
            raise OutputError(
                f"{folder / name} has the number of an image of this run and is none of its images; "
                "move it away, or choose another --output_dir"
            )


def _is_left_of(path: Path, key: str) -> bool:
    """Whether a file is what is left of an image: empty, or with the image's key at its beginning."""
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            beginning = file.read(_KEY_WITHIN)
    except OSError:
        return False
    return not beginning or f"key\0{key}".encode() in beginning


def is_whole(entry: dict[str, Any], there: dict[str, int]) -> bool:
    """Whether an image is whole on the disk: it appears in one step, so its size tells of later damage."""
    return there.get(manifest.file_of(entry), -1) == entry.get("bytes")


def _missing(run: dict[str, Any], there: dict[str, int]) -> bool:
    """Whether a run has images left to draw."""
    whole = sum("key" in entry and is_whole(entry, there) for entry in run.get("images", ()))
    return whole < run["plan"].get("count", 0)


def _text_chunks(facts: dict[str, Any], embeds: list, size: tuple[int, int]) -> dict[str, str]:
    """The text chunks of a PNG: each fact under its own name, and the main ones in one text for other programs."""
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    first = {"key": plain["key"]} if "key" in plain else {}  # where `Gallery` looks for it
    return {**first, "parameters": infotext.parameters(facts, embeds, size), **plain, "embeds": json.dumps(embeds)}
