"""What `index.html` holds; tests/browser looks at it in a browser."""

import html.parser
import json
import re

import pytest

from textual_inversion.generation.page import write_page
from textual_inversion.system.errors import OutputError

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "{{data}} {{csp}} {{}}",
    "<!-- <script>",
    "\u2028 \\ \" '",
    "\udcff",
]


def entry(number, **facts):
    usual = dict(prompt="a <cat-toy>", negative_prompt="", seed=number, guidance_scale=7.5, num_inference_steps=20)
    return {"file": f"{number:04d}-seed{number}.png", **usual, "scheduler": "DDIMScheduler", "key": "f" * 64, **facts}


class Reader(html.parser.HTMLParser):
    """Collects the elements of a page, and the text of its data."""

    def __init__(self):
        super().__init__()
        self.tags, self.data, self.policy, self._is_data = [], "", "", False

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._is_data = attributes.get("id") == "data"
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]

    def handle_endtag(self, tag):
        self._is_data = False

    def handle_data(self, text):
        self.data += text if self._is_data else ""


def written(folder, *images, **run):
    reader = Reader()
    reader.feed(write_page(folder, {"images": list(images), **run}).read_text(encoding="utf-8"))
    return reader


def settings_of(reader):
    return {one["name"]: one for one in json.loads(reader.data)["settings"]}


def test_a_setting_is_its_values_and_where_they_stand(tmp_path):
    images = [entry(i, guidance_scale=scale) for i, scale in enumerate([7.5, 10.0, 2.0, 7.5])]

    settings = settings_of(written(tmp_path, *images))

    assert settings["guidance_scale"]["values"] == ["2", "7.5", "10"] and settings["guidance_scale"]["of"] == [
        1,
        2,
        0,
        1,
    ]
    assert settings["prompt"]["values"] == ["a <cat-toy>"] and settings["prompt"]["of"] == 0
    assert settings["seed"]["arguments"] == [f"--seed {i}" for i in range(4)]
    assert settings["negative_prompt"]["values"] == [None] and settings["scheduler"]["values"] == ["ddim"]
    assert not {"key", "file", "score"} & set(settings)


def test_values_that_are_equal_to_python_stay_apart(tmp_path):
    images = [entry(i, eta=value) for i, value in enumerate([0, False, None, "", "0"])]
    assert settings_of(written(tmp_path, *images))["eta"]["values"] == ["0", False, None, None, "0"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_neither_markup_nor_a_place_for_data(tmp_path, text):
    plain = written(tmp_path, entry(0))

    hostile = written(tmp_path, entry(0, prompt=text, base_model=text), embeds=[{"file": text}], created=text)

    assert hostile.tags == plain.tags and hostile.policy == plain.policy
    assert settings_of(hostile)["prompt"]["values"] == [text] and json.loads(hostile.data)["created"] == text


def test_the_policy_lets_only_the_page_itself_run_and_load_only_images(tmp_path):
    policy = dict(part.strip().split(" ", 1) for part in written(tmp_path, entry(0)).policy.split(";"))

    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["img-src"] == "'self' file:"
    assert all(re.fullmatch(r"'sha256-[\w+/]{43}='", policy[name]) for name in ("script-src", "style-src"))


def test_nothing_is_fetched_from_elsewhere(tmp_path):
    page = write_page(tmp_path, {"images": [entry(0)]}).read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w|@import|url\(|\bfetch\b|innerHTML|\beval\b", page.replace("// pages from", ""))


def test_a_manifest_leads_to_no_other_folder(tmp_path):
    names = ["../secret.png", "/etc/passwd", "a/b.png", "0001-seed1.png"]
    assert json.loads(written(tmp_path, *(entry(0, file=name) for name in names)).data)["files"] == names[3:]


def test_scores_are_data_to_sort_by(tmp_path):
    images = [entry(0, score={"text_similarity": 0.25}), entry(1), entry(2, score={"text_similarity": 0.5, "x": None})]
    assert json.loads(written(tmp_path, *images).data)["scores"] == [
        {"name": "text_similarity", "of": [0.25, None, 0.5]}
    ]


def test_a_column_has_the_files_of_its_own(tmp_path):
    embeds = [
        {"file": "all.pdparams"},
        {"file": "a.pdparams", "column": "500"},
        {"file": "b.pdparams", "column": "1000"},
    ]
    settings = settings_of(written(tmp_path, entry(0, embeds="500"), entry(1, embeds="1000"), embeds=embeds))
    assert settings["embeds"]["arguments"] == ["--embeds all.pdparams a.pdparams", "--embeds all.pdparams b.pdparams"]


def test_a_page_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "index.html").mkdir()
    with pytest.raises(OutputError, match="index.html"):
        write_page(tmp_path, {"images": [entry(0)]})
