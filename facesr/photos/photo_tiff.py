"""TIFF files of 8 and 16 bits, read and written.

Pillow decodes 8 bits. 16 bits of colour it would cut to 8, so they are decoded as what they are below their meaning:
rows of bytes, by a directory that says so; predictor and order of bytes are undone here. In this way every compression
of libtiff is read. Written are strips, uncompressed, by LZW or by Deflate.

Source: TIFF 6.0; Adobe's TIFF technical notes (Deflate, predictor 2).
"""

import io
import zlib
from dataclasses import replace
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from facesr.photos import exif
from facesr.photos.colour import Pixels, strips
from facesr.photos.exif import LONG, SHORT, UNDEFINED, Directory, Entry, OpenBytes, number_entry
from facesr.photos.photo import Encoding, Photo
from facesr.photos.photo_decode import Damaged, Refused, check_size, finished, loaded, planes, rows_of

NONE, LZW, DEFLATE = 1, 5, 8
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_PREDICTOR, _EXTRA, _FORMAT, _TILE_WIDTH, _SUBFILE, _SUB_DIRECTORIES, _DNG = 317, 338, 339, 322, 254, 330, 50706
_STARTS, _LENGTHS, _ROWS, _TILE_STARTS, _TILE_LENGTHS = 273, 279, 278, 324, 325
# How the pixels lie in the file.
_LAYOUT = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, _STARTS, _SAMPLES, _ROWS, _LENGTHS, _PLANAR, 292, 293}
    | {
        _PREDICTOR,
        320,
        _TILE_WIDTH,
        323,
        _TILE_STARTS,
        _TILE_LENGTHS,
        332,
        333,
        334,
        336,
        _EXTRA,
        _FORMAT,
        340,
        341,
        347,
    }
    | {512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532}
)
# About other pictures in the file, or holding one: kinds of page, pages within, Photoshop's layers and thumbnail.
_ELSEWHERE = frozenset({_SUBFILE, 255, 297, _SUB_DIRECTORIES, 34377, 37724, exif.ICC_PROFILE})
_MOST_PAGES = 100
_MOST_CHANNELS = 1 << 16
_STRIP_BYTES = 1 << 18


def tiff(data: bytes) -> Photo:
    """Returns the picture of a TIFF file; smaller versions of it beside it are passed over."""
    directory = checked_directory(data)
    width, height = (directory.numbers(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT))
    block, profile = _metadata(directory)
    if set(directory.numbers(_BITS, (1,))) == {16}:
        pixels, alpha, is_grey = _deep(data, directory, width, height)
    else:
        image = _opened(data, directory, [entry for entry in directory.entries if entry.tag in _LAYOUT])
        del data  # its place is needed for pixels
        pixels, alpha, is_grey = planes(image, profile)
        profile = None if image.mode == "CMYK" else profile
    if pixels.shape[:2] != (height, width):
        raise Damaged("it cannot be decoded")
    compression = directory.numbers(_COMPRESSION, (NONE,))[0]
    photo = Photo(
        pixels,
        alpha,
        is_grey,
        "TIFF",
        exif=exif.upright(block),
        icc=profile,
        encoding=Encoding(compression=compression if compression in (NONE, LZW) else DEFLATE),
    )
    orientation = directory.numbers(exif.ORIENTATION, (1,))[0]
    return finished(photo, orientation if 1 <= orientation <= 8 else 1)


def checked_directory(data: bytes | OpenBytes) -> Directory:
    """Returns the first directory of a TIFF file, which tells all that a file is refused for without decoding it.

    Raises:
        Refused: the file is too large, has several pages, or holds other numbers than are read.
        Damaged: it has no whole directory.
    """
    try:
        directory = exif.read(data, is_lenient=True)
    except ValueError as error:
        raise Damaged(str(error)) from error
    _check_pages(data, directory)
    check_size(*(directory.numbers(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT)))
    if any(entry.count > _MOST_CHANNELS for entry in directory.entries if entry.tag in (_BITS, _FORMAT)):
        raise Damaged("it names more channels than there can be")
    bits = set(directory.numbers(_BITS, (1,)))
    is_unsigned = set(directory.numbers(_FORMAT, (1,))) == {1}
    if len(bits) > 1 or bits - {1, 2, 4, 8, 16} or not is_unsigned:
        raise Refused("holds numbers other than 8- or 16-bit integers; save it with 8 or 16 bits a channel")
    return directory


