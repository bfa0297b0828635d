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
    folder = Path(train_data_dir).resolve()
    for path, name in CONCEPTS.items():
        if folder == (ROOT / path).resolve():
            from demo.toyworld import fresh_drawings as draw

            return draw(name, count, size)
    return []
