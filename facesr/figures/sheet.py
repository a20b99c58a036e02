"""A sheet of pictures as a PNG: rows with a name, cells with low-resolution pictures above restored ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from facesr.image import Picture

MOST_PIXELS = 128  # sides of larger pictures are shrunk to this
_GAP, _CAPTION, _NAME = 8, 18, 24


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        caption: written above it.
        low: pictures of the upper line, enlarged pixel by pixel to the lower ones' size; none leaves it out.
        restored: pictures of the lower line, side by side.
    """

    caption: str
    low: Sequence[Picture]
    restored: Sequence[Picture]


def sheet_png(rows: Sequence[tuple[str, Sequence[Cell]]], zoom: int = 1) -> bytes:
    """Returns a PNG of the rows, each a name and its cells; all cells have the width of the largest.

    Args:
        rows: what is shown; a row in which no cell has low-resolution pictures has no line for them.
        zoom: pixels of the sheet along a side of a pixel of the pictures; those that get too large for it are shrunk.
    """
    sizes = [_shown_size(picture, zoom) for _, cells in rows for cell in cells for picture in cell.restored]
    wide, high = max(size[0] for size in sizes), max(size[1] for size in sizes)
    each = max(len(cell.restored) for _, cells in rows for cell in cells)
    two_lines = [any(cell.low for cell in cells) for _, cells in rows]
    heights = [_CAPTION + (high + 2) * (2 if two else 1) for two in two_lines]
    cell_width = each * (wide + 2) - 2
    width = _GAP + max(len(cells) for _, cells in rows) * (cell_width + _GAP)
    sheet = Image.new("RGB", (width, sum(heights) + len(rows) * (_NAME + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    bold, font = ImageFont.load_default(16), ImageFont.load_default(13)
    top = _GAP
    for (name, cells), two, height in zip(rows, two_lines, heights, strict=True):
        draw.text((_GAP, top), name, "black", bold)
        for column, cell in enumerate(cells):
            left = _GAP + column * (cell_width + _GAP)
            draw.text((left, top + _NAME), cell.caption, "#444444", font)
            lines = (cell.low, cell.restored) if two else (cell.restored,)
            for line, pictures in enumerate(lines):
                for place, picture in enumerate(pictures):
                    corner = (left + place * (wide + 2), top + _NAME + _CAPTION + line * (high + 2))
                    size = _shown_size(cell.restored[place], zoom)
                    sheet.paste(_shown(picture, size), corner)
        top += _NAME + height + _GAP
    encoded = BytesIO()
    sheet.save(encoded, "PNG")
    return encoded.getvalue()


def _shown_size(picture: Picture, zoom: int) -> tuple[int, int]:
    height, width = picture.shape[:2]
    factor = min(1.0, MOST_PIXELS / max(height, width)) * zoom
    return max(1, round(width * factor)), max(1, round(height * factor))


def _shown(picture: Picture, size: tuple[int, int]) -> Image.Image:
    # Pixels are shown as they are; only shrinking is smooth.
    smooth = picture.shape[1] > size[0]
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)
