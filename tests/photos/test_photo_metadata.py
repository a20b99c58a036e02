"""What lies beside the pixels of a picture file: orientation, EXIF, profiles, texts; kept or taken away."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from facesr.errors import ImageError
from facesr.photos.photo_file import Photo, read_photo, write_photo
from facesr.png import png_remark
from tests.photos.made import (
    EIGHT,
    GREY,
    HEIGHT,
    REMARK,
    RGB,
    WIDTH,
    by_opencv,
    by_pillow,
    by_tifffile,
    opened,
    picture,
    reread,
)


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


def test_a_strange_profile_is_kept_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    strange = WIDE[:64] + b"\1\0\0\0" + WIDE[68:]  # an intent that does not exist
    photo, again, _ = reread(tmp_path, by_pillow("PNG", picture("RGB"), icc_profile=strange))
    assert photo.icc == again.icc == strange
    photo.srgb()
    assert capfd.readouterr() == ("", "")


def test_resolution_comment_and_xmp_of_jpeg_survive(tmp_path: Path) -> None:
    given = {"dpi": (300, 200), "comment": b"a comment", "xmp": b"<x tiff:Orientation='8'/>"}
    _, again, _ = reread(tmp_path, by_pillow("JPEG", picture("RGB"), **given))
    assert (again.dpi, again.comment, again.xmp) == ((300, 200), b"a comment", b"<x tiff:Orientation='1'/>")


def with_thumbnail() -> bytes:
    """Returns an EXIF block with a second directory and a thumbnail."""
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


def grey_profile() -> bytes:
    """Returns a profile for greys with gamma 1, so that sRGB has other levels for them."""

    def text(words: bytes) -> bytes:
        return b"desc\0\0\0\0" + struct.pack(">I", len(words) + 1) + words + b"\0" * 80

    parts = {
        b"desc": text(b"linear grey").ljust(104, b"\0"),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">I", 0),
    }
    table, body = struct.pack(">I", len(parts)), b""
    for kind, content in parts.items():
        table += kind + struct.pack(">II", 132 + 12 * len(parts) + len(body), len(content))
        body += content
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ") + bytes(12)
    header += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def with_tag(kind: bytes, name: bytes | None, content: bytes | None) -> bytes:
    """Returns the wide profile with another name or other content for a tag."""
    profile = bytearray(WIDE)
    at = next(place for place in range(132, 132 + 12 * profile[131], 12) if profile[place : place + 4] == kind)
    if name is not None:
        profile[at : at + 4] = name
    if content is not None:
        profile[at + 4 : at + 12] = struct.pack(">II", len(profile), len(content))
        profile += content
    return bytes(profile)


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        (b"gTRC", b"none", None),
        (b"gXYZ", b"none", None),
        (b"gXYZ", None, b"XYZ \0\0\0\0\0\0"),
        (b"rTRC", None, b"para\0\0\0\0\0\1\0\0" + struct.pack(">3i", 1 << 16, 0, 1 << 16)),
        (b"rTRC", None, b"para\0\0\0\0\0\4\0\0" + bytes(8)),
        (b"rTRC", None, b"para\0\0\0\0\0\7\0\0" + bytes(28)),
        (b"rTRC", None, b"para\0\0\0\0\0\0\0\0" + struct.pack(">i", -(1 << 16))),
        (b"rTRC", None, b"curv\0\0\0\0" + struct.pack(">I", 1 << 31)),
    ],
)
def test_damaged_profiles_of_sixteen_bits_are_one_sentence(
    tmp_path: Path, kind: bytes, name: bytes | None, content: bytes | None, recwarn: pytest.WarningsRecorder
) -> None:
    photo = Photo(RGB, None, False, "PNG", icc=with_tag(kind, name, content))
    with pytest.raises(ImageError, match="16 bits and a damaged profile; keep the metadata"):
        write_photo(tmp_path / "a.png", photo, metadata=False)
    assert list(tmp_path.iterdir()) == [] and not recwarn.list
    write_photo(tmp_path / "a.png", photo)


def test_a_directory_without_room_for_the_remark_is_one_sentence(tmp_path: Path) -> None:
    entries = b"".join(struct.pack("<HHII", 0x1000, 1, 1, 0) for _ in range(0xFFFF))
    full = b"II*\0" + struct.pack("<IH", 8, 0xFFFF) + entries + bytes(4)
    photo = Photo(EIGHT[..., :3].copy(), None, False, "WEBP", exif=full)
    with pytest.raises(ImageError, match="EXIF data holds more entries than a directory can"):
        write_photo(tmp_path / "a.webp", photo, remark=REMARK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", [8, 16])
def test_greys_are_converted_by_a_profile_for_greys(tmp_path: Path, depth: int) -> None:
    levels = GREY if depth == 16 else EIGHT[..., 0]
    photo = Photo(np.repeat(levels[..., None], 3, axis=2), None, True, "PNG", icc=grey_profile())
    write_photo(tmp_path / "kept.png", photo)
    assert read_photo(tmp_path / "kept.png").icc == grey_profile()
    write_photo(tmp_path / "a.png", photo, metadata=False)
    again = read_photo(tmp_path / "a.png")
    assert again.is_grey and again.icc is None and again.depth == depth
    linear = levels / (2.0**depth - 1)
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    off = np.abs(again.pixels[..., 0] / (2.0**depth - 1) - wanted).max()
    assert off < (1.5 / 255 if depth == 8 else 1e-4)
    assert np.abs(photo.srgb()[..., 1] / 255 - wanted).max() < 2 / 255


def test_a_picture_that_was_restored_before_says_so_once(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_photo(path, Photo(EIGHT[..., :3].copy(), None, False, "PNG"), remark=REMARK)
    for _ in range(2):
        write_photo(path, read_photo(path), remark=REMARK)
    assert path.read_bytes().count(REMARK.encode()) == 1
    assert png_remark(path.read_bytes()) == REMARK
