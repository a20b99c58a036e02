r"""EXIF blocks and TIFF directories: the few changes that a restored picture needs, everything else as it was.

A block begins with a TIFF header (``II*\0`` or ``MM\0*``), without the ``Exif\0\0`` that JPEG puts before it. Nothing
in it is moved, because the notes of camera makers hold offsets that no other program can mend: values are changed
where they are, and a directory that grows is written anew at the end.

Source: TIFF 6.0, section 2; EXIF 2.32, sections 4.5 and 4.6; BigTIFF (libtiff's description).
"""

import io
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
ORIENTATION, SOFTWARE, XMP, ICC_PROFILE = 0x0112, 0x0131, 0x02BC, 0x8773
_EXIF, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
POINTERS = frozenset({_EXIF, _GPS, _INTEROPERABILITY})
# Where the size of the picture is noted, in the first directory and in that of EXIF.
_WIDTHS, _HEIGHTS = frozenset({0x0100, 0xA002}), frozenset({0x0101, 0xA003})
# Bytes of a value by its type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
ASCII, SHORT, LONG, UNDEFINED = 2, 3, 4, 7
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)[2-8]")


class OpenBytes:
    """The bytes of an open file by their places, of which only those that are asked for are read.

    A file that shrinks meanwhile gives fewer, as a slice beyond an end does; a mapped one would end the process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._length = file.seek(0, io.SEEK_END)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        self._file.seek(start)
        return self._file.read(max(stop - start, 0))


Source = bytes | bytearray | OpenBytes


@dataclass(frozen=True)
class Entry:
    """One entry of a directory.

    Attributes:
        kind: the type of its values, as TIFF numbers them.
        value: their bytes, in the byte order of the file.
        at: where these lie in the file.
        children: the entries of the directory that it points to, for those of EXIF, GPS and interoperability.
    """

    tag: int
    kind: int
    count: int
    value: bytes
    at: int = 0
    children: tuple["Entry", ...] | None = None

    def numbers(self, order: str) -> tuple[int, ...]:
        """Returns its values if they are unsigned integers, else ()."""
        letter = _NUMBERS.get(self.kind)
        return struct.unpack(f"{order}{self.count}{letter}", self.value) if letter else ()


@dataclass(frozen=True)
class Directory:
    """The first directory of a block or of a TIFF file.

    Attributes:
        order: "<" or ">", as `struct` writes byte orders.
        is_big: the file is a BigTIFF.
        count: of entries, those that are left out of `entries` included.
        next: where the second directory lies, 0 for none.
        next_at: where that is written.
    """

    order: str
    is_big: bool
    entries: tuple[Entry, ...]
    count: int
    next: int
    next_at: int

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Returns the unsigned integers of a tag, `default` where it is missing or holds others."""
        found = next((entry.numbers(self.order) for entry in self.entries if entry.tag == tag), ())
        return found or default


def read(data: Source, *, is_lenient: bool = False) -> Directory:
    """Returns the first directory of a block or a TIFF file, with those that it points to.

    Args:
        data: from the TIFF header on.
        is_lenient: entries that point to a damaged directory are left out.

    Raises:
        ValueError: the bytes hold none that is whole.
    """
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError("no TIFF header")
    version = _number(data, 2, order, "H")
    is_big = version == 43
    if version not in (42, 43):
        raise ValueError("no TIFF header")
    start = _number(data, 8, order, "Q") if is_big else _number(data, 4, order, "I")
    return directory_at(data, start, order, is_big, is_lenient=is_lenient)


def _number(data: Source, at: int, order: str, letter: str) -> int:
    try:
        return int(struct.unpack(order + letter, data[at : at + struct.calcsize(order + letter)])[0])
    except struct.error as error:
        raise ValueError("cut short") from error


