"""Archives of strangers verified apart: honest ones come through, of others one sentence."""

import hashlib
import json
import os
import stat

import numpy as np

from facesr.png import encode_png, png_remark
from tests.leaderboard.sandboxes import (  # noqa: F401
    BOTH_WAYS,
    SANDBOXED,
    a_desk,
    another_program,
    digest_of,
    pixels_of,
    whether_isolated,
)
from tests.submission.conftest import (
    bench,  # noqa: F401
    stored,
)


@BOTH_WAYS
class TestHonest:
    def test_pixels_arrive_and_files_are_new(self, desk, isolated, tmp_path):
        # Compressed in another way, with a remark, the bytes differ and the pixels do not.
        pictures = {name: _otherwise(data) for name, data in desk.bench.pictures.items()}
        archive = stored(desk.bench.members(pictures, energy_joules=30, seconds=0.5))
        verified = desk.verify(archive)
        assert verified.is_isolated is isolated
        assert verified.ids == ("301", "302", "303")
        assert verified.num_bytes == len(archive)
        assert verified.sha256 == hashlib.sha256(archive).hexdigest()
        assert verified.pixels_sha256 == digest_of(desk.out)
        facts = verified.facts
        assert (facts["team"], facts["model"], facts["loss_judges"]) == ("Team 1", "demo", ["builtin"])
        assert (facts["energy_joules"], facts["mean_watts"], facts["kimg"]) == (30.0, 60.0, 12.5)
        assert facts["guard_on"] is None and facts["synthetic"] is False
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts
        found = {path.name: path.read_bytes() for path in desk.out.iterdir()}
        assert found.keys() == pictures.keys()
        wanted = pixels_of(pictures, tmp_path)
        for name, data in found.items():
            assert data == encode_png(wanted[name]) != pictures[name]
            assert png_remark(data) == ""
            mode = os.lstat(desk.out / name).st_mode
            assert stat.S_ISREG(mode) and not mode & 0o111
        assert desk.bench.left_behind() == []


@SANDBOXED
def test_a_refusal_comes_through(desk, isolated):
    pictures = dict(list(desk.bench.pictures.items())[:2])
    sentence = desk.refused(stored(desk.bench.members(pictures)))
    assert sentence == "the archive lacks '303.png'; the pictures that were given out asks for 3 pictures."


def _otherwise(data: bytes) -> bytes:
    import cv2

    done, packed = cv2.imencode(".png", cv2.imdecode(np.frombuffer(data, np.uint8), 1), [16, 0])
    assert done
    return packed.tobytes()
