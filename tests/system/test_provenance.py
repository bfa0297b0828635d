"""What a result says it came from."""

import os
import shutil
import subprocess

import pytest

from helpers.paths import ROOT
from textual_inversion.system import provenance
from textual_inversion.system.provenance import git_revision, versions

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *words):
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("train()")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    return folder


def test_the_commit_of_a_checkout_with_a_word_where_files_were_changed(checkout):
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert git_revision(checkout) == commit

    (checkout / "new.txt").write_text("not tracked")
    assert git_revision(checkout) == commit
    (checkout / "train.py").write_text("train() * 2")
    assert git_revision(checkout) == f"{commit}-dirty"


def test_files_that_do_not_count_are_no_change_and_all_others_are(checkout):
    (checkout / "figures").mkdir()
    (checkout / "figures/[a]*.md").write_text("none yet")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "y")
    aside = ["figures/[a]*.md", "figures/none.png"]

    (checkout / "figures/[a]*.md").write_text("1.0")
    assert git_revision(checkout).endswith("-dirty") and not git_revision(checkout, aside).endswith("-dirty")
    (checkout / "train.py").write_text("train() * 2")
    assert git_revision(checkout, aside).endswith("-dirty")


@pytest.mark.parametrize("inside", ["copy", "env/lib/python3.11/site-packages"])
def test_the_commit_of_an_enclosing_repository_is_never_reported(checkout, inside):
    folder = checkout / inside
    folder.mkdir(parents=True)
    assert git_revision(folder) is None


def test_a_checkout_reached_through_a_link_is_the_same_one(checkout, tmp_path):
    (tmp_path / "link").symlink_to(checkout)
    assert git_revision(tmp_path / "link") == git_revision(checkout) is not None


def test_gits_own_variables_do_not_lead_to_another_repository(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    assert git_revision(tmp_path) is None


def test_no_repository_no_git_and_no_folder_give_no_revision(checkout, tmp_path, monkeypatch):
    assert git_revision(tmp_path) is None
    assert git_revision(tmp_path / "nowhere") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(checkout) is None


def test_the_installed_versions_are_told_by_the_names_of_the_packages():
    found = versions()
    assert {"ppdiffusers", "numpy", "pillow"} <= found.keys() and all(found.values())
    assert "paddlepaddle" in found or "paddlepaddle-gpu" in found


def test_the_projects_own_top_is_asked():
    """A checkout has a `.git` at its top; a copy without one must not report what encloses it."""
    assert provenance.ROOT == ROOT
    assert (git_revision() is not None) <= os.path.exists(ROOT / ".git")


def test_the_repository_is_only_read(checkout):
    """Under `ulimit -f`, git would die while it writes its index, and leave a lock that keeps its user out."""
    os.utime(checkout / "train.py", (1, 1))  # the index no longer knows the file at a glance
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (checkout / ".git").glob("index*")}

    assert not git_revision(checkout).endswith("-dirty")

    assert before == {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (checkout / ".git").glob("index*")
    }
