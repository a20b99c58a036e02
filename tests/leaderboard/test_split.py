"""The split into public and private faces: keyed, steady, of the share that was asked for, never empty."""

import hashlib
import hmac

import numpy as np
import pytest

from facesr.leaderboard.split import example_ids, is_public, public_mask

KEY = bytes(range(32))
FACES = [f"{number:04d}" for number in range(2000)]


def test_the_hash_is_that_of_the_contract():
    digest = hmac.new(KEY, b"final\x000007", hashlib.sha256).digest()
    fraction = int.from_bytes(digest, "big") / 2**256
    assert is_public(KEY, "final", "0007", fraction + 1e-9)
    assert not is_public(KEY, "final", "0007", fraction - 1e-9)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_about_right(share):
    # Four standard deviations of a binomial share.
    assert public_mask(KEY, "final", FACES, share).mean() == pytest.approx(share, abs=4 * (0.25 / len(FACES)) ** 0.5)


def test_every_face_is_judged_alone():
    mask = public_mask(KEY, "final", FACES, 0.5)
    assert mask.tolist() == [is_public(KEY, "final", face, 0.5) for face in FACES]
    assert np.array_equal(public_mask(KEY, "final", FACES[::-1], 0.5), mask[::-1])


def test_key_and_phase_decide():
    mask = public_mask(KEY, "final", FACES, 0.5)
    for other in (public_mask(KEY[::-1], "final", FACES, 0.5), public_mask(KEY, "preliminary", FACES, 0.5)):
        assert 0.4 < (mask == other).mean() < 0.6


def test_a_larger_share_only_adds_faces():
    assert not (public_mask(KEY, "final", FACES, 0.3) & ~public_mask(KEY, "final", FACES, 0.4)).any()


def test_all_are_public_where_the_share_is_one():
    assert public_mask(KEY, "final", FACES, 1.0).all()
    assert all(is_public(KEY, "final", face, 1) for face in FACES[:20])


@pytest.mark.parametrize("share", [1e-9, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3])
def test_no_side_is_empty(share, count):
    for start in range(0, 60, count):
        assert 0 < public_mask(KEY, "final", FACES[start : start + count], share).sum() < count


def test_a_single_face_is_public():
    assert public_mask(KEY, "final", ["1"], 1e-9).tolist() == [True]
    assert public_mask(KEY, "final", [], 0.5).tolist() == []


@pytest.mark.parametrize("share", [1e-9, 0.5, 1.0])
def test_examples_are_public_faces(share):
    faces = FACES[:50]
    mask = public_mask(KEY, "final", faces, share)
    found = example_ids(KEY, "final", faces, share, 3)
    assert found == sorted(found) == example_ids(KEY, "final", faces[::-1], share, 3)
    assert len(found) == min(3, mask.sum())
    assert all(mask[faces.index(face)] for face in found)
    assert example_ids(KEY, "final", faces, share, 0) == []
