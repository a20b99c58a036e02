"""Limits of the verifier at their very values, and what is written and told of a submission, word by word."""

import io
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facesr.errors import ConfigError, SubmissionError
from facesr.methods.method import Interpolation, Method
from facesr.submission import archive as archive_module
from facesr.submission import attachment_rules, attachments
from facesr.submission import command as submit
from facesr.submission.archive import Archive, Member
from facesr.submission.attachment_rules import check_attachment_names, check_attachment_sizes, is_attachment_name
from facesr.submission.layout import _alike, _listed
from facesr.submission.manifest import max_manifest_bytes
from facesr.submission.names import check_ids, is_archive, is_junk, with_folders
from facesr.submission.png import max_png_bytes, raw_bytes

# Structure


def bare() -> Archive:
    archive = Archive.__new__(Archive)
    archive.label = "team.zip"
    return archive


def extra(kind: int, length: int, data: bytes | None = None) -> bytes:
    return struct.pack("<HH", kind, length) + (bytes(length) if data is None else data)


@pytest.mark.parametrize(
    "field",
    [
        b"", extra(0x5455, 0), extra(0x5455, 9), extra(0x5855, 8) + extra(0x7855, 4) + extra(0x7875, 11), extra(10, 32),
        extra(0x5455, 40_000), extra(0x7875, 0xFFFF),
    ],
)  # fmt: skip
def test_time_stamps_and_owners_of_any_length_pass(field):
    bare()._check_extra(field, "301.png")


@pytest.mark.parametrize(
    ("field", "what"),
    [
        (extra(1, 8), "ZIP64 sizes"), (extra(0x7075, 4), "an extra field"),
        (extra(0x5455, 5, bytes(4)), "an extra field"),
        (extra(0x5455, 3) + b"\x55", "an extra field"), (extra(0x5455, 2) + extra(1, 0), "ZIP64 sizes"),
        (b"\x55\x54\0", "an extra field"), (extra(0x5455, 0x8000, bytes(9)), "an extra field"),
    ],
)  # fmt: skip
def test_other_extra_fields_and_cut_off_ones_do_not(field, what):
    with pytest.raises(SubmissionError, match=rf"^team\.zip has {what}.* on '301\.png'; pack it as a plain"):
        bare()._check_extra(field, "301.png")


def test_a_long_local_time_stamp_passes(bench, zipped):
    """The local header alone has it, so that the directory stays small."""
    members = bench.members()
    plain = zipped(members)
    size = struct.unpack_from("<H", plain, 26)[0]
    field = extra(0x5455, 40_000)
    long = bytearray(plain[: 30 + size] + field + plain[30 + size :])
    struct.pack_into("<H", long, 28, len(field))
    end = len(long) - 22
    directory = struct.unpack_from("<I", long, end + 16)[0] + len(field)
    struct.pack_into("<I", long, end + 16, directory)
    first = True
    while long[directory : directory + 4] == b"PK\1\2":
        offset = struct.unpack_from("<I", long, directory + 42)[0]
        struct.pack_into("<I", long, directory + 42, 0 if first else offset + len(field))
        first = False
        directory += 46 + sum(struct.unpack_from("<3H", long, directory + 28))
    bench.verify(bytes(long))
    assert bench.delivered == bench.pictures


def test_as_many_members_as_may_be(zipped):
    data = zipped([(f"{number}.png", b"") for number in range(5)])
    assert len(Archive(io.BufferedReader(io.BytesIO(data)), "team.zip", 5).members) == 5
    with pytest.raises(SubmissionError, match=r"^team\.zip holds 5 members where at most 4 are read"):
        Archive(io.BufferedReader(io.BytesIO(data)), "team.zip", 4)


@pytest.mark.parametrize(("name_bytes", "passes"), [(1024 - 46, True), (1024 - 45, False)])
def test_a_directory_of_a_kilobyte_a_member(zipped, name_bytes, passes):
    file = io.BufferedReader(io.BytesIO(zipped([("x" * name_bytes, b"")])))
    if passes:
        assert len(Archive(file, "team.zip", 1).members[0].name) == name_bytes
    else:
        with pytest.raises(SubmissionError, match="has a directory of 1025 bytes for 1 members"):
            Archive(file, "team.zip", 1)


