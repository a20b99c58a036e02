"""Addresses of pictures that tell nothing: for each rater and question another one, good for that rater alone."""

import functools
import hashlib
import hmac
from pathlib import Path

import cv2
import numpy as np

from facesr.errors import DataError
from facesr.names import shown_path
from facesr.opinion.study import Study
from facesr.png import encode_png, read_png

_MAX_ENLARGED = 256


class Pictures:
    """The pictures of a study as raters see them."""

    def __init__(self, study: Study) -> None:
        """Keeps the study's secret, of which the names are made."""
        self._study = study
        self._key = hmac.digest(study.key, b"facesr picture", "sha256")

    def names(self, rater_id: int, slot: int, place: int) -> list[str]:
        """Returns the names of a question's pictures in their order, none beyond the last question."""
        if place >= self._study.plan.num_trials:
            return []
        shows = self._study.plan.sessions[slot][place].shows
        return [self._name(rater_id, place, number) for number in range(len(shows))]

    def _name(self, rater_id: int, place: int, number: int) -> str:
        return hmac.digest(self._key, f"{rater_id} {place} {number}".encode(), hashlib.sha256).hex()[:32]

    def found(self, name: str, rater_id: int, slot: int, place: int) -> bytes | None:
        """Returns the PNG of a name, of the question at a place or of the one behind it; None for any other name."""
        for upcoming in (place, place + 1):
            for number, known in enumerate(self.names(rater_id, slot, upcoming)):
                if hmac.compare_digest(known, name):
                    key = self._study.plan.sessions[slot][upcoming].shows[number]
                    return png_of(self._study.picture(key), self._study.settings.design.enlarge)
        return None

    def size(self, key: str) -> tuple[int, int]:
        """Returns width and height of a picture as it is sent."""
        shown, times = self._study.plan.pictures[key], self._study.settings.design.enlarge
        return shown.width * times, shown.height * times


def png_of(path: Path, enlarge: int) -> bytes:
    """Returns a picture's file, or the picture enlarged by cubic interpolation.

    Raises:
        FaceSRError: it cannot be read.
    """
    if enlarge > 1:
        return _enlarged(path, enlarge)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown_path(path)} cannot be read: {error.strerror}.") from error


@functools.lru_cache(_MAX_ENLARGED)
def _enlarged(path: Path, enlarge: int) -> bytes:
    picture = read_png(path)
    larger = cv2.resize(picture, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    return encode_png(np.asarray(larger, np.uint8))
