"""Draw the folders of the library as floors, with an arrow for each import: `python docs/rooms.py` writes rooms.svg.

The arrows are read from the code, so the picture cannot say what the code does not do. An arrow upward would be red.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = Path(__file__).with_name("rooms.svg")
PACKAGE = "textual_inversion"
# From the top floor down.
FLOORS = (
    "api",
    "studio",
    "commands",
    "scripts",
    "cli",
    "cluster",
    "training",
    "reporting",
    "sharing",
    "distributed",
    "evaluation",
    "generation",
    "data",
    "models",
    "embeddings",
    "hub",
    "settings",
    "formats",
    "storage",
    "system",
)
SCRIPTS = (
    "train_textual_inversion.py", "infer.py", "score.py", "convert.py", "compare.py", "verify.py", "sweep.py",
    "teach.py",
)  # fmt: skip
# Almost every folder uses these; their arrows would hide all others.
GROUND = ("settings", "system")

_HEIGHT, _GAP, _LEFT, _WIDTH = 34, 16, 290, 200


def arrows() -> set[tuple[str, str]]:
    """(importing folder, imported folder) for all imports between two folders of the library."""
    found = {("scripts", folder) for name in SCRIPTS for folder in _imported(ROOT / name)}
    for folder in FLOORS:
        for path in (ROOT / PACKAGE / folder).rglob("*.py"):
            found |= {(folder, other) for other in _imported(path) if other != folder}
    return found


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        parts = [name.split(".") for name in names]
        found |= {part[1] for part in parts if part[0] == PACKAGE and len(part) > 1 and part[1] in FLOORS}
    return found


def svg() -> str:
    """The picture: floors one above the other, arrows as arcs, to the left of odd floors and to the right of even ones.

    Folders that are not there are left out.
    """
    here = [name for name in FLOORS if name == "scripts" or (ROOT / PACKAGE / name).is_dir()]
    top = {name: _GAP + place * (_HEIGHT + _GAP) for place, name in enumerate(here)}
    width, height = 2 * _LEFT + _WIDTH, _GAP + len(here) * (_HEIGHT + _GAP)
    shown = sorted(pair for pair in arrows() if pair[1] not in GROUND and pair[1] in top and pair[0] in top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<defs>",
        *(_marker(name, colour) for name, colour in (("down", "#4a6785"), ("up", "#c0392b"))),
        "</defs>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        *(_arc(here.index(above), here.index(below), top[above], top[below]) for above, below in shown),
        *(_floor(name, top[name]) for name in here),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _marker(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    )


def _floor(name: str, top: int) -> str:
    label = "train · infer · score · convert · sweep · teach" if name == "scripts" else f"{name}/"
    fill = "#e8e8e8" if name in GROUND else "#dce9f5"
    middle, base = _LEFT + _WIDTH // 2, top + _HEIGHT // 2 + 5
    return (
        f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" fill="{fill}" stroke="#4a6785"/>'
        f'<text x="{middle}" y="{base}" text-anchor="middle" font-size="15" fill="#1c2733">{label}</text>'
    )


def _arc(above: int, below: int, start: int, end: int) -> str:
    """From one floor's side to another's; the wider, the more floors lie between."""
    side = -1 if above % 2 else 1
    edge = _LEFT if side < 0 else _LEFT + _WIDTH
    begin, finish = start + _HEIGHT // 2 + 6, end + _HEIGHT // 2 - 6
    bend = edge + side * (24 + 22 * abs(below - above))
    kind, colour = ("down", "#4a6785") if below > above else ("up", "#c0392b")
    return (
        f'<path d="M{edge} {begin}C{bend} {begin} {bend} {finish} {edge} {finish}" fill="none" stroke="{colour}" '
        f'stroke-width="1.3" stroke-opacity="0.75" marker-end="url(#{kind})"/>'
    )


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
