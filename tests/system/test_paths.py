"""Where this project's files are, and how a record names a path."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from textual_inversion.system import paths
from textual_inversion.system.paths import (
    from_root,
    has_demo,
    is_demo,
    is_possible_path,
    is_single_file,
    located,
    portable,
)


def test_a_checkout_has_the_demo_and_an_installed_package_does_not(tmp_path, monkeypatch):
    assert has_demo() and is_demo(from_root("demo/model"))

    monkeypatch.setattr(paths, "DEMO_MODEL", tmp_path / "demo" / "model")
    assert not has_demo() and not is_demo(str(tmp_path / "demo" / "model"))


def test_the_demo_is_recognised_by_any_path_to_it_and_not_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "demo")
    (tmp_path / "link").symlink_to(ROOT / "demo" / "model")
    assert is_demo("model") and is_demo("../demo/model") and is_demo(str(tmp_path / "link"))

    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "model").mkdir(parents=True)
    assert not is_demo("demo/model") and not is_demo("some/model")


def test_a_record_names_paths_inside_the_project_from_its_top_and_others_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "demo")
    assert portable("model") == "demo/model" == portable(str(ROOT / "demo" / "model"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert portable("mine") == str((tmp_path / "mine").resolve())
    assert portable(str(tmp_path)) == str(tmp_path)
    assert portable("owner/name") == "owner/name"


def test_what_lies_in_a_folder_that_may_not_be_searched_is_not_there(monkeypatch):
    stat = os.stat

    def refused(path, *more, **options):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, *more, **options)

    monkeypatch.setattr(os, "stat", refused)
    assert located("/locked/model") is None


def test_what_a_record_names_is_found_again(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert located("mine") == Path("mine") and located("demo/model") == ROOT / "demo/model"
    assert located(portable("mine")) == (tmp_path / "mine").resolve() and located("owner/name") is None


@pytest.mark.parametrize(
    ("text", "is_possible"),
    [("a/b", True), ("a\0b", False), ("x" * 255, True), ("x" * 256, False), ("é" * 128, False), ("ab/" * 2000, False)],
)
def test_what_a_file_system_could_hold(text, is_possible):
    assert is_possible_path(text) is is_possible


def test_a_single_file_is_a_file_and_named_so(tmp_path):
    (tmp_path / "a.safetensors").touch(), (tmp_path / "b.ckpt").touch(), (tmp_path / "c.safetensors").mkdir()
    found = [is_single_file(tmp_path / name) for name in ("a.safetensors", "b.ckpt", "c.safetensors", "d.safetensors")]
    assert found == [True, False, False, False]


@pytest.mark.parametrize("name", ["plain", "a b", "a(1)", "$HOME", "it's", "-x", "--seed", "猫", "a\tb", "~", "*"])
def test_a_printed_path_comes_back_from_a_shell_as_it_was(name):
    line = f"{sys.executable} -c 'import sys; print(ascii(sys.argv[1:]))' {paths.in_shell(name)}"
    (came,) = ast.literal_eval(subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout)
    assert not came.startswith("-") and os.path.normpath(came) == name
