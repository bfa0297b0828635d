"""The page in a real browser: from the first visit to a learned word and its images, and what hostile visitors try."""

import contextlib
import io
import os
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

from helpers.paths import ROOT
from helpers.studio_page import CHROMIUM, Page, Visitor
from textual_inversion.formats.embedding_file import LearnedEmbedding, read_embeddings, write_pdparams
from textual_inversion.studio import children
from textual_inversion.studio.workspace import Workspace

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytest.importorskip("streamlit", reason="pip install -r requirements-studio.txt")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

HOSTILE = (
    '<img src=x onerror="alert(1)"> [x](http://evil.example) ![y](http://evil.example/a.png) <script>alert(2)</script>'
)
MARKUP = "a[href*='evil'], img[src*='evil'], img[src='x'], [data-testid=stMain] script"
TINY_STEPS = "4"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    top = tmp_path_factory.mktemp("studio")
    with Page(top / "ws", ROOT / "cat_toy_images", ROOT / "demo") as page:
        yield page
    workspace = Workspace.at(page.workspace)
    for folder in workspace.part("runs").iterdir():  # they would go on without the page
        children.stop(workspace, folder)


@pytest.fixture
def visit(browser, page):
    visitors = []

    def open_page(path="", **settings):
        visitors.append(Visitor(browser, settings.pop("at", page), **settings))
        return visitors[-1].open(path)

    yield open_page
    complaints = [line for one in visitors for line in one.complaints]
    for one in visitors:
        one.close()
    assert complaints == []


