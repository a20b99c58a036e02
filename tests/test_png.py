"""Pictures at the edges: what is read, what is refused and with which sentence."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facesr.errors import DataError, ImageError
from facesr.png import (
    PNG_SIGNATURE,
    chunks,
    decode_png,
    encode_png,
    list_png,
    png_header,
    png_remark,
    read_png,
    stack_pictures,
    write_png,
)

LEFT_BEHIND = (".DS_Store", "._10.png", "._new.png", ".hidden.png", "Thumbs.db", "desktop.ini", "Desktop.ini")


def random_picture(height: int = 7, width: int = 5, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png(width: int, height: int, rows: bytes, *before: bytes) -> bytes:
    """Returns an 8-bit RGB PNG of raw rows (each with its filter byte), built by hand."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG_SIGNATURE + header + b"".join(before) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def raw_rows(picture: NDArray[np.uint8]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in picture)


def pillow_bytes(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


# Reading


def test_reads_what_another_library_wrote(tmp_path: Path) -> None:
    picture = random_picture()
    path = tmp_path / "Gesicht-\u00e4\u5f20.png"
    path.write_bytes(pillow_bytes(Image.fromarray(picture)))
    result = read_png(path)
    assert result.dtype == np.uint8
    # Channel order included: the first channel is red.
    assert np.array_equal(result, picture)


def test_reads_a_picture_built_by_hand() -> None:
    picture = random_picture()
    assert np.array_equal(decode_png(png(5, 7, raw_rows(picture)), "x"), picture)


def test_chunks_come_in_order_and_a_cut_one_does_not() -> None:
    data = png(5, 7, raw_rows(random_picture()), chunk(b"tEXt", b"a\0b"))
    found = list(chunks(data))
    assert [part.kind for part in found] == [b"IHDR", b"tEXt", b"IDAT", b"IEND"]
    assert [len(part.content) for part in found] == [13, 3, len(data) - 8 - 4 * 12 - 13 - 3, 0]
    assert [part.start for part in found] == [8, *(part.end for part in found[:-1])]
    assert found[-1].end == len(data)
    assert all(part.is_whole for part in found)
    for missing in range(1, len(data) - 7):
        held = [part for part in found if part.end <= len(data) - missing]
        assert [part.end for part in chunks(data[:-missing])] == [part.end for part in held]


def test_each_byte_of_type_content_and_checksum_counts_in_a_chunk() -> None:
    data = PNG_SIGNATURE + chunk(b"tEXt", b"a\0b")
    for position in range(12, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        assert [part.is_whole for part in chunks(bytes(damaged))] == [False]


@pytest.mark.parametrize("orientation", [3, 6])
def test_stored_pixels_are_not_turned(orientation: int) -> None:
    picture = random_picture(6, 6)
    note = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"
    assert np.array_equal(decode_png(png(6, 6, raw_rows(picture), chunk(b"eXIf", note)), "x"), picture)


def test_colour_hints_do_not_change_values() -> None:
    picture = random_picture()
    hints = [chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"tRNS", b"\0\1\0\2\0\3"), chunk(b"tEXt", b"a\0b")]
    assert np.array_equal(decode_png(png(5, 7, raw_rows(picture), *hints), "x"), picture)


def test_missing_file_and_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png cannot be read: No such file"):
        read_png(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_png(tmp_path)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("L", "8-bit greyscale"),
        ("P", "1-bit palette"),
        ("LA", "8-bit greyscale with alpha"),
        ("RGBA", "8-bit RGB with alpha"),
        ("I;16", "16-bit greyscale"),
        ("1", "1-bit greyscale"),
    ],
)
def test_other_kinds_of_png_are_refused_by_name(mode: str, kind: str) -> None:
    data = pillow_bytes(Image.new(mode, (4, 4)))
    with pytest.raises(ImageError, match=f"^face is {kind}; save it as an 8-bit RGB PNG without alpha"):
        decode_png(data, "face")


def test_sixteen_bit_colour_and_unknown_colour_types_are_refused() -> None:
    done, deep = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))
    assert done
    with pytest.raises(ImageError, match="16-bit RGB;"):
        decode_png(deep.tobytes(), "x")
    strange = bytearray(encode_png(random_picture()))
    strange[25] = 7
    with pytest.raises(ImageError, match="8-bit of an unknown colour type"):
        decode_png(bytes(strange), "x")


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", PNG_SIGNATURE, b"\xff\xd8\xff\xe0" + bytes(100), PNG_SIGNATURE + b"\0\0\0\rXXXX" + bytes(40)],
    ids=["nothing", "text", "signature alone", "jpeg", "no header"],
)
def test_what_is_no_png_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^face is no PNG file; convert it"):
        decode_png(data, "face")


