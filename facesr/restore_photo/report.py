"""report.html: every photograph of a call before and after, and what became of its faces; one self-contained page.

Here is what it says; how it looks stands in facesr/web/templates/restored.html. Of a photograph only small pictures
are kept, however large it is.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facesr import __version__
from facesr.errors import ConfigError, DataError
from facesr.files import whole_file
from facesr.names import folded, one_line, shown_path
from facesr.photos.colour import Pixels, strips, to_eight_bits
from facesr.photos.photo_file import Photo
from facesr.task import NOTE
from facesr.web.page import jpeg_address, render

NAME = "report.html"
MOST_PHOTOS = 200
# Of a photograph, pairs of faces; the table has all.
MOST_PAIRS = 100
LONGEST_SIDE = 1200
PICTURE_QUALITY, FACE_QUALITY = 85, 95
# Side of a face's crop in sizes of the face, and the most pixels of the photograph that it may have.
SURROUNDINGS, MOST_CROP = 1.4, 400
FACE_ZOOM = 3
# Pixels that the cubic kernel needs around a crop.
KERNEL = 3


@dataclass(frozen=True)
class _Face:
    """What the page tells of a face; see `FaceFacts`. Lengths are in pixels of the photograph."""

    number: int
    x: float
    y: float
    width: float
    height: float
    roll: float
    reason: str
    agreement: float | None
    consistency: float | None
    less_certain: tuple[str, ...]


def check_place(out: Path, jobs: Sequence[tuple[Path, Path]]) -> None:
    """Refuses an `out` in which the page cannot be written, or would replace a photograph.

    Args:
        out: the folder of the page.
        jobs: the photographs, and where each goes.

    Raises:
        ConfigError: something else is, or would be, where the page goes.
    """
    page = out / NAME
    if page.is_dir():
        raise ConfigError(f"{shown_path(page)} is a folder, and report=true writes a file there; give another out.")
    for source, target in jobs:
        if page.exists() and page.samefile(source):
            raise ConfigError(f"report=true would write over {shown_path(source)}; give another out.")
        if folded(str(page)) in (folded(str(parent)) for parent in target.parents):
            raise ConfigError(
                f"{shown_path(source)} would be written into a folder {NAME}, and report=true writes a file there; "
                "rename the folder, or restore it into another out."
            )


class Report:
    """Collects what the page shows, photograph by photograph."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._photos: list[dict[str, Any]] = []
        self._failures: list[str] = []
        self._num_left_out = 0

    def has_room(self) -> bool:
        """Returns whether one more photograph is shown; where not, counts it as left out."""
        if len(self._photos) < MOST_PHOTOS:
            return True
        self._num_left_out += 1
        return False

    def add(
        self,
        target: Path,
        before: Photo,
        after: Photo,
        told: Sequence[Mapping[str, Any]] | None,
        *,
        was_before: bool = False,
    ) -> None:
        """Adds a photograph.

        Args:
            target: where it was written, below `out`.
            before: the photograph. after: the restored one, a whole number of times as large.
            told: what the sidecar tells of each face; None, or what makes no sense, is not shown.
            was_before: an earlier call has restored it.
        """
        scale = after.pixels.shape[0] // before.pixels.shape[0]
        faces = _faces_of(told)
        restored = [face for face in faces or [] if not face.reason]
        self._photos.append(
            {
                "name": one_line(target.relative_to(self._out).as_posix()),
                "sizes": [f"{some.pixels.shape[1]}x{some.pixels.shape[0]}" for some in (before, after)],
                "was_before": was_before,
                "has_facts": faces is not None,
                "counts": _counts(faces or []),
                "before": _picture(before, scale),
                "after": _picture(after, 1),
                "pairs": [_pair(face, before, after, scale) for face in restored[:MOST_PAIRS]],
                "num_pairs_left_out": max(0, len(restored) - MOST_PAIRS),
                "faces": [_row(face) for face in faces or []],
            }
        )

    def add_failure(self, sentence: str) -> None:
        """Adds a photograph that was not restored, by the sentence that says why."""
        self._failures.append(one_line(sentence))

    def write(self, method: str, background: str) -> Path:
        """Writes the page in place of an earlier one, and returns its path.

        Raises:
            DataError: it cannot be written.
        """
        page = self._out / NAME
        text = render(
            "restored.html",
            title="Restored photographs",
            note=NOTE,
            made_by=f"Faces by {one_line(method)}, the rest by {one_line(background)}; facesr {__version__}",
            photos=self._photos,
            num_left_out=self._num_left_out,
            failures=self._failures,
        )
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            with whole_file(page) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{shown_path(page)} cannot be written: {error.strerror or error}.") from error
        return page


def _faces_of(told: Sequence[Mapping[str, Any]] | None) -> list[_Face] | None:
    """Returns the faces of a sidecar, which anybody may have edited; None where it makes no sense."""
    try:
        return None if told is None else [_face_of(face) for face in told]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _face_of(told: Mapping[str, Any]) -> _Face:
    def figure(value: Any) -> float:
        found = float(value)
        if not math.isfinite(found):
            raise ValueError(value)
        return found

    def figure_or_none(value: Any) -> float | None:
        return None if value is None else figure(value)

    x, y = (figure(value) for value in told["centre"])
    return _Face(
        number=int(told["number"]),
        x=x,
        y=y,
        width=figure(told["width"]),
        height=figure(told["height"]),
        roll=figure(told["roll_degrees"]),
        reason=str(told["reason"] or ""),
        agreement=figure_or_none(told["mirror_agreement"]),
        consistency=figure_or_none(told["consistency_db"]),
        less_certain=tuple(str(reason) for reason in told["less_certain"]),
    )


