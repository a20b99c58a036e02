"""The bytes of a picture file as a `Photo`; what is refused, and the sentence for it, is told here too."""

import contextlib
import functools
import io
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from facesr.photos import colour, exif, webp
from facesr.photos.colour import Pixels, strips
from facesr.photos.photo import MAX_PIXELS, Encoding, Photo
from facesr.png import Chunk, chunks, is_animated, png_header

ANIMATED = "is animated; save one of its pictures as PNG or JPEG"
MAX_PROFILE_BYTES = 16 * 1024 * 1024
# Of PNG: about colours, resolution and words. Others hold what changes with the pixels (histogram, background, time).
_COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_KEPT_CHUNKS = (*_COLOUR_CHUNKS, b"pHYs", b"tEXt", b"zTXt", b"iTXt")
_DECODED_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Modes of Pillow, and by which others they become RGB or RGBA.
_STEPS = {
    **dict.fromkeys(("1", "L", "P", "RGB", "RGBX", "YCbCr", "CMYK"), ("RGB",)),
    **dict.fromkeys(("LA", "PA", "RGBA"), ("RGBA",)),
    "La": ("LA", "RGBA"),
    "RGBa": ("RGBA",),
}
# ImageMagick's way of keeping EXIF before PNG had a chunk for it.
_EXIF_AS_TEXT = (b"Raw profile type exif\0", b"Raw profile type APP1\0")


class Refused(Exception):
    """A picture that is whole, but of a kind that is not restored; the text ends the sentence "FILE ..."."""


class Damaged(Exception):
    """A picture that cannot be decoded."""


def check_size(width: int, height: int) -> None:
    """Refuses pictures above the limit.

    Raises:
        Refused: the picture is larger.
        Damaged: a side is 0.
    """
    if width < 1 or height < 1:
        raise Damaged("no pixels")
    if width * height > MAX_PIXELS:
        raise Refused(
            f"has {width}x{height} pixels, above the limit of {MAX_PIXELS // 1_000_000} megapixels; make it smaller"
        )


def contiguous(pixels: NDArray[Any]) -> Pixels:
    """Returns the array with its rows one behind the other."""
    return np.ascontiguousarray(pixels)


def turned(pixels: NDArray[np.uint8] | NDArray[np.uint16], orientation: int) -> Pixels:
    """Returns an array (H, W, ...) upright, contiguous. Source: EXIF 2.32, section 4.6.4, tag Orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    across = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    down = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    return contiguous(pixels[down, across])


def finished(photo: Photo, orientation: int) -> Photo:
    """Returns the photo upright."""
    if orientation == 1:
        return photo
    alpha = None if photo.alpha is None else turned(photo.alpha, orientation)
    dpi = photo.dpi[::-1] if photo.dpi and orientation >= 5 else photo.dpi
    return replace(photo, pixels=turned(photo.pixels, orientation), alpha=alpha, dpi=dpi)


def with_exif(photo: Photo, block: bytes | None) -> Photo:
    """Returns the photo with an EXIF block, turned upright as the block says; the block then says that it is."""
    if not block:
        return photo
    return finished(replace(photo, exif=exif.upright(block)), exif.orientation_of(block))


def without_prefix(block: bytes | None) -> bytes | None:
    """Returns an EXIF block without the mark that JPEG, and some programs elsewhere, put before it."""
    return block.removeprefix(b"Exif\0\0") if block else None


# From Pillow and OpenCV to arrays


def planes(
    image: Image.Image, profile: bytes | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, bool]:
    """Returns (pixels, alpha, is_grey) of a picture that Pillow has opened; strip by strip, to save memory.

    CMYK becomes sRGB, by its profile if that is one for CMYK.

    Raises:
        Refused: its mode has no place here.
    """
    loaded(image)
    mode = image.mode
    if mode not in _STEPS:
        raise Refused("holds numbers other than 8 or 16 bits of grey, RGB or CMYK; save it as 8- or 16-bit RGB")
    palette = image.getpalette("RGB") if mode in ("P", "PA") else None
    is_grey = mode in ("1", "L", "LA", "La") or (
        palette is not None and palette[0::3] == palette[1::3] == palette[2::3]
    )
    if palette is not None:
        image = image.convert(_STEPS[mode][-1])
    convert = _conversion(mode, profile)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if _STEPS[mode][-1] == "RGBA" else None
    for rows in strips(image.height, image.width):
        strip = np.asarray(convert(rows_of(image, rows)))
        pixels[rows] = strip[..., :3]
        if alpha is not None:
            alpha[rows] = strip[..., 3]
    return pixels, alpha, is_grey


def _conversion(mode: str, profile: bytes | None) -> Callable[[Image.Image], Image.Image]:
    """Returns what brings strips of a mode to RGB or RGBA."""
    if mode == "CMYK" and profile is not None and colour.needs_conversion(profile, "CMYK"):
        with contextlib.suppress(ImageCms.PyCMSError):  # a damaged profile, as good as none
            return colour.by_profile(profile, "CMYK")
    return lambda strip: functools.reduce(Image.Image.convert, _STEPS[mode], strip)


def loaded(image: Image.Image) -> None:
    """Decodes a picture and lets go of its file, which is in memory and would stay there for as long as the picture."""
    image.load()
    file = getattr(image, "fp", None)
    if file is not None:
        file.close()


def rows_of(image: Image.Image, rows: slice) -> Image.Image:
    """Returns rows of a picture without palette; unlike `crop` it asks no limit that all programs share."""
    strip = Image.new(image.mode, (image.width, rows.stop - rows.start))
    strip.paste(image, (0, -rows.start))
    return strip


def _by_opencv(data: bytes) -> tuple[Pixels, Pixels | None]:
    """Returns pixels, RGB, and alpha of a file that OpenCV decodes; 8 and 16 bits."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        raise Damaged("it cannot be decoded")
    if decoded.ndim == 2:
        decoded = decoded[..., None]
    if decoded.shape[2] == 1:
        return contiguous(np.repeat(decoded, 3, axis=2)), None
    if decoded.shape[2] == 4:
        return contiguous(decoded[..., 2::-1]), contiguous(decoded[..., 3])
    for rows in strips(*decoded.shape[:2]):  # in place, to save memory
        decoded[rows] = decoded[rows, :, ::-1].copy()
    return contiguous(decoded), None


