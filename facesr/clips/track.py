"""Faces followed through a film: found in some frames, followed in those between, linked, and smoothed without lag."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.photos.detect import Detector
from facesr.photos.search import FoundFace, find_faces, followed

Picture = NDArray[np.uint8]
Embed = Callable[[Picture, FoundFace], NDArray[np.float32]]
# The whole frame is searched every so many frames, and at cuts.
SEARCH_EVERY = 12
# A face may be missed in so many frames and is still the same one.
MAX_GAP = 12
# Two boxes are one face that moved where they share so much, and a judge does not say otherwise ...
MIN_OVERLAP, MIN_COSINE = 0.3, 0.2
# ... or where a judge is sure, and the face has not gone further than so many times its size.
SURE_COSINE, MAX_STEP = 0.6, 1.5
# Standard deviation in frames of the Gaussian that smooths placements.
SIGMA = 4.0
# A cut: thumbnails differ by so many grey levels on average, and so large a share of their histogram.
CUT_LEVELS, CUT_HISTOGRAM = 20.0, 0.25
_THUMBNAIL = (64, 36)
_LEAST_FRAMES = 3


@dataclass
class Tracklet:
    """A face in consecutive frames.

    Attributes:
        first: number of its first frame.
        faces: where it is, frame by frame.
        embeddings: a judge's, of the frames in which the face was found by searching.
    """

    first: int
    faces: list[FoundFace]
    embeddings: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def last(self) -> int:
        """Number of its last frame."""
        return self.first + len(self.faces) - 1

    def cosine(self, other: "Tracklet") -> float:
        """Returns how alike the mean embeddings are, in [-1, 1]."""
        own: NDArray[np.float64] = np.stack(self.embeddings).mean(0, dtype=np.float64)
        theirs: NDArray[np.float64] = np.stack(other.embeddings).mean(0, dtype=np.float64)
        length = float(np.linalg.norm(own) * np.linalg.norm(theirs))
        return float(np.dot(own, theirs)) / length if length else 0.0


def is_cut(before: Picture, after: Picture) -> bool:
    """Returns whether another scene begins between two frames, given as `thumbnail` of each."""
    difference = float(np.abs(before.astype(np.float32) - after).mean())
    counts = [np.bincount(some.ravel() // 8, minlength=32) / some.size for some in (before, after)]
    return difference > CUT_LEVELS and float(np.abs(counts[0] - counts[1]).sum() / 2) > CUT_HISTOGRAM


def thumbnail(picture: Picture) -> Picture:
    """Returns a frame (H, W, 3) as a small grey picture, uint8."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.uint8)


class Follower:
    """Follows the faces of consecutive frames; `done` at the end has those that are lost or still there."""

    def __init__(self, first: int, detector: Detector, embed: Embed, min_face: float) -> None:
        self._number, self._first = first - 1, first
        self._detector, self._embed, self._min_face = detector, embed, min_face
        self._active: list[Tracklet] = []
        self.done: list[Tracklet] = []

    def add(self, picture: Picture, after_cut: bool) -> None:
        """Looks at the next frame, uint8 (H, W, 3) RGB; `after_cut`: nothing of the frame before is in it."""
        self._number += 1
        if after_cut:
            self._end(self._active)
        here = [(track, followed(picture, track.faces[-1], self._detector)) for track in self._active]
        if after_cut or (self._number - self._first) % SEARCH_EVERY == 0:
            here += self._search(picture, here)
        kept: list[tuple[Tracklet, FoundFace]] = []
        for track, face in sorted(here, key=lambda pair: pair[0].first):
            # Of two tracks that have come to one face the older one stays.
            if face is not None and all(overlap(face, other) < 0.5 for _, other in kept):
                kept.append((track, face))
        ids = {id(track) for track, _ in kept}
        self._end([track for track in self._active if id(track) not in ids])
        for track, face in kept:
            track.faces.append(face)
        self._active = [track for track, _ in kept]

    def _search(
        self, picture: Picture, here: Sequence[tuple[Tracklet, FoundFace | None]]
    ) -> list[tuple[Tracklet, FoundFace | None]]:
        """Returns new tracks for the faces that are not followed yet, and embeds those that are."""
        for track, face in here:
            if face is not None:
                track.embeddings.append(self._embed(picture, face))
        new: list[tuple[Tracklet, FoundFace | None]] = []
        for face in find_faces(picture, self._detector, self._min_face):
            if all(other is None or overlap(face, other) < MIN_OVERLAP for _, other in here):
                new.append((Tracklet(self._number, [], [self._embed(picture, face)]), face))
        return new

    def _end(self, tracks: Sequence[Tracklet]) -> None:
        ids = {id(track) for track in tracks}
        self.done += tracks
        self._active = [track for track in self._active if id(track) not in ids]

    def finished(self) -> list[Tracklet]:
        """Returns all tracklets, by their first frame."""
        self._end(self._active)
        return sorted((track for track in self.done if track.faces), key=lambda track: track.first)


