"""The page of a study: its plot, its table, pictures, and how the figures are taken; self-contained."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from facesr.evaluation.report.report import page


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
    pictures: str = "",
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
        pictures: a section of HTML between table and that, or "".
    """
    heads, *rows = table
    warnings = "".join(f'<p class="warning">{escape(note)}</p>' for note in notes)
    head_cells = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in how.items())
    return page(
        title,
        f"<header><p class='kind'>study</p><h1>{escape(heading)}</h1><p class='quiet'>{escape(about)}</p></header>"
        f"{warnings}<section>{embedded(plot, plot_alt)}</section>"
        f"<section><h2>{escape(table_title)}</h2><div class='scroll'><table><thead><tr>{head_cells}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div></section>{pictures}"
        f"<section><h2>How they are taken</h2><dl>{facts}</dl></section>",
    )


def pictures_section(sheet: bytes, note: str, alt: str) -> str:
    """Returns a sheet of pictures as a section of the page, below a note."""
    return f"<section><h2>Pictures</h2><p class='quiet'>{escape(note)}</p>{embedded(sheet, alt)}</section>"


def embedded(png: bytes, alt: str) -> str:
    """Returns a PNG as an element of the page."""
    data = base64.b64encode(png).decode("ascii")
    return f"<img class='plot' alt='{escape(alt)}' src='data:image/png;base64,{data}'>"
