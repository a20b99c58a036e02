"""Picture files of every format, mode and depth: pixels survive reading and writing."""

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from facesr.errors import ImageError
from facesr.photos import colour
from facesr.photos.colour import in_place, with_room
from facesr.photos.photo_file import Photo, read_photo, suffixes_of, write_photo
from tests.photos.made import (
    EIGHT,
    GREY,
    REMARK,
    RGB,
    RNG,
    SIXTEEN,
    WIDTH,
    by_opencv,
    by_pillow,
    by_tifffile,
    equal,
    opened,
    picture,
    reread,
)

GREY_ALPHA = SIXTEEN[..., [0, 3]]
TIFF_16 = {
    "grey": (GREY, {"photometric": "minisblack"}),
    "grey alpha": (GREY_ALPHA, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    "rgb": (RGB, {"photometric": "rgb"}),
    "rgba": (SIXTEEN, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
}
TIFF_WAYS: dict[str, dict[str, object]] = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": 2},
    "tiles": {"tile": (16, 32), "compression": "zlib", "predictor": 2},
    "big": {"bigtiff": True},
    "apart": {"planarconfig": "separate"},
}


def lossless() -> dict[str, tuple[bytes, NDArray[np.uint16] | NDArray[np.uint8]]]:
    """Returns files, each with what it shows: (H, W) or (H, W, 2 to 4)."""
    found: dict[str, tuple[bytes, NDArray[np.uint16] | NDArray[np.uint8]]] = {}
    for mode in ("L", "LA", "RGB", "RGBA"):
        shown = np.asarray(picture(mode))
        found[f"PNG {mode}"] = by_pillow("PNG", picture(mode)), shown
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            found[f"TIFF {mode} {compression}"] = by_pillow("TIFF", picture(mode), compression=compression), shown
        if mode in ("RGB", "RGBA"):
            found[f"WEBP {mode}"] = by_pillow("WEBP", picture(mode), lossless=True, exact=True), shown
            found[f"BMP {mode}"] = by_opencv(".bmp", shown), shown
    found["BMP L"] = by_pillow("BMP", picture("L")), EIGHT[..., 0]
    for kind, (pixels, given) in TIFF_16.items():
        if kind != "grey alpha":
            found[f"PNG 16 {kind}"] = by_opencv(".png", pixels), pixels
            how = (cv2.IMWRITE_TIFF_COMPRESSION, 5)
            found[f"TIFF 16 {kind} LZW"] = by_opencv(".tiff", pixels, *how), pixels
        for order in "<>":
            for way, more in TIFF_WAYS.items():
                if kind == "grey" and way == "apart":
                    continue
                laid = np.moveaxis(pixels, -1, 0) if way == "apart" else pixels
                found[f"TIFF 16 {kind} {way} {order}"] = by_tifffile(laid, byteorder=order, **given, **more), pixels
    for mode in ("1", "P"):
        image = picture("L").convert("1") if mode == "1" else picture("RGB").quantize(20)
        shown = np.asarray(image.convert("L" if mode == "1" else "RGB"))
        for format in ("PNG", "TIFF", "BMP"):
            found[f"{format} {mode}"] = by_pillow(format, image), shown
    alphas = bytes(range(0, 200, 10))
    through = by_pillow("PNG", picture("RGB").quantize(20), transparency=alphas)
    found["PNG palette with transparency"] = through, np.asarray(Image.open(io.BytesIO(through)).convert("RGBA"))
    level = int(EIGHT[0, 0, 0])
    keyed = np.dstack([EIGHT[..., 0], np.where(EIGHT[..., 0] == level, 0, 255).astype(np.uint8)])
    found["PNG grey with a transparent level"] = by_pillow("PNG", picture("L"), transparency=level), keyed
    return found


LOSSLESS = lossless()


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_keep_every_bit(tmp_path: Path, name: str) -> None:
    data, shown = LOSSLESS[name]
    photo, again, _ = reread(tmp_path, data)
    shown = shown.reshape(*shown.shape[:2], -1)
    has_alpha = shown.shape[2] in (2, 4)
    colours = shown[..., :-1] if has_alpha else shown
    np.testing.assert_array_equal(photo.pixels, np.broadcast_to(colours, photo.pixels.shape))
    assert (photo.alpha is not None) == has_alpha
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, shown[..., -1])
    assert photo.format == name.split()[0]
    assert photo.depth == (16 if shown.dtype == np.uint16 else 8)
    assert photo.is_grey == (colours.shape[2] == 1)
    assert equal(photo, again)


