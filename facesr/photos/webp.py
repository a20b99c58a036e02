"""The container of WebP files: size, kind and quality of the picture, and what lies beside it.

Source: RFC 9649 (container, lossless header); RFC 6386, sections 7, 9 and 19.2 (header of a lossy frame).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WebP:
    """What the header of a WebP file says.

    Attributes:
        quality: what libwebp would have been asked for, 1 to 100; of a lossless picture 100.
        exif, icc, xmp: the chunks of that kind, None where there are none.
    """

    width: int
    height: int
    is_animated: bool
    is_lossless: bool
    quality: int
    exif: bytes | None
    icc: bytes | None
    xmp: bytes | None


def read(data: bytes) -> WebP:
    """Returns what a WebP file says of itself.

    Raises:
        ValueError: the file is damaged or cut short.
    """
    chunks: dict[bytes, bytes] = {}
    for kind, content in _chunks(data):
        chunks.setdefault(kind, content)
    canvas, lossy, lossless = (chunks.get(kind) for kind in (b"VP8X", b"VP8 ", b"VP8L"))
    is_animated = bool(canvas and canvas[0] & 2) or b"ANMF" in chunks
    sizes = [size_in(kind, chunks.get(kind, b"")) for kind in (b"VP8X", b"VP8 ", b"VP8L")]
    width, height = next(filter(None, sizes), (0, 0))
    if not width or not height:
        raise ValueError("it holds no picture")
    if not is_animated and lossy is None and lossless is None:
        raise ValueError("it holds no picture")
    quality = 100 if lossy is None else _quality(lossy)
    beside = (chunks.get(kind) for kind in (b"EXIF", b"ICCP", b"XMP "))
    return WebP(width, height, is_animated, lossy is None, quality, *beside)


def size_in(kind: bytes, content: bytes) -> tuple[int, int] | None:
    """Returns the width and the height that a chunk of the canvas or of a picture begins with; None without."""
    if kind == b"VP8X" and len(content) >= 10:
        width, height = (1 + int.from_bytes(content[at : at + 3], "little") for at in (4, 7))
    elif kind == b"VP8 " and len(content) >= 10:
        width, height = (int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    elif kind == b"VP8L" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        return None
    return width, height


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, end = 12, 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ValueError("it is cut short")
    while at + 8 <= end:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data):
            raise ValueError("it is cut short")
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


class _Bits:
    """Bits of even probability out of an arithmetic code."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 2
        self._value = int.from_bytes(data[:2], "big")
        self._range = 255
        self._shifts = 0

    def take(self, count: int) -> int:
        number = 0
        for _ in range(count):
            split = 1 + ((self._range - 1) * 128 >> 8)
            bit = self._value >= split << 8
            self._value -= split << 8 if bit else 0
            self._range = self._range - split if bit else split
            while self._range < 128:
                self._value <<= 1
                self._range <<= 1
                self._shifts += 1
                if self._shifts == 8:
                    self._shifts = 0
                    self._value |= self._data[self._at] if self._at < len(self._data) else 0
                    self._at += 1
            number = number << 1 | bit
        return number

    def signed(self, count: int) -> int:
        """Returns the number behind a flag, 0 where the flag is not set."""
        if not self.take(1):
            return 0
        number = self.take(count)
        return -number if self.take(1) else number


def _quality(frame: bytes) -> int:
    """Returns the quality by which libwebp comes to the quantiser of a lossy frame (its mean over segments)."""
    bits = _Bits(frame[10:])
    bits.take(2)  # colour space and clamping
    segments = [0] * 4
    is_absolute = False
    if bits.take(1):
        changes_map, changes_data = bits.take(1), bits.take(1)
        if changes_data:
            is_absolute = bool(bits.take(1))
            segments = [bits.signed(7) for _ in range(4)]
            for _ in range(4):
                bits.signed(6)  # strength of the loop filter
        for _ in range(3 if changes_map else 0):
            if bits.take(1):
                bits.take(8)
    bits.take(1 + 6 + 3)  # the loop filter
    if bits.take(1) and bits.take(1):
        for _ in range(8):
            bits.signed(6)
    bits.take(2)  # partitions
    base = bits.take(7)
    quantisers = segments if is_absolute else [base + change for change in segments]
    # libwebp, QualityToCompression and VP8SetSegmentParams in quant_enc.c: c = f(quality)^(1/3), index = 127 (1 - c).
    cubed = (1.0 - float(np.clip(np.mean(quantisers), 0, 127)) / 127.0) ** 3
    quality = cubed * 1.5 if cubed < 0.5 else (cubed + 1.0) / 2.0
    return int(np.clip(round(100 * quality), 1, 100))
