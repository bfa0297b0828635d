"""Opening what users give: regular files of a stated size; `tests/security/test_reading.py` attacks it."""

import os

import pytest

from textual_inversion.system import user_files
from textual_inversion.system.errors import TextualInversionError


def test_bytes_text_and_descriptor_are_those_of_the_file(tmp_path):
    (tmp_path / "a").write_bytes("\ufeff猫\r\nb\rc".encode())

    assert user_files.read_bytes(tmp_path / "a", 100) == (tmp_path / "a").read_bytes()
    assert user_files.read_text(tmp_path / "a", 100) == "猫\nb\nc"
    with user_files.opened(tmp_path / "a", 100) as file:
        file.seek(3)
        assert file.read(3) == "猫".encode()
    number = user_files.descriptor(tmp_path / "a", 100)
    assert os.get_blocking(number) and not os.get_inheritable(number)
    os.close(number)


def test_a_file_of_the_largest_size_is_read(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1 << 20))

    assert len(user_files.read_bytes(tmp_path / "a", 1 << 20)) == 1 << 20
    with pytest.raises(user_files.UnusableFile, match="it has 1 MiB, and at most 1,023 KiB"):
        user_files.read_bytes(tmp_path / "a", (1 << 20) - 1)


def test_a_refusal_is_both_an_error_of_the_system_and_one_of_the_user(tmp_path):
    with pytest.raises(OSError) as caught:
        user_files.read_bytes(tmp_path, 10)

    assert isinstance(caught.value, TextualInversionError) and caught.value.filename == str(tmp_path)
    assert caught.value.strerror == "it is a folder, not a regular file"
    assert str(caught.value) == f"{tmp_path} cannot be read (it is a folder, not a regular file); give another file"


def test_what_is_missing_or_no_text_is_said_as_usual(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff")

    with pytest.raises(FileNotFoundError):
        user_files.read_bytes(tmp_path / "b", 10)
    with pytest.raises(UnicodeDecodeError):
        user_files.read_text(tmp_path / "a", 10)


@pytest.mark.parametrize(
    ("size", "text"),
    [(10, "10 bytes"), (1 << 10, "1 KiB"), (256 << 10, "256 KiB"), (1 << 30, "1 GiB"), (1 << 45, "32,768 GiB")],
)
def test_sizes_are_written_as_people_do(size, text):
    assert user_files.size_text(size) == text
