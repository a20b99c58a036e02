"""HEIC and AVIF files, the pictures of phones: read and written.

HEIC needs the package pillow-heif (the extra `heic`), AVIF Pillow alone, which gives 8 bits of it and no more. Both
keep no record of the quality they were written with, so they are written at QUALITY. Turned pictures are turned by
the container (ISO/IEC 23008-12, sections 6.5.10 and 6.5.12), whose readers leave EXIF's orientation aside.
"""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, features

from facesr.photos import exif
from facesr.photos.colour import Pixels, strips
from facesr.photos.photo import Encoding, Photo
from facesr.photos.photo_decode import (
    ANIMATED,
    Damaged,
    Refused,
    check_size,
    contiguous,
    planes,
    with_exif,
    without_prefix,
)

INSTALL = "uv sync --extra heic"
# Of 100: at 90 a level of 8 bits is seldom off by more than two.
QUALITY = 90
# One coded picture of HEVC holds at most so many pixels (H.265, table A.8, level 6.2); larger ones are grids of tiles.
_MOST_WHOLE = 35_651_584
_TILE_SIDE = 1024
# Primaries and transfer of sRGB, and values that say nothing. Source: ITU-T H.273, tables 2 and 3.
_SRGB = (1, 13)
_UNSAID = (0, 2)
_HDR = {16: "PQ", 18: "HLG"}


