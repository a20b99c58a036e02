"""What the beginning of a picture file is enough to refuse, before anything is decoded or opened for it."""

from mmap import ACCESS_READ, mmap
from typing import BinaryIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile

from facesr.photos import webp
from facesr.photos.photo_decode import ANIMATED, Refused, check_frames, check_size
from facesr.photos.photo_heif import check_sizes, require_avif, require_heic
from facesr.photos.photo_tiff import checked_directory
from facesr.png import chunks, png_header

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
        if b"acTL" in start:  # it stands before the pixels
            with _mapped(file) as data:
                check_frames(chunks(data))
    elif format == "WEBP":
        size = webp.size_in(start[12:16], start[20:])
        if size is not None:
            check_size(*size)
        if start[12:16] == b"VP8X" and start[20] & 2:  # RFC 9649, section 2.7.1
            raise Refused(ANIMATED)
    elif format == "TIFF":
        with _mapped(file) as data:
            checked_directory(data)
    elif format in ("HEIC", "AVIF"):
        check_sizes(start)


def _mapped(file: BinaryIO) -> mmap:
    """Returns the bytes of an open file, of which only those that are looked at are read."""
    return mmap(file.fileno(), 0, access=ACCESS_READ)
