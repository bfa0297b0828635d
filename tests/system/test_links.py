"""Files of a folder are opened without following a link, and only regular ones."""

import os

import pytest

from textual_inversion.system.errors import OutputError
from textual_inversion.system.links import open_below, refuse_links_below


@pytest.fixture
def root(tmp_path):
    """A folder with a file, links of all kinds, and a secret outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "f").write_text("plain")
    (root / "link").symlink_to(tmp_path / "outside" / "secret")
    (root / "inner").symlink_to(root / "a" / "b" / "f")
    (root / "a" / "out").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "pipe")
    return root


def read(root, name):
    with open(open_below(root, name), "rb") as file:
        return file.read().decode()


def test_a_plain_file_is_read_also_where_the_root_is_a_link(root, tmp_path):
    (tmp_path / "other").symlink_to(root)
    assert read(root, "a/b/f") == read(tmp_path / "other", "a/b/f") == "plain"


@pytest.mark.parametrize(
    "name",
    ["link", "inner", "a/out/secret", "a/out", "a", "pipe", "absent", "../outside/secret", "a/../link", "/etc/passwd",
     "", "a//b/f", "a/b/f/", "a/b/f/g"],
)  # fmt: skip
@pytest.mark.parametrize("has_descriptors", [True, False])
def test_nothing_else_is(root, name, has_descriptors, monkeypatch):
    if not has_descriptors:  # as on Windows; a pipe does not exist there
        if name == "pipe":
            return
        monkeypatch.setattr(os, "supports_dir_fd", set())
    with pytest.raises(OSError):
        read(root, name)


def test_descriptors_are_given_back(root):
    before = len(os.listdir("/proc/self/fd"))
    for name in ("link", "a/out/secret", "pipe", "a/b/f/g", "a"):
        with pytest.raises(OSError):
            open_below(root, name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_may_end_in_a_link_and_not_lead_through_one(root):
    refuse_links_below(root, root / "link")
    refuse_links_below(root, root / "a" / "b" / "new")
    with pytest.raises(OutputError, match="out is a symbolic link"):
        refuse_links_below(root, root / "a" / "out" / "new")
