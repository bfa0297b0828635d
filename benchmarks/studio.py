"""What the page costs: until it is there, until an image is, for a training beside it, and in memory.

    python benchmarks/studio.py

A real browser looks at the page on the same machine, so its own work counts as well. One training goes on while the
page is open and closed in turns. It is timed once the run is so old that the page looks at it as seldom as at any.
The page is opened several times at once, and the slowdown is divided by that number: what one costs is less than what
a training's speed changes by itself from one turn to the next.
"""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from benchmarks import process_memory, runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.reporting.figures import FILE_NAME  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.studio import children, command_lines, refresh  # noqa: E402
from textual_inversion.studio.curves import of_run  # noqa: E402
from textual_inversion.studio.runs import look_at  # noqa: E402
from textual_inversion.studio.workspace import Workspace  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

_PAGES = ("", "runs", "draw", "words")
_POLL = 0.02  # seconds
_PATIENCE = 900.0
# Nothing but training, and a figure every ten steps.
_QUIET = {"eval_steps": "0", "overview": False, "only_save_embeds": True, "save_steps": "100000"}
_ENDLESS = "100000"  # steps: the benchmark ends the training


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="studio.py", description="What the page costs.")
    add = parser.add_argument
    add("--rounds", type=positive_int, default=4, help="parts of the training with an open page, and as many without")
    steps_help = "optimizer steps of each part: the page looks at an old run every 20 seconds"
    add("--steps", type=positive_int, default=320, help=steps_help)
    add("--pages", type=positive_int, default=8, help="pages that are open at once in the parts with an open page")
    add("--denoising_steps", type=positive_int, default=None, help="unset: the demo's own")
    runs.add_work_dir(add)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    from playwright.sync_api import sync_playwright

    from helpers.studio_page import CHROMIUM, Page

    folder = args.work_dir / f"studio-{time.time_ns()}"
    with ExitStack() as held:
        running = held.enter_context(sync_playwright())
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = Page(folder / "ws", ROOT / "cat_toy_images", ROOT / "demo", environment=_usual_environment())
        held.callback(page.stop)
        first = first_page(browser, page)
        memory = memory_of_the_page(browser, page)
        loading, drawing = images(browser, page, args.denoising_steps)
        times, share = training(browser, page, args.rounds, args.steps, args.pages)
        browser.close()
    print(section(first, memory, loading, drawing, times, share, args.pages))


def _usual_environment() -> dict[str, str]:
    return {name: "" for name in runs.SPEED_VARIABLES}


def first_page(browser, page) -> float:
    """Seconds from the command until the page shows its title."""
    from helpers.studio_page import Visitor

    runs.say("studio: the first page")
    begun = time.monotonic()
    page.start()
    visitor = Visitor(browser, page)
    visitor.tab.goto(page.address)
    visitor.tab.locator("h1").first.wait_for()
    seconds = time.monotonic() - begun
    visitor.close()
    return seconds


def memory_of_the_page(browser, page) -> dict[str, int]:
    """Memory of the page's process after each of its pages was looked at, before anything is drawn."""
    from helpers.studio_page import Visitor

    runs.say("studio: memory")
    visitor = Visitor(browser, page)
    for path in _PAGES:
        visitor.open(path)
    visitor.close()
    found = process_memory.now(page.process.pid)
    if "paddle" in Path(f"/proc/{page.process.pid}/maps").read_text():
        raise runs.BenchmarkError("the page has imported paddle before it drew")
    return found


def images(browser, page, denoising_steps: int | None) -> tuple[float, float]:
    """Seconds from the click to the first image: with a model that is to be loaded, and with one that is."""
    from helpers.studio_page import Visitor

    runs.say("studio: images")
    visitor, drawings = Visitor(browser, page).open("draw"), page.workspace / "drawings"
    visitor.fill("Images", "1")
    if denoising_steps is not None:
        visitor.fill("Denoising steps", str(denoising_steps))
    seconds = []
    for _ in range(2):
        visitor.settle()
        before = set(drawings.glob("*/0000-*.png"))
        begun = time.monotonic()
        visitor.tab.get_by_role("button", name="Draw", exact=True).first.click()
        _until(lambda before=before: set(drawings.glob("*/0000-*.png")) - before)
        seconds.append(time.monotonic() - begun)
        visitor.tab.get_by_role("button", name="Cancel").first.wait_for(state="detached")
    visitor.close()
    return seconds[0], seconds[1]


