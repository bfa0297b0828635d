"""What is found in a file alone."""

import numpy as np
import pytest

from helpers.embedding_samples import concept, stored
from textual_inversion.embeddings.findings import (
    NO,
    NOTE,
    WARNING,
    Examination,
    Finding,
    as_json,
    examined,
    report,
    without_base_model,
)
from textual_inversion.formats.embedding_file import LearnedEmbedding, UnreadableFile, write_pdparams, write_safetensors
from textual_inversion.formats.safetensors_file import safetensors_bytes


def of(tmp_path, vectors, token="<x>", **metadata):
    write_safetensors(tmp_path / "x.safetensors", LearnedEmbedding(token, {"text_encoder": vectors}, metadata))
    return examined(str(tmp_path / "x.safetensors"))


def said(found):
    return [(one.level, one.about) for one in found.findings]


def test_a_good_file_has_no_findings(tmp_path):
    found = of(tmp_path, np.ones((2, 4), np.float32))

    assert found.works and said(found) == [] and found.file.placeholder_tokens == ["<x>"]


def test_zeros_and_values_beyond_half_precision(tmp_path):
    vectors = np.ones((3, 4), np.float32)
    vectors[1] = 0
    some = of(tmp_path, vectors)
    large = of(tmp_path, vectors[:1] * 7e4)
    most = of(tmp_path, vectors[:1] * 65504)

    assert said(some) == [(WARNING, "zeros")] and some.works and "vector 2 of <x> is zero" in some.findings[0].text
    assert said(of(tmp_path, vectors[1:2])) == [(NO, "zeros")]
    assert (
        said(large) == [(WARNING, "half")]
        and "beyond 65504, the largest of float16; use it in" in large.findings[0].text
    )
    assert said(most) == []


@pytest.mark.parametrize(
    ("data", "about"),
    [
        (b"hello", "it is a text of 1 lines"),
        (b"", "is empty"),
        (safetensors_bytes({"<n>": np.full((1, 4), np.inf, np.float32)}, {}), "holds NaN or infinite values"),
        (safetensors_bytes({"a.lora_up.weight": np.ones((4, 2), np.float32), "a.alpha": np.ones(())}, {}), "LoRA"),
    ],
)
def test_a_file_that_is_no_embedding_is_named(tmp_path, data, about):
    found = examined(str(stored(tmp_path, data)))

    assert not found.works and said(found) == [(NO, "file")] and found.file is None
    assert (
        about in found.findings[0].text
        and "; " in found.findings[0].text
        and "my-cat.xyz" not in found.findings[0].text
    )


def test_what_cannot_be_looked_at_is_an_error(tmp_path):
    with pytest.raises(UnreadableFile):
        examined(str(tmp_path / "absent.pt"))


def test_names_that_cannot_be_used_or_collide(tmp_path):
    blank = examined(str(stored(tmp_path, safetensors_bytes({"two words": np.ones((1, 4), np.float32)}, {}))))
    assert (
        said(blank) == [(NO, "name")] and "holds blanks or control characters; choose another" in blank.findings[0].text
    )


def test_a_record_that_cannot_be_used_counts(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    write_pdparams(tmp_path / "learned_embeds.pdparams", [concept()])
    found = examined(str(tmp_path))

    assert said(found) == [(NO, "file")] and "holds a list instead of the settings of a run" in found.findings[0].text


def test_metadata_that_names_a_share_as_its_base_model_counts(tmp_path):
    found = of(tmp_path, np.ones((1, 4), np.float32), base_model="//host/share")

    assert said(found) == [(NO, "file")] and "as base_model, which no run writes; save the embedding anew" in str(found)


def test_without_a_base_model_families_and_rooms_are_told(tmp_path):
    found = of(tmp_path, np.ones((76, 1024), np.float32), base_model="a/b")
    more = without_base_model(found.file)

    assert [one.level for one in more] == [NOTE, WARNING]
    assert "<x> is for Stable Diffusion 2.x, learned on a/b; name a base model" in more[0].text


def test_reports_begin_with_the_verdict_and_the_gravest(tmp_path):
    one = of(tmp_path, np.ones((1, 4), np.float32))
    more = one.with_more(
        [Finding(NOTE, "a", "little; x"), Finding(NO, "b", "much; y", "<x>"), Finding(WARNING, "c", "z; z")]
    )

    assert report(more, "m")[0].endswith("x.safetensors: does not work with m")
    assert [line.split(":")[0].strip() for line in report(more, "m")[1:]] == ["no", "warning", "note"]
    assert report(one, "m")[0].endswith("works with m") and report(more, None)[0].endswith("cannot be used")
    facts = as_json(more, "m")
    assert facts["works"] is False and facts["words"] == {"<x>": {"vectors": 1, "widths": {"text_encoder": 4}}}
    assert facts["findings"][0] == {"level": "no", "about": "b", "text": "much; y", "word": "<x>"}
    assert isinstance(more, Examination) and as_json(one, None)["works"]