def _counts(faces: Sequence[_Face]) -> str:
    restored = [face for face in faces if not face.reason]
    unsure = sum(bool(face.less_certain) for face in restored)
    found = "no face" if not faces else f"{len(faces)} face{'' if len(faces) == 1 else 's'}"
    return f"{found} found, {len(restored)} restored, {unsure} less certain"


def _row(face: _Face) -> dict[str, Any]:
    return {
        "number": face.number,
        "width": f"{face.width:.1f} px",
        "roll": f"{face.roll:.0f}\N{DEGREE SIGN}",
        "outcome": f"left as it is: {face.reason}" if face.reason else "restored",
        "agreement": "" if face.agreement is None else f"{face.agreement:.3f}",
        "consistency": "" if face.consistency is None else f"{face.consistency:.1f} dB",
        "less_certain": "; ".join(face.less_certain),
    }


def _picture(photo: Photo, scale: int) -> dict[str, Any]:
    """Returns a photograph, enlarged `scale` times by cubic interpolation, at most LONGEST_SIDE pixels long."""
    height, width = (scale * side for side in photo.pixels.shape[:2])
    share = min(1.0, LONGEST_SIDE / max(width, height))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return _address(photo, scale, size, PICTURE_QUALITY)


def _pair(face: _Face, before: Photo, after: Photo, scale: int) -> dict[str, Any]:
    """Returns a face and its surroundings before and after, every pixel of the restored photograph as it is."""
    size = np.array([before.pixels.shape[1], before.pixels.shape[0]])
    half = min(SURROUNDINGS * max(face.width, face.height), MOST_CROP) / 2
    middle = np.clip([face.x + 0.5, face.y + 0.5], 0, size - 1)
    low = np.clip(np.floor(middle - half), 0, size - 1).astype(int)
    high = np.clip(np.ceil(middle + half), low + 1, size).astype(int)
    # What lies around the crop counts in cubic interpolation, too.
    outer_low, outer_high = np.maximum(low - KERNEL, 0), np.minimum(high + KERNEL, size)
    around = _window(before, outer_low, outer_high)
    enlarged = _resized(around, scale, tuple(scale * (outer_high - outer_low)))
    shown = (high - low) * scale
    return {
        "number": face.number,
        "is_less_certain": bool(face.less_certain),
        "zoom": FACE_ZOOM,
        "before": _address(
            _window(enlarged, scale * (low - outer_low), scale * (high - outer_low)), 1, tuple(shown), FACE_QUALITY
        ),
        "after": _address(_window(after, scale * low, scale * high), 1, tuple(shown), FACE_QUALITY),
    }


def _window(photo: Photo, low: NDArray[np.int_], high: NDArray[np.int_]) -> Photo:
    """Returns the part of a photograph from (x, y) `low` to before `high`."""
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    return replace(photo, pixels=photo.pixels[part], alpha=None if photo.alpha is None else photo.alpha[part])


def _address(photo: Photo, scale: int, size: tuple[int, ...], quality: int) -> dict[str, Any]:
    file = io.BytesIO()
    picture = Image.fromarray(_resized(photo, scale, size).srgb())
    picture.save(file, "JPEG", quality=quality, subsampling=0)
    return {"address": jpeg_address(file.getvalue()), "width": picture.width, "height": picture.height}


def _resized(photo: Photo, scale: int, size: tuple[int, ...]) -> Photo:
    """Returns a photograph in 8 bits, enlarged `scale` times by cubic interpolation, then shrunk to (width, height)."""

    def resized(pixels: Pixels) -> NDArray[np.uint8]:
        # Both are separable: first across, then down, so that the enlarged picture never is in memory.
        narrow = _across(pixels, scale, size[0])
        return np.ascontiguousarray(np.swapaxes(_across(np.swapaxes(narrow, 0, 1), scale, size[1]), 0, 1))

    alpha = None if photo.alpha is None else resized(photo.alpha)
    return replace(photo, pixels=resized(photo.pixels), alpha=alpha)


def _across(pixels: Pixels, scale: int, width: int) -> NDArray[np.uint8]:
    """Returns pixels (H, W, ...) as uint8 (H, width, ...): `scale` times as wide, then shrunk by averaging."""
    height, whole = pixels.shape[0], pixels.shape[1] * scale
    found = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    for rows in strips(height, whole):
        strip = np.ascontiguousarray(to_eight_bits(pixels[rows]))
        if scale != 1:
            strip = np.asarray(Image.fromarray(strip).resize((whole, len(strip)), Image.Resampling.BICUBIC))
        found[rows] = strip if width == whole else cv2.resize(strip, (width, len(strip)), interpolation=cv2.INTER_AREA)
    return found
