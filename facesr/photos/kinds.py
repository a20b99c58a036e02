"""What a file is by its first bytes, and what is said about those that are no picture to restore."""

import re

_SAVE = "save it as JPEG or PNG"
_LFS = b"version https://git-lfs.github.com/spec/"
# First bytes of what is restored.
_FORMATS = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP"))
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# First bytes of what is not, and what it is called.
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"PK\x03\x04", "a ZIP archive or a document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance picture"),
    (b"qoif", "a QOI picture"),
    (b"DDS ", "a DDS texture"),
    (b"gimp xcf", "a GIMP document"),
    (b"\x1aE\xdf\xa3", "a film"),
)
_RAW = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb")
_RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
        *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    }
)
# Brands of files that begin with a box `ftyp`. Source: ISO/IEC 23008-12 (HEIF), AV1 Image File Format.
_HEIC = (b"heic", b"heix", b"heim", b"heis")
_SEQUENCES = (b"hevc", b"hevx", b"hevm", b"hevs", b"msf1", b"avis")


def recognised(data: bytes, suffix: str) -> str:
    """Returns the format of a file's bytes: "JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIC" or "AVIF".

    Args:
        data: the file, or its first kilobytes.
        suffix: of its name, which tells a camera's raw file from a TIFF; nothing else hangs on it.

    Raises:
        ValueError: it is something else; the text ends the sentence "FILE is ...".
    """
    if not data:
        raise ValueError("empty; copy it again")
    if data.startswith(_LFS):
        raise ValueError("a Git LFS pointer, not the picture itself; fetch the picture with git lfs pull")
    if data.startswith(_RAW) or (data.startswith(_TIFF) and (data[8:10] == b"CR" or suffix.lower() in _RAW_SUFFIXES)):
        raise ValueError(f"a camera's raw file; develop it and {_SAVE}")
    for beginning, name in _FORMATS:
        if data.startswith(beginning):
            return name
    if data.startswith(_TIFF):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        if data[8:11] == b"crx":
            raise ValueError(f"a camera's raw file; develop it and {_SAVE}")
        return _of_brands(data)
    for beginning, name in _OTHERS:
        if data.startswith(beginning):
            raise ValueError(f"{name}, which is not read; {_SAVE}")
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if re.search(rb"<svg[\s>]", data[:4096]) and start.startswith(b"<"):
        raise ValueError(f"an SVG drawing, which has no pixels; {_SAVE}")
    if start.startswith((b"<!doctype html", b"<html")):
        raise ValueError("a web page, not a picture; download the picture itself")
    if not data[:1024].strip(b"\0"):
        raise ValueError("filled with zero bytes, as a failed copy leaves it; copy it again")
    if re.fullmatch(rb"[\t\r\n\x20-\x7e\x80-\xff]+", data[:1024]):
        raise ValueError("text, not a picture; give a picture")
    raise ValueError(
        "of an unknown format, or its beginning is damaged; give a JPEG, PNG, WebP, TIFF, BMP, HEIC or AVIF file"
    )


def _of_brands(data: bytes) -> str:
    major = data[8:12]
    compatible = data[16 : min(int.from_bytes(data[:4], "big"), 1024)]
    if major in _SEQUENCES:
        raise ValueError("a sequence of pictures (HEIC or AVIF), which is not read; save one of them as JPEG or PNG")
    if major == b"avif" or (major == b"mif1" and b"avif" in compatible):
        return "AVIF"
    if major in _HEIC or major == b"mif1":
        return "HEIC"
    raise ValueError("a film, not a picture; give a picture")
