"""What kind of file a stranger's file is, by its first bytes, where it is none that can be read here."""

_KINDS = (
    (b"version https://git-lfs", "is a Git LFS pointer instead of the file itself; run `git lfs pull` in its folder"),
    (b"\x89PNG", "is an image"),
    (b"\xff\xd8\xff", "is an image"),
    (b"RIFF", "is an image or a sound"),
    (b"<", "is a web page or XML, perhaps an error page saved by a download"),
    (b"{", "is JSON"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
)


def other_kind(beginning: bytes) -> str | None:
    """What a file that begins with these bytes is, to follow its name in a message; None where it is not known."""
    return next((described for signature, described in _KINDS if beginning.startswith(signature)), None)
