"""Pictures as users have them: found below a folder, and decoded to RGB whatever their format, mode or damage.

What becomes of unusual pictures:

- EXIF orientation is applied; of an animation the first frame is taken; palettes are expanded.
- Transparency (RGBA, grey-alpha, transparent palettes) is composited over white, as a page would show it.
- Greyscale, CMYK, YCbCr and Lab become RGB; an embedded colour profile other than sRGB is converted to sRGB.
- 16 bits a channel are brought to 8 bits.
- A JPEG may be decoded at a half, a quarter or an eighth of its size, where that is asked for; the rest is the same.
- Damaged, cut short, empty, foreign and absurdly large files, and values without a known range (32-bit
  integers, floats), raise `Unusable` with the reason.
"""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from facesr.errors import DataError
from facesr.names import is_passed_over
from facesr.photos.colour import to_eight_bits

# Formats Pillow decodes by itself; EPS, which runs Ghostscript on the file, is not among them.
Image.init()  # else Pillow does not know the rarer ones
FORMATS = tuple(
    name for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000") if name in Image.OPEN
)
# A file with one of these suffixes is a picture, and is listed with a reason if it cannot be used.
SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".jp2"),
        *(".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm"),
    }
)
# Above either, a file is taken for a decompression bomb; the pixels are Pillow's own limit, 89 million.
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
TRANSPARENT_MODES = frozenset({"LA", "La", "RGBA", "RGBa", "PA"})


class Unusable(Exception):
    """A picture that is left out of the prepared dataset; its text is the reason written to ``rejected.csv``.

    The reason is "kind" or "kind: details".

    Attributes:
        sha256: of the file where it could be read, else "".
    """

    sha256 = ""


def list_pictures(source: Path) -> list[str]:
    """Returns the pictures below a folder, as sorted relative POSIX paths; links to folders are followed.

    Hidden files, ``__MACOSX`` and files without a picture's suffix are passed over.

    Raises:
        DataError: the folder is missing, is no folder, or cannot be read.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; give the folder that holds the pictures.")
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; give the folder that holds the pictures.")

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    found: list[str] = []
    visited: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(source, onerror=refuse, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not is_passed_over(name))
        prefix = Path(folder).relative_to(source)
        for name in names:
            if not is_passed_over(name) and Path(name).suffix.lower() in SUFFIXES:
                found.append((prefix / name).as_posix())
    return sorted(found)


@dataclass(frozen=True)
class DecodedPicture:
    """A picture as it was decoded.

    Attributes:
        pixels: upright RGB, uint8 (H, W, 3).
        sha256: of its file.
        size: (width, height) of the whole picture, upright.
        factor: how many of its pixels along each side have become one.
    """

    pixels: NDArray[np.uint8]
    sha256: str
    size: tuple[int, int]
    factor: int


def read_picture(path: Path) -> tuple[NDArray[np.uint8], str]:
    """Returns a picture as upright RGB, uint8 (H, W, 3), and the sha256 of its file.

    Raises:
        Unusable: the file cannot be read, or see `decode_picture`.
    """
    found = read_reduced(path, lambda width, height: 1)
    return found.pixels, found.sha256


def read_reduced(path: Path, most: Callable[[int, int], int]) -> DecodedPicture:
    """Returns a picture, decoded at a reduced size where its format can do so (JPEG).

    Args:
        path: the file.
        most: returns by how much at most the sides of a picture of upright width and height may be divided.

    Raises:
        Unusable: the file cannot be read, or see `decode_picture`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise Unusable("unreadable: not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise Unusable(f"too large: a file of {status.st_size / 1e6:.0f} MB")
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(f"unreadable: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    try:
        pixels, size, factor = _decoded(data, most)
    except Unusable as reason:
        reason.sha256 = digest
        raise
    return DecodedPicture(pixels, digest, size, factor)


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """Returns the picture of a file's bytes as upright RGB, uint8 (H, W, 3).

    Raises:
        Unusable: the bytes are no picture, are damaged, or hold values that have no known range.
    """
    return _decoded(data, lambda width, height: 1)[0]


def _decoded(data: bytes, most: Callable[[int, int], int]) -> tuple[NDArray[np.uint8], tuple[int, int], int]:
    if not data:
        raise Unusable("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about metadata; its size limit is checked below
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Unusable(f"too large: {image.width}x{image.height} pixels")
                lies = _orientation(image) >= 5  # width and height change places
                size = (image.height, image.width) if lies else (image.width, image.height)
                factor = _reduce(image, most(*size))
                image.load()
                return _to_rgb(_upright(image)), size, factor
        except Unusable:
            raise
        except UnidentifiedImageError as error:
            raise Unusable("unknown format: no picture, or its beginning is damaged") from error
        except Image.DecompressionBombError as error:
            raise Unusable(f"too large: over {MAX_PIXELS} pixels") from error
        except MemoryError as error:
            raise Unusable("too large: not enough memory to decode it") from error
        except Exception as error:  # decoders meet damage with errors of every kind
            raise Unusable(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _reduce(image: Image.Image, most: int) -> int:
    """Has a JPEG that is not decoded yet decoded at a reduced size, and returns by how much its sides are divided.

    Its transform of 8x8 pixels can leave out the high frequencies. Only what divides both sides is taken: else the
    last row stands for fewer pixels than the others, and comes first where the picture is turned.
    """
    width, height = image.size
    fitting = (factor for factor in (8, 4, 2) if factor <= most and width % factor == 0 == height % factor)
    factor = next(fitting, 1) if image.format == "JPEG" else 1
    if factor > 1:
        image.draft(None, (width // factor, height // factor))
    return width // image.width


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block names no orientation; the pixels are sound
        return 1


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return image if orientation == 1 else ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block names no orientation; the pixels are sound
        return image


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        return np.repeat(to_eight_bits(np.asarray(image, np.uint16))[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise Unusable(f"unknown range: {kind} a channel; save it with 8 or 16 bits")
    profile = image.info.get("icc_profile")
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, coloured).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK"):
        image = _to_srgb(image, profile)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(embedded):
            return image
        converted = ImageCms.profileToProfile(image, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a broken profile, or one for another mode
        return image
    return image if converted is None else converted
