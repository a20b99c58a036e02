"""Mutated archives: the verifier answers with its one kind of error, quickly, or delivers the very same pictures."""

import hashlib
import json
import random
import time
import zipfile
from collections.abc import Callable

import pytest

from facesr.errors import SubmissionError

NUM_MUTATIONS = 200


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Returns the bytes with a few of them flipped, cut out, doubled, overwritten or cut off."""
    result = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        position = draw.randrange(len(result))
        length = draw.choice((1, 2, 4, 8, 22, 46))
        kind = draw.randrange(6)
        if kind == 0:
            result[position] ^= 1 << draw.randrange(8)
        elif kind == 1:
            result[position : position + length] = draw.randbytes(length)
        elif kind == 2:
            del result[position : position + length]
        elif kind == 3:
            result[position:position] = result[position : position + length]
        elif kind == 4:
            result[position : position + length] = draw.choice((b"\0", b"\xff")) * length
        else:
            del result[max(50, position) :]
    return bytes(result)


def survives(bench, archive: bytes) -> bool:
    """Returns whether the archive passed; nothing but a SubmissionError of one line may come out."""
    start = time.process_time()
    try:
        bench.verify(archive)
        passed = True
    except SubmissionError as error:
        passed = False
        assert "\n" not in str(error) and str(error).isprintable()
    assert bench.left_behind() == []
    assert time.process_time() - start < 2.0
    return passed


def repacked(bench, zipped: Callable[..., bytes], **parts: bytes) -> bytes:
    """Returns an archive with the mutated bytes of one member, all checksums around it being right."""
    pictures = {name: parts.get(name, data) for name, data in bench.pictures.items()}
    members = dict(bench.members(pictures))
    members["manifest.json"] = parts.get("manifest.json", members["manifest.json"])
    return zipped(list(members.items()), zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", ["bench", "foldered"])
def test_mutated_archives(request, kind, zipped, method):
    bench = request.getfixturevalue(kind)
    draw = random.Random(method)
    honest = zipped(bench.members(), method)
    end = honest.index(b"PK\1\2")
    num_passed = 0
    for number in range(NUM_MUTATIONS):
        # Every second mutation hits the directory, where the structure is.
        archive = mutated(honest, draw) if number % 2 else honest[:end] + mutated(honest[end:], draw)
        if survives(bench, archive):
            num_passed += 1
            assert bench.delivered == bench.pictures
    # Times and version numbers may change without harm; nearly everything else is noticed.
    assert num_passed < NUM_MUTATIONS / 5


def test_mutated_pictures_inside_a_sound_archive(bench, zipped):
    draw = random.Random(2)
    for _ in range(NUM_MUTATIONS):
        data = mutated(bench.pictures["302.png"], draw)
        if survives(bench, repacked(bench, zipped, **{"302.png": data})):
            assert bench.delivered["302.png"] == data
            # Only a byte that is no pixel and no structure could differ, and a PNG of OpenCV has none.
            assert hashlib.sha256(data).digest() == hashlib.sha256(bench.pictures["302.png"]).digest()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bench", "foldered"])
def test_mutated_manifests_inside_a_sound_archive(request, kind, zipped):
    bench = request.getfixturevalue(kind)
    draw = random.Random(3)
    honest = dict(bench.members())["manifest.json"]
    for _ in range(NUM_MUTATIONS):
        data = mutated(honest, draw)
        if survives(bench, repacked(bench, zipped, **{"manifest.json": data})):
            assert json.loads(data)["files"] == json.loads(honest)["files"]
            assert json.loads(data).get("attachments") == json.loads(honest).get("attachments")
            assert bench.delivered == bench.pictures


def test_mutated_names_inside_a_sound_archive(foldered, zipped):
    draw = random.Random(4)
    honest = foldered.members()
    for _ in range(NUM_MUTATIONS):
        place = draw.randrange(len(honest))
        name = mutated(honest[place][0].encode(), draw).decode("latin-1") or "x"
        # What zipfile itself would not write as it is: a name ends at its first zero byte.
        name = name.split("\0")[0] or "x"
        members = [*honest[:place], (name, honest[place][1]), *honest[place + 1 :]]
        if survives(foldered, zipped(members)):
            assert name == honest[place][0] and foldered.delivered == foldered.pictures
