"""What ``facesr restore`` is asked for, and what of it cannot be: known before anything large is loaded or opened."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facesr.clips.kind import SUFFIXES, require_reader
from facesr.config import RestoreSettings
from facesr.errors import ConfigError
from facesr.names import shown_path

if TYPE_CHECKING:
    from facesr.clips.stream import About

ALL, LARGEST = "all", "largest"
SCALES = ("auto", "1", "2", "3", "4")
# By default a film becomes 4 or 2 times as large while it stays within these pixels; what is larger plays nowhere.
MOST_PIXELS = 1920 * 1088


def check_scale(scale: str) -> None:
    """Refuses a scale that is none of SCALES.

    Raises:
        ConfigError: it is not.
    """
    if scale not in SCALES:
        raise ConfigError(f"scale={scale} is unknown; give one of {', '.join(SCALES)}.")


def chosen_of(faces: str | Sequence[int], num_found: int) -> set[int]:
    """Returns the numbers of the faces that `faces` asks for, of those found, largest first.

    Raises:
        ConfigError: it is neither ``all`` nor ``largest`` nor a list of numbers.
    """
    if faces == ALL:
        return set(range(num_found))
    if faces == LARGEST:
        return set(range(min(1, num_found)))
    numbers = faces.strip("[] ").split(",") if isinstance(faces, str) else faces
    try:
        wanted = {int(number) for number in numbers}
    except ValueError:
        wanted = {-1}
    if not wanted or min(wanted) < 0:
        raise ConfigError(f"faces={faces} is unknown; give all, largest, or numbers from 0 as in faces=[0,3].")
    return wanted & set(range(num_found))


def film_target(format: str, target: Path) -> Path:
    """Returns where a film of a `film_format` goes: under its own name, with an ending that says what it is."""
    endings = SUFFIXES[format]
    return target if target.suffix.lower() in endings else target.with_name(target.name + endings[0])


def check_films(sources: list[Path], settings: RestoreSettings) -> dict[Path, "About"]:
    """Refuses, before any work, what cannot be asked of films, and films that are not restored; returns what each is.

    Raises:
        FaceSRError: a key makes no sense, the package that reads films is missing, or a film is of another kind.
    """
    span = span_of(settings.frames)
    if settings.frames is not None and not sources:
        raise ConfigError(f"frames={settings.frames} is for films, and there is none; leave it out.")
    if not sources:
        return {}
    if settings.report:
        raise ConfigError("report=true is for photographs; leave it out, or give the films in a call of their own.")
    require_reader()
    from facesr.clips.stream import probe

    found = {source: probe(source) for source in sources}
    for source, about in found.items():
        scale = scale_for_film(settings.scale, about.width, about.height)
        subsampled = (2 if about.layout in ("yuv420p", "yuv422p") else 1, 2 if about.layout == "yuv420p" else 1)
        if about.width * scale % subsampled[0] or about.height * scale % subsampled[1]:
            raise ConfigError(
                f"{shown_path(source)} has {about.width}x{about.height} pixels, and its colours need even sides; "
                "give scale=2."
            )
        if about.num_frames and span[0] >= about.num_frames:
            raise ConfigError(
                f"frames={settings.frames}: {shown_path(source)} has {about.num_frames} frames; give smaller numbers."
            )
    return found


def span_of(frames: str | None) -> tuple[int, int | None]:
    """Returns the first frame that is restored and the first after that.

    Raises:
        ConfigError: it is not written as A:B with A < B.
    """
    if frames is None:
        return 0, None
    found = re.fullmatch(r"(\d{0,9}):(\d{0,9})", frames)
    first, end = (0, None) if found is None else (int(found[1] or 0), int(found[2]) if found[2] else None)
    if found is None or (end is not None and end <= first):
        raise ConfigError(f"frames={frames} is not understood; give A:B, from frame A up to but not B: frames=0:100.")
    return first, end


def scale_for_film(scale: str, width: int, height: int) -> int:
    """Returns how many times as large a film becomes: what `scale` says, or 4, 2 or 1 by its size."""
    if scale != "auto":
        return int(scale)
    return next((times for times in (4, 2) if width * height * times**2 <= MOST_PIXELS), 1)
