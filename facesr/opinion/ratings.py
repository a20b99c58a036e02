"""What people answered, as data and as two CSV files, which are the raw data that a study publishes.

Nothing in them says who a rater is: no name, address or link.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from facesr.errors import DataError
from facesr.names import shown, shown_cell, shown_path

ORIGINAL = "original"  # the hidden reference, as a method
PARTS = ("training", "main", "repeat", "trap")
ACR, PAIR, SAME = KINDS = ("acr", "pair", "same")
# Lowest and highest answer of each kind.
ANSWERS: Mapping[str, tuple[int, int]] = {ACR: (1, 5), PAIR: (0, 1), SAME: (0, 1)}
# A megabyte holds some 10,000 ratings; a study with more than this is none of ours.
_MOST_BYTES = 1 << 30

Row = TypeVar("Row")


@dataclass(frozen=True)
class Rating:
    """One answer of one rater.

    Attributes:
        rater: opaque, e.g. ``r0007``.
        place: position in the rater's session, from 0, training included.
        part: ``training``, ``main``, ``repeat`` (of a trial of the main part) or ``trap``.
        kind: ``acr`` (how good, 1 to 5), ``pair`` (which of two is better) or ``same`` (is this the same person).
        face: id of the face, its file's stem.
        method: acr: what is rated, ``original`` being the hidden reference; pair: the left or first one; same: the
            restored one.
        other: acr: empty; pair: the right one; same: the face that the second picture shows (`face`: the same person).
        answer: acr 1 to 5, 5 the best; pair 0 for left and 1 for right; same 1 for the same person and 0 for another.
        expected: of a trap and of ``same``: the right answer; otherwise None.
        seconds: from the picture being shown to the answer, by the browser's clock; at least 0.
        at: when it was stored, UTC.
    """

    rater: str
    place: int
    part: str
    kind: str
    face: str
    method: str
    other: str
    answer: int
    expected: int | None
    seconds: float
    at: datetime


@dataclass(frozen=True)
class Rater:
    """One rater and the device that was used.

    Attributes:
        rater: opaque, as in `Rating`.
        joined: when consent was given, UTC.
        finished: when the last trial was answered, UTC; None where the session was not completed.
        withdrawn: whether the rater withdrew; there are no ratings then.
        language: of the page, e.g. ``en``.
        pixel_ratio: device pixels per CSS pixel.
        width: of the window, CSS pixels.
        height: of the window, CSS pixels.
        scale: the integer zoom at which pictures were shown, in device pixels.
        touch: whether the device has a touch screen.
    """

    rater: str
    joined: datetime
    finished: datetime | None
    withdrawn: bool
    language: str
    pixel_ratio: float
    width: int
    height: int
    scale: int
    touch: bool


@dataclass(frozen=True)
class Rules:
    """Who is excluded from the result, fixed before the first rater.

    Attributes:
        max_failed_traps: more failed traps exclude.
        min_seconds: a faster answer is too fast.
        max_share_too_fast: a larger share of too fast answers excludes, 0 to 1.
        max_repeat_difference: a larger mean absolute difference between the answers to a repeated trial excludes.
        min_answers_sd: a smaller standard deviation of the answers excludes (straight-liners); acr only.
        min_completed_share: a smaller share of the answered trials of the plan excludes, 0 to 1.
    """

    max_failed_traps: int
    min_seconds: float
    max_share_too_fast: float
    max_repeat_difference: float
    min_answers_sd: float
    min_completed_share: float


@dataclass(frozen=True)
class Records:
    """A study with everything that was answered.

    Attributes:
        title: of the study.
        kinds: of its questions.
        methods: in the study's order, without ``original``, with the anchors.
        anchors: those of `methods` that are known to be bad, e.g. bicubic and nearest.
        faces: ids.
        rules: of exclusion.
        plan_sha256: digest of the plan that was made before the first rater.
        ratings: all of them.
        raters: all who gave consent.
        high: folder of the originals, None where it is not known here.
        folders: method -> folder with its pictures, where it is known here.
        trials: of a whole session, training included; None takes the longest session that there is.
    """

    title: str
    kinds: tuple[str, ...]
    methods: tuple[str, ...]
    anchors: tuple[str, ...]
    faces: tuple[str, ...]
    rules: Rules
    plan_sha256: str
    ratings: tuple[Rating, ...]
    raters: tuple[Rater, ...]
    high: Path | None
    folders: dict[str, Path]
    trials: int | None = None


def ratings_csv(ratings: Iterable[Rating]) -> str:
    """Returns ratings.csv: a line for each rating, its attributes in their order."""
    return _csv(Rating, ratings)


def raters_csv(
    raters: Iterable[Rater], beside: Sequence[str] = (), cells: Mapping[str, Sequence[object]] | None = None
) -> str:
    """Returns raters.csv: a line for each rater, and the further columns `beside` with their `cells` by rater."""
    return _csv(Rater, raters, beside, cells or {})


def read_ratings(path: Path) -> tuple[Rating, ...]:
    """Returns the ratings of a file as `ratings_csv` writes it; further columns are passed over.

    Raises:
        DataError: it cannot be read, or a value is not as `Rating` has it, or a rater has two answers at one place.
    """
    found = _read(path, Rating, _rating)
    seen: set[tuple[str, int]] = set()
    for rating in found:
        if (rating.rater, rating.place) in seen:
            who = shown([rating.rater])
            raise DataError(f"{shown_path(path)}: rater {who} has two answers at place {rating.place}; remove one.")
        seen.add((rating.rater, rating.place))
    return found


def read_raters(path: Path) -> tuple[Rater, ...]:
    """Returns the raters of a file as `raters_csv` writes it; further columns are passed over.

    Raises:
        DataError: it cannot be read, or a value is not as `Rater` has it, or a rater comes twice.
    """
    found = _read(path, Rater, _rater)
    names = [rater.rater for rater in found]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{shown_path(path)}: {shown(twice)} comes twice; each rater has one line.")
    return found


def checked_rating(rating: Rating) -> Rating:
    """Returns the rating.

    Raises:
        ValueError: a value is outside its range; the words say which and what is allowed.
    """
    if rating.part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}")
    if rating.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    low, high = ANSWERS[rating.kind]
    for name, answer in (("answer", rating.answer), ("expected", rating.expected)):
        if answer is not None and not low <= answer <= high:
            raise ValueError(f"{name} must be from {low} to {high} for {rating.kind}")
    if rating.expected is None and (rating.part == "trap" or rating.kind == SAME):
        raise ValueError("expected is missing")
    if rating.place < 0 or not (math.isfinite(rating.seconds) and rating.seconds >= 0):
        raise ValueError("place and seconds must be 0 or more")
    for name, text in (("rater", rating.rater), ("face", rating.face), ("method", rating.method)):
        if not text:
            raise ValueError(f"{name} is empty")
    if (rating.kind == ACR) == bool(rating.other):
        raise ValueError("other must be empty for acr, and only there")
    return rating


def _csv(
    kind: type, rows: Iterable[Any], beside: Sequence[str] = (), cells: Mapping[str, Sequence[object]] | None = None
) -> str:
    names = [one.name for one in fields(kind)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *beside])
    for row in rows:
        further = [_cell(cell) for cell in (cells or {}).get(row.rater, [""] * len(beside))]
        writer.writerow([*(_cell(getattr(row, name)) for name in names), *further])
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _guarded(value) if isinstance(value, str) else repr(value)


def _guarded(text: str) -> str:
    # An apostrophe of its own gets another one, so that reading takes away exactly what was added.
    return f"'{text}" if text.startswith("'") else shown_cell(text)


def _read(path: Path, kind: type, make: Callable[[Mapping[str, str]], Row]) -> tuple[Row, ...]:
    where = shown_path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{where} is larger than a study's table can be; give the file that analyse wrote.")
        lines = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}.") from error
    reader = csv.DictReader(io.StringIO(lines, newline=""), strict=True)
    found: list[Row] = []
    try:
        missing = [one.name for one in fields(kind) if one.name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{where} has no column {missing[0]}; give a file that analyse wrote.")
        for row in reader:
            if None in row.values():
                raise ValueError("cells are missing")
            found.append(make({key: text.removeprefix("'") for key, text in row.items() if isinstance(text, str)}))
    except (ValueError, csv.Error) as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}; mend that line or leave it out.") from error
    return tuple(found)


def _rating(row: Mapping[str, str]) -> Rating:
    return checked_rating(
        Rating(
            rater=row["rater"],
            place=_whole(row, "place"),
            part=row["part"],
            kind=row["kind"],
            face=row["face"],
            method=row["method"],
            other=row["other"],
            answer=_whole(row, "answer"),
            expected=_whole(row, "expected") if row["expected"] else None,
            seconds=_number(row, "seconds"),
            at=_time(row, "at"),
        )
    )


def _rater(row: Mapping[str, str]) -> Rater:
    if not row["rater"]:
        raise ValueError("rater is empty")
    return Rater(
        rater=row["rater"],
        joined=_time(row, "joined"),
        finished=_time(row, "finished") if row["finished"] else None,
        withdrawn=_yes(row, "withdrawn"),
        language=row["language"],
        pixel_ratio=_number(row, "pixel_ratio"),
        width=_whole(row, "width"),
        height=_whole(row, "height"),
        scale=_whole(row, "scale"),
        touch=_yes(row, "touch"),
    )


def _whole(row: Mapping[str, str], name: str) -> int:
    # int() takes digits of every script, underscores, and as many as there are.
    text = row[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f"{name} must be a whole number from 0")
    return int(text)


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number from 0")
    return value


def _time(row: Mapping[str, str], name: str) -> datetime:
    try:
        found = datetime.fromisoformat(row[name])
    except ValueError:
        raise ValueError(f"{name} must be a time such as 2026-01-31T12:00:00+00:00") from None
    if found.tzinfo is None:
        raise ValueError(f"{name} needs its time zone, such as +00:00")
    return found.astimezone(UTC)


def _yes(row: Mapping[str, str], name: str) -> bool:
    if row[name] not in ("yes", "no"):
        raise ValueError(f"{name} must be yes or no")
    return row[name] == "yes"
