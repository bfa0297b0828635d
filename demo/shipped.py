"""The demo's own concepts: folders of images that ship with the project, and fresh drawings of what they show."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Folder of images -> the name under which `demo.toyworld` draws fresh ones.
CONCEPTS = {"cat_toy_images": "cat", "demo/rabbit_toy_images": "rabbit", "demo/style_images": "style"}


def fresh_drawings(train_data_dir: str, size: int, count: int = 48) -> list:
    """Other images of the concept that a folder shows, what a perfect inversion would draw; none for other folders.

    Args:
        size: side in pixels; count: how many.

    Returns:
        RGB PIL images.
    """
    from demo.toyworld import fresh_drawings as draw

    name = _name_of(train_data_dir)
    return draw(name, count, size) if name else []


def masked_drawings(train_data_dir: str, size: int, count: int = 12) -> list:
    """(RGB image, mask of the toy in it) of other images of the concept that a folder shows; none for other folders."""
    from demo.toyworld import masked_drawings as draw

    name = _name_of(train_data_dir)
    return draw(name, count, size) if name else []


def _name_of(train_data_dir: str) -> str | None:
    """The held-out concept that a folder shows."""
    folder = Path(train_data_dir).resolve()
    return next((name for path, name in CONCEPTS.items() if folder == (ROOT / path).resolve()), None)