def training(browser, page, rounds: int, steps: int, pages: int) -> tuple[dict[bool, list[float]], float]:
    """Seconds of a step of one training with (True) and without (False) some open pages, in turns; and what server and
    browser take of a processor while they are open, 0 to 1 and more."""
    from helpers.studio_page import Visitor

    found: dict[bool, list[float]] = {False: [], True: []}
    taken = seconds = 0.0
    workspace = Workspace.at(page.workspace)
    folder = workspace.new_folder("runs", "timed")
    folder.mkdir()
    words = command_lines.arguments("train", {**_QUIET, "max_train_steps": _ENDLESS, "output_dir": str(folder)})
    job = children.start(workspace, folder, command_lines.process("train", words))
    runs.say("studio: the training begins")
    _until(lambda: refresh.period([look_at(workspace, folder)]) == refresh.PERIODS[-1], often=1.0)
    for number in range(2 * rounds):
        is_open = number % 2 == 1
        runs.say(f"studio: part {number + 1} of {2 * rounds}, {pages if is_open else 'no'} pages open")
        address = f"runs?run={workspace.job_folder(folder).name[:12]}"
        visitors = [Visitor(browser, page).open(address) for _ in range(pages if is_open else 0)]
        before, begun = processor_seconds(job.pid), time.monotonic()
        found[is_open].append(seconds_of_a_step(folder, steps, lambda: job.is_alive))
        if is_open:
            taken += processor_seconds(job.pid) - before
            seconds += time.monotonic() - begun
        runs.say(f"studio: {found[is_open][-1]:.4f} s a step")
        for visitor in visitors:
            visitor.close()
    children.stop(workspace, folder)
    _until(lambda: not job.is_alive)
    return found, taken / seconds


def processor_seconds(training: int) -> float:
    """What this program's children have taken of processors so far, a training and its children left out."""
    left_out = {os.getpid(), *process_memory.tree(training)}
    ticks = 0
    for pid in set(process_memory.tree(os.getpid())) - left_out:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # in the program and in the system
    return ticks / os.sysconf("SC_CLK_TCK")


def seconds_of_a_step(folder: Path, steps: int, is_alive: Callable[[], bool] = lambda: True) -> float:
    """Of a run that goes on, over `steps` steps or a few more: from one line of its figures to another.

    Raises:
        BenchmarkError: the run ends before.
    """
    begun, first = _next_line(folder, 0, is_alive)
    now, step = begun, first
    while step < first + steps:
        now, step = _next_line(folder, step, is_alive)
    return (now - begun) / (step - first)


def _next_line(folder: Path, after: int, is_alive: Callable[[], bool]) -> tuple[float, int]:
    """(moment, step) of the next line of a run's figures that is written from now on, beyond a step."""
    known, path = max(after, of_run(folder).step), folder / FILE_NAME
    size = path.stat().st_size

    def is_longer() -> bool:
        if not is_alive():
            raise runs.BenchmarkError(f"the training in {folder.name} ended before it was timed")
        return path.stat().st_size > size

    _until(is_longer)  # the file is read when there is something new alone: reading takes time from the training
    moment, step = time.monotonic(), of_run(folder).step
    return (moment, step) if step > known else _next_line(folder, known, is_alive)


def _until(test: Callable[[], object], often: float = _POLL) -> None:
    end = time.monotonic() + _PATIENCE
    while not test():
        if time.monotonic() > end:
            raise runs.BenchmarkError("the page did nothing for too long")
        time.sleep(often)


def section(
    first: float,
    memory: dict[str, int],
    loading: float,
    drawing: float,
    times: dict[bool, list[float]],
    share: float,
    pages: int,
) -> str:
    """What is printed."""
    # Of each part with open pages and the one before it: the machine's own changes are slower than these turns.
    ratios = [opened / closed for closed, opened in zip(times[False], times[True], strict=True)]
    slowdown = 100 * (tables.median(ratios) - 1) / pages
    opened = f"{pages} pages open" if pages > 1 else "the page open"
    rows = [
        ("from the command to the first page", tables.seconds(first)),
        ("from the click to an image of the demo, with a model that is to be loaded", tables.seconds(loading)),
        ("the same with a model that is loaded", tables.seconds(drawing)),
        ("a step of the demo's training, no page open", tables.seconds(tables.median(times[False]))),
        (f"the same with {opened} at the run", tables.seconds(tables.median(times[True]))),
        ("the latter by the former, in turns: median, and the mean with its standard error", _summary(ratios)),
        ("what server and browser take of one processor meanwhile, by page", f"{100 * share / pages:.1f} %"),
        ("memory of the page's process without a model", tables.byte_count(memory["resident"])),
        ("of which its own pages", tables.byte_count(memory["anonymous"])),
    ]
    targets = [
        tables.Target("from the command to the first page, s", first, 5.0),
        tables.Target("from the click to an image with the model loaded, s", drawing, 4.0),
        tables.Target("slowdown of training by an open page, %", slowdown, 3.0),
        tables.Target("memory of the page without a model, MB", memory["resident"] / 1e6, 300.0),
    ]
    return tables.section("The page in a browser", tables.table(("the page", ""), rows), tables.targets_table(targets))


def _summary(ratios: list[float]) -> str:
    error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    return f"{tables.median(ratios):.3f}; {statistics.mean(ratios):.3f} ± {error:.3f}"


if __name__ == "__main__":
    run_command(main)
