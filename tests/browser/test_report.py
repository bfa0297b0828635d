"""`report.html` and `comparison.html` in a real browser, from files: both languages, the slider, hostile texts, sizes.

pip install playwright && apt-get install chromium fonts-wqy-zenhei
"""

import json
import shutil

import pytest

from helpers.reported_runs import run_folder
from textual_inversion.reporting.comparison import comparison
from textual_inversion.reporting.report import PAGE, write_report
from textual_inversion.reporting.run_facts import read_run

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
HOSTILE = '</script><img src=http://x/ onerror="alert(1)"> {{data}} <b>'
SCORE = {"baseline": {"word": "toy", "image_similarity": 0.5}, "share_of_the_way": 0.9, "text_ratio": 0.5,
         "concept": {"word": "<w>", "image_similarity": 0.8, "images": [0.79, 0.80, 0.81], "texts": []}}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs with a <name> & 100%")
    frames = [(step, [(20 * step, 0, 0)] * 2) for step in range(6)]
    one = run_folder(folder / "one", prompts=("a <w>", HOSTILE), frames=frames, figures={"scores": {"<w>": SCORE}})
    better = SCORE | {"concept": SCORE["concept"] | {"images": [0.89, 0.90, 0.912], "image_similarity": 0.9}}
    run_folder(folder / "two", prompts=("a <w>",), figures={"scores": {"<w>": better}},
               settings={"lr_scheduler": HOSTILE})  # fmt: skip
    with (one / "figures.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, HOSTILE: 1.0}) + "\n")
        for step in (5, 9):
            bands = {f"eval/fixed_set_loss_{band}": 0.1 * step for band in ("little_noise", "half_noise", "much_noise")}
            images = {f"eval/image_loss_{number}": 1.0 - 0.01 * step for number in range(3)}
            file.write(json.dumps({"step": step, **bands, **images}) + "\n")
    write_report(one)
    (folder / "comparison.html").write_bytes(comparison([read_run(folder / name) for name in ("one", "two")]))
    return folder


@pytest.fixture
def opened():
    """Open a page; whatever it says on its console, asks for or shows is a failure."""
    complaints = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def open_page(path, width=1280, locale="en-US"):
            page = browser.new_context(viewport={"width": width, "height": 900}, locale=locale).new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
            page.on("request", lambda one: one.url.startswith(("file:", "data:")) or complaints.append(one.url))
            page.goto(path.as_uri())
            return page

        yield open_page
        browser.close()
    assert not complaints


@pytest.mark.parametrize("width", [1280, 400])
def test_a_report_is_read_in_both_languages_and_its_steps_are_looked_through(runs, opened, width):
    page = opened(runs / "one" / PAGE, width)
    assert page.locator("h1").inner_text() == "<w>"
    assert page.locator("#findings li").inner_text().startswith("<w> is hard to edit")
    assert page.locator("#frame figcaption").all_inner_texts() == ["a <w>", HOSTILE]
    assert page.locator("#at").inner_text() == "step 5"
    last = page.locator("#frame img").first.get_attribute("src")
    page.locator("#step").fill("0")
    assert page.locator("#at").inner_text() == "step 0"
    assert page.locator("#frame img").first.get_attribute("src") != last
    assert (
        "Loss on a fixed set" in page.locator(".plots").inner_text()
        and HOSTILE.split("//")[0] in page.locator(".plots").inner_text()
    )
    legends = page.locator("figure:has([data-curve='eval/fixed_set_loss_bands']) svg text[data-text]")
    assert legends.all_text_contents()[1:] == ["little noise (details)", "half noise", "much noise (the whole)"]
    assert page.locator("[data-curve='eval/image_loss']").inner_text().startswith("Loss of each image")
    page.locator("#language").click()
    assert legends.all_text_contents()[1] == "噪声少（细节）"
    assert page.locator("h2").first.inner_text() == "训练前后" and "难以编辑" in page.locator("#findings").inner_text()
    assert "固定样本集上的损失" in page.locator(".plots").inner_text()
    assert page.locator("svg text[data-text]").first.inner_html() == "步"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").evaluate_all("all => all.every((one) => one.naturalWidth > 0)")


@pytest.mark.parametrize("width", [1280, 400])
def test_a_comparison_says_what_differs_and_whether_it_means_anything(runs, opened, width):
    page = opened(runs / "comparison.html", width, locale="zh-CN")
    assert (
        page.locator("h1").inner_text() == "训练对比" and "更好，超出偶然范围" in page.locator("#scores").inner_text()
    )
    page.locator("#language").click()
    assert "better, more than chance" in page.locator("#scores").inner_text()
    assert page.locator("#settings tbody tr").count() == 1
    assert page.locator("#images figure figure").count() == 2  # of the prompt that both have
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    heights = page.locator("#scores tr").evaluate_all("all => all.map((one) => one.getBoundingClientRect().height)")
    assert max(heights) < 120