def overlap(one: FoundFace, other: FoundFace) -> float:
    """Returns the share of the union that two boxes have in common, taken as upright, in [0, 1]."""
    sides = np.array([[one.width, one.height], [other.width, other.height]])
    centres = np.stack([one.centre, other.centre])
    low, high = centres - sides / 2, centres + sides / 2
    common = float(np.prod(np.maximum(high.min(0) - low.max(0), 0.0)))
    return common / (float(sides.prod(1).sum()) - common)


def linked(tracklets: Sequence[Tracklet], cuts: Sequence[int]) -> list[Tracklet]:
    """Returns tracks: tracklets joined over gaps, whose frames are interpolated, never over a cut.

    Args:
        cuts: numbers of the frames with which another scene begins.
    """
    tracks: list[Tracklet] = []
    for tracklet in sorted(tracklets, key=lambda one: (one.first, -one.faces[0].size)):
        fits = [(_likeness(track, tracklet, cuts), number) for number, track in enumerate(tracks)]
        best, number = max(fits, default=(0.0, -1))
        if best <= 0.0:
            tracks.append(Tracklet(tracklet.first, list(tracklet.faces), list(tracklet.embeddings)))
            continue
        track, gap = tracks[number], tracklet.first - tracks[number].last - 1
        start, end = _vector(track.faces[-1]), _vector(tracklet.faces[0])
        end[4] = start[4] + (end[4] - start[4] + 180.0) % 360.0 - 180.0
        track.faces += [_face(start + (end - start) * step / (gap + 1)) for step in range(1, gap + 1)]
        track.faces += tracklet.faces
        track.embeddings += tracklet.embeddings
    return [track for track in tracks if len(track.faces) >= _LEAST_FRAMES]


def _likeness(track: Tracklet, later: Tracklet, cuts: Sequence[int]) -> float:
    """Returns how well a tracklet goes on with a track; 0 where it does not."""
    gap = later.first - track.last - 1
    if not 0 <= gap <= MAX_GAP or any(track.last < cut <= later.first for cut in cuts):
        return 0.0
    before, after = track.faces[-1], later.faces[0]
    shared, cosine = overlap(before, after), track.cosine(later)
    near = float(np.hypot(*(before.centre - after.centre))) < MAX_STEP * before.size
    fits = (shared >= MIN_OVERLAP and cosine >= MIN_COSINE) or (near and cosine >= SURE_COSINE)
    return shared + max(cosine, 0.0) if fits else 0.0


def smoothed(faces: Sequence[FoundFace], sigma: float = SIGMA) -> list[FoundFace]:
    """Returns the faces of consecutive frames, smoothed by a Gaussian over frames on both sides, so without lag.

    At each frame a line is fitted under Gaussian weights: in the middle that is the Gaussian mean, and at the ends a
    steady movement is kept where a mean would lag behind it.
    """
    values = np.stack([_vector(face) for face in faces])
    values[:, 4] = np.unwrap(values[:, 4], period=360.0)
    reach, count = int(np.ceil(3 * sigma)), len(values)
    result = np.empty_like(values)
    for at in range(count):
        own = np.arange(max(0, at - reach), min(count, at + reach + 1))
        offset = (own - at).astype(np.float64)
        weight = np.exp(-0.5 * (offset / sigma) ** 2)
        first, second = (weight * offset).sum(), (weight * offset**2).sum()
        spread = weight.sum() * second - first**2
        own_weight = weight / weight.sum() if spread <= 1e-9 else weight * (second - first * offset) / spread
        result[at] = own_weight @ values[own]
    return [_face(row) for row in result]


def _vector(face: FoundFace) -> NDArray[np.float64]:
    facts = [*face.centre, face.width, face.height, face.roll, face.probability]
    return np.array([*facts, *face.landmarks.ravel()], np.float64)


def _face(values: NDArray[np.float64]) -> FoundFace:
    width, height, roll, probability = (float(value) for value in values[2:6])
    return FoundFace(values[:2].copy(), width, height, roll, values[6:].reshape(5, 2).copy(), probability)


def to_plain(tracklet: Tracklet) -> dict[str, object]:
    """Returns a tracklet as what JSON holds, exactly."""
    rows = [_vector(face).tolist() for face in tracklet.faces]
    embeddings = [[float(value) for value in one] for one in tracklet.embeddings]
    return {"first": tracklet.first, "faces": rows, "embeddings": embeddings}


def from_plain(plain: dict[str, list[list[float]]]) -> Tracklet:
    """Returns the tracklet of `to_plain`."""
    faces = [_face(np.array(row)) for row in plain["faces"]]
    return Tracklet(int(plain["first"]), faces, [np.array(one, np.float32) for one in plain["embeddings"]])  # type: ignore[call-overload]