def directory_at(
    data: Source, start: int, order: str, is_big: bool, *, depth: int = 0, is_lenient: bool = False
) -> Directory:
    """Returns the directory at `start`; see `read`."""
    head, entry_bytes, letter = (8, 20, "Q") if is_big else (2, 12, "I")
    width = struct.calcsize(letter)
    count = _number(data, start, order, "Q" if is_big else "H")
    next_at = start + head + count * entry_bytes
    if start < 8 or next_at + width > len(data):
        raise ValueError("a directory lies outside the data")
    entries: list[Entry] = []
    num_bytes = 0
    table = data[start + head : next_at]
    for at in range(start + head, next_at, entry_bytes):
        tag, kind, number = struct.unpack_from(f"{order}HH{letter}", table, at - start - head)
        if kind not in _SIZES:
            continue  # a type that the field does not know yet
        length = number * _SIZES[kind]
        place = at + 4 + width
        if length > width:
            place = _number(data, place, order, letter)
        if place + length > len(data):
            raise ValueError("a value lies outside the data")
        num_bytes += length
        if num_bytes > len(data):  # they overlap: a small file would take any memory
            raise ValueError("its values are more than the data")
        entry = Entry(tag, kind, number, bytes(data[place : place + length]), place)
        is_pointer = tag in POINTERS and depth < 2 and entry.numbers(order)
        if is_pointer and all(other.tag != tag for other in entries):
            try:
                inner = directory_at(data, entry.numbers(order)[0], order, is_big, depth=depth + 1)
            except ValueError:
                if is_lenient:
                    continue
                raise
            entry = Entry(tag, kind, number, entry.value, place, inner.entries)
        entries.append(entry)
    return Directory(order, is_big, tuple(entries), count, _number(data, next_at, order, letter), next_at)


