"""What the beginning of a picture file is enough to refuse, before anything is decoded or opened for it."""

from typing import BinaryIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile

from facesr.photos.photo_decode import ANIMATED, Refused, check_size
from facesr.photos.photo_heif import check_sizes, require_avif, require_heic
from facesr.png import png_header

# Of HEIC and AVIF the sizes stand here, before the coded pictures.
_BYTES = 1 << 16


def check_head(format: str, file: BinaryIO) -> None:
    """Refuses a file of this format by its head: a package that is missing, its size, an animation.

    Of TIFF nothing is told here: its directory may stand at the end. Damage is not told either, but by whoever reads
    the whole file.

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
    elif format == "WEBP" and start[12:16] == b"VP8X":  # RFC 9649, section 2.7.1
        check_size(*(1 + int.from_bytes(start[at : at + 3], "little") for at in (24, 27)))
        if start[20] & 2:
            raise Refused(ANIMATED)
    elif format in ("HEIC", "AVIF"):
        check_sizes(start)