def heic(data: bytes) -> Photo:
    """Returns the primary picture of a HEIC file; 10 and 12 bits become 16.

    Raises:
        Refused: pillow-heif is not installed, the picture is too large, or is HDR.
    """
    package = require_heic()
    check_sizes(data)
    opened = package.open_heif(data, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = opened[opened.primary_index]
    check_size(*image.size)  # by the header: nothing is decoded yet
    info = image.info
    named = info.get("nclx_profile") or {}
    colours = (named.get("color_primaries", 1), named.get("transfer_characteristics", 13))
    _refuse_hdr(colours[1])
    if image.premultiplied_alpha:
        raise Refused("holds colours that were multiplied by their transparency; save it as PNG")
    stated = image.size
    levels = np.asarray(image)
    if levels.shape[1::-1] != stated:
        raise Damaged("another size than it states")
    bits = int(info["bit_depth"]) if levels.dtype == np.uint16 else 8
    is_grey = levels.ndim == 2
    pixels = _sixteen(np.repeat(levels[..., None], 3, axis=2) if is_grey else levels[..., :3], bits)
    alpha = _sixteen(levels[..., 3], bits) if not is_grey and levels.shape[2] == 4 else None
    block, xmp = without_prefix(info.get("exif")), info.get("xmp")
    return Photo(
        pixels,
        alpha,
        is_grey,
        "HEIC",
        exif=exif.upright(block) if block else None,
        icc=info.get("icc_profile"),
        xmp=exif.upright_xmp(xmp) if xmp else None,
        encoding=Encoding(subsampling={444: 0, 422: 1}.get(info.get("chroma", 420), 2), bits=bits, colours=colours),
        note=f"of its {len(opened)} pictures the primary one is taken" if len(opened) > 1 else "",
    )


def require_heic() -> Any:
    """Returns the package pillow-heif.

    Raises:
        Refused: it is not installed; the sentence has the command that installs it.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise Refused(f"is a HEIC picture, which needs the package pillow-heif; install it with: {INSTALL}") from error
    # Of what else a file holds nothing is asked for, so nothing of it is decoded.
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = False
    pillow_heif.options.AUX_IMAGES = False
    return pillow_heif


def require_avif() -> None:
    """Makes sure that Pillow reads AVIF.

    Raises:
        Refused: it does not.
    """
    if not features.check("avif"):
        raise Refused("is an AVIF picture, which this Pillow does not read; install Pillow 11.3 or newer")


def _sixteen(levels: NDArray[Any], bits: int) -> Pixels:
    """Returns levels of 10 or 12 bits as the nearest of 16; 8 bits as they are."""
    return contiguous(levels) if bits == 8 else _rescaled(levels, 2**bits - 1, 65535)


def _rescaled(levels: NDArray[Any], top: int, new_top: int) -> NDArray[np.uint16]:
    found = np.empty(levels.shape, np.uint16)
    for rows in strips(*levels.shape[:2]):
        found[rows] = (levels[rows].astype(np.uint32) * new_top + top // 2) // top
    return found


def check_sizes(data: bytes) -> None:
    """Refuses a file one of whose pictures is too large by the header, before a library sees it.

    Raises:
        Refused: one is. Damaged: the file, or this beginning of it, ends within a box.
    """
    for content in _properties(data, b"ispe"):
        check_size(*(int.from_bytes(content[at : at + 4], "big") for at in (4, 8)))


def _refuse_hdr(transfer: int) -> None:
    if transfer in _HDR:
        raise Refused(f"is HDR ({_HDR[transfer]}), which is not restored; save it as a picture of normal range")


def avif(data: bytes) -> Photo:
    """Returns the picture of an AVIF file of 8 bits.

    Raises:
        Refused: it has more bits, is animated or too large, or names colours that Pillow cannot write again.
    """
    require_avif()
    check_sizes(data)
    if any(content[2:3] and content[2] & 0x40 for content in _properties(data, b"av1C")):
        raise Refused("is an AVIF picture of more than 8 bits, which is not read; save it as PNG or TIFF of 16 bits")
    for content in _properties(data, b"colr"):
        if content[:4] == b"nclx" and len(content) >= 8:
            primaries, transfer = (int.from_bytes(content[at : at + 2], "big") for at in (4, 6))
            _refuse_hdr(transfer)
            if primaries not in (_SRGB[0], *_UNSAID) and b"prof" not in _kinds_of_colour(data):
                raise Refused("names colours other than sRGB without a profile; save it as PNG or JPEG")
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    check_size(image.width, image.height)
    if image.n_frames > 1:
        raise Refused(ANIMATED)
    info = image.info
    pixels, alpha, is_grey = planes(image)
    xmp = info.get("xmp")
    photo = Photo(
        pixels,
        alpha,
        is_grey,
        "AVIF",
        icc=info.get("icc_profile"),
        xmp=exif.upright_xmp(xmp) if xmp else None,
        encoding=Encoding(subsampling=_subsampling(data)),
    )
    return with_exif(photo, without_prefix(info.get("exif")))


def _kinds_of_colour(data: bytes) -> set[bytes]:
    return {b"prof" if content[:4] in (b"prof", b"rICC") else content[:4] for content in _properties(data, b"colr")}


def _subsampling(data: bytes) -> int:
    """Returns the subsampling of chroma as Pillow numbers it: the finest of all coded pictures of the file."""
    # Source: AV1 Codec ISO Media File Format Binding, section 2.3.3. Greys say that they are subsampled.
    found = [content[2] >> 2 & 3 for content in _properties(data, b"av1C") if len(content) > 2 and not content[2] & 16]
    return {0: 0, 2: 1}.get(min(found, default=3), 2)


def _properties(data: bytes, kind: bytes) -> Iterator[bytes]:
    """Yields the contents of the properties of a kind. Source: ISO/IEC 14496-12, sections 4.2 and 8.11."""
    for meta in _boxes(data, 0, len(data), b"meta"):
        for group in _boxes(data, meta.start + 4, meta.stop, b"iprp"):
            for inner in _boxes(data, group.start, group.stop, b"ipco"):
                for place in _boxes(data, inner.start, inner.stop, kind):
                    yield data[place]


def _boxes(data: bytes, at: int, end: int, kind: bytes) -> Iterator[slice]:
    """Yields where the contents of the boxes of a kind lie between two places."""
    while at + 8 <= end:
        length, head = int.from_bytes(data[at : at + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        stop = at + length if length else end
        if stop < at + head or stop > end:
            raise Damaged("it is cut short")
        if data[at + 4 : at + 8] == kind:
            yield slice(at + head, stop)
        at = stop


def write_heic(file: BinaryIO, channels: list[Pixels], photo: Photo) -> None:
    """Writes a HEIC file of as many bits as the photo's had.

    Raises:
        ValueError: pillow-heif is not installed, or cannot encode the picture.
    """
    how = photo.encoding
    try:
        package = require_heic()
    except Refused as error:
        raise ValueError(str(error)) from error
    planes_of: list[NDArray[Any]] = list(channels)
    if photo.is_grey and len(planes_of) == 2:
        planes_of[0] = np.repeat(planes_of[0], 3, axis=2)  # grey with alpha has no mode
    levels = np.concatenate(planes_of, axis=2) if len(planes_of) > 1 else planes_of[0]
    if how.bits > 8:
        levels = _rescaled(levels, 65535, 2**how.bits - 1)
    height, width, samples = levels.shape
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[samples] + (f";{how.bits}" if how.bits > 8 else "")
    beside = {"exif": photo.exif and b"Exif\0\0" + photo.exif, "icc_profile": photo.icc, "xmp": photo.xmp}
    given: dict[str, Any] = {key: value for key, value in beside.items() if value}
    if how.colours != _SRGB:
        primaries, transfer = how.colours
        given |= {"color_primaries": primaries, "transfer_characteristics": transfer}
        given |= {"matrix_coefficients": 6, "full_range_flag": 1}
    if height * width > _MOST_WHOLE and samples < 4:
        given["tile_size"] = _TILE_SIDE
    chroma = {0: 444, 1: 422}.get(how.subsampling, 420)
    try:
        package.encode(
            mode,
            (width, height),
            np.ascontiguousarray(levels).data.cast("B"),
            file,
            quality=QUALITY,
            chroma=chroma,
            bit_depth=how.bits,
            **given,
        )
    except (RuntimeError, SyntaxError, EOFError) as error:
        raise ValueError(f"it cannot be encoded: {error}") from error


def avif_options(photo: Photo) -> dict[str, object]:
    """Returns what Pillow is told, beside metadata, to write an AVIF file."""
    return {"quality": QUALITY, "subsampling": {0: "4:4:4", 1: "4:2:2"}.get(photo.encoding.subsampling, "4:2:0")}