def png(colour=(200, 90, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", (96, 96), colour).save(buffer, "PNG")
    return buffer.getvalue()


def newest_run(page):
    return max((page.workspace / "runs").iterdir(), key=lambda path: path.stat().st_mtime)


def until(test, seconds=300.0):
    end = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


def test_a_word_is_taught_by_clicks_through_reload_restart_stop_and_fork_and_drawn(visit, page, tell):
    visitor = visit()
    visitor.click("Start the demo")
    visitor.tab.wait_for_url("**/runs?*run=*")
    folder = newest_run(page)
    visitor.tab.locator("h1", has_text=folder.name).wait_for()
    tell("the demo was started by one click")
    until(lambda: (folder / "figures.jsonl").is_file())
    visitor.tab.reload()
    visitor.sees("training", exact=True)
    visitor.sees(" left")
    tell("it trains after a reload, with the time left")

    workspace = Workspace.at(page.workspace)
    pid = children.job_of(workspace, folder).pid
    page.stop()
    os.kill(pid, 0)  # it goes on without the page
    page.start()
    visitor.open(visitor.tab.url.removeprefix(page.address + "/"))
    visitor.sees("training", exact=True)
    assert children.job_of(workspace, folder).pid == pid
    tell("the page was ended and started again, and found it by its folder")

    until(lambda: (folder / "samples/step-20.png").is_file())
    visitor.click("Images", "radio")
    visitor.sees("Validation image after step")
    visitor.click("Stop")
    visitor.sees("stopped", exact=True)
    visitor.sees("stopped by SIGTERM after step")
    visitor.click("Continue")
    visitor.sees("training", exact=True)
    tell("it was stopped, and goes on from its checkpoint")
    visitor.sees("finished", exact=True, seconds=600)
    visitor.click("Images", "radio")
    visitor.sees("Validation image after step 100")
    assert (folder / "learned_embeds.pdparams").is_file()
    tell("it is finished: its images are on a slider")

    visitor.click("Fork", "radio")
    visitor.fill("Steps", TINY_STEPS)
    visitor.sees("Changed: --max_train_steps")
    visitor.click("Start the fork")
    fork = until(lambda: newest_run(page) != folder and newest_run(page))
    until(lambda: (fork / "learned_embeds.pdparams").is_file())
    tell("a fork with other steps was started and ended")

    visitor.open(f"draw?run={workspace.job_folder(folder).name[:12]}")
    visitor.click("Draw")
    visitor.sees("Details", seconds=300)
    tell("an image was drawn with the learned word")
    assert list((page.workspace / "drawings").glob("*/0000-*.png"))
    visitor.open("runs")
    visitor.tab.get_by_label("Runs to compare").click()
    for name in (folder.name, fork.name):
        visitor.tab.get_by_role("option", name=name, exact=True).click()
    visitor.settle()
    visitor.sees("max_train_steps")
    tell("two runs were compared")


def test_what_the_command_refuses_is_its_line_on_the_page_where_only_a_part_of_it_is_drawn_anew(visit, page, tell):
    visitor = visit("runs")
    folder = page.workspace / "runs" / "brought"  # after the page has looked for runs
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "config.yaml").write_text("max_train_steps: many\n")
    run = Workspace.at(page.workspace).job_folder(folder).name[:12]
    visitor.open(f"runs?run={run}").click("Continue")
    visitor.sees("max_train_steps")
    assert visitor.tab.locator("[data-testid=stException]").count() == 0
    tell("a run that cannot go on says why")


def test_images_are_dropped_captioned_and_taught_with_the_shown_command(visit, page, tell):
    visitor = visit()
    files = [("../../x", png()), ("<script>alert(1)</script>.png", png((9, 99, 199))), ("same.png", png())]
    visitor.drop(0, *files, ("garbage.png", os.urandom(10 << 20)))
    visitor.sees("Not taken: garbage.png")
    visitor.sees("The same image more than once")
    assert visitor.tab.locator(MARKUP).count() == 0
    visitor.fill("Caption of 0001.png", "a <my-toy> [x](http://evil.example) <script>alert(1)</script>")
    visitor.fill("New word", "<my-toy>")
    visitor.fill("Steps", "-3")
    visitor.sees("--max_train_steps: must be at least 1")
    assert visitor.tab.get_by_role("button", name="Start", exact=True).is_disabled()
    visitor.fill("Steps", "2")
    visitor.fill("Name of the run", "../../x <script>")
    visitor.click("Start")
    visitor.tab.wait_for_url("**/runs?*run=*")
    folder = newest_run(page)
    assert folder.parent == page.workspace / "runs" and ".." not in folder.name
    until(lambda: (folder / "learned_embeds.pdparams").is_file())
    (concept,) = read_embeddings(folder / "learned_embeds.pdparams")
    assert concept.placeholder_token == "<my-toy>" and not (page.workspace.parent.parent / "x").exists()
    assert visitor.tab.locator(MARKUP).count() == 0
    tell("dropped images were captioned and taught; ten megabytes of garbage were refused")


def test_hostile_words_prompts_and_folders_stay_text(visit, page, tell, tmp_path):
    visitor = visit("draw")
    visitor.drop(0, ("../../evil.pt", b"cos\nsystem\n(S'touch /tmp/owned-by-a-pickle'\ntR."))
    visitor.sees("Not taken:")
    assert not os.path.exists("/tmp/owned-by-a-pickle") and not list((page.workspace / "words").glob("*evil*"))
    for text in (HOSTILE, "`a` $x^2$ :red[b] # c\n\n* d"):
        visitor.fill("Prompt", text)
        visitor.fill("Negative prompt", text.replace("\n", " "))
        assert visitor.tab.locator(MARKUP).count() == 0
    visitor.open()
    visitor.click("Choose a folder", "radio")
    (tmp_path / "out").mkdir()
    for path in ("/etc", "../../..", str(tmp_path / "out"), "\\\\x\\y"):
        visitor.fill("Folder of training images", path)
        visitor.sees("outside of the folders that this page may use")
    link = page.workspace / "images" / "link"
    link.symlink_to(tmp_path / "out")
    visitor.fill("Folder of training images", str(link))
    visitor.sees("outside of the folders that this page may use")
    link.unlink()
    tell("a hostile embedding, hostile prompts and paths did nothing")


def test_two_visitors_draw_at_once_with_two_words_and_neither_touches_the_other(visit, page, tell, tmp_path):
    rows = read_embeddings(ROOT / "demo/learned_embeds.pdparams")[0].vectors["text_encoder"]
    other = tmp_path / "other.pdparams"
    write_pdparams(other, [LearnedEmbedding("<other>", {"text_encoder": np.ascontiguousarray(rows[:, ::-1])},
                                            {"base_model": "demo/model"})])  # fmt: skip
    first, second = visit("draw"), visit("draw")
    first.drop(0, str(other))
    first.sees("is in the library")
    first.fill("Prompt", "a <other> beside a <cat-toy>")
    before = set((page.workspace / "drawings").iterdir())
    for visitor, seed in ((first, "11"), (second, "12")):
        visitor.fill("Denoising steps", "8")
        visitor.fill("Images", "1")
        visitor.fill("Seed", seed)
    first.click("Draw")
    second.tab.get_by_role("button", name="Draw", exact=True).click()
    made = until(lambda: len(found := set((page.workspace / "drawings").iterdir()) - before) == 2 and found)
    until(lambda: all(list(folder.glob("0000-seed*.png")) for folder in made))
    seeds = {next(folder.glob("0000-*.png")).name for folder in made}
    assert seeds == {"0000-seed11.png", "0000-seed12.png"}
    tell("two visitors drew at once, one of them with two words")


def test_a_killed_model_fails_its_request_and_the_page_goes_on(visit, page, tell):
    visitor = visit("draw")
    visitor.fill("Denoising steps", "400")
    visitor.click("Draw")
    worker = until(lambda: drawing_processes(page.process.pid))
    time.sleep(1)
    for pid in worker:
        os.kill(pid, signal.SIGKILL)
    visitor.sees("Not drawn: the process that draws ended with signal 9")
    visitor.fill("Denoising steps", "2")
    before = len(list((page.workspace / "drawings").glob("*/0000-*.png")))
    visitor.click("Draw")
    until(lambda: len(list((page.workspace / "drawings").glob("*/0000-*.png"))) > before)
    assert page.process.poll() is None
    with open(f"/proc/{page.process.pid}/maps") as maps:
        assert "paddle" not in maps.read()  # the page itself has never imported it
    tell("a killed model was told, and the next image was drawn")


def drawing_processes(parent):
    found = []
    for task in os.listdir(f"/proc/{parent}/task"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            pids = open(f"/proc/{parent}/task/{task}/children").read().split()
            found += [int(pid) for pid in pids if b"studio.worker" in open(f"/proc/{pid}/cmdline", "rb").read()]
    return found


def test_words_are_inspected_converted_renamed_and_mixed(visit, page, tell):
    visitor = visit("words")
    visitor.drop(0, str(ROOT / "demo/learned_embeds.pdparams"))
    visitor.sees("is in the library")
    visitor.sees("1 concept in")
    visitor.click("Convert", "radio")
    visitor.click("Convert")
    visitor.sees("Written:")
    visitor.click("Rename", "radio")
    visitor.fill("New name", "<other-cat>")
    visitor.click("Write under the new name")
    visitor.sees("Written:")
    visitor.click("Mix", "radio")
    visitor.fill("Name of the new word", "<mixed>")
    visitor.click("Mix")
    visitor.sees("Written:")
    tokens = {one.placeholder_token for path in (page.workspace / "words").glob("*.safetensors")
              for one in read_embeddings(path)}  # fmt: skip
    assert {"<other-cat>", "<mixed>"} <= tokens
    visitor.click("Inspect", "radio")
    visitor.click("Delete")
    visitor.click("Move to the bin")
    assert list((page.workspace / "bin").iterdir())
    tell("a word was inspected, converted, renamed, mixed and deleted")


def test_a_page_for_others_asks_for_its_password(browser, visit, tmp_path, tell):
    words = ("--address", "0.0.0.0")
    with Page(tmp_path / "ws", words=words, environment={"TEXTUAL_INVERSION_PASSWORD": "correct horse"}) as page:
        visitor = visit(at=page)
        visitor.sees("so it asks who you are")
        assert visitor.tab.get_by_role("button", name="Start the demo").count() == 0
        visitor.fill("Password", "wrong horse")
        visitor.click("Enter")
        visitor.sees("That is not the password")
        visitor.fill("Password", "correct horse")
        visitor.click("Enter")
        visitor.sees("Start the demo")
    tell("a page for others asked for its password")


def test_streamlits_own_command_listens_to_this_machine_only_and_open_to_others_it_does_nothing(
    browser, visit, tmp_path, tell
):
    for words, address, sees in (
        ((), "0100007F", "Start the demo"),
        (("--server.address", "0.0.0.0"), "00000000", "has no password"),
    ):
        page = Page(tmp_path / "ws")
        own = [
            "--server.port",
            str(page.port),
            "--server.headless",
            "true",
            *words,
            "--",
            "--workspace",
            str(tmp_path / "ws"),
            "--roots",  # not what runs may lie about in the checkout
            str(tmp_path / "ws"),
        ]
        page.command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "apps/studio.py"), *own]
        with page:
            listening = [
                line.split()[1] for line in open("/proc/net/tcp").read().splitlines()[1:] if line.split()[3] == "0A"
            ]
            assert [one for one in listening if one.endswith(f":{page.port:04X}")] == [f"{address}:{page.port:04X}"]
            visitor = visit(at=page)
            visitor.sees(sees)
            assert visitor.tab.get_by_role("button", name="Start the demo").count() == (not words)
    tell("streamlit run listens to this machine only, and without a password does nothing for others")


