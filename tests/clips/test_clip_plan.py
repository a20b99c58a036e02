"""What becomes of a face through its frames."""

import numpy as np
import pytest

from facesr.clips.track import Tracklet
from facesr.restore_photo.clip_plan import planned
from facesr.restore_photo.decide import COMPETITION
from facesr.restore_photo.photo import Wishes
from tests.clips.faces import face_at


@pytest.mark.parametrize(("first", "last", "is_turned"), [(12.0, 40.0, True), (-40.0, -12.0, True), (2.0, 30.0, False)])
def test_a_head_that_rolls_past_the_bound_is_turned_in_all_frames_or_in_none(
    first: float, last: float, is_turned: bool
) -> None:
    rolls = np.linspace(first, last, 40)
    faces = [face_at(50.0, 50.0, roll=roll) for roll in rolls]
    (plan,) = planned([Tracklet(0, faces)], [0, 40], (100, 100), Wishes(1, "all", 10.0, 60.0, 1.0), COMPETITION)
    assert not plan.reason
    found = [plan.placement_at(number) for number in range(40)]
    angles = [np.degrees(np.arctan2(one[1, 0], one[0, 0])) for one in found]
    np.testing.assert_allclose(angles, rolls if is_turned else 0.0, atol=1e-6)
