"""Picture files of every format, mode and depth: what survives reading and writing."""

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
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from facesr.errors import ImageError
from facesr.photos.photo_file import Photo, read_photo, suffixes_of, write_photo

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


GREY_ALPHA, GREY = SIXTEEN[..., [0, 3]], SIXTEEN[..., 0]
RGB = np.ascontiguousarray(SIXTEEN[..., :3])
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
        from PIL.JpegImagePlugin import get_sampling

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


# Metadata


def wide_gamut() -> bytes:
    """Returns an RGB profile of three gammas and strong colorants, made of Pillow's sRGB profile."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * profile[131], 12)}
    start = int.from_bytes(profile[entries[b"desc"] + 4 :][:4], "big")
    length = int.from_bytes(profile[entries[b"desc"] + 8 :][:4], "big")
    text = bytes(profile[start : start + length]).replace(b"s\0R\0G\0B", b"w\0i\0d\0e")
    profile[start : start + length] = text
    for kind, numbers in {
        b"rXYZ": (0.60974, 0.31111, 0.01947),  # Adobe RGB (1998)
        b"gXYZ": (0.20528, 0.62567, 0.06087),
        b"bXYZ": (0.14919, 0.06322, 0.74457),
    }.items():
        at = int.from_bytes(profile[entries[kind] + 4 :][:4], "big")
        profile[at + 8 : at + 20] = b"".join(round(number * 65536).to_bytes(4, "big") for number in numbers)
    return bytes(profile)


WIDE = wide_gamut()


def exif_block(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Software] = "Maker", "camera 1.0"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.ISOSpeedRatings: 400, 0xA002: 4000, 0x927C: b"note" * 9})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 8.0, 30.25)})
    return exif.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF 16"])
def test_orientation_is_applied_and_named_one(tmp_path: Path, format: str, orientation: int) -> None:
    how = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    if format == "TIFF 16":
        data = by_tifffile(RGB, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    else:
        data = by_pillow(format, picture("RGB"), exif=exif_block(orientation), **how)
    photo, again, path = reread(tmp_path, data)
    # Source: EXIF 2.32, tag Orientation: where the 0th row and column of the file are in the picture.
    turns = [
        *(lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1]),
        *(lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1)),
        *(lambda a: np.rot90(a, -1)[::-1, ::-1].swapaxes(0, 1)[:, ::-1].swapaxes(0, 1), lambda a: np.rot90(a)),
    ]
    turns[6] = lambda a: a[::-1, ::-1].swapaxes(0, 1)
    wanted = turns[orientation - 1](RGB if format == "TIFF 16" else EIGHT[..., :3])
    assert np.abs(photo.pixels.astype(int) - wanted).max() <= (6 if format == "JPEG" else 0)
    assert again.pixels.shape == photo.pixels.shape == wanted.shape
    with opened(path) as image:
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_and_profile_survive(tmp_path: Path, format: str) -> None:
    data = by_pillow(format, picture("RGB"), exif=exif_block(6), icc_profile=WIDE)
    photo, again, path = reread(tmp_path, data, remark=REMARK)
    assert photo.icc == again.icc == WIDE
    with opened(path) as image:
        exif = image.getexif()
        assert image.info["icc_profile"] == WIDE
        assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation]) == ("Maker", 1)
        assert exif[ExifTags.Base.Software] == ("camera 1.0" if format == "PNG" else REMARK)
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        assert (inner[ExifTags.Base.ISOSpeedRatings], inner[0x927C]) == (400, b"note" * 9)
        assert inner[0xA002] == HEIGHT  # the width of what is written
        assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N", 2: (48.0, 8.0, 30.25)}
        if format == "PNG":
            assert image.text["Comment"] == REMARK  # type: ignore[attr-defined]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_remark_is_all_that_is_left_without_metadata(tmp_path: Path, format: str) -> None:
    given: dict[str, object] = {} if format == "BMP" else {"exif": exif_block(1), "icc_profile": WIDE}
    if format == "PNG":
        given["pnginfo"] = PngImagePlugin.PngInfo()
        given["pnginfo"].add_text("Author", "somebody")  # type: ignore[attr-defined]
    data = by_pillow(format, picture("RGB"), dpi=(300, 300), lossless=True, quality=95, **given)
    photo, again, path = reread(tmp_path, data, metadata=False, remark=REMARK)
    assert again.icc is again.xmp is again.dpi is None
    with opened(path) as image:
        assert set(image.getexif()) - set(range(256, 300)) - {317, 338} <= {0x0131}
        assert {"PNG": image.info.get("Comment"), "BMP": REMARK}.get(format, image.getexif().get(0x0131)) == REMARK
        assert "Author" not in image.info
    assert b"somebody" not in path.read_bytes()
    # What is shown stays: WIDE was converted.
    assert np.abs(photo.srgb().astype(int) - again.pixels).mean() < (2 if format == "JPEG" else 0.01)
    if format != "BMP":
        assert np.abs(photo.pixels.astype(int) - again.pixels).mean() > 1


def test_texts_and_resolution_of_png_survive(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "somebody")
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    _, _, path = reread(tmp_path, by_pillow("PNG", picture("RGB"), pnginfo=info, dpi=(300, 300)), remark=REMARK)
    with opened(path) as image:
        assert image.info["Author"] == "somebody" and image.info["Comment"] == REMARK
        assert round(image.info["dpi"][0]) == 300 and 'Orientation="1"' in image.info["XML:com.adobe.xmp"]


def test_resolution_comment_and_xmp_of_jpeg_survive(tmp_path: Path) -> None:
    given = {"dpi": (300, 200), "comment": b"a comment", "xmp": b"<x tiff:Orientation='8'/>"}
    _, again, _ = reread(tmp_path, by_pillow("JPEG", picture("RGB"), **given))
    assert (again.dpi, again.comment, again.xmp) == ((300, 200), b"a comment", b"<x tiff:Orientation='1'/>")


def with_thumbnail() -> bytes:
    """Returns an EXIF block with a second directory and a thumbnail."""
    import struct

    thumbnail = b"\xff\xd8THUMBNAIL\xff\xd9"
    first = struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + struct.pack("<I", 8 + 18)
    second = struct.pack("<HHHII HHII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail)) + bytes(4)
    return (b"II*\0\x08\0\0\0" + first + second).ljust(56, b"\0") + thumbnail


def test_thumbnail_is_gone(tmp_path: Path) -> None:
    photo, _, path = reread(tmp_path, by_pillow("JPEG", picture("RGB"), exif=b"Exif\0\0" + with_thumbnail()))
    assert photo.exif is not None and b"THUMB" not in photo.exif and len(photo.exif) == 26
    assert b"THUMB" not in path.read_bytes()
    assert photo.pixels.shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("cut", [1, 7, 9, 20, 60])
def test_damaged_exif_is_dropped(tmp_path: Path, cut: int) -> None:
    photo, _, path = reread(tmp_path, by_pillow("JPEG", picture("RGB"), exif=exif_block(1)[: 6 + cut]), remark=REMARK)
    assert photo.exif is None
    assert opened(path).getexif()[0x0131] == REMARK


def test_a_full_exif_block_leaves_the_remark_to_the_comment(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 65480
    _, again, _ = reread(tmp_path, by_pillow("JPEG", picture("RGB"), exif=exif), remark=REMARK)
    assert again.comment == REMARK.encode() and again.exif is not None and len(again.exif) > 65480


# The view in sRGB


def test_view_in_srgb(tmp_path: Path) -> None:
    wide = by_pillow("PNG", picture("RGB"), icc_profile=WIDE)
    photo, _, _ = reread(tmp_path, wide)
    to = ImageCms.profileToProfile(picture("RGB"), io.BytesIO(WIDE), ImageCms.createProfile("sRGB"))
    np.testing.assert_array_equal(photo.srgb(), np.asarray(to))
    deep, _, _ = reread(tmp_path, by_opencv(".png", RGB))
    np.testing.assert_array_equal(deep.srgb(), np.rint(RGB / 257).astype(np.uint8))
    clear, _, _ = reread(tmp_path, by_pillow("PNG", picture("RGBA")))
    white = Image.new("RGBA", (WIDTH, HEIGHT), "white")
    over = np.asarray(Image.alpha_composite(white, picture("RGBA")).convert("RGB"), int)
    assert np.abs(clear.srgb() - over).max() <= 1


def test_sixteen_bits_are_converted_with_all_their_bits(tmp_path: Path) -> None:
    photo = Photo(RGB, None, False, "PNG", icc=WIDE)
    write_photo(tmp_path / "a.png", photo, metadata=False)
    deep = read_photo(tmp_path / "a.png")
    assert deep.depth == 16 and deep.icc is None
    assert np.abs(np.rint(deep.pixels / 257) - photo.srgb()).max() <= 1
    assert len(np.unique(deep.pixels)) > 2000


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
