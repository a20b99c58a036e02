"""Faces followed through made frames: cuts, fades, gaps, several faces, and placements smoothed without lag."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.clips import track
from facesr.clips.track import MAX_GAP, Follower, Tracklet, is_cut, linked, smoothed, thumbnail
from facesr.photos.search import FoundFace
from tests.clips.faces import face_at

PERSON, ANOTHER = np.eye(4, dtype=np.float32)[:2]


def face(x: float, y: float = 30.0, size: float = 20.0, roll: float = 0.0) -> FoundFace:
    return face_at(x, y, size, size, roll)


def tracklet(first: int, places: Sequence[float], embedding: NDArray[np.float32] = PERSON) -> Tracklet:
    return Tracklet(first, [face(x) for x in places], [embedding])


def scene(seed: int) -> NDArray[np.uint8]:
    """A smooth picture (90, 160, 3) of one scene; others are lighter or darker, and elsewhere."""
    down, across = np.mgrid[:90, :160] / 30.0
    waves = np.sin(across + seed) * np.cos(down * (seed + 1)) * 40 + 70 + 55 * seed
    return np.repeat(np.clip(waves, 0, 255).astype(np.uint8)[..., None], 3, 2)


def cuts_among(frames: Sequence[NDArray[np.uint8]]) -> list[int]:
    small = [thumbnail(frame) for frame in frames]
    return [number for number in range(1, len(small)) if is_cut(small[number - 1], small[number])]


def test_a_cut_is_seen_and_a_pan_a_flash_of_light_or_a_fade_is_none() -> None:
    one, other = scene(0), scene(2)
    assert cuts_among([one, one, other, other]) == [2]
    assert cuts_among([np.roll(one, 70 * step, 1) for step in range(6)]) == []  # other pixels, of the same greys
    assert cuts_among([np.clip(one * light, 0, 255).astype(np.uint8) for light in (1.0, 1.2, 1.0)]) == []
    shares = np.linspace(0, 1, 13)
    assert cuts_among([((1 - share) * one + share * other).astype(np.uint8) for share in shares]) == []


def test_a_gap_is_bridged_in_equal_steps() -> None:
    (joined,) = linked([tracklet(0, [10, 11, 12]), tracklet(6, [18, 19])], [])
    assert [round(float(one.centre[0]), 9) for one in joined.faces] == [10, 11, 12, 13.5, 15, 16.5, 18, 19]
    assert (joined.first, joined.last, len(joined.embeddings)) == (0, 7, 2)


def test_a_roll_is_bridged_the_short_way() -> None:
    before = Tracklet(0, [face(10, roll=170.0)] * 3, [PERSON])
    (joined,) = linked([before, Tracklet(4, [face(10, roll=-170.0)], [PERSON])], [])
    assert joined.faces[3].roll % 360 == pytest.approx(180.0)


@pytest.mark.parametrize(
    ("later", "cuts"),
    [
        (tracklet(3 + MAX_GAP + 1, [13, 14, 15]), []),  # missed for too long
        (tracklet(6, [13, 14, 15]), [5]),  # another scene
        (tracklet(6, [13, 14, 15], ANOTHER), []),  # another person in its place
        (tracklet(6, [60, 61, 62]), []),  # the same person, but further than a face moves
        (tracklet(2, [13, 14, 15]), []),  # at the same time
    ],
)
def test_what_is_another_face_is_not_joined(later: Tracklet, cuts: list[int]) -> None:
    assert [track.first for track in linked([tracklet(0, [10, 11, 12]), later], cuts)] == [0, later.first]


def test_the_longest_gap_and_a_jump_of_a_known_face_are_bridged() -> None:
    assert len(linked([tracklet(0, [10, 11, 12]), tracklet(3 + MAX_GAP, [13, 14, 15])], [])) == 1
    assert len(linked([tracklet(0, [10, 11, 12]), tracklet(4, [38, 39, 40])], [])) == 1


def test_faces_of_too_few_frames_are_left_out() -> None:
    assert linked([tracklet(0, [10, 11])], []) == []


def test_a_steady_movement_is_kept_to_its_ends_and_trembling_is_not() -> None:
    places = 10 + 1.5 * np.arange(40)
    steady = [one.centre[0] for one in smoothed([face(x) for x in places])]
    assert np.allclose(steady, places, atol=1e-9)
    noise = np.random.default_rng(0).normal(0, 1, 40)
    rest = np.array([one.centre[0] for one in smoothed([face(x) for x in places + noise])]) - places
    assert rest.std() < 0.45 * noise.std()
    rolls = [one.roll % 360 for one in smoothed([face(10, roll=(170.0 + step) % 360) for step in range(25)])]
    assert np.allclose(rolls, 170.0 + np.arange(25))


class Scene:
    """Faces at given places in frames, as detector and judge see them."""

    def __init__(self, places: Sequence[dict[str, float]]) -> None:
        self.places, self.now = places, 0

    def find(self, picture: object, detector: object, smallest: float) -> list[FoundFace]:
        return [face(x) for x in self.places[self.now].values()]

    def follow(self, picture: object, before: FoundFace, detector: object) -> FoundFace | None:
        near = [x for x in self.places[self.now].values() if abs(x - float(before.centre[0])) < 10]
        return face(min(near, key=lambda x: abs(x - float(before.centre[0])))) if near else None

    def tracklets(self, monkeypatch: pytest.MonkeyPatch, cuts: Sequence[int] = ()) -> list[Tracklet]:
        monkeypatch.setattr(track, "find_faces", self.find)
        monkeypatch.setattr(track, "followed", self.follow)
        follower = Follower(0, SimpleNamespace(), lambda picture, found: PERSON, 10.0)  # type: ignore[arg-type]
        for number in range(len(self.places)):
            self.now = number
            follower.add(scene(0), number in cuts)
        return follower.finished()


def spans(tracklets: Sequence[Tracklet]) -> list[tuple[int, int]]:
    return [(one.first, one.last) for one in tracklets]


def test_several_faces_are_followed_and_those_that_come_later_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [{"a": 20.0 + step, "b": 100.0} for step in range(14)]
    later = [{"a": 34.0 + step, "b": 100.0, "c": 160.0} for step in range(14)]
    found = Scene([*both, *later]).tracklets(monkeypatch)
    # The whole frame is searched at 0, 12 and 24.
    assert spans(found) == [(0, 27), (0, 27), (24, 27)]
    assert [one.faces[-1].centre[0] for one in found] == [47.0, 100.0, 160.0]
    assert [len(one.embeddings) for one in found] == [3, 3, 1]


def test_a_face_that_leaves_ends_and_a_cut_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = [{"a": 20.0, "b": 100.0}] * 5 + [{"b": 100.0}] * 5
    assert spans(Scene(leaves).tracklets(monkeypatch)) == [(0, 4), (0, 9)]
    assert spans(Scene([{"a": 20.0}] * 8).tracklets(monkeypatch, cuts=[3])) == [(0, 2), (3, 7)]


def test_of_two_that_come_to_one_face_the_older_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    meet = [{"a": 20.0}] * 12 + [{"a": 20.0, "b": 45.0 - 2 * step} for step in range(9)] + [{"a": 20.0}] * 3
    assert spans(Scene(meet).tracklets(monkeypatch)) == [(0, 23), (12, 20)]
