"""Names of embedding files."""

import pytest

from textual_inversion.embeddings.file_names import safe_name


@pytest.mark.parametrize(
    ("token", "name"), [("<cat-toy>", "cat-toy"), ("../x", "x"), ("<猫>", "猫"), ("<<>>", "concept"), ("a/b", "a-b")]
)
def test_placeholder_tokens_become_file_names(token, name):
    assert safe_name(token) == name
