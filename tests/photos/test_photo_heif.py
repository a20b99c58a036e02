"""HEIC and AVIF files: made here, read, written again, and refused."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from facesr.errors import ImageError
from facesr.photos.photo_file import Photo, format_of, read_photo, write_photo
from tests.photos.test_photo_metadata import WIDE, exif_block

try:
    import pillow_heif
except ImportError:
    pillow_heif = None

needs_heic = pytest.mark.skipif(pillow_heif is None, reason="uv sync --extra heic brings it")
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
FORMATS = [pytest.param("HEIC", marks=needs_heic), pytest.param("AVIF", marks=needs_avif)]
HEIGHT, WIDTH = 40, 60
Y, X = np.mgrid[:HEIGHT, :WIDTH]
# Ten bits, smooth, unlike in every corner.
DEEP = np.stack([X * 17, Y * 26, (X + Y) * 10], axis=-1).astype(np.uint16)
EIGHT = (DEEP >> 2).astype(np.uint8)
LOSSY = 6


def heic_of(pixels: np.ndarray, mode: str, bits: int = 8, **how: Any) -> bytes:
    """Returns a HEIC file; lossless unless asked otherwise."""
    file = io.BytesIO()
    given = {"quality": -1, "chroma": 444, "bit_depth": bits, "matrix_coefficients": 0 if mode[0] == "R" else 6} | how
    pillow_heif.encode(mode, pixels.shape[1::-1], pixels.tobytes(), file, **given)
    return file.getvalue()


def file_of(format: str, **how: Any) -> bytes:
    if format == "HEIC":
        return heic_of(EIGHT, "RGB", **how)
    file = io.BytesIO()
    Image.fromarray(EIGHT).save(file, "AVIF", quality=100, subsampling="4:4:4", **how)
    return file.getvalue()


def read(folder: Path, data: bytes) -> Photo:
    (folder / "a").write_bytes(data)
    return read_photo(folder / "a")


def rewritten(folder: Path, photo: Photo, **how: Any) -> Photo:
    write_photo(folder / "b", photo, **how)
    return read_photo(folder / "b")


def refusal(folder: Path, data: bytes) -> str:
    with pytest.raises(ImageError) as raised:
        read(folder, data)
    assert str(raised.value).startswith(f"{folder / 'a'} ") and "\n" not in str(raised.value)
    return str(raised.value)


def off_by(one: Photo, other: Photo) -> int:
    return int(np.abs(one.pixels.astype(int) - other.pixels).max())


@needs_heic
@pytest.mark.parametrize(("bits", "top"), [(8, 255), (10, 1023), (12, 4095)])
@pytest.mark.parametrize("is_grey", [False, True])
def test_heic_levels_become_the_nearest_of_eight_or_sixteen_bits(
    tmp_path: Path, bits: int, top: int, is_grey: bool
) -> None:
    levels = (DEEP >> 2 if bits == 8 else DEEP << (bits - 10)).astype(np.uint8 if bits == 8 else np.uint16)
    levels[0, 0], levels[0, 1] = 0, top
    given = np.ascontiguousarray(levels[..., 1]) if is_grey else levels
    mode = ("L" if is_grey else "RGB") + ("" if bits == 8 else f";{bits}")
    photo = read(tmp_path, heic_of(given, mode, bits))
    full = 255 if bits == 8 else 65535
    expected = np.rint(given.astype(np.float64) * full / top)
    expected = np.repeat(expected[..., None], 3, axis=2) if is_grey else expected
    np.testing.assert_array_equal(photo.pixels, expected)
    assert (photo.format, photo.is_grey, photo.alpha, photo.encoding.bits) == ("HEIC", is_grey, None, bits)
    again = rewritten(tmp_path, photo)
    assert (again.encoding.bits, again.is_grey, again.depth) == (bits, is_grey, photo.depth)
    assert off_by(photo, again) <= LOSSY * (full + 1) // 256


@needs_heic
@pytest.mark.parametrize("bits", [8, 10])
def test_heic_keeps_alpha(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    alpha = (X * 17 * top // 1023).astype(np.uint16)
    given = np.dstack([DEEP >> (10 - bits), alpha]).astype(np.uint8 if bits == 8 else np.uint16)
    photo = read(tmp_path, heic_of(given, "RGBA" if bits == 8 else "RGBA;10", bits))
    assert photo.alpha is not None
    full = 255 if bits == 8 else 65535
    np.testing.assert_array_equal(photo.alpha, np.rint(alpha * (full / top)))
    again = rewritten(tmp_path, photo)
    assert again.alpha is not None
    assert np.abs(again.alpha.astype(int) - photo.alpha).max() <= LOSSY * (full + 1) // 256


@needs_avif
def test_avif_keeps_alpha_and_grey(tmp_path: Path) -> None:
    for image in (Image.fromarray(np.dstack([EIGHT, EIGHT[..., 0]])), Image.fromarray(EIGHT[..., 0])):
        file = io.BytesIO()
        image.save(file, "AVIF", quality=100)
        photo = read(tmp_path, file.getvalue())
        assert photo.holds_no_colour == (image.mode == "L") and (photo.alpha is not None) == (image.mode == "RGBA")
        again = rewritten(tmp_path, photo)
        assert again.holds_no_colour == photo.holds_no_colour
        if photo.alpha is not None and again.alpha is not None:
            assert np.abs(again.alpha.astype(int) - EIGHT[..., 0]).max() <= LOSSY


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_and_say_so(tmp_path: Path, format: str, orientation: int) -> None:
    photo = read(tmp_path, file_of(format, exif=exif_block(orientation)))
    across = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    turned = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE}
    how = (across | turned | {8: Image.Transpose.ROTATE_90}).get(orientation)
    image = Image.fromarray(EIGHT)
    expected = np.asarray(image if how is None else image.transpose(how))
    assert photo.pixels.shape == expected.shape
    assert np.abs(photo.pixels.astype(int) - expected).max() <= LOSSY
    again = rewritten(tmp_path, photo)  # turned once, and not once more
    assert off_by(photo, again) <= 2 * LOSSY


@pytest.mark.parametrize("format", FORMATS)
def test_what_lies_beside_the_pixels_is_kept_or_taken_away(tmp_path: Path, format: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    photo = read(tmp_path, file_of(format, exif=exif_block(1), icc_profile=WIDE, xmp=xmp))
    again = rewritten(tmp_path, photo, remark="restored")
    assert (again.icc, again.xmp) == (WIDE, xmp)
    assert again.exif is not None
    told = Image.Exif()
    told.load(again.exif)
    assert (told[0x010F], told[0x0131], told.get_ifd(0x8825)[1]) == ("Maker", "restored", "N")
    bare = rewritten(tmp_path, photo, metadata=False)
    assert (bare.icc, bare.xmp, bare.exif) == (None, None, None)


@needs_heic
def test_of_several_pictures_the_primary_one_is_taken_and_said_so(tmp_path: Path) -> None:
    several = pillow_heif.HeifFile()
    for picture in (EIGHT[::-1].copy(), EIGHT, EIGHT[:, ::-1].copy()):
        several.add_frombytes("RGB", (WIDTH, HEIGHT), picture.tobytes())
    file = io.BytesIO()
    several.save(file, quality=-1, chroma=444, primary_index=1)
    photo = read(tmp_path, file.getvalue())
    assert photo.note == "of its 3 pictures the primary one is taken"
    assert np.abs(photo.pixels.astype(int) - EIGHT).max() <= LOSSY
    assert read(tmp_path, heic_of(EIGHT, "RGB")).note == ""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(10_501, 10_000), (2**31, 2**31)])
def test_the_header_alone_refuses_bombs(tmp_path: Path, format: str, size: tuple[int, int]) -> None:
    data = bytearray(file_of(format))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    assert f"has {size[0]}x{size[1]} pixels, above the limit of 105 megapixels" in refusal(tmp_path, bytes(data))


@pytest.mark.parametrize("format", FORMATS)
def test_damage_is_one_sentence(tmp_path: Path, format: str) -> None:
    whole = file_of(format)
    for end in range(40, len(whole) - 1, 41):
        assert f"{format} file that is damaged or cut short" in refusal(tmp_path, whole[:end])
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(32, len(data), 4):
            data[place] = rng.integers(256)
        try:
            assert read(tmp_path, bytes(data)).pixels.shape[2] == 3
        except ImageError as error:
            assert str(error).startswith(f"{tmp_path / 'a'} ")


@needs_heic
def test_a_picture_larger_than_its_header_says_is_damage(tmp_path: Path) -> None:
    data = bytearray(file_of("HEIC"))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = (16).to_bytes(4, "big") * 2
    assert "damaged" in refusal(tmp_path, bytes(data))


@needs_heic
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path: Path, transfer: int, name: str) -> None:
    data = heic_of(DEEP, "RGB;10", 10, color_primaries=9, transfer_characteristics=transfer, full_range_flag=1)
    assert f"is HDR ({name})" in refusal(tmp_path, data)


@needs_heic
def test_colours_that_only_the_header_names_are_written_again(tmp_path: Path) -> None:
    data = heic_of(
        EIGHT, "RGB", matrix_coefficients=6, color_primaries=12, transfer_characteristics=13, full_range_flag=1
    )
    photo = read(tmp_path, data)
    assert photo.encoding.colours == (12, 13)
    assert rewritten(tmp_path, photo).encoding.colours == (12, 13)


@needs_avif
def test_avif_of_more_bits_is_refused(tmp_path: Path) -> None:
    data = bytearray(file_of("AVIF"))
    data[data.index(b"av1C") + 6] |= 0x40
    assert "is an AVIF picture of more than 8 bits" in refusal(tmp_path, bytes(data))


@needs_heic
def test_large_pictures_are_written_as_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesr.photos.photo_heif._MOST_WHOLE", 1000)
    monkeypatch.setattr("facesr.photos.photo_heif._TILE_SIDE", 64)
    large = np.tile(EIGHT, (3, 3, 1))
    photo = replace(read(tmp_path, heic_of(EIGHT, "RGB")), pixels=large)
    assert np.abs(rewritten(tmp_path, photo).pixels.astype(int) - large).max() <= 16
    assert pillow_heif.open_heif(tmp_path / "b").info["tiling"]


def test_without_the_extra_one_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for major in (b"heic", b"heix", b"mif1"):
        said = refusal(tmp_path, b"\0\0\0\x18ftyp" + major + b"\0\0\0\0mif1heic")
        assert "is a HEIC picture, which needs the package pillow-heif; install it with: uv sync --extra heic" in said


def test_brands_tell_what_a_file_is(tmp_path: Path) -> None:
    found = {}
    for major, other in ((b"mif1", b"avif"), (b"mif1", b"heic"), (b"avif", b"mif1"), (b"heis", b"mif1")):
        (tmp_path / "a").write_bytes(b"\0\0\0\x18ftyp" + major + b"\0\0\0\0" + b"miaf" + other)
        found[major, other] = format_of(tmp_path / "a")
    assert list(found.values()) == ["AVIF", "HEIC", "AVIF", "HEIC"]
