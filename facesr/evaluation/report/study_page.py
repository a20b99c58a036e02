"""The page of a study: its plot, its table, pictures, and how the figures are taken; self-contained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facesr.web.page import png_address, render


@dataclass(frozen=True)
class Sheet:
    """A sheet of pictures below the table.

    Attributes:
        png: the sheet.
        note: what a reader sees on it.
        alt: the sheet in words.
    """

    png: bytes
    note: str
    alt: str


def study_page(
    title: str,
    *,
    heading: str,
    about: str,
    notes: Sequence[str],
    plot: bytes,
    plot_alt: str,
    table_title: str,
    table: Sequence[Sequence[str]],
    how: Mapping[str, str],
    sheet: Sheet | None = None,
) -> str:
    """Returns the page.

    Args:
        title: of the browser's tab.
        heading: of the page.
        about: a line below it.
        notes: what a reader has to know before the figures.
        plot: a PNG.
        plot_alt: the plot in words.
        table_title: heading of the table.
        table: its rows, the first one the columns' heads; the first cell of a row names it.
        how: figure -> how it is taken.
        sheet: of pictures, between table and that.
    """
    heads, *rows = table
    found = render(
        "study.html",
        title=title,
        heading=heading,
        about=about,
        notes=notes,
        plot=png_address(plot),
        plot_alt=plot_alt,
        table_title=table_title,
        heads=heads,
        rows=rows,
        sheet=None if sheet is None else {"address": png_address(sheet.png), "note": sheet.note, "alt": sheet.alt},
        how=how,
    )
    return str(found)