@pytest.mark.parametrize(("most", "passes"), [(300, True), (299, False)])
def test_members_may_unpack_to_a_hundredfold_and_to_a_limit_together(zipped, monkeypatch, most, passes):
    monkeypatch.setattr(archive_module, "MAX_TOTAL_BYTES", most)
    archive = Archive(io.BufferedReader(io.BytesIO(zipped([("a", bytes(100)), ("b", bytes(200))]))), "team.zip", 2)
    if passes:
        archive.check_members()
    else:
        with pytest.raises(SubmissionError, match="unpacks to 300 bytes where 299 are read"):
            archive.check_members()
    archive.members[0] = replace(archive.members[0], method=8, num_bytes=10_001)
    with pytest.raises(SubmissionError, match=r"^'a' unpacks more than 100-fold in team\.zip; store it\."):
        archive.check_members()
    archive.members[0] = replace(archive.members[0], num_bytes=10_000)
    with pytest.raises(SubmissionError, match="unpacks to 10200 bytes"):
        archive.check_members()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 48])
def test_members_are_read_in_pieces_up_to_a_limit(zipped, monkeypatch, method, size):
    monkeypatch.setattr(archive_module, "_CHUNK_BYTES", 16)
    data = np.random.default_rng(0).bytes(size)
    archive = Archive(io.BufferedReader(io.BytesIO(zipped([("a", data)], method))), "team.zip", 1)
    with pytest.raises(ValueError, match="check_members has to come before"):
        archive.read(archive.members[0], 1000)
    archive.check_members()
    (member,) = archive.members
    most = max(size, member.packed_bytes)
    assert archive.read(member, most) == data
    assert all(len(part) <= 16 for part in archive._unpacked(member))
    with pytest.raises(
        SubmissionError, match=rf"'a' is {size} bytes .* at most {most - 1} are possible; write a plain"
    ):
        archive.read(member, most - 1)
    for wrong in (replace(member, crc=member.crc ^ 1), replace(member, num_bytes=size + 1)):
        with pytest.raises(SubmissionError):
            archive.read(wrong, 1000)


def test_a_folder_is_empty_and_a_file_no_folder():
    def member(name: str, kind: int, num_bytes: int = 0, packed: int = 0) -> Member:
        return Member(name, b"", 0, 0, 0, packed, num_bytes, kind, 0)

    file, folder, dos = 0o100644 << 16, 0o040755 << 16, 0x10
    for name, kind in (("a", file), ("a", 0), ("a/", folder), ("a/", 0), ("a/", dos)):
        assert archive_module._is_as_named(member(name, kind))
    assert archive_module._is_as_named(member("a/", folder, 0, 2)) and archive_module._is_as_named(
        member("a", file, 9, 9)
    )
    for name, kind, *sizes in (("a", folder), ("a", dos), ("a/", file), ("a/", folder, 1, 0), ("a/", folder, 0, 3)):
        assert not archive_module._is_as_named(member(name, kind, *sizes))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"flags": 1}, "is encrypted in team.zip; pack without a password."),
        ({"attributes": 0o120777 << 16}, "is a symbolic link in team.zip; pack the files themselves."),
        ({"attributes": 0o060644 << 16}, "is no regular file in team.zip; pack only regular files."),
        ({"flags": 0x0010}, "has unknown flags in team.zip; pack with submit.py."),
        ({"method": 12}, "is packed in an unknown way in team.zip; store or deflate it."),
        ({"num_bytes": 4}, "lies about its size in team.zip; pack anew."),
    ],
)
def test_what_is_wrong_with_a_member_and_what_to_do(zipped, change, sentence):
    archive = Archive(io.BufferedReader(io.BytesIO(zipped([("a", b"abc"), ("b", b"abc")]))), "team.zip", 2)
    archive.members[1] = replace(archive.members[1], **change)
    with pytest.raises(SubmissionError) as caught:
        archive.check_members()
    assert str(caught.value) == f"'b' {sentence}"


# Sizes


def test_sizes_by_hand():
    assert raw_bytes(16, 24) == 24 * 49
    assert max_png_bytes(16, 24) == 1176 + 147 + 8192
    assert max_manifest_bytes(0) == 65_536 and max_manifest_bytes(3, 5) == 65_536 + 3 * 1472 + 5 * 704


@pytest.mark.parametrize("more", [0, 1])
def test_a_manifest_may_be_as_long_as_its_pictures_and_attachments_need(foldered, zipped, more):
    *others, (name, manifest) = foldered.members()
    padded = manifest + b" " * (65_536 + 3 * 1472 + 5 * 704 + more - len(manifest))
    archive = zipped([*others, (name, padded)])
    if not more:
        foldered.verify(archive)
        return
    with pytest.raises(SubmissionError, match=r"73473 bytes .* at most 73472 are possible; shorten it\."):
        foldered.verify(archive)


