"""What the page costs: until it is there, until an image is, for a training beside it, and in memory.

    python benchmarks/studio.py

A real browser looks at the page on the same machine, so its own work counts as well. Trainings with and without an open
page take turns.
"""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from benchmarks import process_memory, runs, tables  # noqa: E402
from benchmarks.machine import ROOT  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.embeddings.run_record import read_record  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.studio import children, command_lines  # noqa: E402
from textual_inversion.studio.workspace import Workspace  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402

_PAGES = ("", "runs", "draw", "words")
_POLL = 0.02  # seconds
_PATIENCE = 900.0
# Nothing but training, and a figure every ten steps.
_QUIET = {"eval_steps": "0", "overview": False, "only_save_embeds": True, "save_steps": "100000"}


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="studio.py", description="What the page costs.")
    parser.add_argument("--rounds", type=positive_int, default=3, help="trainings with and without an open page")
    parser.add_argument("--steps", type=positive_int, default=100, help="of each training")
    parser.add_argument("--denoising_steps", type=positive_int, default=None, help="unset: the demo's own")
    runs.add_work_dir(parser.add_argument)
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
        times = trainings(browser, page, args.rounds, args.steps)
        browser.close()
    print(section(first, memory, loading, drawing, times))


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


def trainings(browser, page, rounds: int, steps: int) -> dict[bool, list[float]]:
    """Seconds of a step with (True) and without (False) an open page, in turns."""
    from helpers.studio_page import Visitor

    found: dict[bool, list[float]] = {False: [], True: []}
    workspace = Workspace.at(page.workspace)
    for number in range(2 * rounds):
        is_open = number % 2 == 1
        runs.say(f"studio: training {number + 1} of {2 * rounds}, page {'open' if is_open else 'closed'}")
        folder = workspace.new_folder("runs", "timed")
        folder.mkdir()
        words = command_lines.arguments("train", {**_QUIET, "max_train_steps": str(steps), "output_dir": str(folder)})
        children.start(workspace, folder, command_lines.process("train", words))
        visitor = None
        if is_open:
            run = workspace.job_folder(folder).name[:12]
            visitor = Visitor(browser, page).open(f"runs?run={run}")
        _until(lambda folder=folder: not children.job_of(workspace, folder).is_alive)
        if visitor is not None:
            visitor.close()
        found[is_open].append(seconds_of_a_step(folder))
    return found


def seconds_of_a_step(folder: Path) -> float:
    """Of a finished run, as it has recorded how long it trained."""
    record = read_record(folder)
    seconds = record.get("figures", {}).get("seconds", {}).get("training")
    if seconds is None:
        raise runs.BenchmarkError(f"{folder.name} has not ended")
    return seconds / record["settings"]["max_train_steps"]


def _until(test) -> None:
    end = time.monotonic() + _PATIENCE
    while not test():
        if time.monotonic() > end:
            raise runs.BenchmarkError("the page did nothing for too long")
        time.sleep(_POLL)


def section(
    first: float, memory: dict[str, int], loading: float, drawing: float, times: dict[bool, list[float]]
) -> str:
    """What is printed."""
    slowdown = 100 * (tables.median(times[True]) / tables.median(times[False]) - 1)
    rows = [
        ("from the command to the first page", tables.seconds(first)),
        ("from the click to an image of the demo, with a model that is to be loaded", tables.seconds(loading)),
        ("the same with a model that is loaded", tables.seconds(drawing)),
        ("a step of the demo's training, no page open", tables.seconds(tables.median(times[False]))),
        ("the same with the page open at the run", tables.seconds(tables.median(times[True]))),
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


if __name__ == "__main__":
    run_command(main)