@pytest.mark.parametrize("name", ["PNG RGBA", "PNG 16 rgb", "TIFF LA tiff_lzw", "TIFF 16 rgba tiles >", "BMP RGB"])
def test_strips_of_rows_leave_no_trace(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, _, _ = reread(tmp_path, LOSSLESS[name][0])
    monkeypatch.setattr(colour, "STRIP_PIXELS", 5 * WIDTH)
    photo, again, path = reread(tmp_path, LOSSLESS[name][0])
    assert equal(photo, wanted) and equal(again, wanted)
    np.testing.assert_array_equal(opened(path).convert("RGB"), opened(tmp_path / "in").convert("RGB"))


@pytest.mark.parametrize("name", [name for name in LOSSLESS if "big" not in name])
def test_what_is_written_is_what_other_programs_read(tmp_path: Path, name: str) -> None:
    photo, _, path = reread(tmp_path, LOSSLESS[name][0], remark=REMARK)
    wanted = photo.pixels[..., :1] if photo.is_grey else photo.pixels
    if photo.alpha is not None:
        wanted = np.dstack([wanted, photo.alpha])
    if photo.format == "TIFF" and photo.encoding.compression != 5:
        read = tifffile.imread(path)
    elif photo.depth == 8:
        read = np.asarray(opened(path))
    else:
        read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        read = read[..., [2, 1, 0, 3][: read.shape[2]]] if read.ndim == 3 else read
    np.testing.assert_array_equal(read.reshape(wanted.shape), wanted)


def test_sixteen_bit_grey_with_alpha_is_png_too(tmp_path: Path) -> None:
    photo = Photo(np.repeat(GREY[..., None], 3, axis=2), SIXTEEN[..., 3], True, "PNG")
    write_photo(tmp_path / "a.png", photo)
    assert equal(photo, read_photo(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes()[24:26] == b"\x10\x04"  # depth and colour type


def test_alpha_that_colours_were_multiplied_by_is_divided_out(tmp_path: Path) -> None:
    alpha = np.maximum(SIXTEEN[..., 3:], 20000)
    stored = np.rint(RGB * (alpha / 65535)).astype(np.uint16)
    data = by_tifffile(np.dstack([stored, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    photo, again, _ = reread(tmp_path, data)
    assert np.abs(photo.pixels.astype(int) - RGB).max() <= 2
    assert equal(photo, again)


def test_white_may_be_zero_in_tiff(tmp_path: Path) -> None:
    photo, again, _ = reread(tmp_path, by_tifffile(65535 - GREY, photometric="miniswhite"))
    np.testing.assert_array_equal(photo.pixels[..., 1], GREY)
    assert equal(photo, again)


# JPEG and lossy WebP


def tables_of(path: Path) -> tuple[object, int, bool]:
    with opened(path) as image:
        return image.quantization, get_sampling(image), "progressive" in image.info  # type: ignore[attr-defined]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("is_progressive", [False, True])
@pytest.mark.parametrize("quality", [5, 60, 88, 100])
def test_jpeg_keeps_tables_subsampling_and_order(
    tmp_path: Path, subsampling: int, is_progressive: bool, quality: int
) -> None:
    how = {"quality": quality, "subsampling": subsampling, "progressive": is_progressive}
    photo, again, path = reread(tmp_path, by_pillow("JPEG", picture("RGB"), **how))
    assert tables_of(path) == tables_of(tmp_path / "in")
    assert tables_of(path)[1:] == (subsampling, is_progressive)
    read = cv2.imdecode(np.frombuffer((tmp_path / "in").read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(photo.pixels, read)
    difference = np.abs(photo.pixels.astype(int) - again.pixels)
    assert difference.mean() < 0.7 and not photo.is_grey


def test_a_progressive_file_that_hardly_shrinks_is_written_all_the_same(tmp_path: Path) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    photo, _, path = reread(tmp_path, by_pillow("JPEG", noise, quality=100, subsampling=0))
    hard = dataclasses.replace(photo, encoding=dataclasses.replace(photo.encoding, is_progressive=True))
    write_photo(path, hard)
    assert np.abs(read_photo(path).pixels.astype(int) - photo.pixels).max() <= 3


def test_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    photo, again, path = reread(tmp_path, by_pillow("JPEG", picture("L"), quality=80), remark=REMARK)
    assert photo.is_grey and again.is_grey
    assert opened(path).mode == "L"
    assert tables_of(path) == tables_of(tmp_path / "in")


def test_jpeg_stored_as_rgb_stays_so(tmp_path: Path) -> None:
    photo, again, _ = reread(tmp_path, by_pillow("JPEG", picture("RGB"), quality=90, keep_rgb=True))
    assert photo.encoding.is_rgb and again.encoding.is_rgb
    assert np.abs(photo.pixels.astype(int) - EIGHT[..., :3]).mean() < 2


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(tmp_path: Path, format: str) -> None:
    photo, again, path = reread(tmp_path, by_pillow(format, picture("RGB").convert("CMYK"), quality=95))
    assert np.abs(photo.pixels.astype(int) - EIGHT[..., :3]).mean() < 3  # not inverted
    assert (photo.icc, again.format, opened(path).mode) == (None, format, "RGB")


@pytest.mark.parametrize("quality", [40, 75, 90, 98])
def test_lossy_webp_is_written_in_its_own_quality(tmp_path: Path, quality: int) -> None:
    photo, again, path = reread(tmp_path, by_pillow("WEBP", picture("RGBA"), quality=quality), remark=REMARK)
    assert not photo.encoding.is_lossless and abs(photo.encoding.quality - quality) <= 10
    assert abs(path.stat().st_size - (tmp_path / "in").stat().st_size) < 400
    np.testing.assert_array_equal(photo.alpha, again.alpha)
    assert np.abs(photo.pixels.astype(int) - again.pixels).mean() < 4


def test_first_picture_of_a_cameras_multi_picture_file(tmp_path: Path) -> None:
    data = by_pillow("MPO", picture("RGB"), save_all=True, append_images=[picture("RGB").rotate(180)], quality=95)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    photo, _, path = reread(tmp_path, data)
    assert photo.format == "JPEG" and opened(path).format == "JPEG"
    assert np.abs(photo.pixels.astype(int) - EIGHT[..., :3]).mean() < 3


# Writing


def test_the_name_decides_nothing(tmp_path: Path) -> None:
    (tmp_path / "\u043c\u0430\u043c\u0430 \u5988.jpg").write_bytes(by_pillow("PNG", picture("RGB")))
    photo = read_photo(tmp_path / "\u043c\u0430\u043c\u0430 \u5988.jpg")
    assert photo.format == "PNG" and suffixes_of(photo.format) == (".png",)
    write_photo(tmp_path / "b.jpg", photo)
    assert opened(tmp_path / "b.jpg").format == "PNG"


@pytest.mark.parametrize(("format", "side"), [("JPEG", 65536), ("WEBP", 16384)])
def test_sizes_that_a_format_cannot_hold(tmp_path: Path, format: str, side: int) -> None:
    photo = Photo(np.zeros((1, side, 3), np.uint8), None, False, format)
    with pytest.raises(ImageError, match=f"{side}x1 pixels, and a side of .* at most {side - 1}; use PNG"):
        write_photo(tmp_path / "a", photo)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")
    photo = Photo(EIGHT[..., :3].copy(), None, False, "JPEG", xmp=b"x" * 70000)
    with pytest.raises(ImageError, match=r"a\.jpg cannot be written: XMP"):
        write_photo(path, photo)
    with pytest.raises(ImageError, match="cannot be written: No such file"):
        write_photo(tmp_path / "none" / "a.jpg", photo)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    program = (
        "import os, sys, numpy as np, pathlib\n"
        "from facesr.photos.photo_file import Photo, write_photo\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "write_photo(pathlib.Path(sys.argv[1]), Photo(np.zeros((9, 9, 3), np.uint8), None, False, 'PNG'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=os.environ, check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": EIGHT},
        {"pixels": EIGHT[..., :3].astype(np.float32)},
        {"pixels": RGB},
        {"alpha": EIGHT[..., 0]},
        {"format": "PNG", "alpha": SIXTEEN[..., 0]},
        {"format": "GIF"},
    ],
)
def test_photos_that_no_program_should_make(tmp_path: Path, wrong: dict[str, object]) -> None:
    photo = dataclasses.replace(Photo(EIGHT[..., :3].copy(), None, False, "JPEG"), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        write_photo(tmp_path / "a", photo)
    assert not list(tmp_path.iterdir())


# Arrays with room for a fourth byte


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("is_grey", [False, True])
def test_arrays_with_room_are_written_as_others(tmp_path: Path, format: str, is_grey: bool) -> None:
    plain = np.repeat(EIGHT[..., :1], 3, axis=2) if is_grey else np.ascontiguousarray(EIGHT[..., :3])
    roomy = with_room(*plain.shape[:2], plain)
    roomy[:] = plain
    assert roomy.base is not None and roomy.base.shape[2] == 4
    roomy.base[..., 3] = 99  # what lies between is nobody's
    for name, pixels in (("plain", plain), ("roomy", roomy)):
        write_photo(tmp_path / name, Photo(pixels, None, is_grey, format))
    assert (tmp_path / "roomy").read_bytes() == (tmp_path / "plain").read_bytes()


def test_only_a_whole_array_is_encoded_in_its_place() -> None:
    roomy = with_room(6, 5, EIGHT[..., :3])
    roomy[:] = 7
    image = in_place(roomy)
    assert image is not None and image.size == (5, 6)
    roomy[2, 3] = (1, 2, 3)
    assert image.getpixel((3, 2))[:3] == (1, 2, 3)  # no copy
    for other in (roomy[1:], roomy[:, :4], roomy[::-1], roomy[..., ::-1], roomy.base[..., 1:], roomy.copy(), EIGHT):
        assert in_place(other) is None
    deep = with_room(6, 5, EIGHT[..., :3].astype(np.uint16))
    assert deep.flags.c_contiguous and in_place(deep) is None
    assert with_room(6, 5, EIGHT[..., :1]).shape == (6, 5, 1)
