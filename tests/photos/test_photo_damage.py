"""Files that are no photograph, or no whole one: each is one sentence, and no other error."""

import io
import os
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facesr.errors import ImageError
from facesr.photos import exif
from facesr.photos.photo_file import Photo, check_photo, read_photo, write_photo

RNG = np.random.default_rng(1)
PIXELS = np.clip(np.add.outer(np.arange(24) * 4, np.arange(30) * 3)[..., None] + [0, 20, 40], 0, 255).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 257


def by_pillow(format: str, mode: str = "RGB", **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, format, **how)
    return file.getvalue()


def by_tifffile(pixels: np.ndarray, **how: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **how)
    return file.getvalue()


def animated(format: str) -> bytes:
    others = [Image.fromarray(np.roll(PIXELS, 5 * turn, axis=1)) for turn in (1, 2)]
    return by_pillow(format, save_all=True, append_images=others, duration=50)


def png_of_size(width: int, height: int) -> bytes:
    data = bytearray(by_pillow("PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def webp_of_size(width: int, height: int, **how: object) -> bytes:
    data = bytearray(by_pillow("WEBP", **how))
    if how:  # lossless: 14 bits each, less one
        data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def tiff_of_size(width: int, height: int) -> bytes:
    data = bytearray(by_tifffile(PIXELS, photometric="rgb"))
    for tag, side in ((256, width), (257, height)):
        at = next(
            data.index(struct.pack("<HHI", tag, kind, 1))
            for kind in (3, 4)
            if struct.pack("<HHI", tag, kind, 1) in data
        )
        data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, side)
    return bytes(data)


def raw_like() -> bytes:
    """Returns a TIFF file whose first picture is a thumbnail, with others within, as NEF and ARW files begin."""
    data = bytearray(by_tifffile(PIXELS, photometric="rgb", subfiletype=1))
    at = data.index(struct.pack("<HHI", 296, 3, 1))  # the unit of the resolution becomes a pointer to directories
    data[at : at + 12] = struct.pack("<HHII", 330, 4, 1, 8)
    return bytes(data)


JPEG, PNG, TIFF, WEBP = (by_pillow(format) for format in ("JPEG", "PNG", "TIFF", "WEBP"))
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9"/>'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"
# Name, content, and what the sentence says.
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "is empty; copy it again"),
    "zeros.jpg": (bytes(5000), "is filled with zero bytes"),
    "text.jpg": (b"Dear Sir,\nthis is no picture.\n", "is text, not a picture"),
    "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", "is a web page, not a picture"),
    "pointer.png": (LFS, "is a Git LFS pointer, not the picture itself; fetch the picture with git lfs pull"),
    "drawing.svg": (SVG, "is an SVG drawing, which has no pixels; save it as JPEG or PNG"),
    "a.gif": (by_pillow("GIF"), "is a GIF, which is not read; save it as JPEG or PNG"),
    "burst.heic": (
        b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc",
        "is a sequence of pictures (HEIC or AVIF), which is not read",
    ),
    "moving.avif": (animated("AVIF"), "is a sequence of pictures (HEIC or AVIF), which is not read"),
    "head.avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "is an AVIF file that is damaged or cut short"),
    "film.mp4": (b"\0\0\0\x18ftypisom\0\0\0\0", "is a film, not a picture"),
    "a.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\0", "is a camera's raw file; develop it"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "is a camera's raw file; develop it"),
    "a.nef": (TIFF, "is a camera's raw file; develop it"),
    "renamed.tif": (raw_like(), "is a camera's raw file; develop it"),
    "a.dng.tif": (by_tifffile(PIXELS, extratags=[(50706, 1, 4, b"\1\4\0\0", True)]), "is a camera's raw file"),
    "a.psd": (b"8BPS\0\1" + bytes(50), "is a Photoshop document, which is not read"),
    "a.pdf": (b"%PDF-1.7\n", "is a PDF document, which is not read"),
    "a.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", "is a JPEG 2000 picture, which is not read"),
    "a.zip": (b"PK\x03\x04" + bytes(50), "is a ZIP archive or a document, which is not read"),
    "noise.jpg": (RNG.bytes(5000), "is of an unknown format, or its beginning is damaged"),
    "moving.webp": (animated("WEBP"), "is animated; save one of its pictures as PNG or JPEG"),
    "moving.png": (animated("PNG"), "is animated; save one of its pictures as PNG or JPEG"),
    "scan.tif": (animated("TIFF"), "has several pages; save one of them as a file of its own"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "is a JPEG file that is damaged or cut short; copy or save it again"),
    "twelve bits.jpg": (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "is a JPEG of other than 8 bits"),
    "half.png": (PNG[: len(PNG) // 2], "is a PNG file that is damaged or cut short"),
    "half.webp": (WEBP[: len(WEBP) // 2], "is a WebP file that is damaged or cut short"),
    "half.tif": (TIFF[: len(TIFF) // 2], "is a TIFF file that is damaged or cut short"),
    "half.bmp": (by_pillow("BMP")[:500], "is a BMP file that is damaged or cut short"),
    "no end.png": (PNG[:-12], "is a PNG file that is damaged or cut short"),
    "head.jpg": (JPEG[:3], "is a JPEG file that is damaged or cut short"),
    "float.tif": (by_tifffile(np.ones((5, 6), np.float32)), "holds numbers other than 8- or 16-bit integers"),
    "integer.tif": (by_tifffile(np.ones((5, 6), np.uint32)), "holds numbers other than 8- or 16-bit integers"),
    "signed.tif": (by_tifffile(np.ones((5, 6), np.int16)), "holds numbers other than 8- or 16-bit integers"),
    "deep cmyk.tif": (
        by_tifffile(np.ones((5, 6, 4), np.uint16), photometric="separated"),
        "holds 16 bits of colours other than grey or RGB; save it as 16-bit RGB",
    ),
    "huge.png": (png_of_size(10_501, 10_000), "has 10501x10000 pixels, above the limit of 105 megapixels"),
    "bomb.png": (png_of_size(100_000, 100_000), "has 100000x100000 pixels, above the limit of 105 megapixels"),
    "wide.webp": (webp_of_size(16_000, 16_000), "has 16000x16000 pixels, above the limit of 105 megapixels"),
    "exact.webp": (webp_of_size(9_000, 16_000, lossless=True), "has 9000x16000 pixels, above the limit"),
    "wide.tif": (tiff_of_size(70_000, 2_000), "has 70000x2000 pixels, above the limit of 105 megapixels"),
    "nothing.png": (png_of_size(0, 10), "is a PNG file that is damaged or cut short"),
}


EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, "Maker"
EXIF.get_ifd(0x8769).update({0x8827: 400})
EXIF.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 30.25)})
WHOLE = {
    "jpg": by_pillow("JPEG", exif=EXIF, icc_profile=b"profile" * 9),
    "cmyk jpg": by_pillow("JPEG", "CMYK", progressive=True),
    "png": by_pillow("PNG", exif=EXIF),
    "deep png": cv2.imencode(".png", DEEP)[1].tobytes(),
    "webp": by_pillow("WEBP", exif=EXIF),
    "lossless webp": by_pillow("WEBP", "RGBA", lossless=True),
    "tif": by_pillow("TIFF", compression="tiff_lzw", exif=EXIF),
    "deep tif": by_tifffile(DEEP, photometric="rgb", compression="zlib", predictor=2, tile=(16, 16)),
    "apart tif": by_tifffile(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate", byteorder=">"),
    "bmp": by_pillow("BMP", "P"),
}


def sentence(path: Path) -> str:
    """Returns what is said about a file that is not read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as raised:
            read_photo(path)
    text = str(raised.value)
    assert text.startswith(f"{path} ") and text.endswith(".") and "\n" not in text and text.isascii()
    return text


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_one_sentence(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, said = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    assert said in sentence(tmp_path / name)
    assert capfd.readouterr() == ("", "")  # decoders in C have said nothing of their own
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_head_of_a_file_tells_is_what_reading_it_tells(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(REFUSED[name][0])
    whole = sentence(path)
    try:
        check_photo(path)
    except ImageError as error:
        assert str(error) == whole
    else:
        assert "damaged or cut short" in whole or name in ("twelve bits.jpg", "deep cmyk.tif")


def test_an_animation_is_told_behind_a_large_chunk_and_not_behind_the_end(tmp_path: Path) -> None:
    moving, path = animated("PNG"), tmp_path / "a.png"
    text = b"tEXt" + b"Comment\0" + bytes([65]) * 70_000
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    path.write_bytes(moving[:33] + chunk + moving[33:])
    with pytest.raises(ImageError, match="is animated"):
        check_photo(path)
    path.write_bytes(PNG + moving[33:])
    check_photo(path)
    # An animation of one frame ends where its end mark stands, whatever lies behind.
    second = moving.index(b"fcTL", moving.index(b"IDAT")) - 4
    path.write_bytes(moving[:second] + PNG[-12:] + moving[second:])
    check_photo(path)
    assert read_photo(path).pixels.shape == PIXELS.shape


def test_a_file_that_shrinks_while_it_is_looked_at_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(TIFF)
    with path.open("rb") as file:
        data = exif.OpenBytes(file)
        os.truncate(path, 20)
        with pytest.raises((ValueError, struct.error)):
            exif.read(data)


def test_values_that_lie_over_each_other_take_no_memory(tmp_path: Path) -> None:
    # 3,000 entries, each the file but for its header: 36 kB that would be 100 MB.
    count = 3_000
    length = 8 + 2 + 12 * count + 4
    entry = struct.pack("<HHII", 40_000, 7, length - 8, 8)
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, count) + entry * count + bytes(4))
    tracemalloc.start()
    try:
        assert "is a TIFF file that is damaged or cut short" in sentence(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_head_refuses_nothing_that_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(WHOLE[name])
    check_photo(path)


def test_what_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    assert "is a folder; give a picture file" in sentence(tmp_path)
    assert "does not exist; give a picture file" in sentence(tmp_path / "none.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "is a pipe or device; give a picture file" in sentence(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "cannot be read: Too many levels of symbolic links" in sentence(tmp_path / "loop.jpg")
    assert "cannot be read: File name too long" in sentence(tmp_path / ("a" * 300))


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_limits_that_other_code_has_set_do_not_interfere(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "a"
    path.write_bytes(WHOLE[name])
    assert read_photo(path).pixels.size == PIXELS.size
    assert Image.MAX_IMAGE_PIXELS == 10


def test_smaller_versions_beside_a_picture_are_passed_over(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PIXELS, photometric="rgb")
        file.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, PIXELS)


# Damage of any kind


def checked_chunks(data: bytes) -> bytes:
    """Returns a PNG with right checksums, so that damage reaches the decoder."""
    fixed = bytearray(data)
    at = 8
    while at + 12 <= len(fixed):
        end = at + 8 + int.from_bytes(fixed[at : at + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed)


def no_other_error(tmp_path: Path, data: bytes) -> None:
    path, target = tmp_path / "a", tmp_path / "b"
    path.write_bytes(data)
    target.unlink(missing_ok=True)
    try:
        photo = read_photo(path)
    except ImageError as error:
        assert str(error).startswith(f"{path} ")
        return
    assert isinstance(photo, Photo) and photo.pixels.shape[2] == 3
    photo.srgb()
    for metadata in (True, False):
        write_photo(target, photo, metadata=metadata, remark="restored")
        assert read_photo(target).pixels.shape == photo.pixels.shape


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


def damaged(check: Callable[[bytes], bytes]) -> st.SearchStrategy[bytes]:
    """Returns a strategy of whole files with a few bytes changed, most of them near the start, and perhaps cut."""

    def harm(name: str, changes: list[tuple[int, int, bool]], cut: int | None) -> bytes:
        data = bytearray(WHOLE[name])
        for at, value, is_near in changes:
            data[at % (min(len(data), 300) if is_near else len(data))] = value
        return check(bytes(data if cut is None else data[: cut % len(data)]))

    change = st.tuples(st.integers(0, 1 << 20), st.integers(0, 255), st.booleans())
    return st.builds(
        harm, st.sampled_from(sorted(WHOLE)), st.lists(change, max_size=4), st.none() | st.integers(1, 1 << 20)
    )


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damaged(lambda data: data))
def test_damage_is_an_image_error_or_a_photo(folder: Path, data: bytes) -> None:
    no_other_error(folder, data)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damaged(lambda data: checked_chunks(data) if data.startswith(b"\x89PNG") else data))
def test_damage_behind_right_checksums_is_too(folder: Path, data: bytes) -> None:
    no_other_error(folder, data)


@pytest.mark.slow
@settings(
    max_examples=3000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damaged(lambda data: checked_chunks(data) if data.startswith(b"\x89PNG") else data))
def test_damage_of_three_thousand_kinds(folder: Path, data: bytes) -> None:
    no_other_error(folder, data)
