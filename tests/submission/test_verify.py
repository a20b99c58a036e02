"""The verifier against honest archives, and against everything that a hostile or a careless one may hold."""

import hashlib
import io
import json
import os
import struct
import subprocess
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facesr.errors import DataError, FaceSRError, SubmissionError
from facesr.png import encode_png, write_png
from facesr.submission.verify import opened_submission

Zipped = Callable[..., bytes]


def refused(bench, archive: bytes, *words: str, low: bool = True) -> str:
    """Returns the one sentence with which an archive is refused, after looking for what is left behind."""
    with pytest.raises(SubmissionError) as caught:
        bench.verify(archive, low)
    assert bench.left_behind() == []
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence and sentence.isascii()
    for word in words:
        assert word in sentence
    return sentence


def entry(archive: bytes, name: str) -> tuple[int, int]:
    """Returns the offsets of a member's local header and of its entry in the directory."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        info = opened.getinfo(name)
        start = opened.start_dir
    return info.header_offset, archive.index(b"PK\1\2", start + archive[start:].index(name.encode()) - 46)


def patched(archive: bytes, offset: int, value: bytes) -> bytes:
    return archive[:offset] + value + archive[offset + len(value) :]


def with_attributes(bench, zipped: Zipped, attributes: int, system: int = 3) -> bytes:
    archive = zipped(bench.members())
    _, directory = entry(archive, "301.png")
    archive = patched(archive, directory + 38, struct.pack("<I", attributes))
    return patched(archive, directory + 5, bytes([system]))


class TestHonest:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("low", [True, False])
    def test_pictures_arrive_unchanged(self, bench, zipped, method, low):
        submission = bench.verify(zipped(bench.members(), method), low)
        assert bench.delivered == bench.pictures
        assert submission.manifest == bench.manifest
        assert submission.sizes == {"301": (16, 24), "302": (16, 24), "303": (16, 24)}
        assert submission.compared_with_low is low
        assert bench.left_behind() == []

    def test_order_of_members_is_free(self, bench, zipped):
        bench.verify(zipped(bench.members()[::-1]))
        assert bench.delivered == bench.pictures

    def test_streamed_archives_with_descriptors_pass(self, bench):
        class Pipe(io.RawIOBase):
            data = b""

            def writable(self):
                return True

            def write(self, data):
                self.data += bytes(data)
                return len(data)

        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in bench.members():
                archive.writestr(name, data)
        assert b"PK\7\x08" in pipe.data
        bench.verify(pipe.data)
        assert bench.delivered == bench.pictures

    @pytest.mark.skipif(not Path("/usr/bin/zip").exists(), reason="no zip program")
    def test_archive_of_the_zip_program_passes(self, bench):
        folder = bench.root / "mine"
        folder.mkdir()
        for name, data in bench.members():
            (folder / name).write_bytes(data)
        names = sorted(path.name for path in folder.iterdir())
        subprocess.run(["/usr/bin/zip", "-q", "../mine.zip", *names], cwd=folder, check=True)
        bench.verify((bench.root / "mine.zip").read_bytes())
        assert bench.delivered == bench.pictures

    def test_accented_ids_arrive_under_the_organisers_own_names(self, bench, zipped):
        # macOS lists accents as separate marks (form D); archives hold form C.
        (bench.low / "303.png").rename(bench.low / "e\u0301.png")
        bench.pictures["\u00e9.png"] = bench.pictures.pop("303.png")
        from facesr.methods.low import LowPictures

        digest = LowPictures.open(bench.low, bench.protocol).sha256
        bench.verify(zipped(bench.members(low_sha256=digest)))
        assert sorted(bench.delivered) == ["301.png", "302.png", "e\u0301.png"]

    def test_folder_goes_away_when_the_scorer_fails(self, bench, zipped):
        path = bench.root / "team.zip"
        path.write_bytes(zipped(bench.members()))
        with pytest.raises(KeyError), opened_submission(path, bench.protocol, bench.low) as submission:
            assert submission.folder.is_dir()
            raise KeyError
        assert bench.left_behind() == []


NAMES = [
    ("../301.png", "unsafe"),
    ("a/../../301.png", "unsafe"),
    ("/etc/passwd.png", "unsafe"),
    ("C:\\301.png", "unsafe"),
    ("C:301.png", "unsafe"),
    ("\\\\host\\301.png", "unsafe"),
    ("./301.png", "unsafe"),
    ("a//301.png", "unsafe"),
    ("con.png", "unsafe"),
    ("301.png\x1b[2J", "unsafe"),
    ("\u202egnp.103", "unsafe"),
    ("x" * 300 + ".png", "unsafe"),
    ("__MACOSX/._301.png", "file manager"),
    ("._301.png", "file manager"),
    (".DS_Store", "file manager"),
    ("Thumbs.db", "file manager"),
    ("sub/304.png", "folders"),
    ("empty/", "folders"),
    ("more.zip", "archives inside"),
    ("more.tar.gz", "archives inside"),
    ("301.PNG", "more than once"),
    ("Manifest.json", "more than once"),
    ("304.png", "does not name"),
    ("notes.txt", "does not name"),
    ("weights.pkl", "does not name"),
]


@pytest.mark.parametrize(("name", "word"), NAMES, ids=[ascii(name[:20]) for name, _ in NAMES])
def test_names_are_refused_and_named(bench, zipped, name, word):
    sentence = refused(bench, zipped([*bench.members(), (name, b"x")]), word)
    assert len(name) > 60 or ascii(name) in sentence


class TestMembers:
    def test_only_the_first_names_are_listed(self, bench, zipped):
        extra = [(f"{number}.png", b"") for number in range(400, 420)]
        refused(bench, zipped([*bench.members(), *extra]), "'400.png', '401.png', '402.png' and 17 more")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_duplicates(self, bench, zipped):
        refused(bench, zipped([*bench.members(), ("301.png", b"x")]), "more than once", "'301.png'")

    def test_names_that_are_one_file_on_other_systems(self, bench, zipped):
        refused(bench, zipped([*bench.members(), ("\u00c9.png", b""), ("\u00e9.png", b"")]), "more than once")

    def test_extra_top_folder(self, bench, zipped):
        inside = [(f"result/{name}", data) for name, data in bench.members()]
        refused(bench, zipped(inside), "extra top folder 'result/'")
        refused(bench, zipped([("result/", b""), *inside]), "extra top folder 'result/'")

    def test_missing_picture(self, bench, zipped):
        members = [member for member in bench.members() if member[0] != "302.png"]
        refused(bench, zipped(members), "lacks '302.png'")

    def test_missing_manifest(self, bench, zipped):
        refused(bench, zipped(bench.members()[:-1]), "no manifest.json")

    def test_manifest_and_members_differ(self, bench, zipped):
        files = dict.fromkeys(("301.png", "302.png"), "d" * 64)
        refused(bench, zipped(bench.members(files=files)), "its manifest does not name", low=False)
        files = dict.fromkeys(("301.png", "302.png", "303.png", "304.png"), "d" * 64)
        refused(bench, zipped(bench.members(files=files)), "lacks '304.png'", low=False)

    def test_checksum_mismatch(self, bench, zipped):
        files = {**bench.manifest.restoration.files, "302.png": "d" * 64}
        refused(bench, zipped(bench.members(files=files)), "'302.png'", "another sha256")

    def test_other_protocol(self, bench, zipped):
        refused(bench, zipped(bench.members(protocol="open")), "protocol 'open'", "'tiny'")

    def test_other_low_pictures(self, bench, zipped):
        refused(bench, zipped(bench.members(low_sha256="e" * 64)), "other pictures")

    def test_too_few_for_the_protocol(self, bench, zipped):
        bench.protocol = type(bench.protocol)("tiny", True, 16, 24, 300)
        refused(bench, zipped(bench.members()), "3 pictures where protocol tiny asks for 300", low=False)

    @pytest.mark.parametrize(
        ("attributes", "system", "word"),
        [
            (0o120777 << 16, 3, "symbolic link"),
            (0o120777 << 16, 0, "symbolic link"),
            (0o060644 << 16, 3, "no regular file"),
            (0o010644 << 16, 3, "no regular file"),
            (0o040755 << 16, 3, "no regular file"),
            (0x10, 0, "no regular file"),
        ],
    )
    def test_links_and_special_files(self, bench, zipped, attributes, system, word):
        refused(bench, with_attributes(bench, zipped, attributes, system), "'301.png'", word)


class TestStructure:
    def test_no_archive(self, bench):
        refused(bench, b"", "no ZIP archive")
        refused(bench, b"Rar!\x1a\x07" + bytes(500), "no ZIP archive")

    def test_empty_archive(self, bench, zipped):
        refused(bench, zipped([]), "empty archive")

    def test_prepended_and_appended_bytes(self, bench, zipped):
        archive = zipped(bench.members())
        refused(bench, b"#!/bin/sh\n" + archive, "belong to no member")
        refused(bench, archive + b"more", "after its end")
        shifted = bytearray(b"stub" + archive)
        # The same stub with every offset corrected, as self-extracting archives have it.
        end = len(shifted) - 22
        directory = struct.unpack_from("<I", shifted, end + 16)[0] + 4
        struct.pack_into("<I", shifted, end + 16, directory)
        while shifted[directory : directory + 4] == b"PK\1\2":
            struct.pack_into("<I", shifted, directory + 42, struct.unpack_from("<I", shifted, directory + 42)[0] + 4)
            directory += 46 + sum(struct.unpack_from("<3H", shifted, directory + 28))
        assert zipfile.ZipFile(io.BytesIO(shifted)).testzip() is None
        refused(bench, bytes(shifted), "stray bytes", "'301.png'")

    def test_comments(self, bench, zipped):
        file = io.BytesIO(zipped(bench.members()))
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = b"hello"
        refused(bench, file.getvalue(), "comment")

    def test_cut_off_anywhere(self, bench, zipped):
        archive = zipped(bench.members())
        for length in range(0, len(archive), 37):
            refused(bench, archive[:length])

    @pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
    def test_encrypted(self, bench, zipped, flag):
        archive = zipped(bench.members())
        local, directory = entry(archive, "302.png")
        archive = patched(patched(archive, local + 6, struct.pack("<H", flag)), directory + 8, struct.pack("<H", flag))
        refused(bench, archive, "'302.png'", "encrypted")

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_compressions(self, bench, zipped, method):
        refused(bench, zipped(bench.members(), method), "packed in an unknown way")

    def test_overlapping_members(self, bench, zipped):
        archive = zipped(bench.members())
        first, _ = entry(archive, "301.png")
        _, second = entry(archive, "302.png")
        refused(bench, patched(archive, second + 42, struct.pack("<I", first)), "overlaps", "'302.png'")

    @pytest.mark.parametrize(("field", "size"), [(14, 4), (18, 4), (22, 4), (8, 2), (30, 1)])
    def test_local_header_contradicts_the_directory(self, bench, zipped, field, size):
        archive = zipped(bench.members())
        local, _ = entry(archive, "302.png")
        value = bytes([archive[local + field] ^ 1]) + archive[local + field + 1 : local + field + size]
        refused(bench, patched(archive, local + field, value), "'302.png'", "contradicts")

    def test_zip64(self, bench, zipped):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in bench.members():
                with archive.open(name, "w", force_zip64=True) as member:
                    member.write(data)
        refused(bench, file.getvalue(), "ZIP64")
        archive = zipped(bench.members())
        refused(bench, patched(archive, len(archive) - 12, b"\xff" * 4), "ZIP64")
        _, directory = entry(archive, "302.png")
        refused(bench, patched(archive, directory + 24, b"\xff" * 4), "ZIP64")

    def test_more_members_than_the_end_says(self, bench, zipped):
        archive = zipped(bench.members())
        refused(bench, patched(archive, len(archive) - 14, struct.pack("<2H", 3, 3)), "damaged")

    def test_undecodable_name(self, bench, zipped):
        archive = zipped(bench.members()).replace(b"303.png", b"\xff03.png")
        refused(bench, archive, "unreadable name")

    def test_unicode_path_extra_field(self, bench):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in bench.members():
                info = zipfile.ZipInfo(name)
                info.extra = struct.pack("<2H5s", 0x7075, 5, b"\1abcd") if name == "301.png" else b""
                archive.writestr(info, data)
        refused(bench, file.getvalue(), "extra field", "'301.png'")


class TestBombs:
    def test_too_many_members(self, bench, zipped):
        archive = zipped([*bench.members(), *((f"{number}.txt", b"") for number in range(1000))])
        refused(bench, archive, "1004 members")

    def test_ratio(self, bench, zipped):
        pictures = {**bench.pictures, "302.png": bytes(50_000_000)}
        archive = zipped(bench.members(pictures), zipfile.ZIP_DEFLATED)
        start = time.process_time()
        refused(bench, archive, "'302.png'", "100-fold")
        assert time.process_time() - start < 1.0

    def test_size(self, bench, zipped):
        pictures = {**bench.pictures, "302.png": os.urandom(100_000)}
        refused(bench, zipped(bench.members(pictures)), "'302.png'", "100000 bytes", "at most")

    def test_lying_size_stops_at_the_limit(self, bench, zipped):
        pictures = {**bench.pictures, "302.png": bytes(50_000_000)}
        archive = zipped(bench.members(pictures), zipfile.ZIP_DEFLATED)
        local, directory = entry(archive, "302.png")
        for claim in (1000, 1500):
            small = struct.pack("<I", claim)
            lying = patched(patched(archive, local + 22, small), directory + 24, small)
            start = time.process_time()
            refused(bench, lying)
            assert time.process_time() - start < 1.0

    def test_lying_size_of_the_manifest(self, bench, zipped):
        members = [*bench.pictures.items(), ("manifest.json", b" " * 60_000_000)]
        archive = zipped(members, zipfile.ZIP_DEFLATED)
        local, directory = entry(archive, "manifest.json")
        small = struct.pack("<I", 60_000)
        lying = patched(patched(archive, local + 22, small), directory + 24, small)
        packed = struct.unpack_from("<I", archive, local + 18)[0]
        assert packed < 65_000
        refused(bench, lying, "'manifest.json'", "lies about its size")

    @pytest.mark.parametrize("ending", ["none", "more"])
    def test_a_compressed_member_ends_where_its_stream_does(self, bench, zipped, ending):
        """Its size and checksum are true, but the stream has no end, or bytes stand behind it."""
        picture = bench.pictures["302.png"]
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = stream.compress(picture)
        packed += stream.flush(zlib.Z_SYNC_FLUSH) if ending == "none" else stream.flush() + b"more"
        files = {name: hashlib.sha256(data).hexdigest() for name, data in bench.pictures.items()}
        archive = zipped(bench.members({**bench.pictures, "302.png": packed}, files=files))
        local, directory = entry(archive, "302.png")
        truth = struct.pack("<III", zlib.crc32(picture), len(packed), len(picture))
        for header, method in ((local, 8), (directory, 10)):
            archive = patched(archive, header + method, struct.pack("<H", zipfile.ZIP_DEFLATED))
            archive = patched(archive, header + method + 6, truth)
        refused(bench, archive, "'302.png'", "lies about its size")

    def test_too_many_pixels_where_nobody_says_how_many(self, bench, zipped, monkeypatch):
        monkeypatch.setattr("facesr.submission.verify.MAX_TOTAL_PIXELS", 1000)
        refused(bench, zipped(bench.members()), "more than 1000 pixels", low=False)
        bench.verify(zipped(bench.members()))

    def test_nothing_is_written_before_the_archive_is_checked(self, bench, zipped, monkeypatch):
        written: list[str] = []
        monkeypatch.setattr(Path, "write_bytes", lambda path, data: written.append(path.name))
        path = bench.root / "team.zip"
        with path.open("wb") as file:
            file.write(zipped([*bench.members(), ("304.png", b"x")]))
        with pytest.raises(SubmissionError), opened_submission(path, bench.protocol, bench.low):
            pass
        assert written == []


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width=16, height=24, depth=8, colour=2, tail=b"\0\0\0", raw=None, before=b"", after=b"", end=b"") -> bytes:
    """Returns a PNG built by hand, black unless `raw` gives the filtered rows."""
    header = chunk(b"IHDR", struct.pack(">2I2B", width, height, depth, colour) + tail)
    data = zlib.compress(bytes(24 * (1 + 3 * 16)) if raw is None else raw)
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"") + end


PNGS = [
    ("bomb", png(width=50_000, height=50_000), "50000x50000"),
    ("other size", png(width=24, height=16, raw=bytes(16 * 73)), "24x16 where 16x24"),
    ("16 bit", png(depth=16), "not 8-bit RGB"),
    ("alpha", png(colour=6), "not 8-bit RGB"),
    ("grey", png(colour=0), "not 8-bit RGB"),
    ("palette", png(colour=3), "not 8-bit RGB"),
    ("interlaced", png(tail=b"\0\0\1"), "interlaced"),
    ("animated", png(before=chunk(b"acTL", bytes(8))), "animated"),
    ("rotated", png(before=chunk(b"eXIf", b"MM\0*")), "chunk 'eXIf'"),
    ("transparent", png(before=chunk(b"tRNS", bytes(6))), "chunk 'tRNS'"),
    ("profile", png(before=chunk(b"iCCP", b"x\0\0")), "chunk 'iCCP'"),
    ("trailing", png(end=b"PK\3\4"), "4 bytes behind its end"),
    ("remarks", png(before=chunk(b"tEXt", bytes(8000))), "remarks"),
    ("too much data", png(raw=bytes(24 * 49 + 1)), "not that of 16x24"),
    ("too little data", png(raw=bytes(24 * 49 - 1)), "not that of 16x24"),
    ("data bomb", png(raw=bytes(1_000_000)), "not that of 16x24"),
    ("filter", png(raw=bytes([9]) * (24 * 49)), "unknown filter"),
    ("no data", png().replace(chunk(b"IDAT", zlib.compress(bytes(24 * 49))), b""), "no end or no data"),
    ("no end", png()[:-12], "no end"),
    ("cut off", png()[:-20], "damaged PNG"),
    ("wrong checksum", png()[:-13] + b"\0" + png()[-12:], "wrong checksum"),
    ("two headers", png(before=chunk(b"IHDR", struct.pack(">2I5B", 16, 24, 8, 2, 0, 0, 0))), "misplaced"),
    ("slivers", png(before=chunk(b"tEXt", b"") * 100), "cut into"),
    ("split data", png(after=chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", b"")), "one piece"),
    ("jpeg", b"\xff\xd8\xff\xe0" + bytes(100), "no PNG"),
    ("nested archive", b"PK\3\4" + bytes(100), "no PNG"),
    ("nothing", b"", "no PNG"),
]


class TestPictures:
    def test_a_picture_built_by_hand_passes(self, bench, zipped):
        pictures = {**bench.pictures, "302.png": png(before=chunk(b"tEXt", b"Title\0x") + chunk(b"sRGB", b"\0"))}
        bench.verify(zipped(bench.members(pictures)))
        assert bench.delivered == pictures

    @pytest.mark.parametrize(("data", "word"), [case[1:] for case in PNGS], ids=[case[0] for case in PNGS])
    @pytest.mark.parametrize("low", [True, False])
    def test_odd_pictures(self, bench, zipped, data, word, low):
        refused(bench, zipped(bench.members({**bench.pictures, "302.png": data})), "302.png", word, low=low)

    def test_bomb_without_any_expected_size(self, bench, zipped):
        bench.protocol = type(bench.protocol)("tiny", True, None, None, None)
        data = png(width=50_000, height=50_000, raw=bytes(1000))
        refused(bench, zipped(bench.members({**bench.pictures, "302.png": data})), "50000x50000", low=False)
        bench.verify(zipped(bench.members()), low=False)
        assert bench.delivered == bench.pictures

    def test_mixed_sizes_follow_their_low_pictures(self, bench, zipped):
        from facesr.methods.low import LowPictures

        bench.protocol = type(bench.protocol)("tiny", True, None, None, None)
        write_png(bench.low / "303.png", np.zeros((2, 3, 3), "uint8"))
        digest = LowPictures.open(bench.low, bench.protocol).sha256
        refused(bench, zipped(bench.members(low_sha256=digest)), "'303.png'", "16x24 where 12x8")
        picture = encode_png(np.zeros((8, 12, 3), "uint8"))
        pictures = {**bench.pictures, "303.png": picture}
        assert bench.verify(zipped(bench.members(pictures, low_sha256=digest))).sizes["303"] == (12, 8)


class TestMachine:
    """What is wrong on the organiser's side is an error of one sentence too, but no fault of the archive."""

    def test_missing_archive(self, bench):
        with pytest.raises(DataError, match="not a file"), opened_submission(bench.root / "no.zip", bench.protocol):
            pass

    def test_full_disk(self, bench, zipped, monkeypatch):
        archive = zipped(bench.members())
        path = bench.root / "team.zip"
        path.write_bytes(archive)

        def full(path: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match="No space left"), opened_submission(path, bench.protocol, bench.low):
            pass
        assert bench.left_behind() == []

    def test_no_temporary_folder(self, bench, zipped, monkeypatch):
        path = bench.root / "team.zip"
        path.write_bytes(zipped(bench.members()))
        monkeypatch.setattr("tempfile.tempdir", str(bench.root / "absent"))
        with pytest.raises(DataError, match="TMPDIR"), opened_submission(path, bench.protocol, bench.low):
            pass

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda low: [path.unlink() for path in low.iterdir()], "no PNG files"),
            (lambda low: (low / "readme.txt").touch(), "readme.txt"),
            (lambda low: (low / "301.png").write_bytes(b"x"), "no PNG"),
            (lambda low: write_png(low / "301.png", np.zeros((5, 4, 3), "uint8")), "4x5 where"),
            (lambda low: (low / "302.png").rename(low / "a\\b.png"), "no archive may hold"),
            (lambda low: (low / "302.png").rename(low / "301.PNG"), "keep one of them"),
        ],
    )
    def test_unfit_low_pictures(self, bench, zipped, change, word):
        path = bench.root / "team.zip"
        path.write_bytes(zipped(bench.members()))
        change(bench.low)
        with pytest.raises(FaceSRError, match=word), opened_submission(path, bench.protocol, bench.low):
            pass

    def test_missing_low_pictures(self, bench, zipped):
        path = bench.root / "team.zip"
        path.write_bytes(zipped(bench.members()))
        with pytest.raises(DataError, match="not a folder"), opened_submission(path, bench.protocol, bench.root / "no"):
            pass


def test_a_manifest_is_json_only(bench, zipped):
    """No pickle is read: a manifest that would run code when unpickled is just not JSON."""
    members = [*bench.pictures.items(), ("manifest.json", b"cos\nsystem\n(S'touch /tmp/x'\ntR.")]
    refused(bench, zipped(members), "not valid JSON")
    assert json.loads(json.dumps(bench.record()))["team"] == "Team 1"
