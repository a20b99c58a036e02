"""Picture files of photographs: read with everything that has to survive a restoration, and written back.

JPEG, PNG, WebP, TIFF, BMP, HEIC and AVIF are written in the format, bit depth and quality of the file that was read.
What changes:

- Pixels are upright, and the orientation in EXIF is 1; the thumbnail, which shows the picture as it was, is dropped.
- The size that EXIF notes is that of the picture written.
- CMYK becomes sRGB, by the file's profile, which is then dropped.
- A palette becomes colours (or greys, if it holds nothing else), and 1, 2 and 4 bits become 8.
- Of a camera's multi-picture file (MPO) the first picture is taken; gain maps and Photoshop's layers are dropped.
- JPEG: the quantisation tables are the file's own. Subsamplings other than 4:4:4, 4:2:2 and 4:2:0 become 4:4:4.
- WebP: lossy files are written in the quality that their quantiser tells.
- HEIC and AVIF: of several pictures the primary one is taken; quality is 90, whatever the file's was; depth maps, gain
  maps and thumbnails are dropped. HEIC of 10 and 12 bits stays so; AVIF of more than 8 is refused.
- TIFF: uncompressed and LZW stay so, all others become Deflate; alpha is written unassociated.
- EXIF that is damaged is dropped; IPTC of JPEG files is not kept.

What the file is, its content says, not its name: a PNG named ``a.jpg`` is read as PNG and written as PNG, under the
name that the caller gives.
"""

import stat
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facesr.errors import ImageError
from facesr.files import whole_file
from facesr.photos import photo_decode
from facesr.photos.kinds import recognised
from facesr.photos.photo import LARGEST_SIDE, MAX_PIXELS, Encoding, Photo
from facesr.photos.photo_decode import Refused
from facesr.photos.photo_encode import encode, stripped
from facesr.photos.photo_head import check_head
from facesr.photos.photo_heif import avif, heic
from facesr.photos.photo_tiff import tiff

__all__ = [
    "LARGEST_SIDE",
    "MAX_PIXELS",
    "Encoding",
    "Photo",
    "check_photo",
    "format_of",
    "read_photo",
    "suffixes_of",
    "write_photo",
]

# Above this no picture within the limit of pixels is found: 16 bits and alpha are 8 bytes a pixel.
MAX_FILE_BYTES = MAX_PIXELS * 8 + 64 * 1024 * 1024
# What tells the format is among these first bytes.
_START_BYTES = 4096
_DECODERS: dict[str, Callable[[bytes], Photo]] = {
    "JPEG": photo_decode.jpeg,
    "PNG": photo_decode.png,
    "WEBP": photo_decode.webp_picture,
    "TIFF": tiff,
    "BMP": photo_decode.bmp,
    "HEIC": heic,
    "AVIF": avif,
}
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
}
_SPOKEN = {"WEBP": "WebP"}


def suffixes_of(format: str) -> tuple[str, ...]:
    """Returns the suffixes, in small letters, that names of files of a format have; the usual one first."""
    return _SUFFIXES[format]