# Formats


def jpeg(data: bytes) -> Photo:
    """Returns the picture of a JPEG file; of a camera's multi-picture file the first one."""
    try:
        image = JpegImageFile(io.BytesIO(data))
    except SyntaxError as error:
        if "-bit layers" in str(error):
            raise Refused("is a JPEG of other than 8 bits a channel; save it with 8 bits") from error
        raise
    del data  # its place is needed for pixels
    check_size(image.width, image.height)
    info = image.info
    profile = info.get("icc_profile")
    encoding = _jpeg_encoding(image)
    block = without_prefix(info.get("exif"))
    xmp = info.get("xmp")
    dpi = info.get("dpi") if info.get("jfif_unit") in (1, 2) else None
    pixels, alpha, is_grey = planes(image, profile)
    photo = Photo(
        pixels,
        alpha,
        is_grey,
        "JPEG",
        icc=None if image.mode == "CMYK" else profile,
        xmp=exif.upright_xmp(xmp) if xmp else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        comment=info.get("comment"),
        encoding=encoding,
    )
    return with_exif(photo, block)


def _jpeg_encoding(image: JpegImageFile) -> Encoding:
    indices = [layer[3] for layer in image.layer[:3] if layer[3] in image.quantization]
    while len(indices) > 1 and indices[-1] == indices[-2]:
        indices.pop()
    tables = [tuple(image.quantization[index]) for index in indices]
    letters = bytes(layer[0] for layer in image.layer)
    is_rgb = image.layers == 3 and (
        image.info.get("adobe_transform") == 0 or (letters == b"RGB" and not {"jfif", "adobe"} & set(image.info))
    )
    return Encoding(
        tables=tuple(tables),
        subsampling=max(0, get_sampling(image)),  # what Pillow cannot write becomes 4:4:4, which loses nothing
        is_progressive=bool(image.info.get("progressive")),
        is_rgb=is_rgb,
        is_lossless=False,
    )


def bmp(data: bytes) -> Photo:
    """Returns the picture of a BMP file."""
    image = BmpImageFile(io.BytesIO(data))
    del data
    check_size(image.width, abs(image.height))
    across, down = image.info.get("dpi", (0, 0))
    pixels, alpha, is_grey = planes(image)
    return Photo(pixels, alpha, is_grey, "BMP", dpi=(float(across), float(down)) if across and down else None)


