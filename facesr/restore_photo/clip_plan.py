"""What becomes of each face of a film: restored or not, on which grid, where in each frame, and how strongly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facesr.clips.track import Tracklet, smoothed
from facesr.photos.crop import BOX_SIZE, Framing, Placement
from facesr.photos.search import FoundFace
from facesr.restore_photo.decide import (
    MOST_ENLARGED,
    UPRIGHT_DEGREES,
    decided,
    grid_for,
    placed,
    restored_framing,
)
from facesr.restore_photo.photo import Wishes
from facesr.restore_photo.wishes import chosen_of

# A face that comes or goes in the middle of a scene does so over so many frames.
FADE = 8
# Over this share of a bound on size, and so many degrees of turn, a face that crosses it is restored less and less.
_SIZE_RAMP, _TURN_RAMP = 0.1, 10.0


@dataclass(frozen=True)
class Plan:
    """One face through its frames.

    Attributes:
        first: number of its first frame.
        faces: where it is, smoothed, frame by frame.
        grid: of what the network is shown, the same in every frame.
        is_turned: whether it is turned upright, in every frame.
        shares: (n,) share of the change that is made in each frame, in [0, 1].
        reason: why it is left as it is throughout; empty where it is restored.
    """

    first: int
    faces: list[FoundFace]
    grid: Framing
    is_turned: bool
    shares: NDArray[np.float64]
    reason: str = ""

    @property
    def last(self) -> int:
        """Number of its last frame."""
        return self.first + len(self.faces) - 1

    @property
    def width(self) -> float:
        """Median width in pixels of the film."""
        return float(np.median([face.width for face in self.faces]))

    def share_at(self, number: int) -> float:
        """Returns the share of the change in a frame; 0 where the face is not there."""
        return float(self.shares[number - self.first]) if self.first <= number <= self.last else 0.0

    def placement_at(self, number: int) -> Placement:
        """Returns the placement of the restored crop on a frame."""
        return placed(self.faces[number - self.first], restored_framing(self.grid), self.is_turned)


def planned(
    tracks: Sequence[Tracklet], scenes: Sequence[int], size: tuple[int, int], wishes: Wishes, trained: Framing
) -> list[Plan]:
    """Returns the plans for the faces of a film, the largest first: their places are the numbers that `faces` asks for.

    Args:
        tracks: the faces as they were followed.
        scenes: numbers of the frames with which scenes begin, with 0 and the number of frames.
        size: width and height of the film.
        wishes: what is asked for. trained: framing of what the network was trained to answer.
    """
    ordered = sorted(tracks, key=lambda track: (-float(np.median([face.size for face in track.faces])), track.first))
    chosen = chosen_of(wishes.faces, len(ordered))
    return [_plan(track, scenes, size, wishes, trained, place in chosen) for place, track in enumerate(ordered)]


def _plan(
    track: Tracklet,
    scenes: Sequence[int],
    size: tuple[int, int],
    wishes: Wishes,
    trained: Framing,
    is_chosen: bool,
) -> Plan:
    faces = smoothed(track.faces)
    # Upright or turned is decided for all frames, or a head that rolls slowly past the bound would jump.
    roll = float(np.median([face.roll for face in faces]))
    is_turned = abs(roll) > UPRIGHT_DEGREES
    middle = sorted(faces, key=lambda face: face.width)[len(faces) // 2]
    turn = float(np.median([face.yaw for face in faces]))
    usual = replace(middle, roll=roll, landmarks=sorted(faces, key=lambda face: abs(face.yaw - turn))[0].landmarks)
    decision = decided(usual, size, wishes.scale, is_chosen, wishes.min_face_px, wishes.max_turn, trained)
    widths = np.array([face.width for face in faces])
    # The grid is the one for the face where it is large.
    grid = grid_for(float(np.quantile(widths, 0.9)) * wishes.scale, trained)
    if decision.reason:
        return Plan(track.first, faces, grid, is_turned, np.zeros(len(faces)), decision.reason)
    most = MOST_ENLARGED * restored_framing(grid).zoom * BOX_SIZE[0] / wishes.scale
    yaws = np.array([face.yaw for face in faces])
    shares = np.clip((most * (1 + _SIZE_RAMP) - widths) / (most * _SIZE_RAMP), 0.0, 1.0)
    shares *= np.clip((widths - wishes.min_face_px * (1 - _SIZE_RAMP)) / (wishes.min_face_px * _SIZE_RAMP), 0.0, 1.0)
    shares *= np.clip((wishes.max_turn + _TURN_RAMP - yaws) / _TURN_RAMP, 0.0, 1.0)
    return Plan(track.first, faces, grid, is_turned, shares * _fades(track, scenes))


def _fades(track: Tracklet, scenes: Sequence[int]) -> NDArray[np.float64]:
    """Returns (n,): rises from its first frame and falls to its last, but not where a scene begins or ends there."""
    steps = np.arange(1, len(track.faces) + 1) / FADE
    rise = np.ones_like(steps) if track.first in scenes else np.minimum(steps, 1.0)
    fall = np.ones_like(steps) if track.last + 1 in scenes else np.minimum(steps[::-1], 1.0)
    return rise * fall