def orientation_of(block: bytes | bytearray) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 where the block names none."""
    try:
        value = read(block).numbers(ORIENTATION, (1,))[0]
    except ValueError:
        return 1
    return value if 1 <= value <= 8 else 1


def upright(block: bytes) -> bytes | None:
    """Returns the block with orientation 1 and without thumbnail; None for one that is damaged."""
    data = bytearray(block)
    try:
        directory = read(data)
        if directory.is_big:
            return None
        _set_numbers(data, directory.entries, directory.order, frozenset({ORIENTATION}), 1)
        if directory.next:
            _erase(data, directory)
    except ValueError:
        return None
    kept = max(end for _, end in _needed(directory))
    # What follows the last value and is not zero may belong to the notes of a camera maker.
    return bytes(data[: max(kept, len(data.rstrip(b"\0")))])


def _needed(directory: Directory) -> list[tuple[int, int]]:
    """Returns where header, first directory, those it points to, and their values lie: (start, end) of each."""
    found = [(0, 8), (directory.next_at - 2 - 12 * directory.count, directory.next_at + 4)]
    for entry in _walk(directory.entries):
        found.append((entry.at, entry.at + len(entry.value)))
        if entry.children is not None:  # its count, entries and the offset of the next one
            start = entry.numbers(directory.order)[0]
            found.append((start, start + 6 + 12 * len(entry.children)))
    return found


def _walk(entries: Iterable[Entry]) -> Iterable[Entry]:
    for entry in entries:
        yield entry
        yield from _walk(entry.children or ())


def _set_numbers(data: bytearray, entries: Iterable[Entry], order: str, tags: frozenset[int], number: int) -> None:
    for entry in _walk(entries):
        letter = _NUMBERS.get(entry.kind)
        if entry.tag in tags and letter and entry.count == 1 and number < 1 << 8 * len(entry.value):
            struct.pack_into(order + letter, data, entry.at, number)


def _erase(data: bytearray, directory: Directory) -> None:
    """Cuts the second directory off and overwrites it and the picture that it holds: the thumbnail shows what was."""
    data[directory.next_at : directory.next_at + 4] = bytes(4)
    try:
        second = directory_at(data, directory.next, directory.order, False, depth=2)
    except ValueError:
        return
    regions = [(second.next_at - 2 - 12 * second.count, second.next_at + 4)]
    regions += [(entry.at, entry.at + len(entry.value)) for entry in second.entries]
    for starts, lengths in ((0x0201, 0x0202), (0x0111, 0x0117)):
        found = zip(second.numbers(starts), second.numbers(lengths), strict=False)
        regions += [(start, min(start + length, len(data))) for start, length in found]
    needed = _needed(directory)
    for start, end in regions:
        # A directory that lies may name what is still needed.
        if start < end and not any(first < end and start < last for first, last in needed):
            data[start:end] = bytes(end - start)


def with_size(block: bytes, width: int, height: int) -> bytes:
    """Returns the block with the size that it notes, if it does, changed to that of the picture beside it."""
    data = bytearray(block)
    directory = read(data)
    _set_numbers(data, directory.entries, directory.order, _WIDTHS, width)
    _set_numbers(data, directory.entries, directory.order, _HEIGHTS, height)
    return bytes(data)


def with_software(block: bytes | None, text: str) -> bytes:
    """Returns the block, or a new one, with the tag Software (0x0131) set to a text; nothing else is moved."""
    block = block or EMPTY
    directory = read(block)
    software = text_entry(SOFTWARE, text)
    entries = [entry for entry in directory.entries if entry.tag != SOFTWARE] + [software]
    if len(entries) > 0xFFFF:
        raise ValueError("its EXIF data holds more entries than a directory can")
    # Values stay where they are; only the new one lies behind the new directory.
    start = len(block) + len(block) % 2
    end = start + 2 + 12 * len(entries) + 4
    head = [struct.pack(directory.order + "H", len(entries))]
    for entry in sorted(entries, key=lambda entry: entry.tag):
        place = end if entry is software else entry.at
        inside = entry.value.ljust(4, b"\0")
        if len(entry.value) > 4:
            inside = struct.pack(directory.order + "I", place)
        head.append(struct.pack(directory.order + "HHI", entry.tag, entry.kind, entry.count) + inside)
    tail = software.value if len(software.value) > 4 else b""
    written = b"".join([block.ljust(start, b"\0"), *head, bytes(4), tail])
    return written[:4] + struct.pack(directory.order + "I", start) + written[8:]


def text_entry(tag: int, text: str) -> Entry:
    """Returns the entry of a text, in UTF-8, which is ASCII where the text is."""
    value = text.encode() + b"\0"
    return Entry(tag, ASCII, len(value), value)


def number_entry(order: str, tag: int, kind: int, *numbers: int) -> Entry:
    """Returns the entry of unsigned integers of the type SHORT or LONG."""
    return Entry(tag, kind, len(numbers), struct.pack(f"{order}{len(numbers)}{_NUMBERS[kind]}", *numbers))


def written(order: str, entries: Iterable[Entry], start: int) -> bytes:
    """Returns a directory as it is written at `start` of a TIFF file, values and inner directories behind it.

    Raises:
        ValueError: it would lie beyond the 4 GiB of TIFF.
    """
    # The types of BigTIFF alone have no place here.
    ordered = sorted((entry for entry in entries if entry.kind < 16), key=lambda entry: entry.tag)
    head = [struct.pack(order + "H", len(ordered))]
    tail = bytearray()
    end = start + 2 + 12 * len(ordered) + 4
    try:
        for entry in ordered:
            value, kind, count = entry.value, entry.kind, entry.count
            place = end + len(tail)
            if entry.children is not None:
                kind, count, value = LONG, 1, struct.pack(order + "I", place)
                tail += written(order, entry.children, place)
            elif len(value) > 4:
                tail += value
                value = struct.pack(order + "I", place)
            tail += bytes(len(tail) % 2)
            head.append(struct.pack(order + "HHI", entry.tag, kind, count) + value.ljust(4, b"\0"))
    except struct.error as error:
        raise ValueError("beyond 4 GiB") from error
    return b"".join([*head, bytes(4), tail])


def block_of(order: str, entries: Iterable[Entry]) -> bytes:
    """Returns a block of its own that holds these entries."""
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return header + written(order, entries, 8)


def upright_xmp(packet: bytes) -> bytes:
    """Returns an XMP packet, or anything that holds one, with orientation 1; its length is the same."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)