def format_of(path: Path) -> str | None:
    """Returns the format of a photograph by its first bytes, None for a file that `read_photo` would refuse for it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            return recognised(file.read(_START_BYTES), path.suffix)
    except (OSError, ValueError):
        return None


def check_photo(path: Path) -> None:
    """Refuses what `read_photo` refuses by the header of a file: kind, size, pages and frames, a package.

    Raises:
        ImageError: the file cannot be read, or is refused. One that passes may still be damaged, or be refused for what
            stands further behind.
    """
    _check_file(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `read_photo`
            format = recognised(file.read(_START_BYTES), path.suffix)
            file.seek(0)
            check_head(format, file)
    except Refused as reason:
        raise ImageError(f"{path} {reason}.") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as what:
        raise ImageError(f"{path} is {what}.") from None


def read_photo(path: Path) -> Photo:
    """Returns the photograph of a file, upright; see the top of this module for what changes.

    Raises:
        ImageError: the file cannot be read, is no picture, is damaged or cut short, has more than 105 megapixels, holds
            several pictures (animations, pages), or is of a kind that is not restored (GIF, raw, ...).
    """
    held = [_bytes_of(path)]
    try:
        format = recognised(held[0], path.suffix)
    except ValueError as what:
        raise ImageError(f"{path} is {what}.") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about metadata, and about sizes that are within our limit
        try:
            return _DECODERS[format](held.pop())  # the decoder may let go of it
        except Refused as reason:
            raise ImageError(f"{path} {reason}.") from None
        except MemoryError as error:
            raise ImageError(f"{path} needs more memory than there is; make it smaller.") from error
        except Exception as error:  # decoders meet damage with errors of every kind
            spoken = _SPOKEN.get(format, format)
            article = "an" if spoken.startswith("A") else "a"
            raise ImageError(
                f"{path} is {article} {spoken} file that is damaged or cut short; copy or save it again."
            ) from error


def _bytes_of(path: Path) -> bytes:
    _check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_file(path: Path) -> None:
    """Refuses what is no file, and what is larger than any picture within the limit."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; give a picture file.") from None
    except (OSError, ValueError) as error:  # a name may hold a zero byte
        raise ImageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path} is a folder; give a picture file.")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
        raise ImageError(f"{path} is a pipe or device; give a picture file.")
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(f"{path} is a file of {status.st_size / 1e6:.0f} MB; make the picture smaller.")


def write_photo(
    path: Path,
    photo: Photo,
    *,
    metadata: bool = True,
    remark: str | None = None,
    before_named: Callable[[Path], None] | None = None,
) -> None:
    """Writes a photograph in its format, so that the file is whole or as it was before; folders are not made.

    Args:
        path: the file; its suffix is the caller's to choose (`suffixes_of`).
        photo: what `read_photo` gave, with pixels and alpha replaced; they may have another size. What a greyscale
            file has in colours is written as its luma.
        metadata: keep EXIF, colour profile, texts and resolution. Without, colours are converted to sRGB first.
        remark: what the file says about itself, in the EXIF tag Software, which it replaces (JPEG, WebP, TIFF), or in
            a chunk tEXt with the key Comment, in Latin-1 (PNG); BMP has no place for it.
        before_named: called with the whole file just before it gets its name.

    Raises:
        ImageError: the file cannot be written, or the format cannot hold a picture of this size.
        ValueError: shapes or types do not fit each other or the format.
    """
    _check(photo)
    height, width = photo.pixels.shape[:2]
    most = photo.largest_side
    if most is not None and max(height, width) > most:
        spoken = _SPOKEN.get(photo.format, photo.format)
        raise ImageError(f"{path} would have {width}x{height} pixels, and a side of {spoken} at most {most}; use PNG.")
    try:
        written = photo if metadata else stripped(photo)
    except ValueError as error:
        raise ImageError(
            f"{path} cannot be written without its profile: 16 bits and {error}; keep the metadata, or convert the "
            "picture to sRGB beforehand."
        ) from error
    try:
        with whole_file(path) as temporary:
            with temporary.open("wb") as file:
                encode(file, written, remark)
            if before_named is not None:
                before_named(temporary)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be written: {reason}.") from error


def _check(photo: Photo) -> None:
    pixels, alpha = photo.pixels, photo.alpha
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise ValueError(f"pixels are (H, W, 3) of uint8 or uint16, not {pixels.shape} of {pixels.dtype}")
    if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
        raise ValueError(f"alpha {alpha.shape} of {alpha.dtype} does not fit pixels {pixels.shape} of {pixels.dtype}")
    if photo.format not in _DECODERS:
        raise ValueError(f"{photo.format} is not a format")
    if photo.depth == 16 and photo.format not in ("PNG", "TIFF", "HEIC"):
        raise ValueError(f"{photo.format} has no 16 bits")
    if alpha is not None and (photo.format == "JPEG" or (photo.is_grey and photo.format in ("WEBP", "BMP"))):
        raise ValueError(f"{photo.format} has no such alpha")