def test_a_strangers_page_opens_no_connection_and_uploads_nothing(page):
    import http.client

    def status(method, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    socket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    own = f"http://127.0.0.1:{page.port}"
    assert status("GET", "/_stcore/stream", Origin=own, **socket) == 101
    assert status("GET", "/_stcore/stream", Origin="http://evil.example", **socket) in (400, 403)
    assert status("GET", "/_stcore/stream", Origin=own, Host="evil.example", **socket) in (400, 403)  # a rebound name
    assert status("PUT", "/_stcore/upload_file/a/b", Origin=own) in (400, 403)  # without the token


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_cut_off_and_the_page_speaks_both_languages(visit, language, width):
    locale, scheme = {"en": ("en-US", "light"), "zh": ("zh-CN", "dark")}[language]
    for path in ("", "runs", "draw", "words"):
        visitor = visit(path, width=width, locale=locale, color_scheme=scheme)
        assert visitor.tab.evaluate("document.documentElement.scrollWidth") <= width
        has_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in visitor.tab.locator("h1").first.inner_text())
        assert has_chinese == (language == "zh")
        assert visitor.tab.locator("img:not([alt])").count() == 0
    visitor.click({"en": "中文", "zh": "English"}[language], "radio")
    visitor.sees({"en": "词库", "zh": "Words"}[language])
