"""Chunks of a PNG by which a viewer would show other pixels than are scored, and what tools and this package write."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from facesr.errors import SubmissionError
from facesr.png import encode_png
from facesr.submission.png import check_png

SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
HEADER_BYTES = 33


def with_chunk(kind: bytes, content: bytes) -> bytes:
    data = encode_png(PICTURE)
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:HEADER_BYTES] + chunk + data[HEADER_BYTES:]


def by_pillow(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"gAMA", struct.pack(">I", 100_000)),
        (b"gAMA", struct.pack(">I", 45454)),
        (b"gAMA", b""),
        (b"cHRM", struct.pack(">8I", *SRGB[:-1], 6001)),
        (b"cHRM", struct.pack(">7I", *SRGB[:-1])),
        (b"sBIT", b"\5\6\5"),
        (b"sBIT", b"\x08"),
        (b"sRGB", b"\4"),
        (b"sRGB", b""),
        (b"pHYs", struct.pack(">IIB", 2835, 5670, 1)),
        (b"pHYs", b""),
        (b"iCCP", b"x\0\0"),
        (b"cICP", b"\x09\x10\0\1"),
        (b"bKGD", bytes(6)),
    ],
)
def test_what_changes_the_pixels_shown_is_refused(kind: bytes, content: bytes) -> None:
    with pytest.raises(SubmissionError, match=f"a.png holds the chunk '{kind.decode()}'") as caught:
        check_png(with_chunk(kind, content), "a.png", (16, 24))
    assert str(caught.value).endswith("PNG.")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", *SRGB)),
        (b"sBIT", b"\x08\x08\x08"),
        (b"sRGB", b"\0"),
        (b"sRGB", b"\3"),
        (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        (b"tIME", bytes(7)),
        (b"tEXt", b"Title\0x"),
    ],
)
def test_what_says_how_it_is_anyway_passes(kind: bytes, content: bytes) -> None:
    assert check_png(with_chunk(kind, content), "a.png", (16, 24)) == (16, 24)


@pytest.mark.parametrize(
    "data",
    [
        encode_png(PICTURE),
        encode_png(PICTURE, "synthetic face"),
        cv2.imencode(".png", PICTURE)[1].tobytes(),
        by_pillow(),
        by_pillow(dpi=(300, 300), optimize=True),
    ],
    ids=["facesr", "facesr with a remark", "OpenCV", "Pillow", "Pillow with a resolution"],
)
def test_what_tools_write_passes(data: bytes) -> None:
    assert check_png(data, "a.png", (16, 24)) == (16, 24)
