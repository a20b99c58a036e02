"""PNG files and 8-bit pictures, uint8 (H, W, 3), RGB; nothing here needs torch.

What batches of floats are made of and rounded to is in `facesr.image`.
"""

import itertools
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.errors import DataError, ImageError
from facesr.files import whole_file
from facesr.names import is_passed_over, shown

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Signature and the chunk IHDR, after which other chunks may come.
_HEADER_BYTES = 33
# Length, type and checksum of a chunk.
_AROUND_CONTENT = 12
# Type of the chunk, keyword and its end. Source: PNG specification (W3C, third edition), section 11.3.3.2.
_REMARK = b"tEXtComment\0"


def read_png(path: Path) -> NDArray[np.uint8]:
    """Returns the 8-bit RGB picture of a PNG file, uint8 (H, W, 3).

    Raises:
        ImageError: the file is missing, is no PNG, cannot be decoded, or is not 8-bit RGB.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    return decode_png(data, str(path))


def decode_png(data: bytes, name: str) -> NDArray[np.uint8]:
    """Returns the 8-bit RGB picture of PNG bytes, uint8 (H, W, 3); `name` is used in errors.

    Raises:
        ImageError: the bytes are no PNG, cannot be decoded, or are not 8-bit RGB.
    """
    width, height, bit_depth, colour_type = png_header(data, name)
    if bit_depth != 8 or colour_type != 2:
        kinds = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}
        kind = kinds.get(colour_type, "of an unknown colour type")
        raise ImageError(f"{name} is {bit_depth}-bit {kind}; save it as an 8-bit RGB PNG without alpha.")
    # Checked here, because libpng would write its own lines about a damaged file to the terminal.
    if not _chunks_are_whole(data):
        raise ImageError(f"{name} is a damaged PNG; write it again.")
    try:
        # The pixels as they are stored: an orientation noted beside them is not applied.
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        # OpenCV refuses pictures of more than 2^30 pixels this way.
        raise ImageError(f"{name} is {width}x{height} and cannot be decoded; use smaller pictures.") from error
    if picture is None or picture.shape != (height, width, 3):
        raise ImageError(f"{name} is a damaged PNG; write it again.")
    return np.asarray(picture, np.uint8)


def _chunks_are_whole(data: bytes) -> bool:
    """Returns whether the PNG's chunks are whole up to the end mark, behind which zero bytes are let pass."""
    for chunk in chunks(data):
        if not chunk.is_whole:
            return False
        if chunk.kind == b"IEND":
            return not data[chunk.end :].strip(b"\0")
    return False


@dataclass(frozen=True)
class Chunk:
    """A chunk of a PNG file: length, type, content, and CRC-32 of type and content.

    Source: PNG specification (W3C, third edition), sections 5.3 and 5.5.

    Attributes:
        data: the whole file.
        start, end: the chunk is ``data[start:end]``, which the file holds.
    """

    data: bytes
    start: int
    end: int

    @property
    def kind(self) -> bytes:
        """Its type, four bytes."""
        return self.data[self.start + 4 : self.start + 8]

    @property
    def content(self) -> bytes:
        """What lies between its type and its checksum."""
        return self.data[self.start + 8 : self.end - 4]

    @property
    def is_whole(self) -> bool:
        """Whether its checksum is right."""
        told = int.from_bytes(self.data[self.end - 4 : self.end], "big")
        return zlib.crc32(memoryview(self.data)[self.start + 4 : self.end - 4]) == told


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yields the chunks that follow the signature, up to the first that the file does not hold to its last byte.

    Where the last one ends before the file does, the file is cut off. Checksums, and what comes behind the end mark,
    are for the caller to judge.
    """
    start = len(PNG_SIGNATURE)
    while start + _AROUND_CONTENT <= len(data):
        end = start + _AROUND_CONTENT + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            return
        yield Chunk(data, start, end)
        start = end


def is_animated(kinds: Iterable[bytes]) -> bool:
    """Returns whether a PNG file has several frames, by the types of its chunks in their order; reads no further than
    it has to.

    Source: PNG specification (W3C, third edition), section 11.3.4: acTL stands before the pixels.
    """
    announced, num_frames = False, 0
    for kind in kinds:
        if kind == b"IEND" or (kind == b"IDAT" and not announced):
            return False
        announced |= kind == b"acTL"
        num_frames += kind == b"fcTL"
        if announced and num_frames > 1:
            return True
    return False


def png_header(data: bytes, name: str) -> tuple[int, int, int, int]:
    """Returns (width, height, bit depth, colour type) from the first bytes of a PNG, without decoding it.

    Raises:
        ImageError: the bytes do not begin with a PNG header.
    """
    if len(data) < 33 or not data.startswith(PNG_SIGNATURE) or data[12:16] != b"IHDR":
        raise ImageError(f"{name} is no PNG file; convert it to an 8-bit RGB PNG.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return width, height, data[24], data[25]


def encode_png(picture: NDArray[np.uint8], remark: str = "") -> bytes:
    """Returns the bytes of an 8-bit RGB PNG for a picture, uint8 (H, W, 3); equal arguments give equal bytes.

    Args:
        picture: the pixels.
        remark: ASCII text that the file says about itself, in a chunk tEXt with the keyword Comment; "" for none.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise ValueError("the picture could not be encoded as PNG")
    encoded = data.tobytes()
    if not remark:
        return encoded
    content = _REMARK + remark.encode("ascii")
    chunk = len(content[4:]).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    return encoded[:_HEADER_BYTES] + chunk + encoded[_HEADER_BYTES:]


