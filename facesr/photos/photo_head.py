"""What the header of a picture file is enough to refuse, before anything is decoded or opened for it."""

from collections.abc import Iterator
from typing import BinaryIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile

from facesr.photos import webp
from facesr.photos.exif import OpenBytes
from facesr.photos.photo_decode import ANIMATED, Refused, check_size
from facesr.photos.photo_heif import check_sizes, require_avif, require_heic
from facesr.photos.photo_tiff import checked_directory
from facesr.png import PNG_SIGNATURE, is_animated, png_header

# Of HEIC and AVIF the sizes stand here, before the coded pictures.
_BYTES = 1 << 16


def check_head(format: str, file: BinaryIO) -> None:
    """Refuses a file of this format by its head: a package that is missing, its size, an animation.

    The directory of a TIFF file and the frames of a PNG file are looked up wherever they stand. Damage is not told, but
    by whoever reads the whole file.

    Raises:
        Refused: the text ends the sentence "FILE ...".
    """
    if format == "HEIC":
        require_heic()
    elif format == "AVIF":
        require_avif()
    try:
        _check_pixels(format, file)
    except Refused:
        raise
    except Exception:  # decoders meet damage with errors of every kind
        return


def _check_pixels(format: str, file: BinaryIO) -> None:
    start = file.read(_BYTES)
    file.seek(0)
    if format == "JPEG":
        image = JpegImageFile(file)
        check_size(image.width, image.height)
    elif format == "BMP":
        bitmap = BmpImageFile(file)
        check_size(bitmap.width, abs(bitmap.height))
    elif format == "PNG":
        check_size(*png_header(start, "")[:2])
        if is_animated(_kinds(file)):
            raise Refused(ANIMATED)
    elif format == "WEBP":
        size = webp.size_in(start[12:16], start[20:])
        if size is not None:
            check_size(*size)
        if start[12:16] == b"VP8X" and start[20] & 2:  # RFC 9649, section 2.7.1
            raise Refused(ANIMATED)
    elif format == "TIFF":
        checked_directory(OpenBytes(file))
    elif format in ("HEIC", "AVIF"):
        check_sizes(start)


def _kinds(file: BinaryIO) -> Iterator[bytes]:
    """Yields the types of the chunks of a PNG file; what they hold is not read."""
    at = len(PNG_SIGNATURE)
    while len(head := _read_at(file, at, 8)) == 8:
        yield head[4:]
        at += 12 + int.from_bytes(head[:4], "big")


def _read_at(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