def _check_pages(data: bytes | OpenBytes, first: Directory) -> None:
    def is_full(directory: Directory) -> bool:
        return not directory.numbers(_SUBFILE, (0,))[0] & 1

    tags = {entry.tag for entry in first.entries}
    if _DNG in tags or (_SUB_DIRECTORIES in tags and not is_full(first)):
        raise Refused("is a camera's raw file; develop it and save it as JPEG or PNG")
    page = first
    for _ in range(_MOST_PAGES):
        if not page.next:
            return
        try:
            page = exif.directory_at(data, page.next, page.order, page.is_big, is_lenient=True)
        except ValueError:  # the first page is whole
            return
        if is_full(page):
            raise Refused("has several pages; save one of them as a file of its own")


def _metadata(directory: Directory) -> tuple[bytes, bytes | None]:
    """Returns the tags that are not about the layout, as an EXIF block, and the colour profile."""
    kept, profile = [], None
    for entry in directory.entries:
        if entry.tag == exif.ICC_PROFILE:
            profile = entry.value
        elif entry.tag == exif.XMP:
            kept.append(replace(entry, value=exif.upright_xmp(entry.value)))
        elif entry.tag not in _LAYOUT | _ELSEWHERE:
            kept.append(entry)
    return exif.block_of(directory.order, kept), profile


class _Tiff(TiffImageFile):
    """A TIFF file whose size has been checked; Pillow's own limit would count single bytes as pixels."""

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)


def _opened(data: bytes, directory: Directory, entries: list[Entry]) -> TiffImageFile:
    """Returns the file as Pillow opens it, by another directory that is written behind it."""
    start = len(data) + len(data) % 2
    narrow = [
        entry if entry.kind < 16 else number_entry(directory.order, entry.tag, LONG, *entry.numbers(directory.order))
        for entry in entries
    ]
    beginning = exif.block_of(directory.order, [])[:4] + start.to_bytes(4, _word(directory.order))
    behind = exif.written(directory.order, narrow, start)
    return _Tiff(io.BytesIO(b"".join([beginning, memoryview(data)[8:], bytes(start - len(data)), behind])))