def png_remark(data: bytes) -> str:
    """Returns the remark that `encode_png` put into PNG bytes, "" where there is none behind the header."""
    found = next(itertools.islice(chunks(data), 1, None), None)
    if found is None or not (found.kind + found.content).startswith(_REMARK):
        return ""
    return found.content.removeprefix(_REMARK[4:]).decode("latin-1")


def write_png(path: Path, picture: NDArray[np.uint8], remark: str = "") -> None:
    """Writes an 8-bit RGB PNG, with a remark if one is given, so that the file is either whole or absent.

    Raises:
        ImageError: the file cannot be written.
    """
    data = encode_png(picture, remark)
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}.") from error


def list_png(folder: Path) -> dict[str, Path]:
    """Returns {id: path} of the PNG files of a folder, sorted by id (the file name without ``.png``).

    Hidden files and what file managers leave behind are passed over (`facesr.names.is_passed_over`).

    Raises:
        DataError: the folder is missing, empty, or holds something other than PNG files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the folder that holds the PNG files.")
    entries = sorted(entry for entry in folder.iterdir() if not is_passed_over(entry.name))
    strange = [entry.name for entry in entries if entry.suffix.lower() != ".png" or not entry.is_file()]
    if strange:
        raise DataError(f"{folder} holds {shown(strange[:1])}, which is no PNG file; leave only PNG pictures there.")
    found: dict[str, Path] = {}
    for entry in entries:
        if entry.stem in found:
            raise DataError(f"{folder} holds {shown([entry.name, found[entry.stem].name])}; keep one of them.")
        found[entry.stem] = entry
    if not found:
        raise DataError(f"{folder} holds no PNG files; give the folder that holds the pictures.")
    return found


def file_of(folder: Path, key: str) -> Path:
    """Returns the PNG file of an id in a folder: an id is in Unicode form C where the file's name may be in form D.

    Where there is neither, it is the plain name, so that whoever reads it says which file is missing.
    """
    plain, decomposed = (folder / f"{unicodedata.normalize(form, key)}.png" for form in ("NFC", "NFD"))
    return decomposed if not plain.is_file() and decomposed.is_file() else plain


def stack_pictures(paths: Iterable[Path]) -> NDArray[np.uint8]:
    """Returns the pictures of PNG files of one size as one array, uint8 (N, H, W, 3).

    Raises:
        ImageError: a file cannot be read, or its size differs from the first one's.
    """
    pictures: list[NDArray[np.uint8]] = []
    for path in paths:
        picture = read_png(path)
        if pictures and picture.shape != pictures[0].shape:
            have, want = picture.shape, pictures[0].shape
            raise ImageError(
                f"{path} is {have[1]}x{have[0]} where the pictures before it are {want[1]}x{want[0]}; "
                "all pictures of a folder need one size."
            )
        pictures.append(picture)
    return np.stack(pictures)
