"""A ZIP reader for archives of strangers: it believes nothing that it has not compared.

It is narrower than the format on purpose. Every byte of the file has to belong to exactly one member or to the
directory: nothing before, between or after, no overlaps, no comment, one disk, no ZIP64, no encryption, stored or
deflated members only, local headers equal to the directory. A member is read only up to a limit that the caller
sets, whatever sizes the archive claims, and only its bytes or their digest come back: nothing is ever extracted by
name.

Source: PKWARE .ZIP File Format Specification (APPNOTE.TXT), sections 4.3 to 4.5.
"""

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BufferedReader

from facesr.errors import SubmissionError
from facesr.names import shown
from facesr.submission.names import MANIFEST_NAME

_END = struct.Struct("<4s4H2IH")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_STORED, _DEFLATED = 0, 8
_DEFLATED_NOTHING_BYTES = 2
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR = 0x0008
_UTF8 = 0x0800
_KNOWN_FLAGS = 0x0006 | _DESCRIPTOR | _UTF8 | _ENCRYPTED
# Time stamps and owner numbers, which change nothing. ZIP64 (1), another name (0x7075), AES (0x9901) are not here.
_HARMLESS_EXTRAS = frozenset({0x5455, 0x5855, 0x7855, 0x7875, 0x000A})
_MAX_DIRECTORY_BYTES_PER_MEMBER = 1024
# A PNG hardly shrinks and the manifest shrinks to a half; deflate's own limit is about 1030.
MAX_RATIO = 100
# Read, and unpacked, at a time.
_CHUNK_BYTES = 1 << 20
# What a plain ZIP archive of stored pictures can hold at all.
MAX_TOTAL_BYTES = 1 << 32


