"""What teams get: the low-resolution pictures of a phase as one ZIP file, the same bytes whenever it is made."""

import io
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facesr.leaderboard.competition import Phase, Place
from facesr.leaderboard.references import state_of
from facesr.png import list_png

_DATE = (1980, 1, 1, 0, 0, 0)
_MAX_BYTES = 1 << 32


@dataclass(frozen=True)
class Handout:
    """The low-resolution pictures of a phase.

    Attributes:
        sha256: of the ZIP file, which lies in the store.
        num_bytes: its size.
        num_pictures: in it.
    """

    sha256: str
    num_bytes: int
    num_pictures: int


class Handouts:
    """The ZIP files of all phases, each made when it is first asked for, and anew when a picture was changed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made: dict[str, tuple[str, Handout]] = {}
        self._lock = threading.Lock()

    def of(self, phase: Phase) -> Handout:
        """Returns what the teams of a phase get.

        Raises:
            DataError: the pictures are missing, or the store cannot be written.
        """
        with self._lock:
            pictures = dict(sorted(list_png(self._place.low(phase)).items()))
            state = state_of(pictures)
            known = self._made.get(phase.name)
            if known is None or known[0] != state:
                known = self._made[phase.name] = state, self._make(phase, pictures)
            return known[1]

    def _make(self, phase: Phase, pictures: Mapping[str, Path]) -> Handout:
        data = io.BytesIO()
        # Stored: PNG files are compressed already.
        with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as file:
            for key, path in pictures.items():
                info = zipfile.ZipInfo(f"{phase.name}_low/{key}.png", _DATE)
                info.external_attr = 0o644 << 16
                file.writestr(info, path.read_bytes())
        stored = self._place.store().put([data.getvalue()], _MAX_BYTES)
        return Handout(stored.sha256, stored.num_bytes, len(pictures))