def webp_picture(data: bytes) -> Photo:
    """Returns the picture of a WebP file."""
    try:
        header = webp.read(data)
    except ValueError as error:
        raise Damaged(str(error)) from error
    check_size(header.width, header.height)
    if header.is_animated:
        raise Refused(ANIMATED)
    pixels, alpha = _by_opencv(data)
    if pixels.shape[:2] != (header.height, header.width):
        raise Damaged("it cannot be decoded")
    photo = Photo(
        pixels,
        alpha,
        False,
        "WEBP",
        icc=header.icc,
        xmp=exif.upright_xmp(header.xmp) if header.xmp else None,
        encoding=Encoding(is_lossless=header.is_lossless, quality=header.quality),
    )
    return with_exif(photo, without_prefix(header.exif))


def png(data: bytes) -> Photo:
    """Returns the picture of a PNG file, palettes expanded."""
    width, height, depth, colour_type = png_header(data, "")
    check_size(width, height)
    found = _whole_chunks(data)
    if is_animated(chunk.kind for chunk in found):
        raise Refused(ANIMATED)
    contents = {chunk.kind: chunk.content for chunk in reversed(found) if chunk.kind != b"IDAT"}
    block, kept = _png_metadata(found, contents)
    # About the others, profiles above all, libpng has remarks that it writes to the terminal.
    bare = b"".join([data[:8], *(data[chunk.start : chunk.end] for chunk in found if chunk.kind in _DECODED_CHUNKS)])
    del data, found  # their place is needed for pixels
    pixels, alpha = _by_opencv(bare)
    if pixels.shape[:2] != (height, width):
        raise Damaged("it cannot be decoded")
    is_grey = colour_type in (0, 4)
    if colour_type == 3:
        palette = np.frombuffer(contents[b"PLTE"], np.uint8)[: len(contents[b"PLTE"]) // 3 * 3].reshape(-1, 3)
        is_grey = bool((palette == palette[:, :1]).all())
    if colour_type == 0 and len(contents.get(b"tRNS", b"")) == 2:  # OpenCV passes over it
        level = int.from_bytes(contents[b"tRNS"], "big") * (255 // (2**depth - 1) if depth < 8 else 1)
        opaque = 2 ** (8 * pixels.dtype.itemsize) - 1
        alpha = contiguous(np.where(pixels[..., 0] == level, 0, opaque).astype(pixels.dtype))
    photo = Photo(
        pixels,
        alpha,
        is_grey,
        "PNG",
        icc=_profile(contents.get(b"iCCP")),
        chunks=kept,
    )
    return with_exif(photo, block)


def _whole_chunks(data: bytes) -> list[Chunk]:
    """Returns the chunks up to the end mark, checked: about damage libpng writes its own lines to the terminal."""
    found = []
    for chunk in chunks(data):
        if not chunk.is_whole:
            break
        found.append(chunk)
        if chunk.kind == b"IEND":
            return found
    raise Damaged("it is cut short")


def _png_metadata(
    found: list[Chunk], contents: dict[bytes, bytes]
) -> tuple[bytes | None, tuple[tuple[bytes, bytes], ...]]:
    block = without_prefix(contents.get(b"eXIf"))
    kept = []
    for chunk in found:
        content = chunk.content
        if chunk.kind in (b"tEXt", b"zTXt") and content.startswith(_EXIF_AS_TEXT):
            block = block or without_prefix(_exif_from_text(chunk.kind, content))
        elif chunk.kind in _KEPT_CHUNKS:
            kept.append((chunk.kind, exif.upright_xmp(content) if chunk.kind == b"iTXt" else content))
    return block, tuple(kept)


def _exif_from_text(kind: bytes, content: bytes) -> bytes | None:
    text = content.split(b"\0", 1)[1]
    if kind == b"zTXt":
        text = _inflated(text[1:]) or b""
    digits = re.sub(rb"\s", b"", text.split(b"\n", 3)[-1])
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None


def _profile(content: bytes | None) -> bytes | None:
    """Returns the profile of a chunk iCCP: name, 0, method 0, compressed."""
    return _inflated(content.partition(b"\0")[2][1:]) if content else None


def _inflated(data: bytes) -> bytes | None:
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(data, MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return content if inflate.eof else None
