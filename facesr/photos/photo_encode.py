"""A `Photo` as the bytes of a file of its format, written in strips where the format lets it be."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facesr.photos import colour, exif
from facesr.photos.colour import Pixels, strips
from facesr.photos.photo import Photo
from facesr.photos.photo_heif import avif_options, write_heic
from facesr.photos.photo_tiff import write_tiff
from facesr.png import PNG_SIGNATURE

# The content of a JPEG marker; EXIF has the six bytes of its mark, too. Source: ITU-T T.81, section B.2.4.
_MAX_MARKER_BYTES = 65533
_EXIF_MARK = b"Exif\0\0"
_COLOUR_CHUNKS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"})


def stripped(photo: Photo) -> Photo:
    """Returns the photo without what came with it: in sRGB, or in the colours that its PNG chunks name.

    Raises:
        ValueError: see `facesr.photos.colour.to_srgb`.
    """
    pixels = colour.to_srgb(photo.pixels, photo.icc, photo.is_grey)
    kept = tuple(chunk for chunk in photo.chunks if chunk[0] in _COLOUR_CHUNKS and photo.icc is None)
    return replace(photo, pixels=pixels, exif=None, icc=None, xmp=None, dpi=None, comment=None, chunks=kept)


def channels_of(photo: Photo) -> list[Pixels]:
    """Returns what is written, arrays (H, W, 1 or 3): grey or colours, and alpha if there is any."""
    pixels = photo.pixels
    if photo.is_grey:
        grey = np.empty((*pixels.shape[:2], 1), pixels.dtype)
        for rows in strips(*pixels.shape[:2]):
            # Exact where the three channels are equal.
            grey[rows, :, 0] = cv2.cvtColor(np.ascontiguousarray(pixels[rows]), cv2.COLOR_RGB2GRAY)
        pixels = grey
    return [pixels] if photo.alpha is None else [pixels, photo.alpha[..., None]]


def encode(file: BinaryIO, photo: Photo, remark: str | None) -> None:
    """Writes a photo to a file that is open.

    Raises:
        ValueError: the format cannot hold the picture or what lies beside it; the text says why.
        OSError: the file cannot be written.
    """
    height, width, _ = photo.pixels.shape
    block = photo.exif and exif.with_size(photo.exif, width, height)
    if remark is not None and photo.format in ("JPEG", "WEBP", "TIFF", "HEIC", "AVIF"):
        longer = exif.with_software(block, remark)
        if photo.format == "JPEG" and len(_EXIF_MARK + longer) > _MAX_MARKER_BYTES:
            photo = replace(photo, comment=remark.encode())  # the block was full already
        else:
            block = longer
    channels = channels_of(photo)
    if photo.format == "TIFF":
        write_tiff(file, channels, block, photo.icc, photo.encoding.compression)
    elif photo.format == "PNG":
        _write_png(file, channels, replace(photo, exif=block), remark)
    elif photo.format == "HEIC":
        write_heic(file, channels, replace(photo, exif=block))
    elif photo.format == "BMP" and photo.alpha is not None:
        done, data = cv2.imencode(".bmp", cv2.cvtColor(_joined(photo), cv2.COLOR_RGBA2BGRA))
        if not done:
            raise ValueError("it cannot be encoded")
        file.write(data.tobytes())
    else:
        _by_pillow(file, channels, replace(photo, exif=block))


def _joined(photo: Photo) -> NDArray[np.uint8]:
    assert photo.alpha is not None
    return np.dstack([photo.pixels, photo.alpha]).astype(np.uint8, copy=False)


def _by_pillow(file: BinaryIO, channels: list[Pixels], photo: Photo) -> None:
    image = colour.in_place(channels[0]) if len(channels) == 1 else None
    if image is not None and photo.format != "JPEG":
        image = image.convert("RGB")
    if image is None:
        first = np.ascontiguousarray(channels[0])
        image = Image.fromarray(_joined(photo) if len(channels) == 2 else first[..., 0] if photo.is_grey else first)
        del first
    given: dict[str, object] = {"dpi": photo.dpi, "icc_profile": photo.icc, "xmp": photo.xmp, "exif": b""}
    how = photo.encoding
    if photo.exif:
        given["exif"] = _EXIF_MARK + photo.exif
    if photo.format == "JPEG":
        given |= {
            "qtables": [list(table) for table in how.tables] or None,
            "quality": -1 if how.tables else 95,
            "subsampling": how.subsampling,
            "progressive": how.is_progressive,
            "keep_rgb": how.is_rgb,
            "comment": photo.comment,
        }
    elif photo.format == "BMP":
        given["dpi"] = photo.dpi or (0, 0)  # else Pillow says 96
    elif photo.format == "AVIF":
        given |= avif_options(photo)
    elif photo.format == "WEBP":
        given |= {"lossless": how.is_lossless, "exact": True, "quality": how.quality, "method": 4}
    given = {key: value for key, value in given.items() if value is not None}
    is_progressive = given.pop("progressive", False)
    image.save(file, photo.format, **given)
    # Pillow has room for 64 KiB or two bytes a pixel of a progressive file; what is larger fails, and stays baseline.
    if is_progressive and file.tell() < 0.9 * max(65536, 2 * image.width * image.height):
        file.seek(0)
        file.truncate()
        image.save(file, photo.format, progressive=True, **given)


# PNG


def _write_png(file: BinaryIO, channels: list[Pixels], photo: Photo, remark: str | None) -> None:
    height, width, _ = channels[0].shape
    samples = sum(channel.shape[2] for channel in channels)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[samples]
    file.write(
        PNG_SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, photo.depth, colour_type, 0, 0, 0))
    )
    said = (b"tEXt", b"Comment\0" + (remark or "").encode("latin-1"))
    if remark is not None:
        file.write(_chunk(*said))
    if photo.icc:
        file.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc, 9)))
    if photo.exif:
        file.write(_chunk(b"eXIf", photo.exif))
    for chunk in photo.chunks:
        if remark is None or chunk != said:  # a picture that was restored before says it already
            file.write(_chunk(*chunk))
    for packed in _compressed(channels, height, width):
        file.write(_chunk(b"IDAT", packed))
    file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _compressed(channels: list[Pixels], height: int, width: int) -> Iterator[bytes]:
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
    above = None
    for rows in strips(height, width):
        strip = np.concatenate([channel[rows] for channel in channels], axis=2)
        per_pixel = strip.shape[2] * strip.dtype.itemsize
        raw = strip.astype(f">u{strip.dtype.itemsize}").view(np.uint8).reshape(len(strip), -1)
        packed = packer.compress(_filtered(raw, above, per_pixel))
        above = raw[-1]
        if packed:
            yield packed
    yield packer.flush()


def _filtered(raw: NDArray[np.uint8], above: NDArray[np.uint8] | None, per_pixel: int) -> bytes:
    """Returns rows of bytes filtered, each by the filter that leaves the smallest differences.

    Source: PNG specification (W3C, third edition), sections 9.2, 9.4 and 12.7.
    """
    up = np.concatenate([np.zeros_like(raw[:1]) if above is None else above[None], raw[:-1]])
    left, up_left = np.zeros_like(raw), np.zeros_like(raw)
    left[:, per_pixel:] = raw[:, :-per_pixel]
    up_left[:, per_pixel:] = up[:, :-per_pixel]
    a, b, c = left.astype(np.int16), up.astype(np.int16), up_left.astype(np.int16)
    to_left, to_up, to_both = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where((to_left <= to_up) & (to_left <= to_both), left, np.where(to_up <= to_both, up, up_left))
    choices = {1: raw - left, 2: raw - up, 4: raw - nearest}
    costs = np.stack([np.minimum(rest, -rest).sum(axis=1, dtype=np.int64) for rest in choices.values()])
    best = costs.argmin(axis=0)
    kinds = np.array(list(choices), np.uint8)[best]
    rows = np.choose(best[:, None], list(choices.values()))
    return np.concatenate([kinds[:, None], rows], axis=1).tobytes()