@dataclass(frozen=True)
class Member:
    """One entry of the directory, as it claims to be."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed_bytes: int
    num_bytes: int
    attributes: int
    offset: int
    data_offset: int = -1


class Archive:
    """An opened archive whose structure has been checked; the members' contents have not.

    Attributes:
        label: how the archive is called in errors.
        members: in the order of the directory.
        num_bytes: size of the file.
    """

    def __init__(self, file: BufferedReader, label: str, max_members: int) -> None:
        """Reads the directory of an archive of at most `max_members` members.

        Raises:
            SubmissionError: it is no ZIP archive, is damaged, or uses what is not allowed; names are not judged.
        """
        self._file = file
        self.label = label
        self.num_bytes = file.seek(0, os.SEEK_END)
        count, self._directory_offset, directory_bytes = self._read_end()
        if count > max_members:
            raise SubmissionError(f"{label} holds {count} members where at most {max_members} are read; send one set.")
        if directory_bytes > count * _MAX_DIRECTORY_BYTES_PER_MEMBER:
            raise SubmissionError(f"{label} has a directory of {directory_bytes} bytes for {count} members; zip anew.")
        self.members = self._read_directory(count, directory_bytes)

    def _damaged(self, reason: str) -> SubmissionError:
        return SubmissionError(f"{self.label} is a damaged ZIP archive ({reason}); pack it again.")

    def _read_at(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) != count:
            raise self._damaged("it ends too early")
        return data

    def _read_end(self) -> tuple[int, int, int]:
        """Returns (number of members, offset of the directory, bytes of the directory)."""
        position = self.num_bytes - _END.size
        end = self._read_at(position, _END.size) if position >= 0 else b""
        if not end.startswith(b"PK\5\6"):
            start = max(0, position - 0xFFFF)
            if b"PK\5\6" in self._read_at(start, self.num_bytes - start):
                raise SubmissionError(f"{self.label} has a comment or other bytes after its end; pack it without.")
            raise SubmissionError(f"{self.label} is no ZIP archive, or is cut off; pack it with submit.py.")
        _, disk, first_disk, on_disk, count, size, offset, comment_bytes = _END.unpack(end)
        zip64 = 0xFFFF in (count, on_disk) or 0xFFFFFFFF in (size, offset)
        if zip64 or (position >= 20 and self._read_at(position - 20, 4) == b"PK\6\7"):
            raise SubmissionError(f"{self.label} is a ZIP64 archive; pack it as a plain ZIP archive.")
        if disk or first_disk or on_disk != count or comment_bytes:
            raise self._damaged("its end record contradicts itself")
        if count == 0:
            raise SubmissionError(f"{self.label} is an empty archive; pack the restored pictures and the manifest.")
        if offset + size != position:
            raise SubmissionError(
                f"{self.label} has bytes that belong to no member, or its directory is not where it says; pack it anew."
            )
        return count, offset, size

    def _read_directory(self, count: int, num_bytes: int) -> list[Member]:
        data = self._read_at(self._directory_offset, num_bytes)
        members: list[Member] = []
        position = 0
        for _ in range(count):
            if position + _CENTRAL.size > num_bytes:
                raise self._damaged("its directory ends too early")
            fields = _CENTRAL.unpack_from(data, position)
            signature, _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = fields[:12]
            comment_bytes, disk, _, attributes, offset = fields[12:]
            names_at = position + _CENTRAL.size
            position = names_at + name_bytes + extra_bytes + comment_bytes
            if signature != b"PK\1\2" or position > num_bytes or disk:
                raise self._damaged("its directory is not readable")
            raw_name = data[names_at : names_at + name_bytes]
            name = self._decode(raw_name, flags)
            if comment_bytes:
                raise SubmissionError(f"{self.label} has a comment on {shown([name])}; pack it without comments.")
            if 0xFFFFFFFF in (packed, size, offset):
                raise SubmissionError(f"{self.label} is a ZIP64 archive; pack it as a plain ZIP archive.")
            self._check_extra(data[names_at + name_bytes : position], name)
            members.append(Member(name, raw_name, flags, method, crc, packed, size, attributes, offset))
        if position != num_bytes:
            raise self._damaged("its directory is longer than its members")
        return members

    def _decode(self, raw: bytes, flags: int) -> str:
        try:
            return raw.decode("utf-8" if flags & _UTF8 else "ascii")
        except UnicodeDecodeError as error:
            name = shown([raw.decode("latin-1")])
            raise SubmissionError(f"{self.label} holds the unreadable name {name}; use ASCII names.") from error

    def _check_extra(self, extra: bytes, name: str) -> None:
        position = 0
        while position < len(extra):
            kind, length = struct.unpack_from("<HH", extra, position) if position + 4 <= len(extra) else (-1, 0)
            position += 4 + length
            if kind not in _HARMLESS_EXTRAS or position > len(extra):
                what = "ZIP64 sizes" if kind == 1 else "an extra field that is not allowed"
                raise SubmissionError(f"{self.label} has {what} on {shown([name])}; pack it as a plain ZIP archive.")

    def check_members(self) -> None:
        """Checks what each member is and where it lies, and that members fill the file without gap or overlap.

        Raises:
            SubmissionError: a member is encrypted, no regular file, packed in an unknown way or too tightly, or its
                local header contradicts the directory.
        """
        rules: tuple[tuple[Callable[[Member], object], str, str], ...] = (
            (lambda m: m.flags & _ENCRYPTED, "is encrypted in", "pack without a password"),
            (lambda m: stat.S_ISLNK(m.attributes >> 16), "is a symbolic link in", "pack the files themselves"),
            (lambda m: not _is_as_named(m), "is no regular file in", "pack only regular files"),
            (lambda m: m.flags & ~_KNOWN_FLAGS, "has unknown flags in", "pack with submit.py"),
            (lambda m: m.method not in (_STORED, _DEFLATED), "is packed in an unknown way in", "store or deflate it"),
            (lambda m: m.num_bytes > MAX_RATIO * m.packed_bytes, f"unpacks more than {MAX_RATIO}-fold in", "store it"),
            (lambda m: m.method == _STORED and m.num_bytes != m.packed_bytes, "lies about its size in", "pack anew"),
        )
        for is_wrong, what, remedy in rules:
            wrong = [member.name for member in self.members if is_wrong(member)]
            if wrong:
                raise SubmissionError(f"{shown(wrong)} {what} {self.label}; {remedy}.")
        total = sum(member.num_bytes for member in self.members)
        if total > MAX_TOTAL_BYTES:
            raise SubmissionError(f"{self.label} unpacks to {total} bytes where {MAX_TOTAL_BYTES} are read; send less.")
        self._check_layout()

    def _check_layout(self) -> None:
        order = sorted(range(len(self.members)), key=lambda index: self.members[index].offset)
        expected = 0
        for index in order:
            member = self.members[index]
            if member.offset != expected:
                what = "overlaps another member" if member.offset < expected else "has stray bytes before it"
                raise SubmissionError(f"{shown([member.name])} {what} in {self.label}; pack it again.")
            data_offset, expected = self._check_local(member)
            self.members[index] = replace(member, data_offset=data_offset)
        if expected != self._directory_offset:
            raise SubmissionError(f"{self.label} has stray bytes before its directory; pack it again.")

    def _check_local(self, member: Member) -> tuple[int, int]:
        """Returns (offset of the data, offset behind the member) after comparing the local header."""
        header = _LOCAL.unpack(self._read_at(member.offset, _LOCAL.size))
        signature, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = header
        names = self._read_at(member.offset + _LOCAL.size, name_bytes + extra_bytes)
        claims = (member.crc, member.packed_bytes, member.num_bytes)
        self._check_extra(names[name_bytes:], member.name)
        later = bool(flags & _DESCRIPTOR) and (crc, packed, size) == (0, 0, 0)
        if (
            signature != b"PK\3\4"
            or (flags, method, names[:name_bytes]) != (member.flags, member.method, member.raw_name)
            or ((crc, packed, size) != claims and not later)
        ):
            raise SubmissionError(
                f"{shown([member.name])} has a header that contradicts the directory of {self.label}; pack it again."
            )
        data_offset = member.offset + _LOCAL.size + name_bytes + extra_bytes
        end = data_offset + member.packed_bytes
        if end > self._directory_offset:
            raise SubmissionError(f"{shown([member.name])} reaches beyond the members of {self.label}; pack it again.")
        if flags & _DESCRIPTOR:
            trailer = self._read_at(end, min(16, self._directory_offset - end))
            values = struct.pack("<3I", *claims)
            if trailer.startswith(b"PK\7\x08" + values):
                end += 16
            elif trailer.startswith(values):
                end += 12
            else:
                raise SubmissionError(f"{shown([member.name])} has a wrong descriptor in {self.label}; pack it again.")
        return data_offset, end

    def read(self, member: Member, max_bytes: int) -> bytes:
        """Returns the unpacked bytes of a member, after `check_members`.

        Raises:
            SubmissionError: it unpacks to more than `max_bytes` or to another size or checksum than claimed.
        """
        if max(member.num_bytes, member.packed_bytes) > max_bytes:
            raise SubmissionError(
                f"{shown([member.name])} is {member.num_bytes} bytes in {self.label} where at most {max_bytes} are "
                f"possible; {'shorten it' if member.name == MANIFEST_NAME else 'write a plain PNG'}."
            )
        return b"".join(self._unpacked(member))

    def sha256_of(self, member: Member) -> str:
        """Returns the sha256 of a member's unpacked bytes, after `check_members`, in bounded memory.

        Raises:
            SubmissionError: it unpacks to another size or checksum than claimed.
        """
        digest = hashlib.sha256()
        for part in self._unpacked(member):
            digest.update(part)
        return digest.hexdigest()

    def _unpacked(self, member: Member) -> Iterator[bytes]:
        """Yields a member's bytes in pieces, never more of them than it claims; the last check is its checksum."""
        if member.data_offset < 0:
            raise ValueError("check_members has to come before reading")
        parts = self._inflated(member) if member.method == _DEFLATED else self._packed(member)
        num_bytes, crc = 0, 0
        for part in parts:
            num_bytes, crc = num_bytes + len(part), zlib.crc32(part, crc)
            yield part
        if num_bytes != member.num_bytes or crc != member.crc:
            raise SubmissionError(f"{shown([member.name])} is damaged in {self.label} (checksum); pack it again.")

    def _packed(self, member: Member) -> Iterator[bytes]:
        for start in range(0, member.packed_bytes, _CHUNK_BYTES):
            yield self._read_at(member.data_offset + start, min(_CHUNK_BYTES, member.packed_bytes - start))

    def _inflated(self, member: Member) -> Iterator[bytes]:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        left = member.num_bytes
        lie = SubmissionError(f"{shown([member.name])} lies about its size in {self.label}; pack it again.")
        for packed in self._packed(member):
            if stream.eof:
                raise lie
            while True:
                # One byte more than is left would be the lie.
                most = min(left + 1, _CHUNK_BYTES)
                try:
                    part = stream.decompress(packed, most)
                except zlib.error as error:
                    raise SubmissionError(
                        f"{shown([member.name])} is damaged in {self.label}; pack it again."
                    ) from error
                left -= len(part)
                if left < 0:
                    raise lie
                yield part
                packed = stream.unconsumed_tail
                # A full piece may leave bytes inside the stream although it has taken in everything.
                if not packed and len(part) < most:
                    break
        if not stream.eof or stream.unused_data or left:
            raise lie


def _is_as_named(member: Member) -> bool:
    """Returns whether a member is a regular file or, where its name ends in a slash, an empty folder."""
    # The upper half is a Unix mode when a Unix tool wrote it (0 otherwise), 0x10 is a folder of DOS.
    kind = stat.S_IFMT(member.attributes >> 16)
    if member.name.endswith("/"):
        # Nothing deflates to two bytes.
        return kind in (0, stat.S_IFDIR) and member.num_bytes == 0 and member.packed_bytes <= _DEFLATED_NOTHING_BYTES
    return kind in (0, stat.S_IFREG) and not member.attributes & 0x10