def test_every_single_wrong_byte_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    data = encode_png(random_picture(3, 3))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x41
        with pytest.raises(ImageError):
            decode_png(bytes(damaged), "x")
    # One sentence is enough: the decoder adds nothing of its own on the terminal.
    assert capfd.readouterr().err == ""


def test_every_shortened_file_is_noticed() -> None:
    data = encode_png(random_picture(3, 3))
    for length in range(len(data)):
        with pytest.raises(ImageError):
            decode_png(data[:length], "x")


def test_what_follows_the_end_is_refused_unless_zero() -> None:
    picture = random_picture()
    data = encode_png(picture)
    assert np.array_equal(decode_png(data + bytes(3), "x"), picture)
    with pytest.raises(ImageError, match="damaged"):
        decode_png(data + b"PK\3\4", "x")


@pytest.mark.filterwarnings("default")
def test_missing_rows_and_impossible_sizes_are_refused() -> None:
    picture = random_picture()
    with pytest.raises(ImageError, match="x is a damaged PNG; write it again"):
        decode_png(png(5, 7, raw_rows(picture)[:50]), "x")
    with pytest.raises(ImageError, match="damaged"):
        decode_png(png(0, 7, b""), "x")
    # OpenCV refuses more than 2^30 pixels with an exception of its own.
    with pytest.raises(ImageError, match="x is 100000x100000 and cannot be decoded"):
        decode_png(png(100_000, 100_000, b""), "x")


def test_header_gives_width_first() -> None:
    assert png_header(encode_png(random_picture(7, 5)), "x") == (5, 7, 8, 2)


# Writing


def test_written_pictures_are_read_back_by_both_libraries(tmp_path: Path) -> None:
    picture = random_picture(112, 96)
    path = tmp_path / "301.png"
    write_png(path, picture)
    assert np.array_equal(read_png(path), picture)
    assert np.array_equal(np.asarray(Image.open(path)), picture)
    assert [entry.name for entry in tmp_path.iterdir()] == ["301.png"]


def test_equal_pictures_give_equal_bytes() -> None:
    picture = random_picture()
    turned_memory = np.asfortranarray(picture)
    assert encode_png(picture) == encode_png(turned_memory)
    assert encode_png(picture) != encode_png(picture[::-1])


def test_a_picture_without_pixels_cannot_be_encoded() -> None:
    with pytest.raises((ValueError, cv2.error)):
        encode_png(np.zeros((0, 5, 3), np.uint8))


def test_a_failed_write_is_told_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "301.png"
    write_png(path, random_picture())
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ImageError, match=r"301\.png cannot be written: No space left on device"):
        write_png(path, random_picture(seed=1))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["301.png"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be written: No such file"):
        write_png(tmp_path / "none" / "1.png", random_picture())


# Listing


def test_lists_by_name_and_overlooks_file_managers(tmp_path: Path) -> None:
    for name in ("10.png", "9.PNG", "a.png", *LEFT_BEHIND):
        (tmp_path / name).write_bytes(b"")
    found = list_png(tmp_path)
    assert list(found) == ["10", "9", "a"]
    assert found["9"] == tmp_path / "9.PNG"


@pytest.mark.parametrize("name", ["note.txt", "face.jpg", "no_ending"])
def test_other_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"holds '{name}', which is no PNG file"):
        list_png(tmp_path)


def test_a_folder_that_looks_like_a_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").mkdir()
    with pytest.raises(DataError, match=r"holds '1\.png', which is no PNG file"):
        list_png(tmp_path)


def test_one_id_twice_is_named(tmp_path: Path) -> None:
    for name in ("1.PNG", "1.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"holds '1\.png' and '1\.PNG'; keep one"):
        list_png(tmp_path)


def test_missing_and_empty_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is not a folder"):
        list_png(tmp_path / "none")
    (tmp_path / ".DS_Store").write_bytes(b"")
    with pytest.raises(DataError, match="holds no PNG files"):
        list_png(tmp_path)


def test_stacks_pictures_of_one_size_only(tmp_path: Path) -> None:
    pictures = [random_picture(seed=seed) for seed in range(3)]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, picture in zip(paths, [*pictures, random_picture(5, 7)], strict=True):
        write_png(path, picture)
    assert np.array_equal(stack_pictures(paths[:3]), np.stack(pictures))
    with pytest.raises(ImageError, match=r"3\.png is 7x5 where the pictures before it are 5x7"):
        stack_pictures(paths)


def test_a_remark_is_in_the_file_and_changes_no_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    plain, remarked = encode_png(picture), encode_png(picture, "synthetic face: of nobody")
    assert remarked == encode_png(picture, "synthetic face: of nobody") and encode_png(picture, "") == plain
    assert png_remark(remarked) == "synthetic face: of nobody" and png_remark(plain) == ""
    np.testing.assert_array_equal(decode_png(remarked, "x.png"), picture)
    with Image.open(io.BytesIO(remarked)) as opened:
        assert opened.text == {"Comment": "synthetic face: of nobody"}
