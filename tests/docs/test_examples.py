"""The Python examples of the pages do what they say, on a tiny model in place of the real one."""

import re

import pytest

import train_textual_inversion
from helpers.paths import ROOT
from helpers.training_runs import short_run

BASE, FOLDER = "CompVis/stable-diffusion-v1-4", "textual_inversion_cat"
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guides/sharing.md").read_text(encoding="utf-8"), re.DOTALL)
OF_PPDIFFUSERS = [example for example in EXAMPLES if "from ppdiffusers" in example]


@pytest.fixture(scope="module", params=["1", "2"])
def trained(tmp_path_factory, request):
    """The folder that a run with one or two vectors was started in."""
    root = tmp_path_factory.mktemp("run")
    train_textual_inversion.main(
        short_run(
            root, "--output_dir", str(root / FOLDER), "--num_vectors", request.param, "--initializer_token", "toy"
        )
    )
    return root, int(request.param)


def test_three_ways_are_shown():
    marks = [f'from_pretrained("{FOLDER}")', "load_textual_inversion", "paddle.load"]
    assert [[mark in example for mark in marks] for example in OF_PPDIFFUSERS] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_an_example_for_ppdiffusers_draws_with_all_vectors(trained, monkeypatch, number):
    root, vectors = trained
    monkeypatch.chdir(root)
    example = OF_PPDIFFUSERS[number].replace(BASE, str(root / "base")).replace("steps=50", "steps=1")

    names = {}
    exec(example, names)

    assert names["image"].size == (16, 16) and (root / "cat-backpack.png").stat().st_size
    vocabulary = names["pipe"].tokenizer.get_vocab()
    assert "<cat-toy>" in vocabulary and ("<cat-toy>_1" in vocabulary) == (vectors == 2)
