"""Recognise other kinds of files by their first bytes, so that messages can name them."""

_KINDS = (
    (b"version https://git-lfs", "is a Git LFS pointer instead of the file itself; run `git lfs pull` in its folder"),
    (b"\x89PNG", "is an image"),
    (b"\xff\xd8\xff", "is an image"),
    (b"RIFF", "is an image or a sound file"),
    (b"<", "is a web page or XML, perhaps an error page saved by a download"),
    (b"{", "is JSON"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
)


def other_kind(beginning: bytes) -> str | None:
    """What a file that begins with these bytes is, as a phrase that follows its name in a message; None if unknown."""
    return next((described for signature, described in _KINDS if beginning.startswith(signature)), None)
