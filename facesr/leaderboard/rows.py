"""The rows of a phase's table as a page shows them: sorted, filtered, in text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from facesr.leaderboard.drawings import label_of
from facesr.leaderboard.faults import NotFound
from facesr.leaderboard.standing import Entry, Standing

_MORE_METRICS = ("perceptual_index", "niqe", "rmse_y", "psnr_rgb", "psnr_y", "consistency")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: its name in addresses.
        label: its heading.
        value: what it sorts by; None comes last, whatever the direction.
        is_wide: whether it is left out on a phone; the submission's page has it.
        is_descending: whether the first click shows the largest first.
    """

    key: str
    label: str
    value: Callable[[Entry], Any]
    is_wide: bool = False
    is_descending: bool = True


@dataclass(frozen=True)
class Heading:
    """A column's head: what it is called, where a click leads, and aria-sort."""

    label: str
    address: str
    sorted: str
    is_wide: bool


@dataclass(frozen=True)
class Cell:
    """A cell: text, and a quiet remark behind it."""

    text: str
    remark: str = ""
    is_wide: bool = False
    is_hot: bool = False


@dataclass(frozen=True)
class Row:
    """A row: the entry, and its cells behind place and team."""

    entry: Entry
    position: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """A table as it is shown."""

    headings: list[Heading]
    rows: list[Row]


def table_of(
    standing: Standing, *, sort: str, baselines: bool, address: str, others: Mapping[int, float], is_stepped: bool
) -> Table:
    """Returns the table of a phase.

    Args:
        standing: the ranked table.
        sort: key of a column, with ``-`` before it for the largest first; "" for the order of the board.
        baselines: whether the organiser's baselines are in it.
        address: of the page, up to the column's key.
        others: submission -> score of the public view, beside the private one.
        is_stepped: whether scores are only shown in the steps of the Ladder.

    Raises:
        NotFound: there is no such column.
    """
    columns = _columns(standing, others, is_stepped)
    entries = [one for one in standing.entries if baselines or not one.team.is_baseline]
    key = sort.removeprefix("-")
    if sort:
        column = next((column for column in columns if column.key == key), None)
        if column is None:
            raise NotFound("there is no such column.")
        entries = _sorted(entries, column, is_descending=sort.startswith("-"))
    headings = [_heading(column, sort, address) for column in columns]
    rows = [Row(one, one.place, _cells(one, standing, others, is_stepped)) for one in entries]
    return Table(headings, rows)


def _sorted(entries: list[Entry], column: Column, *, is_descending: bool) -> list[Entry]:
    known = [one for one in entries if column.value(one) is not None]
    unknown = [one for one in entries if column.value(one) is None]
    # Equal ones stay in the order of the board, in both directions.
    return [*sorted(known, key=column.value, reverse=is_descending), *unknown]


def _heading(column: Column, sort: str, address: str) -> Heading:
    key = column.key
    state = {key: "ascending", f"-{key}": "descending"}.get(sort, "none")
    first, second = (f"-{key}", key) if column.is_descending else (key, f"-{key}")
    return Heading(column.label, f"{address}{second if sort == first else first}", state, column.is_wide)


def _columns(standing: Standing, others: Mapping[int, float], is_stepped: bool) -> list[Column]:
    ranking = standing.ranking_metric or "score"
    found = [
        Column(
            "place", "Place", lambda one: None if one.rank is None else (one.rank.first, one.rank.last), False, False
        ),
        Column("team", "Team", lambda one: one.team.name.casefold(), False, False),
        Column("score", label_of(ranking), lambda one: one.shown_score, False, standing.higher_is_better),
    ]
    if others:
        found.append(
            Column("public", "Public score", lambda one: others.get(one.submission.id), True, standing.higher_is_better)
        )
    if not is_stepped:
        found += [_mean_column(name, standing) for name in standing.held_out]
        found += [_mean_column(name, standing) for name in _more(standing)]
    if has_judge(standing):
        found.append(Column("white-box", "White box", lambda one: one.white_box, True))
    found += [
        Column("guard", "Guard", lambda one: guard_count(one.submission.facts), True),
        Column("watts", "Watts", lambda one: one.mean_watts, True, False),
        Column("parameters", "Parameters", lambda one: one.num_parameters, True, False),
        Column("entries", "Entries", lambda one: one.num_entries, True),
        Column("date", "Date (UTC)", lambda one: one.submission.received, True),
    ]
    return found


def _mean_column(name: str, standing: Standing) -> Column:
    is_descending = standing.columns[name]["higher_is_better"]
    return Column(name, label_of(name), lambda one: one.means[name], True, is_descending)


def _more(standing: Standing) -> list[str]:
    return [name for name in _MORE_METRICS if name in standing.columns and name != standing.ranking_metric]


def _cells(one: Entry, standing: Standing, others: Mapping[int, float], is_stepped: bool) -> list[Cell]:
    has_interval = one.rank is not None and not is_stepped
    interval = f"{one.rank.low:.4f} to {one.rank.high:.4f}" if has_interval and one.rank is not None else ""
    found = [Cell("-" if one.shown_score is None else f"{one.shown_score:.4f}", interval)]
    if others:
        public = others.get(one.submission.id)
        found.append(Cell("-" if public is None else f"{public:.4f}", "", True))
    if not is_stepped:
        ranking = one.means[standing.ranking_metric] if standing.ranking_metric else 0.0
        found += [
            Cell(f"{one.means[name]:.4f}", f"{one.means[name] - ranking:+.4f}", True) for name in standing.held_out
        ]
        found += [Cell(_short(name, one.means[name]), "", True) for name in _more(standing)]
    guard = guard_count(one.submission.facts)
    watts = "-" if one.mean_watts is None else f"{one.mean_watts:.0f}"
    is_over = one.within_power_limit is False
    if has_judge(standing):
        found.append(Cell({None: "-", True: "yes", False: "no"}[one.white_box], "", True, one.white_box is True))
    found += [
        Cell("-" if guard is None else str(guard), "", True),
        Cell(watts, "over the limit" if is_over else "", True, is_over),
        Cell(size_text(one.num_parameters), "", True),
        Cell(str(one.num_entries), "", True),
        Cell(f"{one.submission.received:%Y-%m-%d}", f"{one.submission.received:%H:%M}", True),
    ]
    return found


def has_judge(standing: Standing) -> bool:
    """Returns whether a recogniser ranks, which may have been in a training loss."""
    if standing.ranking_metric is None:
        return standing.phase.unit == "faces"
    return standing.ranking_metric.startswith("is/")


def _short(name: str, value: float) -> str:
    return f"{value:.4f}" if name in ("perceptual_index", "niqe", "ssim") else f"{value:.2f}"


def guard_count(facts: Mapping[str, Any]) -> int | None:
    """Returns how many pictures the guard replaced, by the manifest; None where it does not say."""
    replaced = facts.get("guard_replaced")
    return replaced if facts.get("guard_on") is not None and isinstance(replaced, int) else None


def size_text(num_parameters: int | None) -> str:
    """Returns a number of parameters as people write it, such as ``1.54 M``; a dash for None."""
    if num_parameters is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if num_parameters >= size:
            return f"{num_parameters / size:.3g} {unit}"
    return str(num_parameters)
