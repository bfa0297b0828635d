"""The page as a process of its own, and a browser that looks at it and complains of what should not be.

pip install -r requirements-studio.txt playwright && apt-get install chromium fonts-wqy-zenhei
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from helpers.node_runs import free_port
from helpers.paths import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120_000  # milliseconds; a machine with much to do is slow


class Page:
    """The page, started by its own command.

    Args:
        workspace: its folder.
        roots: other folders that it may read.
        words: further arguments.
    """

    def __init__(self, workspace: Path, *roots: Path, words: tuple[str, ...] = (), environment: dict | None = None):
        self.workspace, self.port = workspace, free_port()
        self.command = [sys.executable, str(ROOT / "apps/studio.py"), "--workspace", str(workspace), "--port",
                        str(self.port), "--headless", "--roots", *map(str, roots or [workspace]), *words]  # fmt: skip
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen | None = None
        self.first_page = 0.0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Page":
        begun = time.monotonic()
        self.workspace.parent.mkdir(parents=True, exist_ok=True)
        self._log = open(self.workspace.parent / "page.log", "ab")
        self.process = subprocess.Popen(self.command, stdout=self._log, stderr=self._log, env=self._environment)
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=5).read()
                break
            except OSError:
                assert self.process.poll() is None, self.said
                assert time.monotonic() - begun < 120, "the page does not answer"
                time.sleep(0.05)
        self.first_page = time.monotonic() - begun
        return self

    @property
    def said(self) -> str:
        return (self.workspace.parent / "page.log").read_text("utf-8", "replace")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self._log.close()

    def __enter__(self) -> "Page":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Visitor:
    """A browser's window on the page. `complaints` holds what should not be."""

    def __init__(self, browser, page: Page, width: int = 1280, **settings):
        self._context = browser.new_context(viewport={"width": width, "height": 1000}, accept_downloads=True,
                                            **{"locale": "en-US", **settings})  # fmt: skip
        self._context.set_default_timeout(PATIENCE)
        self.tab, self._page, self.complaints = self._context.new_page(), page, []
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        own = (page.address, "data:", "blob:")
        self.tab.on("request", lambda one: one.url.startswith(own) or self.complaints.append(f"asked for {one.url}"))

    def open(self, path: str = "") -> "Visitor":
        self.tab.goto(f"{self._page.address}/{path}")
        self.tab.locator("h1").first.wait_for()
        self.settle()
        return self

    def settle(self) -> None:
        """Wait until the page has drawn everything."""
        self.tab.wait_for_function(
            "() => !document.querySelector('[data-testid=stSkeleton]')"
            " && !document.querySelector('[data-testid=stStatusWidget]')"
        )
        self.tab.wait_for_load_state("networkidle")  # parts of the page that are fetched when they are first shown
        self.tab.wait_for_timeout(300)

    def click(self, name: str, role: str = "button") -> None:
        self.tab.get_by_role(role, name=name, exact=True).first.click()
        self.settle()

    def fill(self, label: str, text: str) -> None:
        field = self.tab.get_by_label(label, exact=True).first
        field.fill(text)
        field.press("Tab")
        self.settle()

    def drop(self, index: int, *files) -> None:
        """Drop files, each a path or (name, content), into the page's uploader of this number."""
        given = [
            {"name": one[0], "mimeType": "application/octet-stream", "buffer": one[1]}
            if isinstance(one, tuple)
            else one
            for one in files
        ]
        self.tab.locator("input[type=file]").nth(index).set_input_files(given)
        self.settle()

    def sees(self, text: str, *, exact: bool = False, seconds: float = PATIENCE / 1000) -> bool:
        try:
            self.tab.get_by_text(text, exact=exact).first.wait_for(timeout=1000 * seconds)
        except Exception as error:  # playwright's own, which may not be installed
            raise AssertionError(f"the page does not say {text!r}, but:\n{self.text}") from error
        return True

    @property
    def text(self) -> str:
        return self.tab.locator("[data-testid=stMain]").inner_text()

    def close(self) -> None:
        self._context.close()
