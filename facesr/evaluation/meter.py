"""External power meters: what a meter at the wall has logged, as CSV with a column of time and one of watts.

Time is in seconds since 1970 (UTC) or in ISO 8601 with its zone; a first line of headings is passed over. Several
meters, one for a node each, are added up at the same time, by straight lines between readings.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.errors import DataError
from facesr.names import shown_path

MOST_BYTES = 256 * 1024 * 1024
MOST_WATTS = 1e7
# Where a meter says nothing for longer than this its log has a hole, and what is above it is not measured.
MOST_GAP_SECONDS = 60.0
Line = NDArray[np.float64]


@dataclass(frozen=True)
class Meter:
    """What one meter has logged.

    Attributes:
        path: the file.
        times: seconds since 1970, ascending.
        watts: at these times.
    """

    path: Path
    times: Line
    watts: Line

    def covers(self, start: float, end: float) -> bool:
        """Returns whether the meter has measured all of a time."""
        first = int(np.searchsorted(self.times, start, "right")) - 1
        last = int(np.searchsorted(self.times, end, "left"))
        if first < 0 or last >= len(self.times):
            return False
        return bool(np.all(np.diff(self.times[first : last + 1]) <= MOST_GAP_SECONDS))


@dataclass(frozen=True)
class Metered:
    """The energy of some time by meters.

    Attributes:
        joules: of all meters together.
        seconds: that it took.
        peak_watts: the most that all meters together have shown at one time.
    """

    joules: float
    seconds: float
    peak_watts: float


def read_meter(path: Path) -> Meter:
    """Returns the log of a meter.

    Raises:
        DataError: the file cannot be read, or a line of it is not a time and a power.
    """
    named = shown_path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{named} is larger than {MOST_BYTES // 2**20} MiB; cut the log to the time of the runs.")
        with path.open(newline="", encoding="utf-8-sig") as file:
            found = [
                (number, row) for number, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)
            ]
    except OSError as error:
        raise DataError(f"{named} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{named} is no CSV table in UTF-8; give the log of a power meter.") from error
    if found and _heads(found[0][1]):
        found = found[1:]
    readings = [_reading(row, f"{named} line {number}") for number, row in found]
    if len(readings) < 2:
        raise DataError(f"{named} holds fewer than two readings; give a log with a column of time and one of watts.")
    times, watts = np.array(readings, np.float64).T
    later = np.flatnonzero(np.diff(times) <= 0)
    if len(later):
        number = found[int(later[0]) + 1][0]
        raise DataError(f"{named} line {number}: its time is not later than that of the line before; sort the log.")
    return Meter(path, times, watts)


def _heads(row: Sequence[str]) -> bool:
    """Returns whether a row holds headings: neither of its cells begins like a number."""
    return not any(cell.strip()[:1].isdigit() or cell.strip()[:1] in ("-", "+", ".") for cell in row)


def _reading(row: Sequence[str], where: str) -> tuple[float, float]:
    if len(row) != 2:
        raise DataError(f"{where} has {len(row)} columns; give two, time and watts.")
    try:
        watts = float(row[1])
    except ValueError:
        watts = math.nan
    if not 0 <= watts <= MOST_WATTS:
        raise DataError(f"{where}: {row[1][:40]!a} is no power; give watts from 0 to {MOST_WATTS:g}.")
    return _seconds(row[0].strip(), where), watts


def _seconds(text: str, where: str) -> float:
    wanted = "give seconds since 1970 or ISO 8601 with its zone, such as 2026-11-27T20:00:00Z."
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise DataError(f"{where}: {text[:40]!a} is no time; {wanted}") from None
        if moment.tzinfo is None:
            raise DataError(f"{where}: {text[:40]!a} does not say its time zone; {wanted}") from None
        seconds = moment.timestamp()
    if not 0 <= seconds < 1e11:  # milliseconds would be more
        raise DataError(f"{where}: {text[:40]!a} is no time; {wanted}")
    return seconds


def metered(meters: Sequence[Meter], sessions: Sequence[Sequence[float]]) -> Metered | None:
    """Returns what meters have measured in some times together, None where one of them has not measured all of it.

    Args:
        meters: one or more.
        sessions: [start, end] in seconds since 1970.
    """
    spans = [(start, end) for start, end in sessions if end > start]
    if not meters or not spans or not all(meter.covers(*span) for meter in meters for span in spans):
        return None
    joules, peak = 0.0, 0.0
    for start, end in spans:
        inside = [meter.times[(meter.times > start) & (meter.times < end)] for meter in meters]
        times = np.unique(np.concatenate([[start, end], *inside]))
        watts = np.sum([np.interp(times, meter.times, meter.watts) for meter in meters], axis=0)
        joules += float(np.sum(np.diff(times) * (watts[:-1] + watts[1:]) / 2.0))
        peak = max(peak, float(watts.max()))
    return Metered(joules, sum(end - start for start, end in spans), peak)