def test_attachments_up_to_their_limits(monkeypatch):
    for name, most in (("MAX_ATTACHMENTS", 3), ("MAX_ATTACHED_BYTES", 100), ("MAX_SCRIPT_BYTES", 30)):
        monkeypatch.setattr(attachment_rules, name, most)
    check_attachment_sizes({"model/a.txt": 70, "script/a": 10, "script/b": 20}, "it")
    for sizes, words in (
        ({"model/a.txt": 71, "script/a": 30}, r"^it holds 101 bytes in model/ and script/ where at most 100 are read"),
        ({"script/a": 10, "script/b": 21}, r"^it holds 31 bytes in script/ where at most 30 are read"),
        (dict.fromkeys("abcd", 1), r"^it holds 4 files in model/ and script/ where at most 3 are read"),
    ):
        with pytest.raises(SubmissionError, match=words):
            check_attachment_sizes(sizes, "it")


# Names


def test_programs_lie_below_eight_folders_at_most():
    deepest = "script/" + "f/" * 7
    check_attachment_names([deepest + "a.py", deepest + "g/", "model/a.onnx", "model/", "script/"], "it")
    for name in (deepest + "g/a.py", deepest + "g/h/"):
        with pytest.raises(SubmissionError, match="below more than 8 folders"):
            check_attachment_names([name], "it")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("script/.a", "hidden"), ("script/__pycache__/", "hidden"), ("model/f/a.txt", "folders inside model/"),
        ("script/a.ZIP", "archives inside"), ("model/a.pt", "takes only .json, .onnx"), ("model/a.TXT", "takes only"),
        ("script/a.PT", "no weights and nothing compiled"), ("script/a.so", "no weights"),
    ],
)  # fmt: skip
def test_attachments_that_do_not_belong(name, words):
    with pytest.raises(SubmissionError, match=words):
        check_attachment_names(["script/fine.py", name], "it")


def test_names_of_attachments_archives_and_leftovers():
    assert is_attachment_name("model/a.txt") and is_attachment_name("script/b/c.py")
    assert not any(map(is_attachment_name, ("models/a", "model/", "script/b/", "HR/a.png", "model/../a", "model")))
    assert is_archive("a/B.Tar") and is_archive("x.7z") and not is_archive("zip/a.txt") and not is_archive("zip")
    assert is_junk("a/.DS_Store") and is_junk("__MACOSX/") and not is_junk("a/b.png")


def test_folders_are_names_too_once_each():
    names = ["a/b/c", "a/b/d", "e/", "e/f", "g", "h/i/"]
    assert with_folders(names) == ["a/b/c", "a/b/d", "e", "e/f", "g", "h/i", "a", "a/b", "h"]


def test_extra_names_are_told_before_missing_ones():
    check_ids({"a", "b"}, ["b", "a"], "it", "low")
    with pytest.raises(
        SubmissionError, match=r"^it holds 'c' and 'd', which low does not name; leave extra files out\.$"
    ):
        check_ids(["d", "a", "c"], ["a", "b"], "it", "low")
    with pytest.raises(SubmissionError, match=r"^it lacks 'a' and 'c'; low asks for 3 pictures\.$"):
        check_ids(["b"], ["c", "b", "a"], "it", "low")
    with pytest.raises(SubmissionError, match=r"asks for 1 files\.$"):
        check_ids([], ["a"], "it", "low", "files")


def test_folders_alike_and_listed():
    assert _alike("HR_Images") == _alike("hr-image") == "hrimage" and _alike("script") != _alike("model")
    assert _listed(["a", "b", "c"]) == "a/, b/ and c/" and _listed(["a", "b"]) == "a/ and b/"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["script/a\n.py"], "unsafe names ('script/a\\n.py'); rename them to letters, digits, - and _."),
        (["script/a.so"], "'script/a.so', where script/ takes programs as text, no weights and nothing compiled; "
         "leave it out."),
        (["script/a", "script/A"], "names that differ only by letter case or accents ('script/a' and 'script/A')."),
        (["script/a", "script/b", "script/c"], "3 files in model/ and script/ where at most 2 are read; "
         "leave some out."),
    ],
)  # fmt: skip
def test_what_is_to_be_packed_is_judged_as_an_archive_is(monkeypatch, names, sentence):
    monkeypatch.setattr(attachment_rules, "MAX_ATTACHMENTS", 2)
    with pytest.raises(SubmissionError) as caught:
        attachments._check(dict.fromkeys(names, b"text"))
    assert str(caught.value) == f"what is to be packed holds {sentence}"


