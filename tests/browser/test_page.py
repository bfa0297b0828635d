"""`index.html` in a real browser, from a file: looked through, enlarged, compared, and a copied command run.

pip install playwright && apt-get install chromium fonts-wqy-zenhei
"""

import itertools
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import infer
from helpers.paths import ROOT
from helpers.tiny_models import build_model
from textual_inversion.data.alternatives import literal
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.generation.page import write_page

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

HOSTILE = '</script><img src=x onerror="alert(1)"> {{data}} {{}} ${alert(1)} \'a\' "b" `c` <b>\nsecond line'
PROMPTS = ["a photo of a <cat-toy>", "a <cat-toy> in the snow", HOSTILE, "一张<猫>的照片"]


def entries_of(prompts=PROMPTS, scales=(7.5, 10.0, 2.0), seeds=(1, 2)):
    for number, (prompt, scale, seed) in enumerate(itertools.product(prompts, scales, seeds)):
        yield {
            "file": f"{number:04d}-seed{seed}.png", "prompt": prompt, "negative_prompt": "", "seed": seed,
            "guidance_scale": scale, "num_inference_steps": 20, "scheduler": "DDIMScheduler", "base_model": "<b>sd</b>",
            "height": 8, "width": 12, "score": {"image_similarity": number / 100},
        }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder with a <name> & 100%")
    entries = list(entries_of())
    for number, entry in enumerate(entries):
        Image.new("RGB", (12, 8), (10 * number, 90, 60)).save(folder / entry["file"])
    write_page(folder, {"images": entries, "embeds": [{"file": "<i>.pdparams", "words": ["<cat-toy>"]}]})
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Open the page of a folder; whatever it says on its console, asks for or shows is a failure."""
    contexts, complaints = [], []

    def open_page(folder, width=1280, **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **{"locale": "en-US", **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        inside = folder.as_uri() + "/"
        page.on("request", lambda one: one.url.startswith(inside) or complaints.append(f"asked for {one.url}"))
        page.goto((folder / "index.html").as_uri())
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def shown(page):
    """The numbers of the images on the page, in their order from left to right and from top to bottom."""
    return page.evaluate(
        """() => [...document.querySelectorAll('figure')]
            .map((one) => [one.getBoundingClientRect(), Number(one.dataset.image)])
            .sort(([a], [b]) => a.top - b.top || a.left - b.left).map(([, image]) => image)"""
    )


def test_images_are_there_and_say_what_they_are(folder, opened):
    page = opened(folder)
    page.wait_for_function("[...document.images].every((one) => one.complete)")

    assert shown(page) == list(range(24)) and page.locator("#count").inner_text() == "24"
    assert page.evaluate("[...document.images].every((one) => one.naturalWidth === 12 && one.alt.length > 5)")


def test_filters_narrow_down_together(folder, opened):
    page = opened(folder)
    page.locator("[data-filter=prompt]").select_option("1")
    page.locator("[data-filter=seed]").select_option("0")

    assert shown(page) == [6, 8, 10] and page.locator("#count").inner_text() == "3 of 24"
    page.locator("#search").fill("no such words")
    assert shown(page) == [] and page.locator("#nothing").is_visible()
    page.locator("#reset").click()
    assert len(shown(page)) == 24 and not page.locator("#nothing").is_visible()
    page.locator("#search").fill("SNOW cat")
    assert shown(page) == [6, 7, 8, 9, 10, 11]


def test_images_are_sorted_by_a_setting_or_a_score_and_back(folder, opened):
    page = opened(folder)
    page.locator("[data-filter=prompt]").select_option("0")
    page.locator("#sort").select_option("guidance_scale")

    assert shown(page) == [4, 5, 0, 1, 2, 3]  # 2, 7.5, 10: as numbers
    page.locator("#direction").click()
    assert shown(page) == [3, 2, 1, 0, 5, 4]
    page.locator("#direction").click()
    page.locator("#sort").select_option("score:image_similarity")
    assert shown(page) == [5, 4, 3, 2, 1, 0]


def test_an_image_is_enlarged_and_the_keys_lead_to_its_neighbours(folder, opened):
    page = opened(folder)
    page.locator("[data-filter=guidance_scale]").select_option("1")
    assert shown(page)[:3] == [0, 1, 6]
    page.locator("figure[data-image='1'] .open").click()

    assert page.locator("#where").inner_text() == "2 / 8" and "0001-seed2.png" in page.locator("dl").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator(".large").get_attribute("src") == "0006-seed1.png"
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert page.locator("#where").inner_text() == "1 / 8" and page.locator("#previous").is_disabled()
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    # The keys go on from there, once the page has heard that its dialog is closed: the browser says so a little later.
    page.wait_for_function("document.activeElement.parentElement.dataset.image === '0'")


def test_two_images_are_compared_side_by_side(folder, opened):
    page = opened(folder)
    for image in (3, 0, 2):  # of three the last two count
        page.locator(f"figure[data-image='{image}'] .pick").click()
    page.locator("#compare").click()

    left, right = (page.locator(".large").nth(i).bounding_box() for i in (0, 1))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    assert page.locator(".large").nth(1).get_attribute("src") == "0002-seed1.png"
    assert page.locator(".other").all_inner_texts() == ["7.5", "10"]  # only what differs is marked
    page.keyboard.press("Escape")
    page.locator("#unpick").click()
    assert page.locator(".pick[aria-pressed=true]").count() == 0 and not page.locator("#bar").is_visible()


def test_text_from_outside_stays_text(folder, opened):
    page = opened(folder)
    page.locator("figure[data-image='12'] .open").click()

    assert page.locator("dd").first.text_content() == HOSTILE and "<b>sd</b>" in page.locator("dl").inner_text()
    assert page.locator("img[src=x], main b, dialog b, dialog i").count() == 0

    # If something did become markup, nothing of it would run.
    assert opened.complaints == []
    markup = """document.body.insertAdjacentHTML("beforeend", "<img src=0000-seed1.png onload='window.ran = 1'>")"""
    page.evaluate(f"""() => {{ {markup}; const script = document.createElement("script");
        script.textContent = "window.ran = 1"; document.body.append(script) }}""")
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None and len(opened.complaints) == 2
    assert all("Content Security Policy" in one for one in opened.complaints)
    opened.complaints.clear()


def test_the_page_speaks_the_language_of_the_browser_until_told_otherwise(folder, opened):
    page = opened(folder, locale="zh-CN")
    assert "图片" in page.inner_text("header") and page.evaluate("document.documentElement.lang") == "zh-CN"
    page.locator("#language").click()
    assert "Images" in page.inner_text("header")
    page.reload()
    assert "Images" in page.inner_text("header")  # and it is remembered


def test_nothing_is_left_untranslated(folder, opened):
    page = opened(folder)
    both = page.evaluate("""() => Object.values(TEXTS).map((texts) =>
        [Object.keys(texts).sort(), Object.keys(texts.names).sort()])""")
    assert both[0] == both[1]


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_everything_can_be_read(folder, opened, width, scheme):
    page = opened(folder, width, color_scheme=scheme)
    page.locator("figure .pick").first.click()
    page.locator("figure .pick").nth(1).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])")
    assert contrast(ink, paper) > 7
    page.locator("#compare").click()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
    button = "(name) => getComputedStyle(document.querySelector('.copy'))[name]"
    assert contrast(page.evaluate(button, "color"), page.evaluate(button, "backgroundColor")) > 4.5
    assert (sum(channels(paper)) < 384) == (scheme == "dark")


def channels(color):
    return [int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(",")]


def contrast(one, other):
    """As WCAG 2 defines it."""

    def luminance(color):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(channels(color)) / 255]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
def test_a_hundred_thousand_images_are_looked_through_without_a_wait(tmp_path, opened):
    entries = list(entries_of([f"prompt {i}" for i in range(500)], [i / 4 for i in range(20)], range(10)))
    write_page(tmp_path, {"images": entries})
    for entry in entries:
        (tmp_path / entry["file"]).symlink_to("image.png")
    Image.new("RGB", (12, 8)).save(tmp_path / "image.png")
    assert len(entries) == 100_000 and (tmp_path / "index.html").stat().st_size < 10 << 20

    begun = time.monotonic()
    page = opened(tmp_path)
    assert page.locator("#count").inner_text() == "100000" and 8 < len(shown(page)) < 100
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_selector("figure[data-image='99999']")
    assert len(shown(page)) < 100
    page.locator("[data-filter=prompt]").fill("prompt 499")  # too many for a list
    page.locator("#sort").select_option("guidance_scale")
    assert page.locator("#count").inner_text() == "200 of 100000"
    assert time.monotonic() - begun < 30  # 3 s on a quiet core


@pytest.mark.slow
def test_the_copied_command_makes_the_same_image(tmp_path, opened):
    base = build_model(tmp_path / "sd1")
    rows = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    file = tmp_path / "it's <my> file.pdparams"
    write_pdparams(file, [LearnedEmbedding("<cat-toy>", {"text_encoder": rows})])
    # Images and prompts of a batch may differ by rounding from one that is computed alone, so here each is.
    infer.main([
        "--embeds", str(file), "--pretrained_model_name_or_path", str(base), "--prompt",
        literal(f"<cat-toy> {HOSTILE}"),
        "--negative_prompt=-dark, (fog)", "--num_images", "2", "--seed", "0", "--guidance_scale", "2", "5.25",
        "--num_inference_steps", "2", "--batch_size", "1", "--output_dir", str(tmp_path / "out"),
    ])  # fmt: skip

    page = opened(tmp_path / "out")
    page.locator("figure[data-image='2'] .open").click()
    page.locator(".copy").click()
    page.wait_for_function("document.querySelector('.copy').textContent === 'Copied'")
    page.evaluate("document.querySelector('#panes').append(document.createElement('textarea'))")
    page.locator("textarea").focus()
    page.keyboard.press("Control+V")
    command = page.locator("textarea").input_value()
    assert "outputs-again" in command and "--seed 0" in command and "--guidance_scale 5.25" in command

    python = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    subprocess.run(
        ["sh", "-c", command.replace("outputs-again", str(tmp_path / "again"))],
        cwd=ROOT, env={**os.environ, "PATH": python}, check=True, capture_output=True,
    )  # fmt: skip
    (again,) = (tmp_path / "again").glob("0*.png")
    first = tmp_path / "out" / "0002-seed0.png"
    with Image.open(again) as new, Image.open(first) as old:
        assert new.text == old.text
    assert again.read_bytes() == first.read_bytes()
