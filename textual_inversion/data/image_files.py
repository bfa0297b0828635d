"""The files of training images: looked at when a run begins, and read again when they are encoded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from textual_inversion.data.cropping import Focus, focus_of
from textual_inversion.data.image_memory import MOST_BYTES
from textual_inversion.data.images import content_digest, load_image, memory_of
from textual_inversion.system.errors import ImageError
from textual_inversion.system.progress import LateProgress

Item, Result = TypeVar("Item"), TypeVar("Result")


@dataclass(frozen=True)
class ImageFile:
    """A training image that was looked at.

    Attributes:
        path: where it is.
        size: (width, height) in pixels, upright.
        digest: of its pixels.
        version: changes with the file.
        focus: what stands out in it, where it is to be cropped there.
    """

    path: Path
    size: tuple[int, int]
    digest: bytes
    version: tuple[int, int] | None = None
    focus: Focus | None = None

    def load(self) -> Image.Image:
        """The image again, RGB; raises ImageError, also if it is no longer the same."""
        version = _version_of(self.path)
        image = load_image(self.path)
        # Hashing the pixels takes as long as decoding them: an untouched file is taken at its word.
        if version != self.version and content_digest(image) != self.digest:
            raise ImageError(f"{self.path}: has changed since this run began; start the run again")
        return image


def look_at(
    paths: Sequence[Path], workers: int, say: Callable[[str], None], shows_progress: bool, *, wants_focus: bool
) -> list[ImageFile]:
    """Decode images once, and keep what is to be known of them."""

    def look(path: Path) -> ImageFile:
        version = _version_of(path)
        image = load_image(path, note=say)
        focus = focus_of(image) if wants_focus else None
        return ImageFile(path, image.size, content_digest(image), version, focus)

    with LateProgress(len(paths), "reading image", enabled=shows_progress) as progress:
        return [progress.after(file) for file in ahead(look, paths, workers, memory=memory_of)]


def _version_of(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    memory: Callable[[Item], int] = lambda item: 0,
) -> Iterator[Result]:
    """The results of a function, in the order of the items; `workers` threads are at most as many results ahead.

    Args:
        workers: 0: no threads.
        memory: bytes that an item takes while the function works; of all that are in work, at most `MOST_BYTES`, or
            one item.
    """
    if workers < 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting: deque[tuple[Future, int]] = deque()
        try:
            for item in items:
                needed = memory(item)
                while waiting and (len(waiting) > workers or needed + _in_work(waiting) > MOST_BYTES):
                    yield waiting.popleft()[0].result()
                waiting.append((pool.submit(function, item), needed))
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def _in_work(waiting: Iterable[tuple[Future, int]]) -> int:
    return sum(needed for future, needed in waiting if not future.done())
