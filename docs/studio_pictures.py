"""The pictures of the page: `python docs/studio_pictures.py` teaches the demo in it and writes the three of the pages.

    python docs/studio_pictures.py --workspace DIR     takes the first run in a workspace that is there already
    python docs/studio_pictures.py --all DIR           also every page, at two widths, in two languages, light and dark

Needs streamlit, playwright and Chromium; whoever changes the looks of the page looks at all of them.
"""

import argparse
import os
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from helpers.studio_page import CHROMIUM, Page, Visitor  # noqa: E402
from textual_inversion.studio.workspace import Workspace  # noqa: E402

DOCS = Path(__file__).parent
_MOST = 150_000  # bytes of a picture in the pages
_COLOURS = 128
_SECONDS = 900


def main() -> None:
    """Write the pictures."""
    os.chdir(ROOT)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--all", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as running:
        workspace = (args.workspace or Path(temporary, "ws")).resolve()
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with Page(workspace, ROOT / "cat_toy_images", ROOT / "demo") as page:
            run = _taught(browser, page)
            _pages(browser, page, run)
            if args.all:
                _all(browser, page, run, args.all)
        browser.close()


def _taught(browser, page: Page) -> str:
    """The address of a finished run; the demo is taught where there is none."""
    runs = page.workspace / "runs"
    if not list(runs.glob("*/learned_embeds.pdparams")):
        visitor = Visitor(browser, page).open()
        visitor.click("Start the demo")
        begun = time.monotonic()
        while not list(runs.glob("*/README.md")):
            if time.monotonic() - begun > _SECONDS:
                raise SystemExit(f"the demo is not taught after {_SECONDS} seconds; see {page.said}")
            time.sleep(1)
        visitor.close()
    (folder, *_) = sorted(path.parent for path in runs.glob("*/learned_embeds.pdparams"))
    run = Workspace.at(page.workspace).job_folder(folder).name[:12]
    if not list((page.workspace / "drawings").glob("*/0000-*.png")):
        visitor = Visitor(browser, page).open(f"draw?run={run}")
        visitor.fill("Prompt", "a photo of a <cat-toy> on the beach\na <cat-toy> in the snow")
        visitor.fill("Seed", "7")
        visitor.click("Draw")
        visitor.sees("Details", seconds=_SECONDS)
        visitor.close()
    return run


def _pages(browser, page: Page, run: str) -> None:
    visitor = Visitor(browser, page, width=1100).open()
    visitor.click("Choose a folder", "radio")
    visitor.fill("Folder of training images", "cat_toy_images")
    visitor.tab.locator("h1").click()  # away from the help of the next field
    _save(visitor, DOCS / "studio_teach.png", 1000)
    visitor.open(f"runs?run={run}")
    visitor.tab.wait_for_timeout(2000)
    _save(visitor, DOCS / "studio_run.png", 880)
    visitor.open(f"draw?run={run}")
    _save(visitor, DOCS / "studio_draw.png", 900)
    visitor.close()


def _save(visitor: Visitor, path: Path, height: int) -> None:
    """The top of a page, in few colours, so that it stays small."""
    visitor.tab.set_viewport_size({"width": 1100, "height": height})
    visitor.settle()
    with Image.open(BytesIO(visitor.tab.screenshot())) as shot:
        shot.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > _MOST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {_MOST}")


def _all(browser, page: Page, run: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    looks = [("en-US", "light"), ("zh-CN", "dark"), ("en-US", "dark"), ("zh-CN", "light")]
    for locale, scheme in looks:
        for width in (1280, 400):
            for name, path in (("teach", ""), ("runs", "runs"), ("run", f"runs?run={run}"), ("draw", "draw"),
                               ("words", "words")):  # fmt: skip
                visitor = Visitor(browser, page, width=width, locale=locale, color_scheme=scheme).open(path)
                visitor.tab.wait_for_timeout(1500)
                height = visitor.tab.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
                visitor.tab.set_viewport_size({"width": width, "height": min(height + 20, 3000)})
                visitor.settle()
                visitor.tab.screenshot(path=folder / f"{name}-{width}-{locale[:2]}-{scheme}.png")
                visitor.close()


if __name__ == "__main__":
    main()