def _word(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"


def _deep(data: bytes, directory: Directory, width: int, height: int) -> tuple[Pixels, Pixels | None, bool]:
    """Returns (pixels, alpha, is_grey) of 16 bits."""
    samples = directory.numbers(_SAMPLES, (1,))[0]
    photometric = directory.numbers(_PHOTOMETRIC, (1,))[0]
    colours = {0: 1, 1: 1, 2: 3}.get(photometric)
    if colours is None or samples < colours:
        raise Refused("holds 16 bits of colours other than grey or RGB; save it as 16-bit RGB")
    if directory.numbers(_COMPRESSION, (NONE,))[0] in (6, 7):
        raise Refused("holds JPEG of 16 bits; save it uncompressed or with LZW")
    extra = directory.numbers(_EXTRA, (2,))[0] if samples > colours else 0
    pixels = np.empty((height, width, 3), np.uint16)
    alpha = np.empty((height, width), np.uint16) if extra in (1, 2) else None
    apart = samples if directory.numbers(_PLANAR, (1,))[0] == 2 and samples > 1 else 1
    for part in range(min(apart, colours + (alpha is not None))):
        image = _as_bytes(data, directory, samples, part, apart)
        for rows in strips(height, width):
            strip = _levels(image, directory, rows, samples // apart)
            if photometric == 0:
                strip[..., :1] = 65535 - strip[..., :1]
            if apart == 1 or colours == 1 > part:
                pixels[rows] = strip[..., :colours]
            elif part < colours:
                pixels[rows, :, part] = strip[..., 0]
            if alpha is not None and (apart == 1 or part == colours):
                alpha[rows] = strip[..., colours if apart == 1 else 0]
    if alpha is not None and extra == 1:
        _unmultiply(pixels, alpha)
    return pixels, alpha, colours == 1


def _as_bytes(data: bytes, directory: Directory, samples: int, part: int, apart: int) -> TiffImageFile:
    """Returns the rows of a file, or of one of its channels that lie apart, as a picture of single bytes."""
    order = directory.order
    per_pixel = 2 * samples // apart
    kept = []
    for entry in directory.entries:
        numbers = entry.numbers(order)
        if entry.tag in (_WIDTH, _TILE_WIDTH):
            entry = number_entry(order, entry.tag, LONG, numbers[0] * per_pixel)
        elif entry.tag in (_STARTS, _LENGTHS, _TILE_STARTS, _TILE_LENGTHS):
            each = len(numbers) // apart
            entry = number_entry(order, entry.tag, LONG, *numbers[part * each : (part + 1) * each])
        elif entry.tag not in (_HEIGHT, _COMPRESSION, _ROWS, 266, 323):
            continue
        kept.append(entry)
    single = {_BITS: 8, _SAMPLES: 1, _PHOTOMETRIC: 1}
    image = _opened(data, directory, kept + [number_entry(order, tag, SHORT, one) for tag, one in single.items()])
    loaded(image)
    return image


def _levels(image: TiffImageFile, directory: Directory, rows: slice, samples: int) -> NDArray[np.uint16]:
    """Returns rows (h, W, samples) out of a picture of single bytes."""
    raw = np.asarray(rows_of(image, rows))
    levels = np.ascontiguousarray(raw).view(f"{directory.order}u2").astype(np.uint16)
    levels = levels.reshape(len(raw), -1, samples)
    has_predictor = directory.numbers(_PREDICTOR, (1,))[0] == 2
    if has_predictor and directory.numbers(_COMPRESSION, (NONE,))[0] not in (NONE, 32773):
        step = directory.numbers(_TILE_WIDTH, (levels.shape[1],))[0]
        for left in range(0, levels.shape[1], max(1, step)):
            tile = levels[:, left : left + step]
            np.cumsum(tile, axis=1, dtype=np.uint16, out=tile)
    return levels


def _unmultiply(pixels: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> None:
    """Undoes in place that colours were stored multiplied by alpha."""
    for rows in strips(*alpha.shape):
        opacity = np.maximum(alpha[rows], 1)[..., None].astype(np.uint32)
        straight = (pixels[rows].astype(np.uint32) * 65535 + opacity // 2) // opacity
        pixels[rows] = np.minimum(straight, 65535)


def write_tiff(
    file: BinaryIO, channels: list[Pixels], block: bytes | None, icc: bytes | None, compression: int
) -> None:
    """Writes a TIFF file: two or four channels have alpha as the last one.

    Raises:
        ValueError: it would be larger than the 4 GiB of TIFF.
    """
    directory = exif.read(block or exif.EMPTY)
    order = directory.order
    height, width, _ = channels[0].shape
    bits = 8 * channels[0].dtype.itemsize
    samples = sum(channel.shape[2] for channel in channels)
    rows = max(1, _STRIP_BYTES // (width * samples * bits // 8))
    file.write(exif.block_of(order, [])[:4] + bytes(4))
    starts, lengths = [], []
    for top in range(0, height, rows):
        strip = np.concatenate([channel[top : top + rows] for channel in channels], axis=2)
        packed = _packed(strip, order, compression)
        starts.append(file.tell())
        lengths.append(len(packed))
        file.write(packed)
    has_alpha = samples in (2, 4)
    layout = {
        _WIDTH: (LONG, width),
        _HEIGHT: (LONG, height),
        _BITS: (SHORT, *[bits] * samples),
        _COMPRESSION: (SHORT, compression),
        _PHOTOMETRIC: (SHORT, 1 if samples < 3 else 2),
        _SAMPLES: (SHORT, samples),
        _ROWS: (LONG, rows),
        _PLANAR: (SHORT, 1),
        **({_EXTRA: (SHORT, 2)} if has_alpha else {}),
        **({_PREDICTOR: (SHORT, 2)} if compression != NONE else {}),
    }
    start = file.tell() + file.tell() % 2
    if start >= 1 << 32:
        raise ValueError("it would be larger than the 4 GiB that TIFF allows")
    layout |= {_STARTS: (LONG, *starts), _LENGTHS: (LONG, *lengths)}
    entries = [number_entry(order, tag, kind, *numbers) for tag, (kind, *numbers) in layout.items()]
    entries += [entry for entry in directory.entries if entry.tag not in _LAYOUT | _ELSEWHERE]
    if icc:
        entries.append(Entry(exif.ICC_PROFILE, UNDEFINED, len(icc), icc))
    file.write(bytes(start - file.tell()) + exif.written(order, entries, start))
    file.seek(4)
    file.write(start.to_bytes(4, _word(order)))


def _packed(strip: Pixels, order: str, compression: int) -> bytes:
    if compression != NONE:
        strip = np.concatenate([strip[:, :1], strip[:, 1:] - strip[:, :-1]], axis=1)  # modulo 2^bits
    data = strip.astype(f"{order}u{strip.dtype.itemsize}").tobytes()
    if compression == DEFLATE:
        return zlib.compress(data, 6)
    return _by_lzw(data) if compression == LZW else data


def _by_lzw(data: bytes) -> bytes:
    """Returns bytes packed by libtiff's LZW: those of the one strip of a picture that is one row."""
    file = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(file, "TIFF", compression="tiff_lzw")
    whole = file.getvalue()
    directory = exif.read(whole)
    start, length = directory.numbers(_STARTS)[0], directory.numbers(_LENGTHS)[0]
    return whole[start : start + length]
