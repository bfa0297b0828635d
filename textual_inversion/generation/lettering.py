"""Text in images: blocks of wrapped lines, in a font that has their characters.

Pillow comes with one small font of little more than ASCII. Other text is drawn in a CJK font of the system, if there is
one. A character that no font has becomes a simpler one (é becomes e) or a question mark.
"""

import functools
import unicodedata

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

# Names that Pillow finds in the system's font folders: Linux, Windows, macOS.
_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "simhei.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
)
_SIMPLER = str.maketrans({"—": "-", "–": "-", "−": "-", "×": "x", "→": ">", "•": "·", "\xa0": " "})
_NO_CHARACTER = "\uffff"  # never a character, so a font draws its sign for a missing one
_LINE_HEIGHT = 1.3  # of the font size
_MAX_LINES = 6  # of a block


def block(text: str, size: int, width: int, *, color: Color, background: Color) -> Image.Image:
    """An image of `text`, wrapped to `width` pixels: as wide as its longest line, as high as all its lines.

    After six lines the text is cut and ends in an ellipsis.

    Args:
        size: of the font, in pixels.
    """
    font, text = _font_for(text, size)
    lines = wrapped(text, font, width, _MAX_LINES)
    line_height = round(size * _LINE_HEIGHT)
    drawn_width = max((round(font.getlength(line)) for line in lines), default=0)
    image = Image.new("RGB", (max(1, min(width, drawn_width + 1)), max(1, line_height * len(lines))), background)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((0, round((number + 0.78) * line_height)), line, font=font, fill=color, anchor="ls")
    return image


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, max_lines: int) -> list[str]:
    """Lines of at most `width` pixels, broken at spaces where there are any (Chinese has none), else anywhere.

    Args:
        max_lines: further lines are cut, and the last one then ends in an ellipsis.
    """
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and font.getlength((lines[-1] + piece).rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        for character in piece if font.getlength(piece.rstrip()) > width else (piece,):
            if lines[-1] and font.getlength((lines[-1] + character).rstrip()) > width:
                lines.append("")
            lines[-1] += character
    lines = [line.rstrip() for line in lines if line.strip()]
    if len(lines) > max_lines:
        lines = lines[:max_lines]
        while lines[-1] and font.getlength(lines[-1] + "…") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + "…"
    return lines


def _pieces(text: str) -> list[str]:
    """Words, each with the space after it; every East Asian character is a piece of its own."""
    pieces = [""]
    for character in " ".join(text.split()):
        wide = unicodedata.east_asian_width(character) in "WF"
        if wide or pieces[-1].endswith(" ") or (pieces[-1] and unicodedata.east_asian_width(pieces[-1][-1]) in "WF"):
            pieces.append("")
        pieces[-1] += character
    return pieces


def _font_for(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font, and the text in characters that the font has."""
    plain = _plain_font(size)
    simple = _simplified(text, plain)
    if not _missing(simple, plain):
        return plain, simple
    font = _system_font(size) or plain
    text = " ".join(text.split()) if font is not plain else simple
    return font, "".join("?" if _missing(character, font) else character for character in text)


def _simplified(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text with simpler characters in place of those that `font` lacks, where there are any."""
    simple = ""
    for character in text:
        if not character.isspace() and _missing(character, font):
            simpler = unicodedata.normalize("NFKD", character.translate(_SIMPLER))
            simpler = "".join(part for part in simpler if not unicodedata.combining(part))
            character = simpler if simpler and not _missing(simpler, font) else character
        simple += " " if character.isspace() else character
    return simple


def _missing(text: str, font: ImageFont.FreeTypeFont) -> bool:
    """Whether the font lacks a character of `text`."""
    return any(not character.isspace() and _lacks(font, character) for character in set(text))


@functools.lru_cache(maxsize=20_000)
def _lacks(font: ImageFont.FreeTypeFont, character: str) -> bool:
    return _drawn(character, font) == _drawn(_NO_CHARACTER, font)


def _drawn(character: str, font: ImageFont.FreeTypeFont) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=16)
def _plain_font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


@functools.lru_cache(maxsize=16)
def _system_font(size: int) -> ImageFont.FreeTypeFont | None:
    for name in _SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC)
        except OSError:
            continue
    return None