# What is told and written


def test_the_table_of_a_plain_submission(bench, zipped):
    submission = bench.verify(zipped(bench.members()))
    assert submit.table(submission).splitlines() == [
        "  team      Team 1",
        "  protocol  tiny",
        "  pictures  3 of 16x24",
        "  compared  with the low pictures",
        f"  archive   {submission.num_bytes:,} bytes, sha256 {submission.sha256}",
        "  model     demo, weights aaaaaaaaaaaa",
        "  restored  in 0.500 s, 6.0 faces/s, on cpu: test",
    ]


def test_the_table_of_everything(foldered, zipped, tmp_path):
    submission = foldered.verify(zipped(foldered.members()), low=False)
    facts = replace(
        submission.manifest.restoration, weights_sha256="", seconds=0.0, flip_ensemble=True, energy_joules=1234.56
    )
    manifest = replace(submission.manifest, restoration=facts)
    sizes = {"301": (16, 24), "302": (20, 24), "303": (16, 24)}
    submission = replace(submission, manifest=manifest, sizes=sizes, num_bytes=12345)
    rows = submit.table(submission, SimpleNamespace(path=tmp_path, reused=True)).splitlines()
    assert rows[2:] == [
        "  pictures  3 of 2 sizes",
        "  compared  with the manifest only (no low=DIR)",
        f"  archive   12,345 bytes, sha256 {submission.sha256}",
        "  model     demo, self-ensemble, weights none",
        "  restored  in 0.000 s, on cpu: test",
        "  attached  5 files in model/ and script/",
        "  energy    1,234.6 J",
        f"  folder    {tmp_path} (restored before; reuse=false restores again)",
    ]
    last = submit.table(submission, SimpleNamespace(path=tmp_path, reused=False)).splitlines()[-1]
    assert last == f"  folder    {tmp_path}"


def submission_settings(**changes: object) -> SimpleNamespace:
    protocol = SimpleNamespace(name="asc19", num_pictures=None)
    plain = {
        "protocol": protocol, "team": "Team 1", "self_ensemble": False, "guard": True, "batch_size": 50, "tile_px": 64,
        "tile_overlap_px": 8, "device": "auto",
    }  # fmt: skip
    return SimpleNamespace(**{**plain, **changes})


def test_the_command_that_restores_again():
    plain = Method("bicubic", None)
    assert attachments._keys(submission_settings(), plain) == [
        "checkpoint=bicubic", "low=LR", "protocol=asc19", "team=Team 1", "out=again.zip", "batch_size=50", "tile_px=64",
        "tile_overlap_px=8",
    ]  # fmt: skip
    parts: Any = SimpleNamespace(weight=0.25)
    blended = replace(
        plain,
        path=Path("x/snapshots/best.safetensors"),
        interpolation=Interpolation(Path("y/e\u0301.safetensors"), parts),
    )
    protocol = SimpleNamespace(name="asc19", num_pictures=300)
    other = submission_settings(protocol=protocol, self_ensemble=True, guard=False, device="cuda")
    assert attachments._keys(other, blended) == [
        "checkpoint=model/best.safetensors", "interpolate_with=model/blend_with-\u00e9.safetensors",
        "interpolation_weight=0.25", "low=LR", "protocol=asc19", "protocol.num_pictures=300", "team=Team 1",
        "out=again.zip", "self_ensemble=true", "guard=off", "batch_size=50", "tile_px=64", "tile_overlap_px=8",
        "device=cuda",
    ]  # fmt: skip
    assert attachments._script_readme(submission_settings(), plain) == (
        "The pictures were restored by facesr alone. In its root folder, with this archive unpacked there and the\n"
        "low-resolution pictures that were given out in LR/, this command restores and packs them again:\n\n"
        "    uv run submit.py checkpoint=bicubic low=LR protocol=asc19 'team=Team 1' out=again.zip batch_size=50 "
        "tile_px=64 tile_overlap_px=8\n\n"
        "manifest.json names the commit, the digest of the code, the package versions and the device.\n"
    )


@pytest.mark.parametrize("key", ["checkpoint", "method", "interpolate_with", "team", "out", "script", "guard"])
def test_what_says_nothing_to_verifying_is_refused(key):
    keys = dict.fromkeys(("checkpoint", "method", "interpolate_with", "team", "out", "script"))
    given = SimpleNamespace(**{"verify": "x.zip", "guard": True, **keys, key: False if key == "guard" else "value"})
    with pytest.raises(ConfigError, match=rf"^{key}\b.* has no meaning together with verify"):
        submit.verify(given)
