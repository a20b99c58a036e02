"""A strict look at a PNG file of a stranger, before any image library sees it.

Only plain pictures pass: 8-bit RGB, not interlaced, not animated, of the expected size, every chunk intact, no
chunk that changes how a reader shows the picture (alpha, rotation, another gamma than sRGB's), nothing behind the end.

Source: W3C, Portable Network Graphics (PNG) Specification (Third Edition), sections 5, 9, 10 and 11.
"""

import struct
import zlib

from facesr.errors import ImageError, SubmissionError
from facesr.png import PNG_SIGNATURE, chunks, decode_png, png_header

# 4096 x 4096 where neither protocol nor low pictures say the size.
MAX_PIXELS = 1 << 24
_FORMAT_CHUNKS = (b"IHDR", b"IDAT", b"IEND")
# Remarks that no viewer's pixels depend on.
_TEXTS = frozenset({b"tIME", b"tEXt"})
# What viewers act upon and the scorer does not: only with the values that say what a picture without them is, sRGB
# of eight bits. ImageMagick and others write these. Source: PNG specification, sections 11.3.2 and 13.13, table of
# the gamma and chromaticities to write beside sRGB.
_SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_HARMLESS: dict[bytes, frozenset[bytes]] = {
    b"gAMA": frozenset({struct.pack(">I", 45455)}),
    b"cHRM": frozenset({struct.pack(">8I", *_SRGB_CHROMATICITIES)}),
    b"sRGB": frozenset(bytes([intent]) for intent in range(4)),
    b"sBIT": frozenset({b"\x08\x08\x08"}),
}
_PIXEL_SIZE = b"pHYs"
_REMARKS = _TEXTS | _HARMLESS.keys() | {_PIXEL_SIZE}
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_MAX_REMARK_BYTES = 4096
# Encoders write chunks of 4 KiB and more; slivers only cost the reader time.
_MIN_CHUNK_BYTES, _SPARE_CHUNKS = 256, 32


def raw_bytes(width: int, height: int) -> int:
    """Returns the bytes of an 8-bit RGB picture before compression: a filter byte and the pixels for each row."""
    return height * (1 + 3 * width)


def max_png_bytes(width: int, height: int) -> int:
    """Returns the largest size in bytes of a PNG file that `check_png` can accept for a picture."""
    raw = raw_bytes(width, height)
    # Deflate's fixed codes cost at most 9 bits for 8; encoders split IDAT into chunks of 4 KiB or more.
    return raw + raw // 8 + 2 * _MAX_REMARK_BYTES


def check_png(data: bytes, label: str, size: tuple[int, int] | None) -> tuple[int, int]:
    """Returns (width, height) of one plain 8-bit RGB PNG, which has to be `size` unless that is None.

    The header is judged before anything is unpacked, and unpacking stops at the size that the header promises.

    Raises:
        SubmissionError: the bytes are something else; the sentence begins with `label`.
    """
    try:
        width, height, _, _ = png_header(data, label)
    except ImageError as error:
        raise SubmissionError(str(error)) from error
    if size is not None and (width, height) != size:
        raise SubmissionError(f"{label} is {width}x{height} where {size[0]}x{size[1]} is needed; restore it again.")
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise SubmissionError(f"{label} claims {width}x{height} pixels, more than {MAX_PIXELS}; send a real picture.")
    if data[24:26] != b"\x08\x02":
        raise SubmissionError(f"{label} is not 8-bit RGB; save it as an 8-bit RGB PNG without alpha.")
    if data[26:29] != b"\0\0\0":
        raise SubmissionError(f"{label} is interlaced or coded in an unknown way; save it as a plain PNG.")
    if len(data) > max_png_bytes(width, height):
        raise SubmissionError(f"{label} is {len(data)} bytes, too many for its size; save it as a plain PNG.")
    _check_pixels(_image_data(data, label), width, height, label)
    try:
        decode_png(data, label)
    except ImageError as error:
        raise SubmissionError(str(error)) from error
    return width, height


def _damaged(label: str, reason: str) -> SubmissionError:
    return SubmissionError(f"{label} is a damaged PNG ({reason}); write it again.")


def _image_data(data: bytes, label: str) -> bytes:
    """Returns the joined IDAT chunks after walking all chunks."""
    parts: list[bytes] = []
    position, remark_bytes, last = len(PNG_SIGNATURE), 0, b""
    for num_chunks, chunk in enumerate(chunks(data), start=1):
        kind, content = chunk.kind, chunk.content
        if num_chunks > _SPARE_CHUNKS + len(data) // _MIN_CHUNK_BYTES:
            raise SubmissionError(f"{label} is cut into {num_chunks} chunks and more; save it as a plain PNG.")
        if kind in _ANIMATION:
            raise SubmissionError(f"{label} is an animated PNG; save it as a single picture.")
        if kind not in _FORMAT_CHUNKS and kind not in _REMARKS:
            raise SubmissionError(f"{label} holds the chunk {kind.decode('latin-1')!a}; save it as a plain PNG.")
        if not chunk.is_whole:
            raise _damaged(label, "wrong checksum")
        if (kind == b"IHDR") != (not last) or len(content) != {b"IHDR": 13, b"IEND": 0}.get(kind, len(content)):
            raise _damaged(label, "misplaced header or end")
        if kind == b"IDAT":
            if parts and last != b"IDAT":
                raise _damaged(label, "its data is not in one piece")
            parts.append(content)
        elif kind in _REMARKS:
            _check_remark(kind, content, label)
            remark_bytes += chunk.end - chunk.start
        if remark_bytes > _MAX_REMARK_BYTES:
            raise SubmissionError(f"{label} holds more than {_MAX_REMARK_BYTES} bytes of remarks; save a plain PNG.")
        position, last = chunk.end, kind
        if kind == b"IEND":
            break
    if last != b"IEND" and position < len(data):
        raise _damaged(label, "it is cut off")
    if last != b"IEND" or not parts:
        raise _damaged(label, "it has no end or no data")
    if position != len(data):
        raise SubmissionError(f"{label} has {len(data) - position} bytes behind its end; save it as a plain PNG.")
    return b"".join(parts)


def _check_remark(kind: bytes, content: bytes, label: str) -> None:
    """Refuses a chunk by which a viewer would show other colours or a stretched picture."""
    is_stretched = kind == _PIXEL_SIZE and (len(content) != 9 or content[:4] != content[4:8])
    if is_stretched or content not in _HARMLESS.get(kind, {content}):
        raise SubmissionError(
            f"{label} holds the chunk {kind.decode('latin-1')!a} whose values change what viewers show; "
            "save it as a plain sRGB PNG."
        )


def _check_pixels(packed: bytes, width: int, height: int, label: str) -> None:
    expected = raw_bytes(width, height)
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, expected + 1)
    except zlib.error as error:
        raise _damaged(label, "its data cannot be unpacked") from error
    if len(raw) != expected or not stream.eof or stream.unused_data:
        raise _damaged(label, f"its data is not that of {width}x{height} pixels")
    if max(raw[:: 1 + 3 * width]) > 4:
        raise _damaged(label, "unknown filter")
