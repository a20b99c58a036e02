"""Pictures of every kind a user may have become upright RGB, or are refused with a reason; nothing else happens."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from facesr.errors import DataError
from facesr.photos.decode import MAX_PIXELS, Unusable, decode_picture, list_pictures, read_picture


def colours(height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    """A smooth picture in which every direction and channel differs."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 8, rows * 12, 250 - columns * 4 - rows * 3], axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    assert a.shape == b.shape and a.dtype == np.uint8
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_keep_every_value(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert difference(decode_picture(encoded(Image.fromarray(colours()), kind, **options)), colours()) == 0


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_close(kind: str) -> None:
    assert difference(decode_picture(encoded(Image.fromarray(colours()), kind, quality=95)), colours()) < 30


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_another_decoder(progressive: bool) -> None:
    data = encoded(Image.fromarray(colours(40, 48)), "JPEG", quality=90, progressive=progressive)
    assert difference(decode_picture(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)) <= 1


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_is_applied(
    orientation: int, upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(colours()), "PNG", exif=exif)
    assert difference(decode_picture(data), upright(colours())) == 0


def test_a_damaged_exif_block_does_not_cost_the_picture() -> None:
    data = encoded(Image.fromarray(colours()), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert difference(decode_picture(data), colours()) == 0


def test_greyscale_and_bilevel_become_rgb() -> None:
    grey = colours()[:, :, 0]
    assert difference(decode_picture(encoded(Image.fromarray(grey), "PNG")), np.repeat(grey[..., None], 3, 2)) == 0
    bilevel = Image.fromarray(((grey > 100) * np.uint8(255)).astype(np.uint8)).convert("1")
    assert set(np.unique(decode_picture(encoded(bilevel, "PNG")))) == {0, 255}


def test_transparency_shows_white() -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[:10] = 255
    alpha[5] = 128
    wanted = colours().astype(float)
    wanted[10:] = 255
    wanted[5] = wanted[5] * 128 / 255 + 255 * 127 / 255
    rgba = Image.fromarray(np.dstack([colours(), alpha]))
    assert difference(decode_picture(encoded(rgba, "PNG")), wanted.round().astype(np.uint8)) <= 1
    grey_alpha = Image.fromarray(np.dstack([colours()[:, :, 0], alpha]), "LA")
    grey = decode_picture(encoded(grey_alpha, "PNG"))
    assert difference(grey[:5], np.repeat(colours()[:5, :, :1], 3, 2)) == 0
    assert (grey[10:] == 255).all()


def test_palettes_are_expanded_and_their_transparency_shows_white() -> None:
    values = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.fromarray(values, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert decode_picture(encoded(image, "PNG")).tolist()[1] == [[0, 0, 255], [0, 255, 0]]
    see_through = decode_picture(encoded(image, "PNG", transparency=2))
    assert see_through.tolist() == [[[255, 0, 0], [0, 255, 0]], [[255, 255, 255], [0, 255, 0]]]


def test_cmyk_becomes_rgb() -> None:
    data = encoded(Image.fromarray(colours()).convert("CMYK"), "JPEG", quality=98)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert difference(decode_picture(data), colours()) < 30


def test_sixteen_bits_are_scaled_to_eight() -> None:
    levels = np.array([[0, 128, 129, 257 * 7, 65535]], np.uint16)
    done, data = cv2.imencode(".png", levels)
    assert done
    assert decode_picture(data.tobytes())[0, :, 0].tolist() == [0, 0, 1, 7, 255]
    done, data = cv2.imencode(".png", colours().astype(np.uint16)[:, :, ::-1] * 257)
    assert difference(decode_picture(data.tobytes()), colours()) == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    data = encoded(red, kind, save_all=True, append_images=[blue], duration=50)
    assert difference(decode_picture(data), np.array(red)) <= 3


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    # A profile whose red and blue primaries are exchanged: what is stored as red looks blue.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert decode_picture(encoded(red, "PNG", icc_profile=swapped))[0, 0].tolist() == pytest.approx([0, 0, 255], abs=3)
    assert decode_picture(encoded(red, "PNG", icc_profile=profile))[0, 0].tolist() == [255, 0, 0]
    assert decode_picture(encoded(red, "PNG", icc_profile=b"broken"))[0, 0].tolist() == [255, 0, 0]


def bomb(width: int, height: int) -> bytes:
    """A tiny PNG that claims to be width x height."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunks + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty file"),
        (b"not a picture", "unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unknown format"),
        (bomb(10_000, 10_000), "too large"),
        (bomb(2**31 - 1, 2**31 - 1), "too large"),
        (encoded(Image.fromarray(colours()), "JPEG")[:-200], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50.0), "PNG")[:-900], "damaged"),
        (encoded(Image.fromarray(colours()), "WEBP")[:-40], "damaged"),
        (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "unknown range"),
        (encoded(Image.new("I", (4, 4), 70000), "TIFF"), "unknown range"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_kind(data: bytes, kind: str) -> None:
    with pytest.raises(Unusable) as caught:
        decode_picture(data)
    assert str(caught.value).split(":")[0] == kind
    assert MAX_PIXELS < 100_000_000


def test_random_damage_is_decoded_or_refused_but_never_fails_otherwise() -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        sound = np.frombuffer(encoded(Image.fromarray(colours()), kind), np.uint8)
        for _ in range(40):
            broken = sound.copy()
            broken[rng.integers(0, len(broken), 4)] = rng.integers(0, 256, 4)
            try:
                assert decode_picture(broken.tobytes()).shape[2] == 3
            except Unusable:
                refused += 1
    assert 40 < refused < 240


def test_files_that_are_no_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    for name in ("pipe.jpg", "folder.jpg", "link.jpg"):
        with pytest.raises(Unusable, match=r"^unreadable: "):
            read_picture(tmp_path / name)


def test_a_damaged_file_still_has_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    with pytest.raises(Unusable) as caught:
        read_picture(tmp_path / "a.png")
    assert caught.value.sha256.startswith("ba7816bf")  # FIPS 180-2's own example


def test_pictures_are_listed_in_order_below_every_folder(tmp_path: Path) -> None:
    names = ["b.PNG", "a/\u00e9\u4e2d \u00fc.jpg", "a/b/c.webp", "a.heic"]
    passed_over = [".hidden.png", "._b.png", "__MACOSX/b.png", ".git/x.png", "notes.txt", "labels.csv"]
    for name in names + passed_over:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "__MACOSX")
    assert list_pictures(tmp_path) == sorted([*names, "elsewhere/b.png"])


def test_names_that_are_no_utf8_are_listed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    assert [os.fsencode(name) for name in list_pictures(tmp_path)] == [b"\xff.png"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.touch()])
def test_a_source_that_is_no_folder_is_one_sentence(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x")
    with pytest.raises(DataError, match="give the folder that holds the pictures"):
        list_pictures(tmp_path / "x")
