"""A sheet of pictures as a PNG: rows with a name, cells with low-resolution pictures above restored ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from facesr.evaluation.pairs import Picture

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


def sheet_png(rows: Sequence[tuple[str, Sequence[Cell]]]) -> bytes:
    """Returns a PNG of the rows, each a name and its cells; all cells have the size of the largest."""
    sizes = [_shown_size(picture) for _, cells in rows for cell in cells for picture in cell.restored]
    wide, high = max(size[0] for size in sizes), max(size[1] for size in sizes)
    each = max(len(cell.restored) for _, cells in rows for cell in cells)
    cell_width, cell_height = each * (wide + 2) - 2, _CAPTION + 2 * high + 2
    width = _GAP + max(len(cells) for _, cells in rows) * (cell_width + _GAP)
    sheet = Image.new("RGB", (width, len(rows) * (_NAME + cell_height + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    bold, font = ImageFont.load_default(16), ImageFont.load_default(13)
    for number, (name, cells) in enumerate(rows):
        top = _GAP + number * (_NAME + cell_height + _GAP)
        draw.text((_GAP, top), name, "black", bold)
        for column, cell in enumerate(cells):
            left = _GAP + column * (cell_width + _GAP)
            draw.text((left, top + _NAME), cell.caption, "#444444", font)
            for line, pictures in enumerate((cell.low, cell.restored)):
                for place, picture in enumerate(pictures):
                    corner = (left + place * (wide + 2), top + _NAME + _CAPTION + line * (high + 2))
                    sheet.paste(_shown(picture, _shown_size(cell.restored[place]), enlarge=line == 0), corner)
    encoded = BytesIO()
    sheet.save(encoded, "PNG")
    return encoded.getvalue()


def _shown_size(picture: Picture) -> tuple[int, int]:
    height, width = picture.shape[:2]
    factor = min(1.0, MOST_PIXELS / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _shown(picture: Picture, size: tuple[int, int], enlarge: bool) -> Image.Image:
    # What the method was given is shown as the pixels it has; only shrinking is smooth.
    smooth = picture.shape[1] > size[0] or not enlarge
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)
