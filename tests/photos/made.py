"""Pictures that tests of photographs make, and how they are written, read and compared."""

import dataclasses
import io
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from facesr.photos.photo_file import Photo, read_photo, write_photo

REMARK = "faces restored by facesr 0.1.0: detail in them is invented"
HEIGHT, WIDTH = 37, 50
RNG = np.random.default_rng(0)


def smooth(levels: int, channels: int) -> NDArray[np.uint16]:
    """Returns gradients with a little noise, so that no two channels, rows or columns are alike."""
    down, across = np.mgrid[:HEIGHT, :WIDTH] / max(HEIGHT, WIDTH)
    planes = [0.1 + 0.6 * (down * (index + 1) / 4 + across * (4 - index) / 5) for index in range(channels)]
    noise = RNG.normal(0, 0.01, (HEIGHT, WIDTH, channels))
    return np.clip(np.rint((np.stack(planes, -1) + noise) * (levels - 1)), 0, levels - 1).astype(np.uint16)


EIGHT = smooth(256, 4).astype(np.uint8)
SIXTEEN = smooth(65536, 4)
GREY, RGB = SIXTEEN[..., 0], np.ascontiguousarray(SIXTEEN[..., :3])


def by_pillow(format: str, image: Image.Image, **given: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **given)
    return file.getvalue()


def by_opencv(suffix: str, pixels: NDArray[np.uint16] | NDArray[np.uint8], *how: int) -> bytes:
    """Returns a file of RGB or RGBA or grey pixels."""
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return cv2.imencode(suffix, pixels, how)[1].tobytes()


def by_tifffile(pixels: NDArray[np.uint16], **given: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **given)
    return file.getvalue()


def picture(mode: str) -> Image.Image:
    """Returns the 8-bit picture in a mode of Pillow; grey is the first channel."""
    channels = {"L": EIGHT[..., 0], "LA": EIGHT[..., [0, 3]], "RGB": EIGHT[..., :3], "RGBA": EIGHT}
    return Image.fromarray(np.ascontiguousarray(channels[mode]))


def opened(path: Path) -> Image.Image:
    """Returns the file as Pillow opens it, with no handle left open."""
    return Image.open(io.BytesIO(path.read_bytes()))


def reread(tmp_path: Path, data: bytes, **given: object) -> tuple[Photo, Photo, Path]:
    """Returns a file's photo, that of the file written from it, and the latter's path."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    photo = read_photo(source)
    write_photo(target, photo, **given)
    return photo, read_photo(target), target


def equal(first: Photo, second: Photo) -> bool:
    """Returns whether all fields are equal, pixels bit for bit."""
    return all(
        np.array_equal(one, other) and one.dtype == other.dtype if isinstance(one, np.ndarray) else one == other
        for one, other in (
            (getattr(first, field.name), getattr(second, field.name)) for field in dataclasses.fields(Photo)
        )
    )
