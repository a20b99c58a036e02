"""Colours of a picture by its embedded profile, brought to sRGB: in strips of rows, so that memory stays small.

8 bits go through LittleCMS. Pillow has no way to it for colours of 16 bits, so these are computed here, which covers
the profiles of cameras and editors: three curves and a matrix, or one curve for greys.

Source: ICC.1:2010, sections 9.2 (tags), 10.5 (curveType), 10.15 (parametricCurveType); IEC 61966-2-1 (sRGB).
"""

import functools
import io
import struct
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
STRIP_PIXELS = 1 << 20
_DAMAGED = "a damaged profile"
# XYZ relative to D50 -> linear sRGB: the inverse of the colorants of sRGB profiles (Bradford-adapted).
_FROM_D50 = np.linalg.inv([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def strips(height: int, width: int) -> Iterator[slice]:
    """Yields slices of rows, of about a million pixels each."""
    rows = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def with_room(height: int, width: int, like: Pixels) -> Pixels:
    """Returns an array (H, W, C) to fill, of the type and channels of another one.

    Three channels of 8 bits lie in pixels of four bytes, as Pillow keeps them, so that it needs no copy to encode them
    (`in_place`): of 400 megapixels that is 1.6 GB.
    """
    channels = like.shape[2]
    if channels != 3 or like.dtype != np.uint8:
        return np.empty((height, width, channels), like.dtype)
    return np.empty((height, width, 4), np.uint8)[:, :, :3]


def in_place(pixels: Pixels) -> Image.Image | None:
    """Returns the whole of an array of `with_room` as a picture of mode RGBX on the same memory; None for others."""
    whole = pixels.base
    if not isinstance(whole, np.ndarray) or whole.dtype != np.uint8 or whole.shape != (*pixels.shape[:2], 4):
        return None
    if not whole.flags.c_contiguous or pixels.shape[2] != 3 or pixels.ctypes.data != whole.ctypes.data:
        return None
    return Image.frombuffer("RGBX", whole.shape[1::-1], whole, "raw", "RGBX", 0, 1)


def to_eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Returns 16 bits as 8, rounded to the nearest level; 8 bits as they are."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def needs_conversion(profile: bytes | None, space: str) -> bool:
    """Returns whether a picture's profile can be read, is for its colour space, and is not sRGB itself.

    A profile that is damaged, or for other colours than the picture's, is one that every viewer passes over.

    Args:
        profile: the ICC profile, None for none.
        space: "RGB", "GRAY" or "CMYK".
    """
    if profile is None:
        return False
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        description = ImageCms.getProfileDescription(opened)
        return opened.profile.xcolor_space.strip() == space and "sRGB" not in description
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False


def by_profile(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image]:
    """Returns what brings a Pillow picture of a mode (L, RGB, CMYK) to sRGB, mode RGB.

    Raises:
        ImageCms.PyCMSError: LittleCMS cannot convert by this profile.
    """
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None
        return converted

    return convert


def strip_to_srgb(profile: bytes | None, is_grey: bool) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Returns what brings pixels, uint8 (h, W, 3), from the colours of a profile to sRGB.

    Args:
        profile: as it is in the file; without one, or with one that says nothing, pixels stay as they are.
        is_grey: the file is greyscale, whose profile may be one for greys.
    """
    for mode, space in (("L", "GRAY"), ("RGB", "RGB")):
        if profile is None or (mode == "L" and not is_grey) or not needs_conversion(profile, space):
            continue
        try:
            convert = by_profile(profile, mode)
        except ImageCms.PyCMSError:
            continue

        return functools.partial(_converted, convert, mode)
    return lambda pixels: pixels


def _converted(
    convert: Callable[[Image.Image], Image.Image], mode: str, pixels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if mode == "L" else pixels))
    return np.asarray(convert(image), np.uint8)


def to_srgb(pixels: Pixels, profile: bytes | None, is_grey: bool) -> Pixels:
    """Returns pixels (H, W, 3) in sRGB, as many bits as before; the array itself where nothing has to change.

    Raises:
        ValueError: 16 bits and a profile of tables, which are converted at 8 bits only.
    """
    spaces = ("GRAY", "RGB") if is_grey else ("RGB",)
    if not any(needs_conversion(profile, space) for space in spaces):
        return pixels
    assert profile is not None
    convert = strip_to_srgb(profile, is_grey) if pixels.dtype == np.uint8 else _deep_to_srgb(profile)
    result = np.empty_like(pixels)
    for rows in strips(*pixels.shape[:2]):
        result[rows] = convert(pixels[rows])  # type: ignore[arg-type]
    return result


def _deep_to_srgb(profile: bytes) -> Callable[[NDArray[np.uint16]], NDArray[np.uint16]]:
    try:
        curves, matrix = _parts(profile)
    except (LookupError, ArithmeticError, struct.error) as error:
        raise ValueError(_DAMAGED) from error
    if not (np.isfinite(matrix).all() and all(np.isfinite(curve).all() for curve in curves)):
        raise ValueError(_DAMAGED)
    by_matrix = matrix.astype(np.float32)

    def convert(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        linear = np.stack([curve[pixels[..., channel]] for channel, curve in enumerate(curves)], axis=-1)
        linear = np.clip(linear @ by_matrix.T, 0.0, 1.0)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        return np.asarray(np.rint(encoded * 65535.0), np.uint16)

    return convert


def _parts(profile: bytes) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
    """Returns the three curves of a profile and the matrix (3, 3) from their values to linear sRGB."""
    tags = _tags(profile)
    if b"A2B0" in tags or not (b"kTRC" in tags or b"rTRC" in tags):
        raise ValueError("a profile of tables")
    if b"kTRC" in tags:
        return [_curve(tags[b"kTRC"])] * 3, np.eye(3)
    columns = np.concatenate([_fixed(tags[kind][8:20]) for kind in (b"rXYZ", b"gXYZ", b"bXYZ")])
    if columns.size != 9:
        raise ValueError(_DAMAGED)
    return [_curve(tags[kind]) for kind in (b"rTRC", b"gTRC", b"bTRC")], _FROM_D50 @ columns.reshape(3, 3).T


def _tags(profile: bytes) -> dict[bytes, bytes]:
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        found = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 100))]
    except struct.error as error:
        raise ValueError(_DAMAGED) from error
    return {kind: profile[at : at + length] for kind, at, length in found}


def _fixed(data: bytes) -> NDArray[np.float64]:
    """Returns numbers of the type s15Fixed16."""
    return np.frombuffer(data[: len(data) // 4 * 4], ">i4") / 65536.0  # a whole number of them


@np.errstate(all="ignore")  # what is not finite in the end is refused
def _curve(tag: bytes) -> NDArray[np.float32]:
    """Returns the linear value, float32 (65536,), of every level of a curve."""
    level = np.arange(65536) / 65535.0
    if tag[:4] == b"curv":
        count = int.from_bytes(tag[8:12], "big")
        if 12 + 2 * count > len(tag):
            raise ValueError(_DAMAGED)
        points = np.frombuffer(tag[12 : 12 + 2 * count], ">u2") if count else np.empty(0)
        if count > 1:
            return np.interp(level, np.linspace(0, 1, len(points)), points / 65535.0).astype(np.float32)
        return np.asarray(level ** (points[0] / 256.0) if count else level, np.float32)
    if tag[:4] != b"para":
        raise ValueError("a curve of an unknown kind")
    function = int.from_bytes(tag[8:10], "big")
    count = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}[function]
    if 12 + 4 * count > len(tag):
        raise ValueError(_DAMAGED)
    g, a, b, c, d, e, f = np.pad(_fixed(tag[12 : 12 + 4 * count]), (0, 7 - count)).tolist()
    if function == 0:
        return np.asarray(level**g, np.float32)
    if function in (1, 2):  # constant below -b/a
        return np.asarray(np.where(level >= -b / a, np.maximum(a * level + b, 0) ** g, 0.0) + c, np.float32)
    # Type 3 is type 4 without the constants e and f.
    return np.asarray(np.where(level >= d, np.maximum(a * level + b, 0) ** g + e, c * level + f), np.float32)
